//! Which shims this daemon has: each is somebody's from before it is started until it is told to be killed, which is
//! the last thing that is done with every one of them. What the anchor has beyond these belongs to nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cellblock_proto::id::WorkerId;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shims(Mutex<BTreeMap<WorkerId, Since>>);

/// Since when a shim is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// We have started it.
    Now,
    /// A daemon before us has.
    Before,
}

impl Shims {
    /// It is somebody's from here on.
    pub(crate) fn add(&self, worker: WorkerId, since: Since) {
        self.lock().insert(worker, since);
    }

    /// It is nobody's from here on.
    pub(crate) fn remove(&self, worker: &WorkerId) {
        self.lock().remove(worker);
    }

    /// Whether it is somebody's.
    pub(crate) fn has(&self, worker: &WorkerId) -> bool {
        self.lock().contains_key(worker)
    }

    /// Whether one of these was started by a daemon before us.
    pub(crate) fn any_of_before(&self, listed: &BTreeSet<WorkerId>) -> bool {
        let shims = self.lock();
        listed.iter().any(|worker| shims.get(worker) == Some(&Since::Before))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<WorkerId, Since>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
