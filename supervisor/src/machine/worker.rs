//! The worker's way through its phases: see the diagram above [`super`].

use cellblock_proto::client::ErrorCode;
use cellblock_proto::execution::Death;
use cellblock_proto::names::KnownNames;
use tokio::time::Instant;

use super::{Action, END_PATIENCE, MAX_ATTEMPTS, Machine, Phase, START_PATIENCE, Stage, WorkerEnd};
use crate::loss;
use crate::time::milliseconds;

impl Machine {
    pub(super) fn want_worker(&mut self, out: &mut Vec<Action>) {
        if self.phase == Phase::None && !self.adopting {
            self.phase = Phase::Starting { launched: false, warm_by: None };
            out.push(Action::Start);
        }
    }

    pub(super) fn launched(&mut self, warm: bool, now: Instant, out: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Starting { launched, warm_by } => {
                *launched = true;
                *warm_by = warm.then(|| now + START_PATIENCE);
            }
            Phase::Ending { reason, launched, by, .. } if !*launched => {
                *launched = true;
                *by = Some(now + END_PATIENCE);
                out.push(Action::End { reason: reason.clone() });
            }
            _ => {}
        }
    }

    /// A worker that a zygote was to fork did not come: none of the user's code has run, so it is started once more.
    pub(super) fn warm_failed(&mut self, why: String, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Starting { .. } => {
                self.phase = Phase::Starting { launched: false, warm_by: None };
                out.push(Action::StartCold { why });
            }
            Phase::Ending { .. } => self.start_failed(ErrorCode::Sandbox, &why, out),
            Phase::None | Phase::Up => {}
        }
    }

    pub(super) fn time(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.phase.clone() {
            Phase::Starting { .. } => {
                self.warm_failed(format!("it was not up after {} s", START_PATIENCE.as_secs()), out);
            }
            Phase::Ending { reason, .. } => {
                out.push(Action::Kill);
                self.worker_gone(&Death::Ended { reason }, Vec::new(), true, out);
            }
            Phase::None | Phase::Up => {}
        }
    }

    pub(super) fn note_waits(&mut self, now: Instant) {
        for job in self.jobs.values_mut() {
            if let Some(since) = job.waits_since.take() {
                let waited = milliseconds(now - since);
                job.worker_ms = Some(job.worker_ms.unwrap_or(0) + waited);
            }
        }
    }

    /// What is saved comes back when it is opened again. What was lost before, and nobody was told of, is told then; what
    /// is not saved of a worker that lives goes because somebody wants it.
    pub(super) fn close(&mut self, reason: String, now: Instant, out: &mut Vec<Action>) {
        let is_told = self.telling.is_empty() && self.doubtful.is_empty();
        if self.phase != Phase::None && is_told {
            out.push(Action::Settled { up_to: None });
        }
        self.restart(reason, now, out);
    }

    pub(super) fn restart(&mut self, reason: String, now: Instant, out: &mut Vec<Action>) {
        // The variables go because somebody wants it: nobody needs to be told.
        self.notice = None;
        self.unsaved.clear();
        self.telling.clear();
        self.doubtful.clear();
        self.leaving = None;
        self.evicted = false;
        for execution in self.held() {
            self.end_unrun(&execution, reason.clone(), out);
        }
        match &mut self.phase {
            Phase::None => out.push(Action::Absent),
            Phase::Starting { launched, .. } => {
                let launched = *launched;
                if launched {
                    out.push(Action::End { reason: reason.clone() });
                }
                let by = launched.then(|| now + END_PATIENCE);
                self.phase = Phase::Ending { reason, launched, evicted: false, by };
            }
            Phase::Up => self.end(reason, false, now, out),
            // What was evicted is to come back no more.
            Phase::Ending { evicted, .. } => *evicted = false,
        }
    }

    pub(super) fn end(&mut self, reason: String, evicted: bool, now: Instant, out: &mut Vec<Action>) {
        out.push(Action::End { reason: reason.clone() });
        self.phase = Phase::Ending { reason, launched: true, evicted, by: Some(now + END_PATIENCE) };
    }

    pub(super) fn start_failed(&mut self, code: ErrorCode, message: &str, out: &mut Vec<Action>) {
        let ending = matches!(self.phase, Phase::Ending { .. });
        if self.phase == Phase::None {
            return;
        }
        self.phase = Phase::None;
        out.extend([Action::Gone { end: WorkerEnd::NotStarted }, Action::Absent]);
        if ending {
            self.start_if_held(out);
            return;
        }
        for execution in self.order.clone() {
            if self.jobs.get(&execution).is_some_and(|job| job.accepted) {
                let reason = format!("no new worker could be started: {message}");
                self.end_unrun(&execution, reason, out);
            } else {
                self.remove(&execution);
                out.push(Action::Refuse { execution, code, message: message.to_owned() });
            }
        }
    }

    pub(super) fn worker_gone(
        &mut self,
        death: &Death,
        mut lost: Vec<String>,
        overdue: bool,
        out: &mut Vec<Action>,
    ) {
        let ending = match &self.phase {
            Phase::None => return,
            Phase::Starting { warm_by: Some(_), .. } => {
                return self.warm_failed(format!("it {}", loss::cause(death)), out);
            }
            Phase::Starting { .. } => {
                let (code, message) = loss::before_ready(death);
                return self.start_failed(code, &message, out);
            }
            Phase::Ending { reason, evicted, .. } => Some((reason.clone(), *evicted)),
            Phase::Up => None,
        };
        lost.sort();
        self.phase = Phase::None;
        let is_saved = self.leaving.take().is_none_or(|leaving| leaving.is_saved());
        let had = if is_saved { Vec::new() } else { self.lost_names() };
        self.names = KnownNames::default();
        self.pending.clear();
        self.save_asked = false;
        for execution in self.order.clone() {
            let Some(job) = self.jobs.get_mut(&execution) else { continue };
            match (job.stage, &ending) {
                (Stage::Held, _) => {}
                (Stage::Running, _) => self.end_by_death(&execution, death, &lost, out),
                (Stage::Sent | Stage::Accepted, Some((reason, false))) => {
                    self.end_unrun(&execution, reason.clone(), out);
                }
                (Stage::Sent | Stage::Accepted, _) => {
                    if job.code.is_some() && job.attempts < MAX_ATTEMPTS {
                        job.stage = Stage::Held;
                        self.take_notice_back(&execution);
                    } else {
                        self.end_by_death(&execution, death, &lost, out);
                    }
                }
            }
        }
        let evicted = ending.as_ref().filter(|(_, evicted)| *evicted).map(|(reason, _)| reason.clone());
        let end = match ending {
            _ if overdue => WorkerEnd::Overdue,
            Some((reason, true)) => WorkerEnd::Evicted { reason },
            Some((reason, false)) => WorkerEnd::Ended { reason },
            None => WorkerEnd::Died(death.clone()),
        };
        match (&end, evicted) {
            (WorkerEnd::Died(_), _) => {
                self.telling.absorb(&mut self.unsaved);
                self.notice = Some(loss::notice(death, lost, self.notice.take()));
            }
            // Also when it had to be killed in the end.
            (_, Some(reason)) => self.has_left(&reason, had, out),
            _ => {
                self.notice = None;
                // What has ended while that was being asked for.
                self.give_up_unsaved(out);
            }
        }
        out.extend([Action::Gone { end }, Action::Absent]);
        self.start_if_held(out);
    }

    pub(super) fn start_if_held(&mut self, out: &mut Vec<Action>) {
        if !self.held().is_empty() {
            self.want_worker(out);
        }
    }
}
