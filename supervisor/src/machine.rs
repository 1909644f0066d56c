//! What to do about one notebook, decided without doing it: [`Machine::on`] takes what happened and
//! returns what follows. The notebook's task performs it; nothing here waits, reads or writes.
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
//! Timers: a warm start has [`START_PATIENCE`], an end [`END_PATIENCE`]; [`Machine::deadline`] is the next, and
//! there is none but in these two states.
//!
//! An Execution is held here until there is a worker, then by the shim, whose queue decides the
//! order. Invariant: whatever the shim said `Accepted` to is concluded exactly once; whatever it
//! did not is concluded or refused exactly once; each `Start` is followed by one `Gone`.

mod adoption;
mod ending;
mod evicting;
mod leave;
mod saving;
mod worker;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use cellblock_proto::client::{ErrorCode, WorkerState};
use cellblock_proto::execution::{Death, ExecuteOptions, NameInfo, Outcome, Output, Variables};
use cellblock_proto::id::ExecutionId;
use cellblock_proto::names::KnownNames;
use cellblock_proto::shim::Command;
use tokio::time::Instant;

use self::evicting::Leaving;
use crate::decision::{Action, Input};
use crate::outbox::Payload;
use crate::runners::Turn;

/// Executions of one notebook that may wait; more is `busy`.
const MAX_WAITING: usize = 1000;

/// Their code together, in bytes.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// Ended Executions that are remembered here, so that a shim's telling them again counts for nothing. Many more are in
/// the notebook's journal, so that sending one again does not run it again.
const MAX_ENDED: usize = 200;

/// Workers an Execution is given to before it counts as what ends them.
const MAX_ATTEMPTS: u32 = 3;

/// How long a worker that comes from a zygote may take; it takes milliseconds, and Python can be executed.
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(15);

