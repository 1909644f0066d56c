//! A worker that has nothing to do is saved and ended, and comes back when it is wanted.
//!
//! It is saved first, and ended only when that has gone well. What is wanted meanwhile keeps it, unless it has to go
//! in any case; then that waits for the next worker, which begins with what was saved.

use cellblock_proto::execution::{Checkpoint, Death};
use tokio::time::Instant;

use super::{Action, Evict, Machine, Phase};
use crate::loss;

/// A worker that is to be evicted.
#[derive(Debug)]
pub(super) struct Leaving {
    reason: String,
    rule: Evict,
    /// It is being saved.
    saving: bool,
    /// Its variables go without having been saved.
    unsaved: bool,
}

impl Leaving {
    /// Whether what it has is saved.
    pub(super) fn is_saved(&self) -> bool {
        !self.unsaved
    }
}

impl Machine {
    /// Whether the worker has nothing to do, and nobody waits for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Up && self.jobs.is_empty()
    }

    /// Whether the worker was evicted, and comes back when it is wanted.
    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted && self.phase == Phase::None
    }

    /// Whether a checkpoint is being taken that an Outcome has spoken of.
    pub(crate) fn is_saving(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the last checkpoint has all variables there are, as far as that is known.
    pub(crate) fn is_saved_whole(&self) -> bool {
        self.unsaved.is_empty() && self.whole == Some(true) && !self.unsavable
    }

    /// Whether the worker is being evicted, and has been saved with all it has.
    pub(crate) fn leaves_saved_whole(&self) -> bool {
        let is_evicted = matches!(self.phase, Phase::Ending { evicted: true, .. });
        is_evicted && self.leaving.as_ref().is_some_and(Leaving::is_saved) && self.is_saved_whole()
    }

    /// Whether variables would be lost with the worker: it has some that cannot be saved, or must not be.
    pub(crate) fn would_lose(&self) -> bool {
        (self.unsavable && self.names.iter().next().is_some()) || self.whole == Some(false)
    }

    /// Whether the worker takes what comes now; one that could stay does, and stays.
    pub(super) fn takes_work(&mut self, out: &mut Vec<Action>) -> bool {
        self.keep("something is to be run", out)
    }

    /// One that is about to be evicted stays, unless it has to go in any case; whether there is a worker that stays.
    pub(super) fn keep(&mut self, why: &str, out: &mut Vec<Action>) -> bool {
        if self.phase != Phase::Up || self.leaving.as_ref().is_some_and(|leaving| leaving.rule.firmly) {
            return false;
        }
        if self.leaving.take().is_some() {
            out.push(Action::Stays { reason: why.to_owned() });
        }
        true
    }

    pub(super) fn evict(&mut self, reason: String, rule: Evict, out: &mut Vec<Action>) {
        if let Some(leaving) = &mut self.leaving {
            // It is on its way, and may have to go in any case now.
            leaving.rule.with_losses |= rule.with_losses;
            leaving.rule.firmly |= rule.firmly;
        } else if self.phase == Phase::Up && (rule.firmly || self.is_idle()) {
            self.leaving = Some(Leaving { reason, rule, saving: false, unsaved: false });
        } else if self.phase == Phase::None {
            out.push(Action::Absent);
        } else {
            out.push(Action::Stays { reason: "it has something to do".to_owned() });
        }
    }

    /// Begins the eviction when there is nothing else to do.
    pub(super) fn settle_eviction(&mut self, now: Instant, out: &mut Vec<Action>) {
        let has_work = self.order.iter().any(|execution| self.is_with_shim(execution));
        if self.phase != Phase::Up || has_work || self.is_saving() {
            return;
        }
        // The answer to an earlier one would be taken for this one's, and something may have run since.
        if self.save_asked {
            return;
        }
        let Some(leaving) = self.leaving.as_mut().filter(|leaving| !leaving.saving) else { return };
        let Evict { saves, with_losses, firmly } = leaving.rule;
        if saves && !self.unsavable {
            leaving.saving = true;
            self.save_asked = true;
            out.push(Action::Save);
        } else if with_losses || firmly || self.names.iter().next().is_none() {
            leaving.unsaved = true;
            self.leave(now, out);
        } else {
            self.stay("its variables are not to be saved, and its profile wants them kept", out);
        }
    }

    pub(super) fn saved_now(
        &mut self,
        checkpoint: &Checkpoint,
        own: bool,
        all: bool,
        now: Instant,
        out: &mut Vec<Action>,
    ) {
        let is_awaited = self.leaving.as_ref().is_some_and(|leaving| leaving.saving);
        if own {
            self.save_asked = false;
            if !is_awaited {
                return;
            }
        }
        self.whole = Some(matches!(checkpoint, Checkpoint::Saved { .. }));
        if all && !matches!(checkpoint, Checkpoint::Failed { .. } | Checkpoint::Pending) {
            self.unsaved.clear();
            self.unsavable = false;
            out.push(Action::Settled { up_to: None });
        }
        let Some(leaving) = self.leaving.as_ref().filter(|_| own) else { return };
        let may_lose = leaving.rule.with_losses || leaving.rule.firmly;
        match checkpoint {
            Checkpoint::Saved { .. } => self.leave(now, out),
            Checkpoint::Partial { .. } if may_lose => self.leave(now, out),
            Checkpoint::Partial { left_out, .. } => {
                let names: Vec<&str> = left_out.iter().take(5).map(|loss| loss.path.as_str()).collect();
                self.stay(&format!("variables cannot be saved: {}", names.join(", ")), out);
            }
            // What cannot be saved at all stays, whoever wants it gone: a full disk is no reason to lose anything.
            Checkpoint::Failed { reason } => self.stay(&format!("it could not be saved: {reason}"), out),
            Checkpoint::Pending => {}
        }
    }

    fn leave(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Some(leaving) = &self.leaving {
            let reason = leaving.reason.clone();
            self.end(reason, true, now, out);
        }
    }

    fn stay(&mut self, why: &str, out: &mut Vec<Action>) {
        self.leaving = None;
        out.push(Action::Stays { reason: why.to_owned() });
        self.send_held(out);
    }

    /// It has gone; `had` are its names, if it was not saved. Of what was saved the next worker tells itself what is
    /// missing.
    pub(super) fn has_left(&mut self, reason: &str, had: Vec<String>, out: &mut Vec<Action>) {
        self.evicted = true;
        if had.is_empty() {
            self.give_up_unsaved(out);
        } else {
            self.telling.absorb(&mut self.unsaved);
            let death = Death::Ended { reason: reason.to_owned() };
            self.notice = Some(loss::notice(&death, had, self.notice.take()));
        }
    }
}
