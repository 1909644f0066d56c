//! Leave to run: how many cells run at once is decided over all notebooks ([`crate::runners`]), so a shim
//! begins an Execution only when it is told that it may. Here is which one that is.
//!
//! A notebook has leave for one Execution at a time, the first that the shim holds, until that one has
//! ended or is with the shim no more. For the next it gets in line again.

use cellblock_proto::id::ExecutionId;
use cellblock_proto::shim::Command;

use super::{Action, Machine, Phase, Stage, send};

impl Machine {
    /// The first of those that the shim has, or is on its way to have.
    fn head(&self) -> Option<&ExecutionId> {
        self.order.iter().find(|id| self.is_with_shim(id))
    }

    pub(super) fn is_with_shim(&self, execution: &ExecutionId) -> bool {
        self.jobs.get(execution).is_some_and(|job| job.stage != Stage::Held)
    }

    /// Whether one that is just being sent can begin at once: then it is told so in the same breath.
    pub(super) fn gets_leave(&mut self, execution: &ExecutionId) -> bool {
        self.drop_spent_leave();
        let gets = self.leave.is_none() && self.head() == Some(execution) && self.turn.ask();
        if gets {
            self.leave = Some(execution.clone());
        }
        gets
    }

    /// After whatever happened: gives back the leave of what needs none any more, asks for the next.
    pub(super) fn settle_leave(&mut self, out: &mut Vec<Action>) {
        // What a shim tells that outlived a daemon is history until it has said how things stand.
        if self.adopting {
            return;
        }
        self.drop_spent_leave();
        if self.leave.is_some() {
            return;
        }
        let head = self.head().filter(|_| self.phase == Phase::Up).cloned();
        match head {
            Some(execution) if self.turn.ask() => {
                out.push(send(Command::Leave { execution: execution.clone() }));
                self.leave = Some(execution);
            }
            Some(_) => {}
            None => self.turn.give_back(),
        }
    }

    fn drop_spent_leave(&mut self) {
        if self.leave.as_ref().is_some_and(|execution| !self.is_with_shim(execution)) {
            self.leave = None;
            self.turn.give_back();
        }
    }

    /// A daemon before us has given it leave, and the shim still has it.
    pub(super) fn has_leave(&mut self, execution: &ExecutionId) {
        self.turn.claim();
        self.leave = Some(execution.clone());
    }

    /// Interrupts what runs. What waits for leave has not begun, and will not.
    pub(super) fn interrupt(&mut self, out: &mut Vec<Action>) {
        if self.phase != Phase::Up {
            return;
        }
        let command = match self.head().filter(|_| self.leave.is_none()) {
            Some(waiting) => Command::Cancel { execution: waiting.clone() },
            None => Command::Interrupt,
        };
        out.push(send(command));
    }
}
