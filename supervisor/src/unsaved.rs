//! Which Executions have changed variables since the newest checkpoint, as far as is known: what is lost with a worker
//! that nobody has saved since. A notebook's journal has it too, so that it outlives whoever knew of it; of what was saved
//! when there was no cellblockd, the checkpoint tells that the next worker begins with.

use std::collections::VecDeque;

use cellblock_proto::id::ExecutionId;

/// The newest that are told.
const MOST: usize = 100;

/// Executions, in the order in which they have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unsaved(VecDeque<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    execution: ExecutionId,
    /// Nobody was told yet that it is lost.
    counts: bool,
}

impl Unsaved {
    /// One has changed something.
    pub(crate) fn changed(&mut self, execution: &ExecutionId) {
        self.push(execution, true);
    }

    /// One is lost, and its own end tells that. There may be a checkpoint of it all the same, with all that was before it.
    pub(crate) fn passed(&mut self, execution: &ExecutionId) {
        if !self.0.is_empty() {
            self.push(execution, false);
        }
    }

    fn push(&mut self, execution: &ExecutionId, counts: bool) {
        self.0.push_back(Entry { execution: execution.clone(), counts });
        if self.0.len() > MOST {
            self.0.pop_front();
        }
    }

    /// Up to this one all is saved, or told, or given up; whether it was among them.
    pub(crate) fn settle(&mut self, execution: &str) -> bool {
        let at = self.0.iter().position(|entry| entry.execution.as_str() == execution);
        at.inspect(|at| drop(self.0.drain(..=*at))).is_some()
    }

    /// All is.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The last of them.
    pub(crate) fn last(&self) -> Option<&ExecutionId> {
        self.0.back().map(|entry| &entry.execution)
    }

    /// What is lost, if nothing more is settled, and nobody was told.
    pub(crate) fn lost(&self) -> impl DoubleEndedIterator<Item = &ExecutionId> {
        self.0.iter().filter(|entry| entry.counts).map(|entry| &entry.execution)
    }

    /// Takes over what another list has of that.
    pub(crate) fn absorb(&mut self, other: &mut Unsaved) {
        std::mem::take(other).lost().for_each(|execution| self.changed(execution));
    }

    /// Whether nothing is lost.
    pub(crate) fn is_empty(&self) -> bool {
        self.lost().next().is_none()
    }

    /// With those of another list behind its own.
    pub(crate) fn then(mut self, other: &Unsaved) -> Self {
        self.0.extend(other.0.iter().cloned());
        self
    }
}

impl<'a> FromIterator<&'a ExecutionId> for Unsaved {
    fn from_iter<T: IntoIterator<Item = &'a ExecutionId>>(executions: T) -> Self {
        let mut unsaved = Unsaved::default();
        executions.into_iter().for_each(|execution| unsaved.changed(execution));
        unsaved
    }
}
