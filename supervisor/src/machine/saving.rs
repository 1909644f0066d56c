//! What the next Execution is told of saved variables.

use cellblock_proto::execution::{Checkpoint, NameChanges, NameInfo, NoticeTopic, Output};
use cellblock_proto::id::ExecutionId;

use super::Machine;
use crate::loss::{self, Restoration};

/// Executions without a checkpoint that are told by name.
const MOST_UNSAVED: usize = 100;

impl Machine {
    /// The new worker has what was saved of the one before it, or has not.
    pub(super) fn restored(&mut self, execution: &str, names: Vec<NameInfo>, mut told: Restoration) {
        self.has_told = true;
        self.saved(execution);
        self.whole = Some(told.losses.is_empty() && told.failed.is_none());
        self.unsavable = false;
        // A worker that has died before anybody was told takes no word along.
        self.telling.extend(std::mem::take(&mut self.doubtful));
        self.telling.extend(std::mem::take(&mut self.unsaved));
        told.since = self.telling.clone();
        let back = NameChanges { added: names, ..NameChanges::default() };
        self.names.apply(&back);
        self.notice = loss::restored(self.notice.take(), &back.added, told);
    }

    /// An Execution has ended; what it changed is not saved unless it says so.
    pub(super) fn changed(
        &mut self,
        execution: &ExecutionId,
        checkpoint: Option<&Checkpoint>,
        has_begun: bool,
    ) {
        if checkpoint == Some(&Checkpoint::Pending) {
            self.pending.insert(execution.clone());
        }
        if self.adopting {
            // Said before, by a shim that may be long gone: what has been saved since, the next worker tells. What
            // lives says itself what of it is not saved.
            if has_begun {
                self.doubtful.push_back(execution.clone());
            }
            return;
        }
        self.unsaved.push_back(execution.clone());
        // What must not be saved must not be saved with what comes after it either, unless that asks for it.
        self.unsavable = checkpoint.is_none() && (has_begun || self.unsavable);
        match checkpoint {
            Some(Checkpoint::Saved { .. } | Checkpoint::Partial { .. }) => {
                self.whole = Some(matches!(checkpoint, Some(Checkpoint::Saved { .. })));
                self.unsaved.clear();
            }
            _ if self.unsaved.len() > MOST_UNSAVED => drop(self.unsaved.pop_front()),
            _ => {}
        }
    }

    /// What there was after this one is saved.
    pub(super) fn saved(&mut self, execution: &str) {
        for waiting in [&mut self.doubtful, &mut self.unsaved] {
            if let Some(at) = waiting.iter().position(|unsaved| unsaved.as_str() == execution) {
                waiting.drain(..=at);
            }
        }
    }

    /// What has ended before this daemon knew of it, and is in no checkpoint as far as is written.
    pub(crate) fn doubt<'a>(&mut self, unsaved: impl Iterator<Item = &'a ExecutionId>) {
        self.doubtful = unsaved.cloned().collect();
    }

    /// One more that is lost with its worker, and was told that: a checkpoint of it may have been written nevertheless.
    pub(crate) fn doubt_too(&mut self, execution: &ExecutionId) {
        if !self.doubtful.is_empty() {
            self.doubtful.push_back(execution.clone());
        }
    }

    /// The new worker is up, and what is in doubt yet is not in what it has.
    pub(super) fn tell_doubtful(&mut self) {
        if !self.doubtful.is_empty() {
            self.telling.extend(std::mem::take(&mut self.doubtful));
            self.notice.get_or_insert_with(|| loss::unsaved(&self.telling));
        }
    }

    /// A checkpoint has failed whose Execution has ended already. What is told already is worse.
    pub(super) fn not_saved(&mut self, reason: &str) {
        let text = format!("the variables were not saved, the checkpoint before is the newest: {reason}");
        let notice = || Output::Notice { topic: NoticeTopic::Degraded, text, names: Vec::new() };
        self.notice.get_or_insert_with(notice);
    }
}
