//! The words between a notebook's task and its [`crate::machine::Machine`].

use cellblock_proto::client::ErrorCode;
use cellblock_proto::execution::{Checkpoint, Death, ExecuteOptions, NameInfo, Outcome};
use cellblock_proto::id::ExecutionId;
use cellblock_proto::shim::Command;

use crate::loss::Restoration;
use crate::outbox::Payload;

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// A client wants this run; the id is not known yet.
    Submit { execution: ExecutionId, options: ExecuteOptions, code: Payload },
    /// A question waits for a worker.
    Wanted,
    /// The shim has its orders; it can be spoken to. Of a `warm` one a zygote forks the worker.
    Launched { warm: bool },
    /// A fork failed before any of the user's code ran.
    WarmFailed { why: String },
    /// The worker is up.
    Ready,
    /// It has, or has not, what was saved of the one before it; said before it is up.
    Restored { execution: String, names: Vec<NameInfo>, told: Restoration },
    /// What there was after this Execution is saved; `whole` if nothing had to be left out.
    Saved { execution: ExecutionId, whole: bool },
    /// A checkpoint that was taken in the background has failed.
    NotSaved { execution: ExecutionId, reason: String },
    /// There is no worker.
    StartFailed { code: ErrorCode, message: String },
    /// The shim holds an Execution.
    Accepted { execution: ExecutionId, position: u32 },
    /// The worker has begun one.
    Started { execution: ExecutionId },
    /// One has ended.
    Finished { execution: ExecutionId, outputs: u64, outcome: Outcome, payload: Payload },
    /// One is given back because its worker ended first.
    Returned { execution: ExecutionId, options: ExecuteOptions, code: Payload },
    /// The shim will not have one.
    Refused { execution: ExecutionId, reason: String },
    /// The worker has ended.
    WorkerEnded { death: Death, lost: Vec<NameInfo> },
    /// The shim's socket has ended without a word.
    ShimLost,
    /// Leave to run may have come.
    Leave,
    /// A client interrupts.
    Interrupt,
    /// A client cancels.
    Cancel { execution: ExecutionId },
    /// A client wants no worker.
    Restart { reason: String },
    /// The worker is to be saved and ended, to make room or for another build.
    Evict { reason: String, rule: Evict },
    /// What was asked for has been saved, or has not.
    SavedNow { checkpoint: Checkpoint },
    /// [`crate::machine::Machine::deadline`] has come.
    Time,
}

/// How a worker may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evict {
    /// Its variables can be saved: its profile has checkpoints.
    pub(crate) saves: bool,
    /// Also when variables are lost with it.
    pub(crate) with_losses: bool,
    /// What is wanted meanwhile waits for the next worker; else it keeps this one.
    pub(crate) firmly: bool,
}

/// Why there is a worker no more. Each that was started has one such end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum WorkerEnd {
    /// It never came.
    NotStarted,
    /// It died.
    Died(Death),
    /// It was ended because somebody wanted that.
    Ended { reason: String },
    /// It was saved and ended, and comes back when it is wanted.
    Evicted { reason: String },
    /// It did not end when it was told to, and was killed.
    Overdue,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Start a worker.
    Start,
    /// Start it by executing Python, in place of the one that was being started.
    StartCold { why: String },
    /// Save the variables, and say [`Input::SavedNow`].
    Save,
    /// It is not evicted after all.
    Stays { reason: String },
    /// Tell the shim.
    Send { command: Command, payload: Payload },
    /// Tell the shim to end the worker, and see that it does.
    End { reason: String },
    /// Have the anchor kill the shim.
    Kill,
    /// Tell those attached that it is accepted.
    Accepted { execution: ExecutionId, position: u32 },
    /// It has ended; `outputs` is absent when nobody but us counted them.
    Conclude { execution: ExecutionId, outputs: Option<u64>, outcome: Box<Outcome>, payload: Payload },
    /// It never began to exist; those attached get the error.
    Refuse { execution: ExecutionId, code: ErrorCode, message: String },
    /// It ended too long ago to be remembered.
    Forget { execution: ExecutionId },
    /// The worker is no more.
    Gone { end: WorkerEnd },
    /// There is no worker: whoever waited for that need not any more.
    Absent,
}
