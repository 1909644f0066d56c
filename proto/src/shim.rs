//! cellblockd and one shim, over the shim's control socket.
//!
//! Events are numbered, and the shim keeps each until a cumulative [`Command::Taken`] covers it;
//! nobody waits for a `Taken`. A supervisor that comes back says [`Command::Resume`] and gets the
//! events it has not taken, then [`EventBody::State`], then what happens from there on.

use std::path::PathBuf;

use sandbox_profiles::{Limits, SandboxReport, Step};
use serde::{Deserialize, Serialize};

use crate::execution::{
    Checkpoint, Checkpointing, Death, ExecuteOptions, Keep, NameInfo, NotRestored, Outcome, Output,
    OutputFrame,
};
use crate::id::{ExecutionId, NotebookId, TenantId, WorkerId};
use crate::query::{Answer, Query};

/// What cellblockd tells a shim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// First frame on the socket the shim was started with: make the sandbox, start the worker.
    Start(Box<StartSpec>),
    /// First frame on the socket, instead of `Start`: make a zygote, and end with this socket.
    Zygote(Box<ZygoteSpec>),
    /// A spare becomes a notebook's: attach its workspace, seal it.
    Claim(Box<Claim>),
    /// First frame on any later connection, always in JSON. The shim sends what comes after `taken`.
    Resume {
        /// The build of the supervisor; to another than its own the shim speaks JSON.
        build: String,
        /// What the supervisor speaks; see [`crate::link`].
        #[serde(default)]
        link: u32,
        /// The last event number it has.
        taken: u64,
    },
    /// All events up to this number may be forgotten.
    Taken {
        /// Event number.
        seq: u64,
    },
    /// Queue the payload for execution. An id seen before changes nothing.
    Execute {
        /// Which.
        execution: ExecutionId,
        /// How.
        options: Box<ExecuteOptions>,
        /// Becomes output 0, before the code begins: what the supervisor has to say about it, e.g.
        /// which variables went with the previous worker.
        notice: Option<Output>,
        /// Whether it has leave to begin as soon as it is the first; else it waits for a `Leave`.
        leave: bool,
    },
    /// Interrupt what runs.
    Interrupt,
    /// Take it out of the queue, or interrupt it when it runs.
    Cancel {
        /// Which.
        execution: ExecutionId,
    },
    /// Answer to an `InputRequest`.
    Input {
        /// Whose question.
        execution: ExecutionId,
        /// What was typed.
        value: String,
    },
    /// A question about the namespace; the frame's request id comes back with the answer, the code
    /// is the payload.
    Query(Query),
    /// End the worker. What runs and what waits ends with it.
    End {
        /// Why, one sentence; it goes into the Outcome of what ran.
        reason: String,
    },
    /// An Execution that waits may begin. One that does not wait (any more) is nothing to this.
    Leave {
        /// Which.
        execution: ExecutionId,
    },
    /// An Execution that was given back is somebody else's, or has ended: it need not be given back again.
    Settled {
        /// Which.
        execution: ExecutionId,
    },
    /// Save the variables when no cell runs; the frame's request id comes back with what became of it.
    Save,
    /// Interrupt what runs, save what is to be saved, end. In JSON, every shim understands this, whatever build it is
    /// of.
    Retire {
        /// Why, one sentence.
        reason: String,
    },
}

/// Everything a shim needs to know, said once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartSpec {
    /// The build of the supervisor; another than the shim's is refused.
    pub build: String,
    /// This worker.
    pub worker: WorkerId,
    /// Whose worker it is.
    pub notebook: NotebookId,
    /// Whose that is.
    pub tenant: TenantId,
    /// The profile's name, for a supervisor that comes back.
    pub profile: String,
    /// Which pair of host ids the sandbox uses, counted from 0; see `sandbox_profiles::ids`.
    pub slot: u32,
    /// The plan, in order.
    pub steps: Vec<Step>,
    /// The limits the shim itself watches.
    pub limits: Limits,
    /// The program and its arguments, as the sandbox sees them.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// Where the shim listens for a supervisor that comes back.
    pub control_socket: PathBuf,
    /// Bytes of events kept while nobody takes them.
    pub retain_bytes: u64,
    /// How long the writer is held back when that is full, before head and tail are kept instead.
    pub retain_grace_ms: u64,
    /// How long the sandbox lives without any supervisor.
    pub orphan_ms: u64,
    /// Where a zygote listens that is to fork the worker. When it does not answer, Python is executed.
    pub zygote: Option<PathBuf>,
    /// Why there is no zygote though the profile asks for one, for the report.
    pub no_zygote: Option<String>,
    /// Where its checkpoints are, and what they may cost; absent when there are none.
    pub checkpoints: Option<Checkpoints>,
    /// Stop before the seal and wait for a `Claim`: `notebook` is nobody's, the plan has no workspace.
    pub spare: bool,
}

/// A notebook's checkpoints, for its shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoints {
    /// The folder, on the host.
    pub folder: PathBuf,
    /// When one is taken, where an Execution does not say.
    pub when: Checkpointing,
    /// Whether the worker begins with what is saved; else it begins anew, and so does what is saved.
    pub restore: bool,
    /// Which are kept.
    pub keep: Keep,
    /// How long one may take, in seconds.
    pub seconds: u64,
}

/// What turns a spare into a notebook's worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Whose it is from now on.
    pub notebook: NotebookId,
    /// Whose that is.
    pub tenant: TenantId,
    /// The steps that the spare has not done.
    pub attach: Vec<Step>,
    /// The whole plan, these included: what it is held to.
    pub steps: Vec<Step>,
    /// Where its checkpoints are; absent when there are none.
    pub checkpoints: Option<Checkpoints>,
}

