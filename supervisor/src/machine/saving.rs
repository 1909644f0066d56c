//! What the next Execution is told of saved variables.

use cellblock_proto::execution::{NameChanges, NameInfo, NoticeTopic, Output};

use super::Machine;
use crate::loss::{self, Restoration};

impl Machine {
    /// The new worker has what was saved of the one before it, or has not.
    pub(super) fn restored(&mut self, names: Vec<NameInfo>, told: Restoration) {
        let back = NameChanges { added: names, ..NameChanges::default() };
        self.names.apply(&back);
        self.notice = loss::restored(self.notice.take(), &back.added, told);
    }

    /// A checkpoint has failed whose Execution has ended already. What is told already is worse.
    pub(super) fn not_saved(&mut self, reason: &str) {
        let text = format!("the variables were not saved, the checkpoint before is the newest: {reason}");
        let notice = || Output::Notice { topic: NoticeTopic::Degraded, text, names: Vec::new() };
        self.notice.get_or_insert_with(notice);
    }
}
