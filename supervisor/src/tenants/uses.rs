//! What a tenant uses of what is counted, and all together: whoever takes some holds it as a value, and gives it
//! back by dropping that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Tenant;

/// What is counted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Open notebooks.
    Notebooks,
    /// Executions that wait.
    Queued,
    /// Bytes held in memory for clients.
    Buffered,
}

/// How many kinds there are.
const KINDS: usize = 3;

/// How much is used.
#[derive(Debug, Default)]
pub(super) struct Uses([AtomicU64; KINDS]);

impl Uses {
    pub(super) fn get(&self, kind: Counted) -> u64 {
        self.0[kind as usize].load(Ordering::Relaxed)
    }

    fn add(&self, kind: Counted, amount: u64) {
        self.0[kind as usize].fetch_add(amount, Ordering::Relaxed);
    }

    fn take(&self, kind: Counted, amount: u64) {
        self.0[kind as usize].fetch_sub(amount, Ordering::Relaxed);
    }

    /// Whether there was room below `most`; 0 is no cap.
    fn add_below(&self, kind: Counted, amount: u64, most: u64) -> bool {
        let add = |used: u64| Some(used + amount).filter(|sum| most == 0 || *sum <= most);
        self.0[kind as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// A cap that is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    /// Of what.
    pub(crate) kind: Counted,
    /// The most there may be.
    pub(crate) most: u64,
    /// Whether it is the cap over all tenants.
    pub(crate) in_all: bool,
}

/// An amount in use.
#[derive(Debug)]
pub(crate) struct Held {
    tenant: Arc<Tenant>,
    kind: Counted,
    amount: u64,
}

impl Held {
    /// So much, whatever the caps say.
    pub(crate) fn claim(tenant: &Arc<Tenant>, kind: Counted, amount: u64) -> Self {
        let mut held = Held { tenant: Arc::clone(tenant), kind, amount: 0 };
        held.set(amount);
        held
    }

    /// So much, if there is room.
    ///
    /// # Errors
    /// The cap that is met.
    pub(crate) fn take(tenant: &Arc<Tenant>, kind: Counted, amount: u64) -> Result<Self, Met> {
        let mut held = Held::claim(tenant, kind, 0);
        held.more(amount).map(|()| held)
    }

    /// So much more, if there is room.
    ///
    /// # Errors
    /// The cap that is met; nothing has been taken.
    pub(crate) fn more(&mut self, amount: u64) -> Result<(), Met> {
        let (tenant, kind) = (&self.tenant, self.kind);
        let most = tenant.most(kind);
        if !tenant.uses.add_below(kind, amount, most) {
            return Err(Met { kind, most, in_all: false });
        }
        let most = tenant.total.most(kind);
        if !tenant.total.uses.add_below(kind, amount, most) {
            tenant.uses.take(kind, amount);
            return Err(Met { kind, most, in_all: true });
        }
        self.amount += amount;
        Ok(())
    }

    /// How much it is.
    pub(crate) fn amount(&self) -> u64 {
        self.amount
    }

    /// Is so much now, whatever the caps say.
    pub(crate) fn set(&mut self, amount: u64) {
        for uses in [&self.tenant.uses, &self.tenant.total.uses] {
            uses.add(self.kind, amount.saturating_sub(self.amount));
            uses.take(self.kind, self.amount.saturating_sub(amount));
        }
        self.amount = amount;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}
