//! A notebook that has no worker, and for which nobody has had a wish for a while, goes to sleep: its task ends, and what
//! is to be known of it is on the disk (`notebook.json`, its checkpoints, its journal). Ten thousand of them cost as many
//! names. It wakes up when it is asked for (see [`crate::registry::find`]).

use std::time::Duration;

use cellblock_proto::client::WorkerState;
use tokio::time::Instant;

use super::Notebook;
use crate::daemon::Sleeper;
use crate::launch::Begin;
use crate::workspace::Settings;

/// How long it waits for a wish.
const SLEEP_AFTER: Duration = Duration::from_secs(10);

impl Notebook {
    /// When it may go to sleep; `None` while there is something that only its task knows.
    pub(super) fn settle_sleep(&mut self, now: Instant) {
        let rests = self.machine.state() == WorkerState::None
            && self.machine.has_nothing_to_tell()
            && self.begin == Begin::Saved
            && !self.records.has_readers()
            && self.retired.is_empty()
            && self.questions.is_empty()
            && self.visitors.is_empty()
            && self.travels.is_empty()
            && self.launching.is_none()
            && self.place.is_none()
            && self.desert_at.is_none()
            && self.closing.is_none();
        self.sleep_at = rests.then(|| self.sleep_at.unwrap_or(now + SLEEP_AFTER));
    }

    /// Goes to sleep, unless somebody is about to ask for something; whether it does.
    pub(super) fn sleep(&mut self) -> bool {
        self.sleep_at = None;
        let mut known = self.daemon.notebooks.lock();
        // Whoever has found it has a sender of his own: nobody finds it while we have the lock.
        if self.inbox.sender_strong_count() > 1 || !self.inbox.is_empty() {
            return false;
        }
        let Some(entry) = known.awake.remove(&self.id) else { return false };
        let settings = Settings { evicted: self.machine.is_evicted(), ..self.settings() };
        let sleeper = Sleeper { settings, executions: self.machine.ended_count(), open: entry.open };
        known.asleep.insert(self.id.clone(), sleeper);
        drop(known);
        tracing::debug!("goes to sleep");
        true
    }

    /// What there was of it before it slept.
    pub(crate) fn has_slept(&mut self, executions: u64, evicted: bool) {
        self.machine.has_slept(executions, evicted);
    }
}