/// Everything about a zygote, said once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ZygoteSpec {
    /// Its plan, program and environment. Nobody listens at its control socket, and it is nobody's.
    pub start: StartSpec,
    /// Where it is to listen for shims.
    pub socket: PathBuf,
}

/// Something that happened, numbered from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number. 0 for what is never kept: `Answer`, `State` and `Refused`.
    pub seq: u64,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EventBody {
    /// The worker is up.
    Ready {
        /// Its process id as the host sees it.
        worker_pid: u32,
        /// E.g. `CPython 3.11.7, IPython 9.18.1`.
        python: String,
        /// What is enforced.
        report: SandboxReport,
    },
    /// A spare is ready to be claimed.
    Spare,
    /// A zygote is ready to fork.
    ZygoteUp {
        /// E.g. `CPython 3.11.7, IPython 9.18.1`.
        python: String,
        /// What it has imported of what it was to.
        preloaded: Vec<String>,
        /// How long that took, in milliseconds.
        took_ms: u64,
    },
    /// There is no worker (no zygote) and will be none. The shim ends once this is taken.
    StartFailed {
        /// What failed.
        failure: StartFailure,
    },
    /// The shim holds the Execution.
    Accepted {
        /// Which.
        execution: ExecutionId,
        /// How many are before it.
        position: u32,
    },
    /// The worker has begun it.
    Started {
        /// Which.
        execution: ExecutionId,
    },
    /// An output; its bytes are the payload.
    Output(OutputFrame),
    /// The end of an Execution; bytes of its expressions are the payload.
    Finished {
        /// Which.
        execution: ExecutionId,
        /// How many outputs it had.
        outputs: u64,
        /// How.
        outcome: Outcome,
    },
    /// An Execution that never began because the worker ended first, given back with its code as
    /// the payload so that another worker can run it.
    Returned {
        /// Which.
        execution: ExecutionId,
        /// How it was asked for.
        options: ExecuteOptions,
    },
    /// The worker is gone; the shim ends once this is taken.
    WorkerEnded {
        /// How.
        death: Death,
        /// The names that went with it.
        lost: Vec<NameInfo>,
    },
    /// What became of a checkpoint whose Outcome said `Pending`.
    Checkpoint {
        /// After which Execution it was taken.
        execution: ExecutionId,
        /// It.
        checkpoint: Checkpoint,
    },
    /// The new worker has loaded what the one before it had saved, or could not.
    Restored {
        /// Which checkpoint it is; 0 when nothing is loaded.
        checkpoint: u64,
        /// After which Execution it was taken; empty for none.
        execution: String,
        /// The names that are there.
        names: Vec<NameInfo>,
        /// What is not; at most 100.
        losses: Vec<NotRestored>,
        /// Why there is nothing at all.
        failed: Option<String>,
        /// Versions that are others than when it was saved, e.g. `numpy 2.3, now 2.4`.
        differences: Vec<String>,
        /// Damage, because of which it is not the checkpoint that was the current one; one sentence each.
        passed_over: Vec<String>,
    },
    /// The answer to the `Query` with the same request id.
    Answer(Answer),
    /// The answer to the `Save` with the same request id.
    Saved(Checkpoint),
    /// After `Resume`: how things stand at this moment.
    State(ShimState),
    /// A command that cannot be done, by request id.
    Refused {
        /// Why.
        reason: String,
    },
}

/// Why there is no worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFailure {
    /// A step of the plan; what it is and what the kernel said.
    Step {
        /// The step, as `profile explain` prints it.
        step: String,
        /// The kernel's answer.
        error: String,
        /// What to do about it.
        cure: Option<String>,
    },
    /// A zygote or a spare failed before any code of the user's ran; a fresh interpreter may do.
    Warm {
        /// What failed.
        why: String,
    },
    /// The sandbox is there, Python is not.
    Interpreter {
        /// What it printed before it ended, or why it could not begin.
        detail: String,
    },
}

/// A shim as a returning supervisor finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShimState {
    /// The build of the shim.
    #[serde(default)]
    pub build: String,
    /// What it speaks; see [`crate::link`].
    #[serde(default)]
    pub link: u32,
    /// Which worker.
    pub worker: WorkerId,
    /// Whose.
    pub notebook: NotebookId,
    /// Whose that is.
    pub tenant: TenantId,
    /// Under which profile.
    pub profile: String,
    /// Its host ids.
    pub slot: u32,
    /// Worker's process id, `python` and report, once ready.
    pub ready: Option<(u32, String, SandboxReport)>,
    /// What runs.
    pub running: Option<ExecutionId>,
    /// What waits, in order.
    pub queue: Vec<ExecutionId>,
    /// Which of them have leave to begin. What runs has had it.
    pub leave: Vec<ExecutionId>,
    /// The names known.
    pub names: Vec<NameInfo>,
    /// Executions ended in this worker.
    pub executions: u64,
    /// It is nobody's yet.
    pub spare: bool,
    /// Executions that have ended since the last checkpoint, in order.
    pub unsaved: Vec<ExecutionId>,
    /// The last of them is not to be saved.
    #[serde(default)]
    pub unsavable: bool,
    /// The one after which its variables stand: the last that ran in it, or that of the checkpoint it began with.
    #[serde(default)]
    pub newest: Option<String>,
    /// One has begun in it.
    #[serde(default)]
    pub begun: bool,
}
