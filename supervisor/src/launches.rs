//! Which workers may be started, and how many may live. A start is mostly processor time (mounts, the imports of
//! Python): with a hundred at once each would be slow, and the first ready as late as the last. So
//! they are started a few at a time. And a worker is memory: so many may live in all, and of one tenant.
//!
//! Whoever wants a worker gets in line ([`crate::line`]: fair between tenants, in order within one) and comes
//! out of it with two things: a [`Launch`], kept until the worker is up, and a [`Lease`], kept as long as it lives. When
//! nobody in the line can be served because too many workers live, [`Launches::short`] says whose worker would
//! make room; who evicts idle ones waits for that. Somebody for whom no room is made in time is told that it is full.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::line::{Line, Ticket};
use crate::runners::cpus;

/// Starts per processor: while one waits for its disk, another computes.
const PER_CPU: usize = 4;

/// At least so many: a start that hangs until its deadline must not hold everybody up.
const AT_LEAST: usize = 8;

/// How long somebody waits for another's worker to end, where all there may be live: an idle one is saved and
/// ended in less, and when all are at work the client is better told.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// [`PATIENCE`]; tests have less, and release builds do not even know the variable's name.
fn patience() -> Duration {
    #[cfg(debug_assertions)]
    if let Some(ms) = std::env::var("CELLBLOCK_TEST_ROOM_PATIENCE_MS").ok().and_then(|ms| ms.parse().ok()) {
        return Duration::from_millis(ms);
    }
    PATIENCE
}

/// The starts there may be, and the workers.
#[derive(Clone, Debug)]
pub(crate) struct Launches(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Somebody waits only because too many workers live.
    short: Notify,
}

#[derive(Debug)]
struct State {
    most_starting: usize,
    starting: usize,
    most_workers: usize,
    workers: usize,
    by_tenant: BTreeMap<Arc<str>, Own>,
    line: Line<Arc<Notify>>,
    /// The line has no classes.
    class: Arc<str>,
}

/// A tenant's workers.
#[derive(Clone, Copy, Debug)]
struct Own {
    most: usize,
    live: usize,
}

impl Default for Own {
    fn default() -> Self {
        Own { most: usize::MAX, live: 0 }
    }
}

/// Whose worker would have to end for somebody who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    /// Anybody's: as many live as may.
    All,
    /// This tenant's: it has as many as it may.
    Tenant(Arc<str>),
}

/// No room was made in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    /// The cap that is met.
    pub(crate) short: Short,
    /// How many workers live under it, which is how many may.
    pub(crate) most: usize,
    /// How many of the tenant's were before it.
    pub(crate) position: usize,
}

/// The right to start one worker, kept until it is up, or is known not to come.
#[derive(Debug)]
pub(crate) struct Launch(Held);

/// The right to have one worker, kept as long as it lives.
#[derive(Debug)]
pub(crate) struct Lease(Held);

#[derive(Debug)]
struct Held {
    launches: Launches,
    tenant: Arc<str>,
}

/// A place in the line; dropped, it is free for the next.
#[derive(Debug)]
pub(crate) struct Place {
    launches: Launches,
    tenant: Arc<str>,
    /// `None` when what it came for has been taken out.
    ticket: Option<Ticket>,
    wake: Arc<Notify>,
    until: Instant,
}

impl Launches {
    /// As many starts as this machine bears, and so many workers.
    pub(crate) fn new(most_workers: Option<usize>) -> Self {
        let most_starting = cpus().saturating_mul(PER_CPU).max(AT_LEAST);
        Launches::of(most_starting, most_workers.unwrap_or(usize::MAX))
    }

    fn of(most_starting: usize, most_workers: usize) -> Self {
        let state = Mutex::new(State {
            most_starting,
            starting: 0,
            most_workers,
            workers: 0,
            by_tenant: BTreeMap::new(),
            line: Line::default(),
            class: "".into(),
        });
        Launches(Arc::new(Shared { state, short: Notify::new() }))
    }

    /// Only looked at for a moment, never across an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A tenant's own cap of workers.
    pub(crate) fn set_most_of(&self, tenant: &str, most: usize) {
        self.lock().own(&tenant.into()).most = most;
        self.give();
    }

    /// Gets in line.
    pub(crate) fn place(&self, tenant: &str) -> Place {
        let (tenant, wake) = (Arc::from(tenant), Arc::new(Notify::new()));
        let ticket = {
            let mut state = self.lock();
            let class = Arc::clone(&state.class);
            state.line.join(&tenant, &class, Arc::clone(&wake))
        };
        self.give();
        let until = Instant::now() + patience();
        Place { launches: self.clone(), tenant, ticket: Some(ticket), wake, until }
    }

    /// A worker that was there before us, whatever the caps say.
    pub(crate) fn claim(&self, tenant: &str) -> Lease {
        let tenant: Arc<str> = tenant.into();
        let mut state = self.lock();
        state.workers += 1;
        state.own(&tenant).live += 1;
        drop(state);
        Lease(Held { launches: self.clone(), tenant })
    }

