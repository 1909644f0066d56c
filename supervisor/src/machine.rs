//! The state machine of one notebook's worker and Executions, decided without doing anything: [`Machine::on`] takes
//! what happened and returns what follows. The notebook's task performs it; nothing here waits, reads or writes.
//! Here are its states, inputs and actions; the modules below are the transitions, by what they are about.
//!
//! The worker ([`Phase`]):
//!
//! ```text
//!            Submit, Wanted          Ready          Restart, SavedNow
//!    None ──────────────────▶ Starting ────▶ Up ──────────────────────▶ Ending
//!     ▲        WarmFailed, and a │ ▲         │  Evict: saved first;     │
//!     │        warm one's death: └─┘ cold    │  what comes keeps it     │
//!     │                          │           │                          │
//!     │                          │StartFailed│ WorkerEnded, ShimLost    │ the same, Time
//!     └──────────────────────────┴───────────┴──────────────────────────┘
//! ```
//!
//! An Execution ([`Stage`]), held here until there is a worker, then by the shim, whose queue decides the order:
//!
//! ```text
//!             worker is up        Accepted           Started
//!    ─▶ Held ─────────────▶ Sent ─────────▶ Accepted ────────▶ Running
//!        │ ▲                 │                 │                  │
//!        │ └─────────────────┴─────────────────┘                  │
//!        │   Returned; worker gone before it began                │
//!        ▼                                                        ▼
//!    Conclude or Refuse, once ◀─── Finished, Refused, worker gone ┘
//! ```
//!
//! Timers: a warm start has [`START_PATIENCE`], an end [`END_PATIENCE`]; [`Machine::deadline`] is the next, and
//! there is none but in these two states.
//!
//! Invariant: whatever the shim said `Accepted` to is concluded exactly once; whatever it did not is concluded or
//! refused exactly once; each `Start` is followed by one `Gone`. The property test is `life_tests.rs`.

mod adoption;
mod ending;
mod evicting;
mod executions;
mod leave;
mod questions;
mod saving;
mod worker;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use cellblock_proto::client::ErrorCode;
use cellblock_proto::execution::{Checkpoint, Death, ExecuteOptions, NameInfo, Outcome, Output};
use cellblock_proto::id::ExecutionId;
use cellblock_proto::names::KnownNames;
use cellblock_proto::shim::Command;
use tokio::time::Instant;

use self::evicting::Leaving;
use crate::loss::Restoration;
use crate::outbox::Payload;
use crate::runners::Turn;
use crate::unsaved::Unsaved;

/// Ended Executions that are remembered here, so that a shim's telling them again counts for nothing. Many more are in
/// the notebook's journal, so that sending one again does not run it again.
const MAX_ENDED: usize = 200;

/// Workers an Execution is given to before it counts as what ends them.
const MAX_ATTEMPTS: u32 = 3;

/// How long a worker that comes from a zygote may take; it takes milliseconds, and Python can be executed.
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(15);

/// How long a worker has to end when it is told to.
pub(crate) const END_PATIENCE: Duration = Duration::from_secs(10);

/// Where the worker is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// There is none.
    None,
    /// One is being started; `warm_by` is there while a zygote's fork is waited for.
    Starting { launched: bool, warm_by: Option<Instant> },
    /// It takes work.
    Up,
    /// It is to end; `by` is there when it has been told to.
    Ending { reason: String, launched: bool, evicted: bool, by: Option<Instant> },
}

/// Where an Execution is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Here, until there is a worker.
    Held,
    /// On its way to the shim.
    Sent,
    /// In the shim's queue.
    Accepted,
    /// In the worker.
    Running,
}

/// An Execution that has not ended.
#[derive(Debug)]
struct Job {
    stage: Stage,
    /// Unknown for what an earlier daemon submitted.
    options: Option<ExecuteOptions>,
    /// Kept until it runs, for another worker.
    code: Option<Payload>,
    /// What it was sent with; it goes to the next one if this one never begins.
    notice: Option<Output>,
    accepted: bool,
    attempts: u32,
    /// Since when it waits for a worker; how long it has.
    waits_since: Option<Instant>,
    worker_ms: Option<u64>,
}

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
    /// The same, and the notebook is to be opened again some time.
    Close { reason: String },
    /// The worker is to be saved and ended, to make room or for another build.
    Evict { reason: String, rule: Evict },
    /// The worker was pinned: it stays, unless it has to go in any case.
    Pinned,
    /// What was asked for has been saved, or has not.
    /// `own` if it was for an [`Action::Save`], not for a client; `all` if nothing has ended since that was asked.
    SavedNow { checkpoint: Checkpoint, own: bool, all: bool },
    /// [`Machine::deadline`] has come.
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
    /// Up to this one, or without one up to the last, all is saved, or its loss has been told or is wanted.
    Settled { up_to: Option<ExecutionId> },
    /// The worker is no more.
    Gone { end: WorkerEnd },
    /// There is no worker: whoever waited for that need not any more.
    Absent,
}

