//! Client and cellblockd. The first frame on a connection is [`Request::Hello`], in JSON; what
//! follows may be interleaved freely, by request id.

use sandbox_profiles::Step;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{
    Checkpoint, CheckpointContent, CheckpointInfo, Collected, NotRestored, NotebookEvent, Verified,
};
use crate::codec::Codec;
use crate::execution::{NameInfo, Outcome, OutputFrame};
use crate::id::{ExecutionId, TenantId};
pub use crate::info::{DoctorLine, FileInfo, FileKind, ProfileInfo, WarmInfo, ZygoteState};
pub use crate::notebook::{NotebookInfo, NotebookStatus, WorkerState};
pub use crate::operations::{DaemonInfo, Hint, Overview, TenantInfo, TenantLimits};
use crate::query::Answer;
pub use crate::request::Request;

/// What opens a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Lowest protocol version the client speaks.
    pub min_version: u16,
    /// Highest protocol version the client speaks.
    pub max_version: u16,
    /// The codec it wants for all that follows.
    pub codec: Codec,
    /// What it calls itself, for the log.
    #[serde(default)]
    pub client: String,
    /// As which tenant an operator acts on this connection; his own when absent.
    #[serde(default)]
    pub tenant: Option<TenantId>,
}

/// What cellblockd answers. The frame that ends the answer to a request has `FLAG_LAST` set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To `Hello`.
    Hello {
        /// The version spoken from now on.
        version: u16,
        /// The codec spoken from now on.
        codec: Codec,
        /// The server's build.
        server: String,
        /// Largest meta it accepts, in bytes.
        meta_bytes: u32,
        /// Largest payload it accepts, in bytes.
        payload_bytes: u32,
    },
    /// The request was not done. Request id 0 when it is the connection that is refused.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people: which thing, and the cure.
        message: String,
        /// Of what is `busy`: when to try again.
        #[serde(default)]
        hint: Option<Hint>,
    },
    /// To `OpenNotebook`.
    Notebook(NotebookInfo),
    /// The shim holds the Execution: from here it ends in exactly one Outcome.
    Accepted {
        /// Which.
        execution: ExecutionId,
        /// How many are before it in the queue; 0 runs at once.
        position: u32,
    },
    /// An output, in order.
    Output(OutputFrame),
    /// The end of the Execution.
    Outcome {
        /// Which.
        execution: ExecutionId,
        /// How many outputs it had; a client that counted fewer missed some.
        outputs: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// To `Query`.
    Answer(Answer),
    /// To `Notebooks` and `NotebooksAfter`, sorted by name.
    Notebooks {
        /// Them; at most 2,000.
        notebooks: Vec<NotebookInfo>,
        /// There are more: ask with `NotebooksAfter`.
        #[serde(default)]
        more: bool,
    },
    /// To `Status`.
    Status(NotebookStatus),
    /// To `Doctor`.
    Doctor {
        /// A line per barrier.
        checks: Vec<DoctorLine>,
    },
    /// It is done.
    Done,
    /// To `Profiles`, sorted by name.
    Profiles {
        /// Them.
        profiles: Vec<ProfileInfo>,
    },
    /// To `Warm`, sorted by profile; of those that have been used or are warmed at the start.
    Warm {
        /// Them.
        profiles: Vec<WarmInfo>,
    },
    /// To `Plan`.
    Plan {
        /// The steps in order.
        steps: Vec<Step>,
    },
    /// To `ListFiles`, sorted by name.
    Files {
        /// Them.
        files: Vec<FileInfo>,
        /// There are more than are listed.
        truncated: bool,
    },
    /// To `ReadFile`.
    File {
        /// The whole file's size in bytes.
        bytes: u64,
    },
    /// To `Checkpoint`.
    Checkpoint(Checkpoint),
    /// To `Checkpoints`, oldest first.
    Checkpoints {
        /// Them; the newest thousand.
        checkpoints: Vec<CheckpointInfo>,
        /// What all of them take of the disk, in bytes.
        used_bytes: u64,
        /// Damaged files that were found on the way, one sentence each.
        damage: Vec<String>,
    },
    /// To `CheckpointContent`.
    CheckpointContent(CheckpointContent),
    /// To `Restore`.
    Restored {
        /// Which checkpoint it is.
        checkpoint: u64,
        /// The names that are there.
        names: Vec<NameInfo>,
        /// What is not; at most 100.
        losses: Vec<NotRestored>,
    },
    /// To `ExportCheckpoint`: a part of the file, as payload.
    Part,
    /// To the last `ImportCheckpoint`.
    Imported {
        /// Its number in this notebook.
        checkpoint: u64,
    },
    /// To `VerifyCheckpoints`.
    Verified {
        /// Those that were read.
        checkpoints: Vec<Verified>,
    },
    /// To `CollectCheckpoints`.
    Collected(Collected),
    /// To `Drain`, and cellblockd ends.
    Drained {
        /// Executions that had not ended in their time; they go on without a daemon, for the next one.
        running: u32,
        /// Executions that wait, for the next one.
        waiting: u32,
        /// What was being saved, and could not be in time.
        unsaved: u32,
    },
    /// To `Metrics`.
    Metrics,
    /// To `Overview`.
    Overview(Box<Overview>),
    /// To `Tenants`, sorted by name.
    Tenants {
        /// Them.
        tenants: Vec<TenantInfo>,
    },
    /// To `Events`: nothing that happens from now on is missed.
    Listening,
    /// Something happened.
    Event(NotebookEvent),
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request makes no sense: malformed, out of order, an illegal id.
    BadRequest,
    /// No common protocol version.
    Version,
    /// A frame, a code or a list above its limit.
    TooLarge,
    /// No notebook of that name is open.
    UnknownNotebook,
    /// No such Execution (any more).
    UnknownExecution,
    /// No profile of that name, or one that does not parse.
    BadProfile,
    /// The interpreter is missing or lacks a package.
    Interpreter,
    /// The sandbox could not be made; the message names the step.
    Sandbox,
    /// The caller may not.
    Forbidden,
    /// cellblock does not do this, on purpose.
    Unsupported,
    /// Too much at once; try again.
    Busy,
    /// The disk is full or unwritable.
    Storage,
    /// cellblockd is going down.
    ShuttingDown,
    /// A fault of ours; the log has more.
    Internal,
    /// No such file in the workspace, or it is no file, or no folder, or a link.
    File,
    /// No such checkpoint, or it is damaged, or the profile has none.
    Checkpoint,
}
