//! What clients ask of a notebook.

use cellblock_proto::client::{ErrorCode, NotebookInfo, NotebookStatus, Reply, WorkerState};
use cellblock_proto::execution::{ExecuteOptions, OnDisconnect};
use cellblock_proto::id::ExecutionId;
use cellblock_proto::query::{Answer, Query};
use cellblock_proto::shim::Command;
use sandbox_profiles::ids;
use tokio::time::Instant;

use super::{Asked, CLOSE_PATIENCE, Closing, LiveWorker, Message, Notebook};
use crate::delivery::Attachment;
use crate::launch::Begin;
use crate::log;
use crate::machine::{END_PATIENCE, Input};
use crate::outbox::{Payload, Responder};
use crate::time::milliseconds;

/// What is told to whoever wants to run something new.
const DRAINING: &str = "cellblockd is being drained and begins nothing new: send it again when it is back";

impl Notebook {
    pub(super) fn requested(&mut self, message: Message) {
        if self.closing.is_some() {
            // Dropping it answers: the notebook is being closed.
            return;
        }
        let Some(message) = self.permitted(message) else { return };
        match message {
            Message::Execute { execution, options, code, responder } => {
                self.execute(execution, *options, code, responder);
            }
            Message::Attach { execution, from_seq, responder } => {
                self.attach(&execution, from_seq, responder)
            }
            Message::Interrupt { responder } => {
                tracing::info!(running = ?self.machine.running(), "interrupt");
                self.decide(Input::Interrupt);
                responder.done();
            }
            Message::Cancel { execution, responder } => {
                if !self.knows(&execution) {
                    return responder.refuse(ErrorCode::UnknownExecution, self.unknown(&execution));
                }
                self.decide(Input::Cancel { execution });
                responder.done();
            }
            Message::Input { execution, value, responder } => self.input(execution, value, responder),
            Message::Query { query, code, responder } => self.query(query, code, responder),
            Message::Restart { responder } => {
                tracing::info!("restart");
                self.restarts.push(responder);
                self.begin = Begin::Anew;
                self.decide(Input::Restart { reason: "the worker was restarted".to_owned() });
            }
            Message::Release { responder } => self.release(responder),
            Message::Evict { reason, answer } => self.evict(reason, answer),
            Message::Replace { answer } => self.replace(answer),
            Message::Pin { pinned, responder } => self.pin(pinned, responder),
            Message::Save { responder } => self.save(responder),
            Message::Restore { checkpoint, responder } => self.travel(checkpoint, responder),
            Message::Clear { responder } => self.clear(responder),
            Message::Close { delete, responder } => {
                let until = Instant::now() + END_PATIENCE + CLOSE_PATIENCE;
                self.closing = Some(Closing { delete, responder, until });
                self.decide(Input::Close { reason: "the notebook was closed".to_owned() });
                if self.machine.state() == WorkerState::None {
                    self.close_soon();
                }
            }
            Message::Worker { reply } => match self.live_worker() {
                Some(worker) => drop(reply.send(Ok(worker))),
                None => {
                    self.visitors.push(reply);
                    self.decide(Input::Wanted);
                }
            },
            // Whoever asked may have gone.
            Message::Info { reply } => drop(reply.send(self.info())),
            Message::Look { reply } => {
                drop(reply.send((self.info(), self.ready.as_ref().map(|(pid, ..)| *pid))));
            }
            Message::Status { responder } => responder.answer(&Reply::Status(self.status()), None),
        }
    }

    /// The worker, when it is up.
    pub(super) fn live_worker(&self) -> Option<LiveWorker> {
        let (pid, ..) = self.ready.as_ref()?;
        let slot = self.live.as_ref()?.slot.as_ref()?.slot();
        let first = self.daemon.anchor.first_uid();
        Some(LiveWorker { pid: *pid, uid: first.map(|first| first + ids::worker_in_outer(slot)) })
    }

    /// Whether it is one of this notebook's, as far as that is remembered.
    pub(super) fn knows(&self, execution: &ExecutionId) -> bool {
        self.machine.knows(execution) || self.records.knows(execution)
    }

    fn unknown(&self, execution: &ExecutionId) -> String {
        format!(
            "notebook {:?} has no execution {:?} (any more): it never had, or it ended long ago",
            self.id.as_str(),
            execution.as_str()
        )
    }

