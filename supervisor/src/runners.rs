//! How many cells run at once. A notebook runs an Execution only with leave: one each, so that a long queue of
//! one holds nobody up. Leave goes round by tenant and, within one, in the order in which notebooks have asked
//! ([`crate::line`]).
//!
//! Three caps hold at the same time: one over all notebooks, one per tenant and one per profile that have their own
//! (`max_running`). Who waits for his profile's is overtaken by those of other profiles, and keeps his
//! place. A cell that waits for `input()` keeps its leave: it is in the middle of its work, and to get
//! it anew for the rest could make a person wait who has just answered.
//!
//! Invariant: a leave is a [`Turn`]'s, and goes back when the turn is dropped. So whatever becomes of a
//! notebook and its task, none is lost.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::line::{Line, Ticket};
use crate::pace::Pace;

/// Cells per processor. More than one, because cells also wait: for files, for `input()`, for their own
/// processes, for sleep.
pub(crate) const PER_CPU: usize = 4;

/// At least so many, so that a small machine serves a few people who wait most of the time.
pub(crate) const AT_LEAST: usize = 8;

/// The cap of an operator who names none.
pub(crate) fn default_most() -> usize {
    cpus().saturating_mul(PER_CPU).max(AT_LEAST)
}

/// Processors that we may use.
pub(crate) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The leaves there are, and who waits for one.
#[derive(Clone, Debug)]
pub(crate) struct Runners(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    most: usize,
    running: usize,
    /// Nothing is given while this is not 0.
    holds: usize,
    /// By name, those that notebooks have been opened with.
    profiles: BTreeMap<Arc<str>, Own>,
    /// The caps of those that have their own.
    tenants: BTreeMap<Arc<str>, usize>,
    line: Line<Arc<Notify>>,
    /// How long cells take.
    pace: Pace,
}

/// A profile's own account.
#[derive(Debug, Default)]
struct Own {
    most: Option<usize>,
    running: usize,
}

/// One notebook's place: outside, in the line, or with leave.
#[derive(Debug)]
pub(crate) struct Turn {
    runners: Runners,
    tenant: Arc<str>,
    profile: Arc<str>,
    /// Woken when leave is given to one that waits.
    wake: Arc<Notify>,
    stand: Stand,
    /// How long this notebook's cells take, and since when one has leave.
    pace: Pace,
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Outside,
    InLine(Ticket),
    HasLeave,
}

/// While it lives, nobody gets leave.
#[derive(Debug)]
pub(crate) struct Hold(Runners);

impl Runners {
    /// At most `most` at once.
    pub(crate) fn new(most: usize) -> Self {
        Runners(Arc::new(Mutex::new(State {
            most,
            running: 0,
            holds: 0,
            profiles: BTreeMap::new(),
            tenants: BTreeMap::new(),
            line: Line::default(),
            pace: Pace::default(),
        })))
    }

    /// Only looked at for a moment, never across an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A notebook's turn; it does not wait yet.
    pub(crate) fn turn(&self, tenant: &str, profile: &str, wake: Arc<Notify>) -> Turn {
        let (tenant, profile) = (tenant.into(), profile.into());
        let (stand, pace, since) = (Stand::Outside, Pace::default(), None);
        Turn { runners: self.clone(), tenant, profile, wake, stand, pace, since }
    }

    /// A profile's own cap, as its file says now. What runs already goes on.
    pub(crate) fn set_most(&self, profile: &str, most: Option<usize>) {
        let mut state = self.lock();
        state.own(&profile.into()).most = most;
        state.give();
    }

    /// A tenant's own cap.
    pub(crate) fn set_most_of(&self, tenant: &str, most: usize) {
        let mut state = self.lock();
        state.tenants.insert(tenant.into(), most);
        state.give();
    }

    /// How many run, how many may, how many wait.
    pub(crate) fn figures(&self) -> (usize, usize, usize) {
        let state = self.lock();
        (state.running, state.most, state.line.len())
    }

