//! The one end of an Execution, where it is not the worker that tells it.

use cellblock_proto::execution::{Death, End, Outcome, Variables};
use cellblock_proto::id::ExecutionId;

use super::{Action, MAX_ENDED, Machine};
use crate::loss;
use crate::outbox::Payload;

impl Machine {
    pub(super) fn end_unrun(&mut self, execution: &ExecutionId, reason: String, out: &mut Vec<Action>) {
        self.take_notice_back(execution);
        let outcome = loss::unmeasured(End::Cancelled { reason }, Variables::Kept);
        self.conclude(execution, None, outcome, Payload::default(), out);
    }

    pub(super) fn end_by_death(
        &mut self,
        execution: &ExecutionId,
        death: &Death,
        lost: &[String],
        out: &mut Vec<Action>,
    ) {
        let options = self.jobs.get(execution).and_then(|job| job.options.as_ref());
        let variables = match options {
            Some(options) if options.transactional => Variables::RolledBack,
            _ => Variables::Lost { names: lost.to_vec() },
        };
        let outcome = loss::unmeasured(End::WorkerDied(death.clone()), variables);
        self.conclude(execution, None, outcome, Payload::default(), out);
    }

    pub(super) fn conclude(
        &mut self,
        execution: &ExecutionId,
        outputs: Option<u64>,
        outcome: Outcome,
        payload: Payload,
        out: &mut Vec<Action>,
    ) {
        let Some(job) = self.remove(execution) else { return };
        let outcome = Outcome { worker_ms: job.worker_ms, ..outcome };
        self.ended_count += 1;
        self.ended.push_back(execution.clone());
        self.remembered.insert(execution.clone());
        let execution = execution.clone();
        let told = self.told_by.take_if(|(by, _)| *by == execution);
        out.push(Action::Conclude { execution, outputs, outcome: Box::new(outcome), payload });
        if let Some((_, last)) = told {
            // Not before: what it was told may be lost with it.
            out.push(Action::Settled { up_to: Some(last) });
        }
        while self.ended.len() > MAX_ENDED {
            let Some(execution) = self.ended.pop_front() else { break };
            self.remembered.remove(&execution);
            out.push(Action::Forget { execution });
        }
    }
}