    fn execute(
        &mut self,
        execution: ExecutionId,
        options: ExecuteOptions,
        code: Payload,
        responder: Responder,
    ) {
        let known = self.knows(&execution);
        if !known {
            if self.daemon.draining.is_on() {
                return responder.refuse(ErrorCode::ShuttingDown, DRAINING);
            }
            if let Err((message, hint)) = self.may_wait() {
                return responder.busy(message, hint);
            }
            if let Err(error) = self.records.make_room() {
                let message = format!(
                    "nothing new is run, because its end could not be kept: {error}; make room on the disk of the notebooks"
                );
                return responder.refuse(ErrorCode::Storage, message);
            }
            self.records.create(&execution, options.on_disconnect == OnDisconnect::Interrupt);
        } else if self.records.find(&execution).is_none() && self.records.has_ended(&execution) {
            // It is not run again.
            return responder.refuse(ErrorCode::UnknownExecution, self.unknown(&execution));
        }
        self.records.attach(&execution, Attachment::new(responder, 0));
        if !known {
            log::execution(&execution).in_scope(|| tracing::debug!(code_bytes = code.len(), "submitted"));
            self.decide(Input::Submit { execution, options, code });
        }
    }

    fn attach(&mut self, execution: &ExecutionId, from_seq: u64, responder: Responder) {
        let Some(record) = self.records.find(execution) else {
            return responder.refuse(ErrorCode::UnknownExecution, self.unknown(execution));
        };
        match record.end_seq() {
            Some(end) if from_seq > end => {
                let message = format!("execution {:?} has {end} outputs, not {from_seq}", execution.as_str());
                responder.refuse(ErrorCode::BadRequest, message);
            }
            _ => self.records.attach(execution, Attachment::new(responder, from_seq)),
        }
    }

    fn input(&mut self, execution: ExecutionId, value: String, responder: Responder) {
        let Some(record) = self.records.find(&execution) else {
            return responder.refuse(ErrorCode::UnknownExecution, self.unknown(&execution));
        };
        if record.asks == Some(false) || record.ended.is_some() || record.end_seq() == Some(0) {
            let message = format!("execution {:?} is not waiting for input", execution.as_str());
            return responder.refuse(ErrorCode::BadRequest, message);
        }
        record.asks = Some(false);
        let command = Command::Input { execution: execution.clone(), value };
        self.ask(&command, &[], Asked::Input(execution));
        responder.done();
    }

    fn query(&mut self, query: Query, code: Payload, responder: Responder) {
        let up = matches!(self.machine.state(), WorkerState::Idle | WorkerState::Busy | WorkerState::Waiting);
        match query {
            _ if up => self.ask(&Command::Query(query), &code, Asked::Question(responder)),
            // Nothing has been run, so there is nothing to be told; no worker is needed for that.
            Query::Variables => {
                responder.answer(&Reply::Answer(Answer::Variables { variables: Vec::new() }), None)
            }
            Query::History { .. } => {
                responder.answer(&Reply::Answer(Answer::History { inputs: Vec::new() }), None);
            }
            _ => {
                self.questions.push((query, code, responder));
                self.decide(Input::Wanted);
            }
        }
    }

    /// Sends a command whose answer, or refusal, comes back under a number.
    pub(super) fn ask(&mut self, command: &Command, payload: &[u8], asked: Asked) {
        let Some(live) = &mut self.live else { return };
        // 0 is for events that answer nobody.
        self.last_request = self.last_request.wrapping_add(1).max(1);
        live.writer.push(command, self.last_request, payload);
        self.asked.insert(self.last_request, asked);
    }

    /// The line for lists.
    pub(super) fn info(&self) -> NotebookInfo {
        NotebookInfo {
            notebook: self.id.notebook.clone(),
            profile: self.profile.clone(),
            state: self.machine.state(),
            queued: u32::try_from(self.machine.waiting().count()).unwrap_or(u32::MAX),
            executions: self.machine.ended_count(),
            tenant: Some(self.id.tenant.clone()),
            pinned: self.pinned,
            evicted: self.machine.is_evicted(),
            idle_ms: self.idle_since.map(|since| milliseconds(since.elapsed())),
            memory_bytes: None,
            saved_whole: self.machine.is_saved_whole(),
            running_ms: self.watch.running_ms(),
            cpu_ms: None,
        }
    }

    fn status(&self) -> NotebookStatus {
        let (worker_pid, python, report) = match &self.ready {
            Some((pid, python, report)) => (Some(*pid), Some(python.clone()), Some(report.clone())),
            None => (None, None, None),
        };
        NotebookStatus {
            info: self.info(),
            running: self.machine.running().cloned(),
            queue: self.machine.waiting().cloned().collect(),
            names: self.machine.names().cloned().collect(),
            worker_pid,
            python,
            report,
        }
    }
}
