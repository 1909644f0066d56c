//! What a notebook's shim reports, and what the machine decides about it.

use std::sync::Arc;

use cellblock_proto::client::{ErrorCode, Reply, WorkerState};
use cellblock_proto::execution::{Checkpoint, Death, End, Variables};
use cellblock_proto::id::ExecutionId;
use cellblock_proto::shim::{Command, EventBody, StartFailure};
use tokio::time::Instant;
use tracing::Instrument;

use super::evicting::Released;
use super::{Asked, CLOSE_PATIENCE, Live, Notebook, RETIRED_PATIENCE, Retired};
use crate::launch::{self, Begin, Cold};
use crate::launches::{Full, Launch, Lease};
use crate::link::Arrival;
use crate::log;
use crate::loss::{self, Restoration};
use crate::machine::{Action, Input, WorkerEnd};
use crate::metrics::{checkpoint_name, death_name};
use crate::outbox::Payload;
use crate::records::Hold;
use crate::unsaved::Unsaved;

impl Notebook {
    /// One event. While adopting, outputs come of Executions that are not known yet.
    pub(super) fn arrived(&mut self, arrival: Arrival, adopting: bool) {
        let Arrival { request, event, payload } = arrival;
        let hold = match &event.body {
            EventBody::Output(frame) => Hold::Output(frame.execution.clone(), frame.seq),
            EventBody::Finished { execution, .. } => Hold::Outcome(execution.clone()),
            EventBody::Returned { execution, .. } => Hold::Returned(execution.clone()),
            _ => Hold::Nothing,
        };
        if let Some(live) = &mut self.live {
            live.taken.arrived(event.seq, hold, payload.len());
        }
        match event.body {
            EventBody::Ready { worker_pid, python, report } => {
                tracing::info!(worker_pid, python, "worker is up");
                self.ready = Some((worker_pid, python, report));
                self.begin = Begin::Saved;
                // Before what waits for it is told how long that was.
                self.watch.up();
                self.decide(Input::Ready);
                self.arrived_there();
                if !adopting {
                    self.end_forbidden();
                }
                for (query, code, responder) in std::mem::take(&mut self.questions) {
                    self.ask(&Command::Query(query), &code, Asked::Question(responder));
                }
                if let Some(worker) = self.live_worker() {
                    for visitor in std::mem::take(&mut self.visitors) {
                        let _ = visitor.send(Ok(worker));
                    }
                }
            }
            EventBody::Restored {
                checkpoint,
                execution,
                names,
                losses,
                failed,
                differences,
                passed_over,
            } => {
                let since = Unsaved::default();
                let told = Restoration { checkpoint, losses, failed, differences, passed_over, since };
                self.came_back(execution, names, told);
            }
            EventBody::Saved(checkpoint) => {
                self.watch.checkpoint(&checkpoint);
                let asked = self.asked.remove(&request);
                let own = matches!(asked, Some(Asked::Save));
                let ended = self.machine.ended_count();
                let all = own || matches!(asked, Some(Asked::Checkpoint(_, then)) if then == ended);
                self.decide(Input::SavedNow { checkpoint: checkpoint.clone(), own, all });
                if let Some(Asked::Checkpoint(responder, _)) = asked {
                    responder.answer(&Reply::Checkpoint(checkpoint), None);
                }
            }
            EventBody::Checkpoint { execution, checkpoint } => {
                log::execution(&execution)
                    .in_scope(|| tracing::debug!(state = checkpoint_name(&checkpoint), "checkpoint"));
                self.watch.checkpoint(&checkpoint);
                self.publish(&execution, &checkpoint);
                if matches!(checkpoint, Checkpoint::Saved { .. } | Checkpoint::Partial { .. }) {
                    self.records.settle(Some(&execution));
                }
                match checkpoint {
                    Checkpoint::Failed { reason } => self.decide(Input::NotSaved { execution, reason }),
                    Checkpoint::Saved { .. } => self.decide(Input::Saved { execution, whole: true }),
                    Checkpoint::Partial { .. } => self.decide(Input::Saved { execution, whole: false }),
                    Checkpoint::Pending => {}
                }
            }
            EventBody::StartFailed { failure: StartFailure::Warm { why } } => {
                self.decide(Input::WarmFailed { why });
            }
            EventBody::StartFailed { failure } => {
                let (code, message) = launch::describe(failure);
                tracing::warn!(?code, reason = message, "worker did not start");
                self.start_failed(code, message);
            }
            EventBody::Accepted { execution, position } => {
                self.no_longer_asked(&execution);
                self.decide(Input::Accepted { execution, position });
            }
            EventBody::Started { execution } => {
                log::execution(&execution).in_scope(|| tracing::debug!("started"));
                self.watch.started(&execution);
                self.decide(Input::Started { execution });
            }
            EventBody::Output(frame) => {
                self.hear_of_disk(&frame);
                // Of an Execution that ended too long ago to be remembered: a background task of
                // its own prints, and nobody can ask for it any more.
                if adopting || self.knows(&frame.execution) {
                    self.records.add(&frame.execution, frame.seq, frame.output, payload);
                }
            }
            EventBody::Finished { execution, outputs, outcome } => {
                let wall_us = outcome.wall_us;
                log::execution(&execution).in_scope(|| tracing::debug!(outputs, wall_us, "finished"));
                self.no_longer_asked(&execution);
                self.decide(Input::Finished { execution, outputs, outcome, payload });
            }
            EventBody::Returned { execution, options } => {
                let id = execution.clone();
                self.decide(Input::Returned { execution, options, code: payload });
                let is_waiting = self.machine.waiting().any(|waiting| *waiting == id);
                self.records.give_back(&id, is_waiting);
            }
            EventBody::WorkerEnded { death, lost } => {
                log_death(&death, lost.len(), self.machine.leaves_saved_whole());
                self.watch.died(&death);
                self.decide(Input::WorkerEnded { death, lost });
            }
            EventBody::Answer(answer) => {
                if let Some(Asked::Question(responder)) = self.asked.remove(&request) {
                    responder.answer(&Reply::Answer(answer), Some(payload));
                }
            }
            EventBody::Refused { reason } => self.refused(request, reason),
            // Only asked for, and read, when a shim is taken over; and what is said before a worker is a
            // notebook's.
            EventBody::State(_) | EventBody::Spare | EventBody::ZygoteUp { .. } => {}
        }
    }

