//! Taking over shims that an earlier daemon started: first the events they kept, then their word on
//! how things stand.

use cellblock_proto::execution::Output;
use cellblock_proto::id::ExecutionId;
use cellblock_proto::shim::ShimState;
use tokio::time::Instant;

use super::{Action, Input, Machine, Phase, Stage};

impl Machine {
    /// Before the events that a shim kept are fed in: it had a worker, and nothing is started until
    /// [`Machine::adopted`].
    pub(crate) fn adopt(&mut self) {
        self.adopting = true;
        self.has_told = false;
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
        self.unsaved = state.unsaved.iter().collect();
        // What the last checkpoint has left out, the next one tells.
        self.whole = None;
        self.unsavable = state.unsavable;
        // What a worker before this one took along, this one may have brought back, and told that the daemon before us.
        let is_back = |name: &String| self.names.iter().any(|info| info.name == *name);
        if !self.has_told
            && matches!(&self.notice, Some(Output::Notice { names, .. }) if names.iter().all(is_back))
        {
            self.notice = None;
        }
        self.settle_doubtful(state);
        if let Some(running) = &state.running {
            actions.extend(self.on(Input::Accepted { execution: running.clone(), position: 0 }, now));
            actions.extend(self.on(Input::Started { execution: running.clone() }, now));
            self.has_leave(running);
        }
        for (position, execution) in (0..).zip(&state.queue) {
            actions.extend(self.on(Input::Accepted { execution: execution.clone(), position }, now));
        }
        self.stand_as(&state.queue);
        // Only the first that waits can use it: counted for another, the first would wait for ever.
        let first =
            state.queue.first().filter(|first| state.running.is_none() && state.leave.contains(first));
        if let Some(first) = first {
            self.has_leave(first);
        }
        actions
    }

    /// What a worker that lives began with is what was not lost before it. Of that its first Execution was told.
    fn settle_doubtful(&mut self, state: &ShimState) {
        // An older shim does not say it.
        let has_begun = state.begun || (state.newest.is_none() && state.executions > 0);
        if has_begun {
            // What it has told here of its beginning, it repeats: what has ended since is its own.
            if self.has_told {
                self.notice = None;
                self.telling.clear();
            }
            self.doubtful.clear();
        } else if state.ready.is_some() {
            self.saved(state.newest.as_deref().unwrap_or_default());
            self.tell_doubtful();
        }
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

    /// In the order in which the shim has them: leave is for the first of it.
    fn stand_as(&mut self, queue: &[ExecutionId]) {
        let place = |id: &ExecutionId| match self.jobs.get(id) {
            Some(job) if job.stage == Stage::Held => usize::MAX,
            _ => queue.iter().position(|waiting| waiting == id).map_or(0, |at| at + 1),
        };
        let mut order: Vec<ExecutionId> = self.order.iter().cloned().collect();
        order.sort_by_key(place);
        self.order = order.into();
    }
}
