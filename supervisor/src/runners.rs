//! How many cells run at once. A notebook runs an Execution only with leave, and gets it in the order
//! in which notebooks have asked: one leave each, so that a long queue of one holds nobody up.
//!
//! Two caps hold at the same time: one over all notebooks, and one per profile that has its own
//! (`max_running`). Who waits for his profile's is overtaken by those of other profiles, and keeps his
//! place. A cell that waits for `input()` keeps its leave: it is in the middle of its work, and to get
//! it anew for the rest could make a person wait who has just answered.
//!
//! Invariant: a leave is a [`Turn`]'s, and goes back when the turn is dropped. So whatever becomes of a
//! notebook and its task, none is lost.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

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
    profiles: BTreeMap<String, Own>,
    line: VecDeque<Waiting>,
    last_ticket: u64,
}

/// A profile's own account.
#[derive(Debug, Default)]
struct Own {
    most: Option<usize>,
    running: usize,
}

#[derive(Debug)]
struct Waiting {
    ticket: u64,
    profile: Arc<str>,
    wake: Arc<Notify>,
}

/// One notebook's place: outside, in the line, or with leave.
#[derive(Debug)]
pub(crate) struct Turn {
    runners: Runners,
    profile: Arc<str>,
    /// Woken when leave is given to one that waits.
    wake: Arc<Notify>,
    stand: Stand,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Outside,
    InLine(u64),
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
            line: VecDeque::new(),
            last_ticket: 0,
        })))
    }

    /// Only looked at for a moment, never across an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A notebook's turn; it does not wait yet.
    pub(crate) fn turn(&self, profile: &str, wake: Arc<Notify>) -> Turn {
        Turn { runners: self.clone(), profile: profile.into(), wake, stand: Stand::Outside }
    }

    /// A profile's own cap, as its file says now. What runs already goes on.
    pub(crate) fn set_most(&self, profile: &str, most: Option<usize>) {
        let mut state = self.lock();
        state.own(profile).most = most;
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
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.holds -= 1;
        state.give();
    }
}

impl State {
    /// Gives what there is to those who have waited longest and whose profile has room.
    fn give(&mut self) {
        let mut at = 0;
        while self.holds == 0 && self.running < self.most && at < self.line.len() {
            let profile = Arc::clone(&self.line[at].profile);
            let own = self.own(&profile);
            if own.most.is_some_and(|most| own.running >= most) {
                at += 1;
            } else if let Some(waiting) = self.line.remove(at) {
                self.count(&profile);
                waiting.wake.notify_one();
            }
        }
    }

    fn own(&mut self, profile: &str) -> &mut Own {
        // Not `entry`, which needs a name of its own each time.
        if !self.profiles.contains_key(profile) {
            self.profiles.insert(profile.to_owned(), Own::default());
        }
        self.profiles.get_mut(profile).expect("it has just been put there")
    }

    fn count(&mut self, profile: &str) {
        self.running += 1;
        self.own(profile).running += 1;
    }

    fn take_back(&mut self, profile: &str) {
        self.running -= 1;
        self.own(profile).running -= 1;
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
                state.last_ticket += 1;
                let ticket = state.last_ticket;
                let (profile, wake) = (Arc::clone(&self.profile), Arc::clone(&self.wake));
                state.line.push_back(Waiting { ticket, profile, wake });
                state.give();
                ticket
            }
        };
        // Tickets are in order.
        let waits = state.line.binary_search_by_key(&ticket, |waiting| waiting.ticket).is_ok();
        self.stand = if waits { Stand::InLine(ticket) } else { Stand::HasLeave };
        !waits
    }

    /// Has leave, whatever the caps say: it was given by a daemon before us.
    pub(crate) fn claim(&mut self) {
        if self.stand != Stand::HasLeave {
            self.give_back();
            self.runners.lock().count(&self.profile);
            self.stand = Stand::HasLeave;
        }
    }

    /// Gives leave back, or gets out of the line.
    pub(crate) fn give_back(&mut self) {
        if self.stand == Stand::Outside {
            return;
        }
        let mut state = self.runners.lock();
        let place = match self.stand {
            Stand::InLine(ticket) => state.line.binary_search_by_key(&ticket, |waiting| waiting.ticket).ok(),
            _ => None,
        };
        match place {
            Some(place) => drop(state.line.remove(place)),
            // It has leave, and may not know it yet.
            None => {
                state.take_back(&self.profile);
                state.give();
            }
        }
        self.stand = Stand::Outside;
    }

    /// Whether it waits, as far as it knows.
    pub(crate) fn is_in_line(&self) -> bool {
        matches!(self.stand, Stand::InLine(_))
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