    fn refused(&mut self, request: u32, reason: String) {
        match self.asked.remove(&request) {
            Some(Asked::Question(responder) | Asked::Checkpoint(responder, _)) => {
                responder.refuse(ErrorCode::BadRequest, reason)
            }
            Some(Asked::Execute(execution)) => self.decide(Input::Refused { execution, reason }),
            Some(Asked::Save) => {
                let checkpoint = Checkpoint::Failed { reason };
                self.decide(Input::SavedNow { checkpoint, own: true, all: true });
            }
            Some(Asked::Input(execution)) => tracing::warn!(%execution, reason, "input came too late"),
            None => tracing::warn!(request, reason, "the shim refused something nobody asked"),
        }
    }

    fn no_longer_asked(&mut self, execution: &ExecutionId) {
        self.asked.retain(|_, asked| !matches!(asked, Asked::Execute(id) if id == execution));
    }

    pub(super) fn start_failed(&mut self, code: ErrorCode, message: String) {
        self.watch.start_failed(code);
        for (_, _, responder) in std::mem::take(&mut self.questions) {
            responder.refuse(code, message.clone());
        }
        for visitor in std::mem::take(&mut self.visitors) {
            let _ = visitor.send(Err((code, message.clone())));
        }
        self.did_not_arrive(code, &message);
        self.decide(Input::StartFailed { code, message });
    }

    /// Its turn has come: starts the worker.
    pub(super) fn start(&mut self, turn: Result<(Launch, Lease), Full>) {
        self.place = None;
        match turn {
            Ok((launch, lease)) => (self.launch, self.lease) = (Some(launch), Some(lease)),
            Err(full) => return self.too_many_workers(&full),
        }
        let daemon = Arc::clone(&self.daemon);
        let start = launch::notebook_worker(daemon, self.id.clone(), self.profile.clone(), None, self.begin);
        self.launching = Some(tokio::spawn(start.in_current_span()));
    }

    /// No user's code has run in what was being started: once more, with a fresh interpreter.
    fn start_cold(&mut self, why: String) {
        let Some(Live { worker, zygote: Some(zygote), .. }) = self.live.take() else { return };
        tracing::warn!(why, "no fork: Python is executed");
        self.kill(worker);
        let (daemon, cold) = (Arc::clone(&self.daemon), Some(Cold { zygote, why }));
        let start = launch::notebook_worker(daemon, self.id.clone(), self.profile.clone(), cold, self.begin);
        self.launching = Some(tokio::spawn(start.in_current_span()));
    }

    /// A right to start that is not needed any more goes to the next in line, once what was begun with it is over.
    pub(super) fn settle_start(&mut self) {
        if self.place.is_some()
            && let Err(reason) = self.may_work()
        {
            self.place = None;
            return self.start_failed(ErrorCode::Forbidden, reason);
        }
        if self.machine.state() == WorkerState::Starting {
            return;
        }
        if self.launching.is_none() {
            self.launch = None;
        }
        if self.place.take().is_some() {
            self.start_failed(ErrorCode::Busy, "the worker was to end before it was started".to_owned());
        }
    }

