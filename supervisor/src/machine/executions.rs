//! The Executions that have not ended: held here until there is a worker, then sent to its shim.

use cellblock_proto::client::ErrorCode;
use cellblock_proto::execution::{ExecuteOptions, Outcome, Variables};
use cellblock_proto::id::ExecutionId;
use cellblock_proto::shim::Command;
use tokio::time::Instant;

use super::{Action, Job, Machine, Phase, Stage, send};
use crate::outbox::Payload;

/// Executions of one notebook that may wait; more is `busy`.
pub(super) const MAX_WAITING: usize = 1000;

/// Their code together, in bytes.
const MAX_WAITING_BYTES: usize = 64 << 20;

impl Machine {
    pub(super) fn submit(
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

    pub(super) fn ensure(&mut self, execution: &ExecutionId) -> &mut Job {
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

    pub(super) fn remove(&mut self, execution: &ExecutionId) -> Option<Job> {
        self.order.retain(|id| id != execution);
        self.jobs.remove(execution)
    }

    pub(super) fn send_held(&mut self, out: &mut Vec<Action>) {
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

    pub(super) fn accepted(&mut self, execution: ExecutionId, position: u32, out: &mut Vec<Action>) {
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

    pub(super) fn finished(
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
            self.changed(execution, outcome.checkpoint.as_ref(), outcome.has_begun());
        }
        self.ensure(execution);
        self.take_notice_back(execution);
        self.conclude(execution, Some(outputs), outcome, payload, out);
    }

    pub(super) fn take_notice_back(&mut self, execution: &ExecutionId) {
        if let Some(notice) = self.jobs.get_mut(execution).and_then(|job| job.notice.take()) {
            self.notice = Some(notice);
        }
    }

    pub(super) fn returned(&mut self, execution: &ExecutionId, options: ExecuteOptions, code: Payload) {
        // After the worker's end it was returned to the daemon before us, which has seen to it.
        if self.remembered.contains(execution) || self.phase == Phase::None {
            return;
        }
        if self.adopting && self.jobs.contains_key(execution) {
            // They are given back in their order, and of some of them alone was something told before that.
            self.order.retain(|id| id != execution);
            self.order.push_back(execution.clone());
        }
        let job = self.ensure(execution);
        job.stage = Stage::Held;
        job.options = Some(options);
        job.code = Some(code);
        // In doubt it was: the event may have been taken long ago.
        job.accepted = true;
        self.take_notice_back(execution);
    }

    pub(super) fn cancel(&mut self, execution: &ExecutionId, out: &mut Vec<Action>) {
        match self.jobs.get(execution).map(|job| job.stage) {
            Some(Stage::Held) => {
                self.end_unrun(execution, "cancelled while waiting".to_owned(), out);
            }
            Some(_) => out.push(send(Command::Cancel { execution: execution.clone() })),
            None => {}
        }
    }

    pub(super) fn held(&self) -> Vec<ExecutionId> {
        let held = |id: &&ExecutionId| self.jobs.get(id).is_some_and(|job| job.stage == Stage::Held);
        self.order.iter().filter(held).cloned().collect()
    }
}
