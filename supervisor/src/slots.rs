//! Which pairs of host ids are in use. A lease is held by whoever holds the worker, so that an id
//! is free exactly when its sandbox is gone.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use sandbox_profiles::ids::SLOTS;

/// All slots of this daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots(Arc<Mutex<BTreeSet<u32>>>);

/// One slot in use.
#[derive(Debug)]
pub(crate) struct SlotLease {
    slot: u32,
    slots: Slots,
}

impl Slots {
    /// The smallest free slot; `None` when there are as many workers as there are ids.
    pub(crate) fn lease(&self) -> Option<SlotLease> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = (0..SLOTS).find(|slot| !taken.contains(slot))?;
        taken.insert(slot);
        Some(SlotLease { slot, slots: self.clone() })
    }

    /// The slot of a worker that was there before us; `None` when another has it.
    pub(crate) fn claim(&self, slot: u32) -> Option<SlotLease> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(slot).then(|| SlotLease { slot, slots: self.clone() })
    }
}

impl SlotLease {
    /// Its number.
    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }
}

impl Drop for SlotLease {
    fn drop(&mut self) {
        self.slots.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_free_slot_is_leased_and_comes_back_when_dropped() {
        let slots = Slots::default();
        let claimed = slots.claim(1).unwrap();
        assert!(slots.claim(1).is_none());
        let (first, second) = (slots.lease().unwrap(), slots.lease().unwrap());
        assert_eq!((first.slot(), second.slot()), (0, 2));
        drop(claimed);
        assert_eq!(slots.lease().unwrap().slot(), 1);
    }
}