/// One notebook's Executions and worker.
#[derive(Debug)]
pub(crate) struct Machine {
    phase: Phase,
    jobs: HashMap<ExecutionId, Job>,
    /// The keys of `jobs` in order of arrival.
    order: VecDeque<ExecutionId>,
    ended: VecDeque<ExecutionId>,
    remembered: HashSet<ExecutionId>,
    ended_count: u64,
    names: KnownNames,
    /// What the next Execution is to be told.
    notice: Option<Output>,
    /// Executions that have ended since the last checkpoint, the newest.
    unsaved: Unsaved,
    /// Those of which the notice tells that they are lost, until somebody has been told.
    telling: Unsaved,
    /// The one that tells it, and the last of those.
    told_by: Option<(ExecutionId, ExecutionId)>,
    /// Those of which the disk does not say that they are saved, under a worker whose end nobody here has seen. What the
    /// next one begins with decides it.
    doubtful: Unsaved,
    /// This notebook's among all that want to run something, and what it is for when it has come.
    turn: Turn,
    leave: Option<ExecutionId>,
    adopting: bool,
    /// The worker that is being taken over has told here what it has of the one before it.
    has_told: bool,
    /// It is to be saved and ended.
    leaving: Option<Leaving>,
    /// An [`Action::Save`] has not been answered, whether that eviction is still wanted or not.
    save_asked: bool,
    /// The last worker was evicted, and there has been none since.
    evicted: bool,
    /// Whether the last checkpoint had all there was; unknown after a restart of the daemon.
    whole: Option<bool>,
    /// Something has ended since the last checkpoint that must not be saved.
    unsavable: bool,
    /// Executions whose checkpoints are being taken.
    pending: HashSet<ExecutionId>,
}

impl Machine {
    /// A notebook without a worker.
    pub(crate) fn new(turn: Turn) -> Self {
        Machine {
            phase: Phase::None,
            jobs: HashMap::new(),
            order: VecDeque::new(),
            ended: VecDeque::new(),
            remembered: HashSet::new(),
            ended_count: 0,
            names: KnownNames::default(),
            notice: None,
            unsaved: Unsaved::default(),
            telling: Unsaved::default(),
            told_by: None,
            doubtful: Unsaved::default(),
            turn,
            leave: None,
            adopting: false,
            has_told: false,
            leaving: None,
            save_asked: false,
            evicted: false,
            whole: Some(true),
            unsavable: false,
            pending: HashSet::new(),
        }
    }

    /// So many have ended before it slept, and its worker was evicted, or was not.
    pub(crate) fn has_slept(&mut self, executions: u64, evicted: bool) {
        self.ended_count = executions;
        self.evicted = evicted;
    }

    /// When [`Input::Time`] is to be said, if nothing else happens first.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Starting { warm_by, .. } => *warm_by,
            Phase::Ending { by, .. } => *by,
            Phase::None | Phase::Up => None,
        }
    }

    /// Decides.
    pub(crate) fn on(&mut self, input: Input, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        let out = &mut actions;
        match input {
            Input::Submit { execution, options, code } => self.submit(execution, options, code, now, out),
            Input::Wanted => self.want_worker(out),
            Input::Launched { warm } => self.launched(warm, now, out),
            Input::WarmFailed { why } => self.warm_failed(why, out),
            Input::Ready => {
                if matches!(self.phase, Phase::Starting { .. }) {
                    self.phase = Phase::Up;
                    self.evicted = false;
                    self.tell_doubtful();
                    self.note_waits(now);
                    self.send_held(out);
                }
            }
            Input::Restored { execution, names, told } => self.restored(&execution, names, told),
            Input::Saved { execution, whole } => {
                self.pending.remove(&execution);
                self.whole = Some(whole);
                self.saved(execution.as_str());
            }
            Input::NotSaved { execution, reason } => {
                self.pending.remove(&execution);
                self.not_saved(&reason);
            }
            Input::StartFailed { code, message } => self.start_failed(code, &message, out),
            Input::Accepted { execution, position } => self.accepted(execution, position, out),
            // Told again by a shim that had not heard that it is taken.
            Input::Started { execution } if self.remembered.contains(&execution) => {}
            Input::Started { execution } => {
                let job = self.ensure(&execution);
                job.stage = Stage::Running;
                job.code = None;
                if job.notice.take().is_some() {
                    self.told_by = self.telling.last().cloned().map(|last| (execution, last));
                    self.telling.clear();
                }
            }
            Input::Finished { execution, outputs, outcome, payload } => {
                self.finished(&execution, outputs, outcome, payload, out);
            }
            Input::Returned { execution, options, code } => self.returned(&execution, options, code),
            Input::Refused { execution, reason } => {
                // It has run there, and its end was taken by a daemon before us.
                if self.remove(&execution).is_some() {
                    let code = ErrorCode::UnknownExecution;
                    out.push(Action::Refuse { execution, code, message: reason });
                }
            }
            Input::WorkerEnded { death, lost } => {
                let lost = lost.into_iter().map(|info| info.name).collect();
                self.worker_gone(&death, lost, false, out);
            }
            Input::ShimLost => self.worker_gone(&Death::ShimLost, self.lost_names(), false, out),
            Input::Leave => {}
            Input::Interrupt => self.interrupt(out),
            Input::Cancel { execution } => self.cancel(&execution, out),
            Input::Restart { reason } => {
                out.push(Action::Settled { up_to: None });
                self.restart(reason, now, out);
            }
            Input::Close { reason } => self.close(reason, now, out),
            Input::Evict { reason, rule } => self.evict(reason, rule, out),
            Input::Pinned => {
                self.keep("it was pinned", out);
            }
            Input::SavedNow { checkpoint, own, all } => self.saved_now(&checkpoint, own, all, now, out),
            Input::Time => self.time(now, out),
        }
        self.settle_eviction(now, out);
        self.settle_leave(out);
        actions
    }
}

fn send(command: Command) -> Action {
    Action::Send { command, payload: Payload::default() }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