    /// Does what was decided.
    pub(super) fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start => {
                    // Never with a right of its own still in hand: two of those could wait for each other.
                    self.launch = None;
                    self.place = Some(self.daemon.launches.place(self.id.tenant.as_str()));
                }
                Action::Send { command, payload } => self.send(&command, &payload),
                Action::StartCold { why } => self.start_cold(why),
                Action::Save => self.ask(&Command::Save, &[], Asked::Save),
                Action::Stays { reason } => self.stays(&reason),
                Action::End { reason } => self.send(&Command::End { reason }, &Payload::default()),
                Action::Kill => {
                    tracing::warn!("the worker did not end when told to; killing its shim");
                    if let Some(live) = self.live.take() {
                        self.kill(live.worker);
                    }
                }
                Action::Accepted { execution, position } => {
                    self.settled(&execution);
                    self.records.accept(&execution, position);
                }
                Action::Conclude { execution, outputs, outcome, payload } => {
                    self.settled(&execution);
                    self.conclude(&execution, outputs, *outcome, payload);
                }
                Action::Refuse { execution, message, .. } if self.records.is_accepted(&execution) => {
                    // What was accepted has an Outcome, whatever comes between.
                    self.settled(&execution);
                    let outcome = loss::unmeasured(End::Cancelled { reason: message }, Variables::Kept);
                    self.conclude(&execution, None, outcome, Payload::default());
                }
                Action::Refuse { execution, code, message } => {
                    self.settled(&execution);
                    let hint = self.hint(code);
                    for reader in self.records.forget(&execution) {
                        reader.refuse(code, &message, hint);
                    }
                }
                Action::Forget { execution } => {
                    for reader in self.records.let_go(&execution) {
                        reader.refuse(ErrorCode::UnknownExecution, "it ended too long ago", None);
                    }
                }
                Action::Settled { up_to } => self.records.settle(up_to.as_ref()),
                Action::Gone { end } => self.gone(&end),
                Action::Absent => self.absent(),
            }
        }
    }

    /// A worker that has ended may have given it back: the daemon after us is not to run it again.
    fn settled(&mut self, execution: &ExecutionId) {
        self.records.give_back(execution, false);
        for retired in &mut self.retired {
            retired.writer.push(&Command::Settled { execution: execution.clone() }, 0, &[]);
        }
    }

    fn send(&mut self, command: &Command, payload: &Payload) {
        match command {
            Command::Execute { execution, .. } => {
                self.ask(command, payload, Asked::Execute(execution.clone()));
            }
            _ => {
                if let Some(live) = &mut self.live {
                    live.writer.push(command, 0, payload);
                }
            }
        }
    }

    fn gone(&mut self, end: &WorkerEnd) {
        tracing::debug!(?end, "no worker any more");
        if let WorkerEnd::Evicted { reason } = end {
            self.was_evicted(reason);
        }
        self.ready = None;
        self.lease = None;
        self.records.rest();
        // Its last events may not have reached anybody yet; its ids are free now.
        if let Some(Live { worker, writer, taken, slot, .. }) = self.live.take() {
            drop(slot);
            self.retired.push(Retired { worker, writer, taken, until: Instant::now() + RETIRED_PATIENCE });
        }
        let asked = std::mem::take(&mut self.asked).into_values().filter_map(|asked| match asked {
            Asked::Question(responder) | Asked::Checkpoint(responder, _) => Some(responder),
            Asked::Execute(_) | Asked::Input(_) | Asked::Save => None,
        });
        let waiting = std::mem::take(&mut self.questions).into_iter().map(|(_, _, responder)| responder);
        for responder in asked.chain(waiting) {
            responder.refuse(ErrorCode::Busy, "the worker ended before it could answer: ask again");
        }
        // Who is not answered is told that the worker has ended.
        self.visitors.clear();
    }

    fn absent(&mut self) {
        for responder in std::mem::take(&mut self.restarts) {
            responder.done();
        }
        self.evictions.drain(..).for_each(Released::gone);
        self.gone_for();
        self.close_soon();
    }

    /// There is no worker to wait for any more, only readers.
    pub(super) fn close_soon(&mut self) {
        if let Some(closing) = &mut self.closing {
            closing.until = closing.until.min(Instant::now() + CLOSE_PATIENCE);
        }
    }
}

/// Without what a broken worker has said. Of a worker whose variables are all saved none is lost.
fn log_death(death: &Death, names: usize, saved: bool) {
    let cause = death_name(death);
    let (code, signal, reason) = match death {
        Death::Exited { code } => (Some(*code), None, None),
        Death::Signalled { signal } => (None, Some(*signal), None),
        Death::Ended { reason } => (None, None, Some(reason.as_str())),
        Death::ShimLost | Death::Protocol { .. } => (None, None, None),
    };
    let (lost, saved) = if saved { (None, Some(names)) } else { (Some(names), None) };
    tracing::info!(cause, code, signal, reason, lost, saved, "worker ended");
    if let Death::Protocol { detail } = death {
        tracing::trace!(detail, "what was wrong");
    }
}
