//! What is to be known of a notebook's worker by those who look at all of them: whether it could be evicted, and since
//! when nobody has wanted it. Its task writes it, [`crate::evict`] reads it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sandbox_profiles::Evictable;
use tokio::time::Instant;

/// One worker's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vitals(Arc<Mutex<Signs>>);

/// What is seen at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// Since when it has had nothing to do; `None` while it has, or there is none.
    pub(crate) idle_since: Option<Instant>,
    /// How long it may.
    pub(crate) idle_limit: Option<Duration>,
    /// Whether it may be evicted, now.
    pub(crate) is_evictable: bool,
    /// Whether variables would be lost with it.
    pub(crate) would_lose: bool,
    /// It runs an Execution.
    pub(crate) is_running: bool,
    /// It is being saved.
    pub(crate) is_saving: bool,
    /// A client is still being told an end.
    pub(crate) is_telling: bool,
    /// How many Executions wait.
    pub(crate) waiting: u32,
    /// It was asked to go and stays: not again before.
    pub(crate) not_before: Option<Instant>,
}

impl Signs {
    /// Of a worker that may be evicted as its profile says.
    pub(crate) fn may_go(evict: Evictable, pinned: bool, would_lose: bool) -> bool {
        !pinned && (evict == Evictable::Any || (evict == Evictable::Whole && !would_lose))
    }
}

impl Vitals {
    /// What it is like now.
    pub(crate) fn get(&self) -> Signs {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is like this now; whether it was not before.
    pub(crate) fn set(&self, signs: Signs) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *held != signs;
        *held = signs;
        is_new
    }
}
