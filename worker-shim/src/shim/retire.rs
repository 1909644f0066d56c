//! The end in order, asked for by SIGTERM or by a supervisor that does not understand us: what runs is interrupted,
//! what is to be saved is saved, the worker ends, and then so do we.

use std::time::{Duration, Instant};

use super::Shim;
use super::executions::Cause;
use super::saver::{END_PATIENCE, Saver};

/// How long what runs may take to heed the interrupt. What is saved after it has its own time; whoever ends us waits
/// for both.
const CELL_PATIENCE: Duration = Duration::from_secs(2);

/// How long the supervisor may take to read the last of it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// See the module.
pub struct Retiring {
    reason: String,
    /// Until when what runs may go on.
    until: Instant,
    /// Until when what there is to say may wait, once the worker has ended.
    said_by: Option<Instant>,
}

impl Shim {
    /// SIGTERM may have come; how often does not matter.
    pub(super) fn hear_signals(&mut self) {
        let mut info = [0; 128];
        if rustix::io::read(&self.signals, &mut info).is_ok_and(|count| count > 0) {
            self.retire("it was told to end (SIGTERM)".to_owned());
        }
    }

    /// From here on nothing begins any more.
    pub(super) fn retire(&mut self, reason: String) {
        if self.retiring.is_some() {
            return;
        }
        let now = Instant::now();
        self.retiring = Some(Retiring { reason, until: now + CELL_PATIENCE, said_by: None });
        self.interrupt(Cause::Asked, now);
    }

    /// Ends the worker when nothing runs any more, or no longer may.
    pub(super) fn retire_clock(&mut self, now: Instant) -> Option<Instant> {
        let over = self.over;
        let retiring = self.retiring.as_mut()?;
        if over {
            return Some(*retiring.said_by.get_or_insert(now + LAST_WORDS));
        }
        if self.ending.is_some() {
            return None;
        }
        let (reason, until) = (retiring.reason.clone(), retiring.until);
        match self.executions.running.is_some() {
            true if now < until => return Some(until),
            // It does not heed the interrupt, and what was before it is being saved.
            true if self.saver.as_ref().is_some_and(Saver::is_writing) && now < until + END_PATIENCE => {
                return Some(until + END_PATIENCE);
            }
            true => self.end_now(reason),
            false => self.end(reason),
        }
        None
    }

    /// Whether there is nothing left to wait for.
    pub(super) fn has_retired(&self, now: Instant) -> bool {
        let Some(retiring) = &self.retiring else { return false };
        let is_heard = self.control.as_ref().is_some_and(|control| control.resumed);
        let has_time = retiring.said_by.is_some_and(|until| now < until);
        self.is_nobodys || (self.over && !(is_heard && has_time && self.outbox.has_unsent()))
    }
}