/// How long a worker has to end when it is told to.
pub(crate) const END_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    None,
    /// `warm_by` is there while a zygote's fork is waited for.
    Starting {
        launched: bool,
        warm_by: Option<Instant>,
    },
    Up,
    /// `by` is there when it has been told to.
    Ending {
        reason: String,
        launched: bool,
        evicted: bool,
        by: Option<Instant>,
    },
}

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
    unsaved: VecDeque<ExecutionId>,
    /// Those of which the notice tells that they are lost, until somebody has been told.
    telling: Vec<ExecutionId>,
    /// This notebook's among all that want to run something, and what it is for when it has come.
    turn: Turn,
    leave: Option<ExecutionId>,
    adopting: bool,
    /// It is to be saved and ended.
    leaving: Option<Leaving>,
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
            unsaved: VecDeque::new(),
            telling: Vec::new(),
            turn,
            leave: None,
            adopting: false,
            leaving: None,
            evicted: false,
            whole: Some(true),
            unsavable: false,
            pending: HashSet::new(),
        }
    }

    /// Whether an Execution of that id exists or has ended not too long ago.
    pub(crate) fn knows(&self, execution: &ExecutionId) -> bool {
        self.jobs.contains_key(execution) || self.remembered.contains(execution)
    }

    /// What the worker is doing.
    pub(crate) fn state(&self) -> WorkerState {
        match self.phase {
            Phase::None => WorkerState::None,
            Phase::Starting { .. } => WorkerState::Starting,
            Phase::Up if self.running().is_some() => WorkerState::Busy,
            Phase::Up if self.turn.is_in_line() => WorkerState::Waiting,
            Phase::Up => WorkerState::Idle,
            Phase::Ending { .. } => WorkerState::Ending,
        }
    }

    /// What runs.
    pub(crate) fn running(&self) -> Option<&ExecutionId> {
        self.order.iter().find(|id| self.jobs.get(id).is_some_and(|job| job.stage == Stage::Running))
    }

    /// Whether something runs, or may have begun.
    pub(crate) fn may_run(&self) -> bool {
        self.leave.is_some()
    }

    /// What waits, in order.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &ExecutionId> {
        self.order.iter().filter(|id| self.jobs.get(id).is_some_and(|job| job.stage != Stage::Running))
    }

    /// How many wait.
    pub(crate) fn waiting_count(&self) -> usize {
        self.order.len() - usize::from(self.running().is_some())
    }

    /// The code of what waits, in bytes.
    pub(crate) fn code_bytes(&self) -> usize {
        self.jobs.values().filter_map(|job| job.code.as_ref()).map(|code| code.len()).sum()
    }

    /// How long until the cell that runs, or is next, has ended, as far as the past tells.
    pub(crate) fn until_next(&self) -> std::time::Duration {
        self.turn.until_next()
    }

    /// Whether nothing is known here that is not on the disk too.
    pub(crate) fn has_nothing_to_tell(&self) -> bool {
        self.jobs.is_empty() && self.notice.is_none() && self.unsaved.is_empty() && self.telling.is_empty()
    }

    /// So many have ended before it slept, and its worker was evicted, or was not.
    pub(crate) fn has_slept(&mut self, executions: u64, evicted: bool) {
        self.ended_count = executions;
        self.evicted = evicted;
    }

    /// Executions ended.
    pub(crate) fn ended_count(&self) -> u64 {
        self.ended_count
    }

    fn lost_names(&self) -> Vec<String> {
        self.names.iter().map(|info| info.name.clone()).collect()
    }

    /// The names known, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &NameInfo> {
        self.names.iter()
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
            Input::Restart { reason } => self.restart(reason, now, out),
            Input::Evict { reason, rule } => self.evict(reason, rule, out),
            Input::SavedNow { checkpoint } => self.saved_now(&checkpoint, now, out),
            Input::Time => self.time(now, out),
        }
        self.settle_eviction(now, out);
        self.settle_leave(out);
        actions
    }

    fn submit(
        &mut self,
        execution: ExecutionId,
        options: ExecuteOptions,
        code: Payload,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let bytes = self.code_bytes();
        if self.order.len() >= MAX_WAITING || bytes + code.len() > MAX_WAITING_BYTES {
            let message = format!(
                "the notebook's queue is full: {} executions with {bytes} bytes of code wait",
                self.order.len()
            );
            out.push(Action::Refuse { execution, code: ErrorCode::Busy, message });
            return;
        }
        let job = self.ensure(&execution);
        job.options = Some(options);
        job.code = Some(code);
        if self.takes_work(out) {
            self.send_held(out);
        } else {
            if let Some(job) = self.jobs.get_mut(&execution) {
                job.waits_since = Some(now);
            }
            self.want_worker(out);
        }
    }

    fn ensure(&mut self, execution: &ExecutionId) -> &mut Job {
        if !self.jobs.contains_key(execution) {
            self.order.push_back(execution.clone());
        }
        self.jobs.entry(execution.clone()).or_insert(Job {
            stage: Stage::Held,
            options: None,
            code: None,
            notice: None,
            accepted: false,
            attempts: 0,
            waits_since: None,
            worker_ms: None,
        })
    }

    fn remove(&mut self, execution: &ExecutionId) -> Option<Job> {
        self.order.retain(|id| id != execution);
        self.jobs.remove(execution)
    }

    fn send_held(&mut self, out: &mut Vec<Action>) {
        for execution in self.held() {
            let Some(job) = self.jobs.get_mut(&execution) else { continue };
            let (Some(options), Some(code)) = (job.options.clone(), job.code.clone()) else { continue };
            job.stage = Stage::Sent;
            job.attempts += 1;
            job.notice = self.notice.take();
            let notice = job.notice.clone();
            let options = Box::new(options);
            let leave = self.gets_leave(&execution);
            let command = Command::Execute { execution, options, notice, leave };
            out.push(Action::Send { command, payload: code });
        }
    }

    fn accepted(&mut self, execution: ExecutionId, position: u32, out: &mut Vec<Action>) {
        if self.remembered.contains(&execution) {
            return;
        }
        let job = self.ensure(&execution);
        if job.stage != Stage::Running {
            job.stage = Stage::Accepted;
        }
        job.accepted = true;
        out.push(Action::Accepted { execution, position });
    }

    fn finished(
        &mut self,
        execution: &ExecutionId,
        outputs: u64,
        outcome: Outcome,
        payload: Payload,
        out: &mut Vec<Action>,
    ) {
        if self.remembered.contains(execution) {
            return;
        }
        if outcome.variables == Variables::Kept {
            self.names.apply(&outcome.names);
            let has_begun = outcome.execution_count > 0 || outcome.wall_us > 0;
            self.changed(execution, outcome.checkpoint.as_ref(), has_begun);
        }
        self.ensure(execution);
        self.take_notice_back(execution);
        self.conclude(execution, Some(outputs), outcome, payload, out);
    }

    fn take_notice_back(&mut self, execution: &ExecutionId) {
        if let Some(notice) = self.jobs.get_mut(execution).and_then(|job| job.notice.take()) {
            self.notice = Some(notice);
        }
    }

    fn returned(&mut self, execution: &ExecutionId, options: ExecuteOptions, code: Payload) {
        // After the worker's end it was returned to the daemon before us, which has seen to it.
        if self.remembered.contains(execution) || self.phase == Phase::None {
            return;
        }
        let job = self.ensure(execution);
        job.stage = Stage::Held;
        job.options = Some(options);
        job.code = Some(code);
        // In doubt it was: the event may have been taken long ago.
        job.accepted = true;
        self.take_notice_back(execution);
    }

    fn cancel(&mut self, execution: &ExecutionId, out: &mut Vec<Action>) {
        match self.jobs.get(execution).map(|job| job.stage) {
            Some(Stage::Held) => {
                self.end_unrun(execution, "cancelled while waiting".to_owned(), out);
            }
            Some(_) => out.push(send(Command::Cancel { execution: execution.clone() })),
            None => {}
        }
    }

    fn held(&self) -> Vec<ExecutionId> {
        let held = |id: &&ExecutionId| self.jobs.get(id).is_some_and(|job| job.stage == Stage::Held);
        self.order.iter().filter(held).cloned().collect()
    }
}

fn send(command: Command) -> Action {
    Action::Send { command, payload: Payload::default() }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
