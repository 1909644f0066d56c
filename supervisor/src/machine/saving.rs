//! What the next Execution is told of saved variables.

use cellblock_proto::execution::{Checkpoint, NameChanges, NameInfo, NoticeTopic, Output};
use cellblock_proto::id::ExecutionId;

use super::{Action, Machine};
use crate::loss::{self, Restoration};
use crate::unsaved::Unsaved;

impl Machine {
    /// The new worker has what was saved of the one before it, or has not.
    pub(super) fn restored(&mut self, execution: &str, names: Vec<NameInfo>, mut told: Restoration) {
        self.has_told = true;
        self.saved(execution);
        self.whole = Some(told.losses.is_empty() && told.failed.is_none());
        self.unsavable = false;
        // A worker that has died before anybody was told takes no word along.
        self.telling.absorb(&mut self.doubtful);
        self.telling.absorb(&mut self.unsaved);
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
                self.doubtful.changed(execution);
            }
            return;
        }
        if has_begun {
            self.unsaved.changed(execution);
        }
        // What must not be saved must not be saved with what comes after it either, unless that asks for it.
        self.unsavable = checkpoint.is_none() && (has_begun || self.unsavable);
        if let Some(Checkpoint::Saved { .. } | Checkpoint::Partial { .. }) = checkpoint {
            self.whole = Some(matches!(checkpoint, Some(Checkpoint::Saved { .. })));
            self.unsaved.clear();
        }
    }

    /// What there was after this one is saved.
    pub(super) fn saved(&mut self, execution: &str) {
        // Also of what is to be told as lost: a checkpoint may be finished after its worker's end.
        for list in [&mut self.telling, &mut self.doubtful, &mut self.unsaved] {
            list.settle(execution);
        }
    }

    /// Of what is not saved nobody need be told.
    pub(super) fn give_up_unsaved(&mut self, out: &mut Vec<Action>) {
        out.extend(self.unsaved.last().cloned().map(|last| Action::Settled { up_to: Some(last) }));
        self.unsaved.clear();
    }

    /// What has ended before this daemon knew of it, and is in no checkpoint as far as is written.
    pub(crate) fn doubt(&mut self, unsaved: &Unsaved) {
        self.doubtful = unsaved.clone();
    }

    /// One that was running then: see [`Unsaved::passed`].
    pub(crate) fn passed(&mut self, execution: &ExecutionId) {
        self.doubtful.passed(execution);
    }

    /// The new worker is up, and what is in doubt yet is not in what it has.
    pub(super) fn tell_doubtful(&mut self) {
        if self.doubtful.is_empty() {
            return;
        }
        self.telling.absorb(&mut self.doubtful);
        if !matches!(self.notice, Some(Output::Notice { topic: NoticeTopic::VariablesLost, .. })) {
            self.notice = Some(loss::unsaved(&self.telling));
        }
    }

    /// A checkpoint has failed whose Execution has ended already. What is told already is worse.
    pub(super) fn not_saved(&mut self, reason: &str) {
        let text = format!("the variables were not saved, the checkpoint before is the newest: {reason}");
        let notice = || Output::Notice { topic: NoticeTopic::Degraded, text, names: Vec::new() };
        self.notice.get_or_insert_with(notice);
    }
}
