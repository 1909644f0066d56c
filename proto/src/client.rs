//! Client and cellblockd. The first frame on a connection is [`Request::Hello`], in JSON; what
//! follows may be interleaved freely, by request id.

use sandbox_profiles::{SandboxReport, Step};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{
    Checkpoint, CheckpointContent, CheckpointInfo, Collected, Keep, NotRestored, NotebookEvent, Verified,
};
use crate::codec::Codec;
use crate::execution::{ExecuteOptions, NameInfo, Outcome, OutputFrame};
use crate::id::{ExecutionId, NotebookId};
pub use crate::info::{DoctorLine, FileInfo, FileKind, ProfileInfo, WarmInfo, ZygoteState};
use crate::query::{Answer, Query};

/// What a client asks. The request id in the header is the client's to choose; it must not be 0
/// and not be one that is still being answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first frame, always JSON. Answer: [`Reply::Hello`].
    Hello(Hello),
    /// Makes the notebook known; nothing runs yet. Idempotent. Answer: [`Reply::Notebook`].
    OpenNotebook {
        /// Which.
        notebook: NotebookId,
        /// The profile; `default` when absent. A notebook keeps the profile it was opened with
        /// until it is closed.
        #[serde(default)]
        profile: Option<String>,
    },
    /// Runs the payload. Answers: [`Reply::Accepted`], then [`Reply::Output`]s, then one
    /// [`Reply::Outcome`]. Sent again under the same execution id it is an `Attach` from 0.
    Execute {
        /// Where.
        notebook: NotebookId,
        /// Chosen by the client, unique within the notebook.
        execution: ExecutionId,
        /// How.
        #[serde(default)]
        options: ExecuteOptions,
    },
    /// Reads an Execution from an output on, whoever started it. Answers as to `Execute`.
    Attach {
        /// Where.
        notebook: NotebookId,
        /// Which.
        execution: ExecutionId,
        /// The first output wanted; earlier ones have been read.
        from_seq: u64,
    },
    /// Interrupts what runs. Answer: [`Reply::Done`], when the signal is on its way.
    Interrupt {
        /// Where.
        notebook: NotebookId,
    },
    /// Takes an Execution out of the queue, or interrupts it when it runs already.
    /// Answer: [`Reply::Done`].
    Cancel {
        /// Where.
        notebook: NotebookId,
        /// Which.
        execution: ExecutionId,
    },
    /// Answers an `InputRequest`. Answer: [`Reply::Done`].
    Input {
        /// Where.
        notebook: NotebookId,
        /// Whose question.
        execution: ExecutionId,
        /// What was typed, without the newline.
        value: String,
    },
    /// Asks about the notebook without running code. Answer: [`Reply::Answer`].
    Query {
        /// Where.
        notebook: NotebookId,
        /// What.
        query: Query,
    },
    /// Ends the worker; the next Execution gets a new one. Answer: [`Reply::Done`].
    Restart {
        /// Which.
        notebook: NotebookId,
    },
    /// Ends the worker and forgets the notebook; its files stay. Answer: [`Reply::Done`].
    Close {
        /// Which.
        notebook: NotebookId,
    },
    /// `Close`, and its files go too. Answer: [`Reply::Done`].
    Delete {
        /// Which.
        notebook: NotebookId,
    },
    /// All notebooks of the caller. Answer: [`Reply::Notebooks`].
    Notebooks,
    /// One notebook in full. Answer: [`Reply::Status`].
    Status {
        /// Which.
        notebook: NotebookId,
    },
    /// What the host can enforce. Answer: [`Reply::Doctor`].
    Doctor,
    /// Jupyter's comms need a live object on both sides; cellblock refuses them by name.
    Comm {
        /// The target that the front end wanted.
        target: String,
    },
    /// Ends cellblockd; with it all workers when it is private. Answer: [`Reply::Done`].
    Shutdown,
    /// The profiles that a notebook can be opened with. Answer: [`Reply::Profiles`].
    Profiles,
    /// Zygotes and spares, by profile. Answer: [`Reply::Warm`].
    Warm,
    /// The steps that make a sandbox of this profile on this host. Answer: [`Reply::Plan`].
    Plan {
        /// The profile; `default` when absent.
        #[serde(default)]
        profile: Option<String>,
    },
    /// The names in a folder of the workspace. Answer: [`Reply::Files`].
    ListFiles {
        /// Whose workspace.
        notebook: NotebookId,
        /// The folder, relative to the workspace; empty for the workspace itself. See [`FileInfo::name`].
        #[serde(default)]
        path: String,
    },
    /// A part of a file of the workspace. Answer: [`Reply::File`], the bytes as payload.
    ReadFile {
        /// Whose workspace.
        notebook: NotebookId,
        /// The file, relative to the workspace.
        path: String,
        /// The first byte wanted.
        #[serde(default)]
        offset: u64,
        /// At most so many bytes; fewer come at the file's end.
        bytes: u32,
    },
    /// Writes the payload into a file of the workspace, and makes the folders above it. Answer:
    /// [`Reply::Done`].
    WriteFile {
        /// Whose workspace.
        notebook: NotebookId,
        /// The file, relative to the workspace.
        path: String,
        /// Where the payload goes; 0 begins the file anew, and what it held is gone.
        #[serde(default)]
        offset: u64,
    },
    /// Removes a file, or a folder with all that is in it. Answer: [`Reply::Done`].
    RemoveFile {
        /// Whose workspace.
        notebook: NotebookId,
        /// What, relative to the workspace.
        path: String,
    },
    /// Saves the variables now, or when the cell that runs has ended. Answer: [`Reply::Checkpoint`], when it is saved.
    Checkpoint {
        /// Whose.
        notebook: NotebookId,
    },
    /// The checkpoints kept. Answer: [`Reply::Checkpoints`].
    Checkpoints {
        /// Whose.
        notebook: NotebookId,
    },
    /// What is in a checkpoint. Answer: [`Reply::CheckpointContent`].
    CheckpointContent {
        /// Whose.
        notebook: NotebookId,
        /// Which; the current one when absent.
        #[serde(default)]
        checkpoint: Option<u64>,
    },
    /// Ends the worker, and starts one with the variables as they were. What has been saved since stays in the store.
    /// Answer: [`Reply::Restored`], when it is up.
    Restore {
        /// Whose.
        notebook: NotebookId,
        /// Which; the current one when absent.
        #[serde(default)]
        checkpoint: Option<u64>,
    },
    /// Makes a new notebook that begins with the variables of a checkpoint; its workspace is empty.
    /// Answer: [`Reply::Notebook`].
    Fork {
        /// Whose.
        notebook: NotebookId,
        /// Which; the current one when absent.
        #[serde(default)]
        checkpoint: Option<u64>,
        /// The new notebook, of which there must be nothing yet. It has the profile of the old one.
        to: NotebookId,
    },
    /// A checkpoint as one file. Answers: [`Reply::Part`]s, their payloads are the file; then [`Reply::Done`].
    ExportCheckpoint {
        /// Whose.
        notebook: NotebookId,
        /// Which; the current one when absent.
        #[serde(default)]
        checkpoint: Option<u64>,
    },
    /// Takes over an exported checkpoint, which comes in parts as payloads. It becomes the current one where there was
    /// none, else it is for `Restore`. Answer: [`Reply::Done`], to the last part [`Reply::Imported`].
    ImportCheckpoint {
        /// Whose it is to be.
        notebook: NotebookId,
        /// Where the part begins in the file; 0 begins it anew.
        offset: u64,
        /// Nothing follows it.
        last: bool,
    },
    /// Reads every byte of a checkpoint. Answer: [`Reply::Verified`].
    VerifyCheckpoints {
        /// Whose.
        notebook: NotebookId,
        /// Which; all when absent.
        #[serde(default)]
        checkpoint: Option<u64>,
    },
    /// Removes the checkpoints that the rule does not keep, and all that none refers to any more. The current one and
    /// the newest stay in any case. Answer: [`Reply::Collected`].
    CollectCheckpoints {
        /// Whose.
        notebook: NotebookId,
        /// The rule; the profile's when absent.
        #[serde(default)]
        keep: Option<Keep>,
    },
    /// Ends the worker and removes all its checkpoints; files and profile stay. Answer: [`Reply::Done`].
    Clear {
        /// Whose.
        notebook: NotebookId,
    },
    /// Tells from now on what happens, until the connection ends. Answers: [`Reply::Listening`], then
    /// [`Reply::Event`]s.
    Events {
        /// In which notebook; in all of the caller's when absent.
        #[serde(default)]
        notebook: Option<NotebookId>,
    },
}

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
    /// To `Notebooks`, sorted by name.
    Notebooks {
        /// Them.
        notebooks: Vec<NotebookInfo>,
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

/// A notebook in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotebookInfo {
    /// Its name.
    pub notebook: NotebookId,
    /// Its profile.
    pub profile: String,
    /// What its worker is doing.
    pub state: WorkerState,
    /// Executions waiting.
    pub queued: u32,
    /// Executions ended since it was opened.
    pub executions: u64,
}

/// What a notebook's worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// There is none; the next Execution starts one.
    None,
    /// Being started.
    Starting,
    /// Waiting for work.
    Idle,
    /// Running an Execution.
    Busy,
    /// Being ended.
    Ending,
    /// It is up, and an Execution waits for leave to run: as many cells run as may.
    Waiting,
}

/// A notebook in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotebookStatus {
    /// The line.
    pub info: NotebookInfo,
    /// What runs.
    pub running: Option<ExecutionId>,
    /// What waits, in order.
    pub queue: Vec<ExecutionId>,
    /// The names known, as of the last Execution that ended.
    pub names: Vec<NameInfo>,
    /// The worker's process id as the host sees it.
    pub worker_pid: Option<u32>,
    /// The interpreter in use, e.g. `CPython 3.11.7, IPython 9.18.1`.
    pub python: Option<String>,
    /// What the sandbox enforces.
    pub report: Option<SandboxReport>,
}
