//! Taking over shims that an earlier daemon started: first the events they kept, then their word on
//! how things stand.

use cellblock_proto::execution::Output;
use cellblock_proto::id::ExecutionId;
use cellblock_proto::shim::ShimState;
use tokio::time::Instant;

use super::{Machine, Phase};
use crate::decision::{Action, Input};

impl Machine {
    /// Before the events that a shim kept are fed in: it had a worker, and nothing is started until
    /// [`Machine::adopted`].
    pub(crate) fn adopt(&mut self) {
        self.adopting = true;
        self.phase = Phase::Up;
    }

    /// Before that: what had ended under daemons before us, so that no shim's repeating it counts.
    pub(crate) fn remember<'a>(&mut self, ended: impl Iterator<Item = &'a ExecutionId>) {
        for execution in ended {
            self.ended.push_back(execution.clone());
            self.remembered.insert(execution.clone());
        }
    }

    /// After the events of one shim: how it says things stand.
    pub(crate) fn resumed(&mut self, state: &ShimState, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.ended_count = self.ended_count.max(state.executions);
        if self.phase == Phase::None {
            return actions;
        }
        if state.ready.is_none() {
            self.phase = Phase::Starting { launched: true, warm_by: None };
        }
        self.names = state.names.iter().collect();
        self.unsaved = state.unsaved.iter().cloned().collect();
        // What the last checkpoint has left out, the next one tells.
        self.whole = None;
        // What a worker before this one took along, this one may have brought back.
        let is_back = |name: &String| self.names.iter().any(|info| info.name == *name);
        if matches!(&self.notice, Some(Output::Notice { names, .. }) if names.iter().all(is_back)) {
            self.notice = None;
        }
        if let Some(running) = &state.running {
            actions.extend(self.on(Input::Accepted { execution: running.clone(), position: 0 }, now));
            actions.extend(self.on(Input::Started { execution: running.clone() }, now));
            self.has_leave(running);
        }
        for (position, execution) in (0..).zip(&state.queue) {
            actions.extend(self.on(Input::Accepted { execution: execution.clone(), position }, now));
        }
        if let Some(next) = state.leave.first().filter(|_| state.running.is_none()) {
            self.has_leave(next);
        }
        actions
    }

    /// After all shims of the notebook: what was given back gets its worker.
    pub(crate) fn adopted(&mut self) -> Vec<Action> {
        self.adopting = false;
        let mut actions = Vec::new();
        match self.phase {
            Phase::Up => self.send_held(&mut actions),
            _ => self.start_if_held(&mut actions),
        }
        self.settle_leave(&mut actions);
        actions
    }
}