    /// Returns when somebody may be waiting only because too many workers live: ask [`Launches::short`].
    ///
    /// # Cancel safety
    /// Safe: what has not been looked at is told again.
    pub(crate) async fn shortage(&self) {
        self.0.short.notified().await;
    }

    /// Whose workers would have to end for somebody to be served, for each who waits for that.
    pub(crate) fn short(&self) -> Vec<Short> {
        self.lock().short()
    }

    /// How many wait for their turn.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().line.len()
    }

    /// How many workers live; how many may, if there is a cap.
    pub(crate) fn figures(&self) -> (usize, Option<usize>) {
        let state = self.lock();
        (state.workers, Some(state.most_workers).filter(|most| *most != usize::MAX))
    }

    /// How many workers of a tenant live.
    pub(crate) fn workers_of(&self, tenant: &str) -> usize {
        self.lock().by_tenant.get(tenant).map_or(0, |own| own.live)
    }

    fn give(&self) {
        let mut state = self.lock();
        while state.starting < state.most_starting && state.workers < state.most_workers {
            let State { line, by_tenant, .. } = &mut *state;
            let has_room =
                |tenant: &str, _| by_tenant.get(tenant).is_none_or(|own: &Own| own.live < own.most);
            let Some(next) = line.next(has_room, |_| true) else { break };
            state.starting += 1;
            state.workers += 1;
            state.own(&next.tenant).live += 1;
            next.item.notify_one();
        }
        if !state.short().is_empty() {
            self.0.short.notify_one();
        }
    }
}

impl State {
    fn own(&mut self, tenant: &Arc<str>) -> &mut Own {
        self.by_tenant.entry(Arc::clone(tenant)).or_default()
    }

    fn is_full(&self, tenant: &str) -> bool {
        self.by_tenant.get(tenant).is_some_and(|own| own.live >= own.most)
    }

    fn short(&self) -> Vec<Short> {
        if self.starting >= self.most_starting {
            return Vec::new();
        }
        // Who is at his own cap is helped by the end of his own workers alone, and of another's only who is not. All of
        // them count: one for whom nobody makes room must not keep others from it.
        let (own, others): (Vec<_>, Vec<_>) = self.line.tenants().partition(|tenant| self.is_full(tenant));
        let all = (!others.is_empty() && self.workers >= self.most_workers).then_some(Short::All);
        all.into_iter().chain(own.into_iter().map(|tenant| Short::Tenant(Arc::clone(tenant)))).collect()
    }

    /// Why one of this tenant's that waits gets nothing.
    fn why(&self, tenant: &Arc<str>) -> Option<(Short, usize)> {
        match self.by_tenant.get(tenant).filter(|own| own.live >= own.most) {
            Some(own) => Some((Short::Tenant(Arc::clone(tenant)), own.most)),
            None if self.workers >= self.most_workers => Some((Short::All, self.most_workers)),
            None => None,
        }
    }
}

impl Place {
    /// What it waits for, if it has come.
    fn take(&mut self) -> Option<(Launch, Lease)> {
        let ticket = self.ticket?;
        {
            let state = self.launches.lock();
            if state.line.has(&self.tenant, &state.class, ticket) {
                return None;
            }
        }
        self.ticket = None;
        let held = || Held { launches: self.launches.clone(), tenant: Arc::clone(&self.tenant) };
        Some((Launch(held()), Lease(held())))
    }

    /// Why it has waited for nothing; `None` when it is only that others are being started.
    fn full(&self) -> Option<Full> {
        let state = self.launches.lock();
        let (short, most) = state.why(&self.tenant)?;
        let position = state.line.before(&self.tenant, self.ticket?);
        Some(Full { short, most, position })
    }
}

/// Waits for one's turn, for ever without a place.
///
/// # Errors
/// As many workers live as may, and none has ended for a while.
///
/// # Cancel safety
/// Safe: the place is kept.
pub(crate) async fn turn(place: &mut Option<Place>) -> Result<(Launch, Lease), Full> {
    let Some(place) = place else { return std::future::pending().await };
    loop {
        if let Some(taken) = place.take() {
            return Ok(taken);
        }
        if timeout_at(place.until, place.wake.notified()).await.is_err() {
            // It may have come at the last moment.
            match place.full() {
                Some(full) if place.ticket.is_some() => match place.take() {
                    Some(taken) => return Ok(taken),
                    None => return Err(full),
                },
                _ => place.until = Instant::now() + patience(),
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let was_waiting = {
            let mut state = self.launches.lock();
            let class = Arc::clone(&state.class);
            state.line.leave(&self.tenant, &class, ticket)
        };
        // What came and was not taken goes back.
        if !was_waiting {
            drop(self.take());
        }
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        let mut state = self.0.launches.lock();
        state.starting -= 1;
        state.line.give_back(&self.0.tenant);
        drop(state);
        self.0.launches.give();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.0.launches.lock();
        state.workers -= 1;
        state.own(&self.0.tenant).live -= 1;
        drop(state);
        self.0.launches.give();
    }
}

#[cfg(test)]
#[path = "launches_tests.rs"]
mod tests;