    /// Gives nothing until all who have leave already have said so.
    pub(crate) fn hold(&self) -> Hold {
        self.lock().holds += 1;
        Hold(self.clone())
    }

    /// How many of a tenant have leave.
    pub(crate) fn running_of(&self, tenant: &str) -> usize {
        self.lock().line.holds(tenant)
    }

    /// How long until the next of a tenant's cells ends, or of all when that is what is waited for.
    pub(crate) fn until_next(&self, tenant: Option<&str>) -> Duration {
        let state = self.lock();
        let at_once = tenant.map_or(state.running, |tenant| state.line.holds(tenant));
        state.pace.until_next(None, at_once)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.holds -= 1;
        state.give();
    }
}

impl State {
    /// Gives what there is to those who are next and have room.
    fn give(&mut self) {
        while self.holds == 0 && self.running < self.most {
            let State { line, tenants, profiles, .. } = self;
            let tenant_has_room = |tenant: &str, holds| tenants.get(tenant).is_none_or(|most| holds < *most);
            let profile_has_room = |profile: &str| {
                profiles.get(profile).is_none_or(|own| own.most.is_none_or(|most| own.running < most))
            };
            let Some(next) = line.next(tenant_has_room, profile_has_room) else { return };
            self.running += 1;
            self.own(&next.class).running += 1;
            next.item.notify_one();
        }
    }

    fn own(&mut self, profile: &Arc<str>) -> &mut Own {
        self.profiles.entry(Arc::clone(profile)).or_default()
    }
}

impl Turn {
    /// Gets in line, or looks whether it is one's turn. At once when nobody waits.
    pub(crate) fn ask(&mut self) -> bool {
        if self.stand == Stand::HasLeave {
            return true;
        }
        let mut state = self.runners.lock();
        let ticket = match self.stand {
            Stand::InLine(ticket) => ticket,
            _ => {
                let ticket = state.line.join(&self.tenant, &self.profile, Arc::clone(&self.wake));
                state.give();
                ticket
            }
        };
        let waits = state.line.has(&self.tenant, &self.profile, ticket);
        drop(state);
        if waits {
            self.stand = Stand::InLine(ticket);
        } else {
            (self.stand, self.since) = (Stand::HasLeave, Some(Instant::now()));
        }
        !waits
    }

    /// Has leave, whatever the caps say: it was given by a daemon before us.
    pub(crate) fn claim(&mut self) {
        if self.stand != Stand::HasLeave {
            self.give_back();
            let mut state = self.runners.lock();
            state.running += 1;
            state.own(&self.profile).running += 1;
            state.line.claim(&self.tenant);
            drop(state);
            (self.stand, self.since) = (Stand::HasLeave, Some(Instant::now()));
        }
    }

    /// Gives leave back, or gets out of the line.
    pub(crate) fn give_back(&mut self) {
        let stand = std::mem::replace(&mut self.stand, Stand::Outside);
        let ticket = match stand {
            Stand::Outside => return,
            Stand::InLine(ticket) => Some(ticket),
            Stand::HasLeave => None,
        };
        let mut state = self.runners.lock();
        if ticket.is_some_and(|ticket| state.line.leave(&self.tenant, &self.profile, ticket)) {
            return;
        }
        // It has leave, and may not know it yet.
        if let Some(since) = self.since.take() {
            let took = since.elapsed();
            self.pace.took(took);
            state.pace.took(took);
        }
        state.running -= 1;
        state.own(&self.profile).running -= 1;
        state.line.give_back(&self.tenant);
        state.give();
    }

    /// Whether it waits, as far as it knows.
    pub(crate) fn is_in_line(&self) -> bool {
        matches!(self.stand, Stand::InLine(_))
    }

    /// How long until the cell of this notebook that runs, or is next, has ended.
    pub(crate) fn until_next(&self) -> Duration {
        self.pace.until_next(self.since.map(|since| since.elapsed()), 1)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
#[path = "runners_tests.rs"]
pub(crate) mod tests;
