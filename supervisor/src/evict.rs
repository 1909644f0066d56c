//! Who is evicted: workers that nobody has wanted for as long as their profile allows, and, while the machine is short
//! of memory or as many workers live as may, those that nobody has wanted for the longest. First those all of whose
//! variables are saved; those that lose something only if their profile allows it.
//!
//! Here it is only decided who is asked to go. A notebook saves its worker's variables and ends it, or says that it
//! stays (see `machine/evicting.rs`); then another is asked.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::id::TenantId;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::daemon::{Daemon, Entry, Key};
use crate::launches::Short;
use crate::notebook::Message;
use crate::pressure::{Limits, pressure};
use crate::vitals::Signs;

/// How often it is looked who has been idle for too long, and how short memory is.
const INTERVAL: Duration = Duration::from_secs(1);

/// How many are asked at once. Each saves, which is work of its own.
const AT_ONCE: usize = 4;

/// How long one that was asked is waited for. It is saved meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of one that was asked.
pub(crate) type Answer = oneshot::Sender<Result<(), String>>;

/// Evicts as long as the daemon lives.
pub(crate) async fn run(daemon: Arc<Daemon>, limits: Limits) {
    let mut evictor =
        Evictor { daemon, limits, asked: JoinSet::new(), under_way: Vec::new(), is_stuck: false };
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let Evictor { daemon, asked, is_stuck, .. } = &mut evictor;
        tokio::select! {
            _ = ticks.tick() => evictor.look(),
            whose = room_wanted(daemon, *is_stuck), if asked.len() < daemon.launches.waiting().min(AT_ONCE) => {
                evictor.make_room(&whose);
            }
            () = daemon.launches.shortage() => *is_stuck = false,
            () = daemon.idle.notified() => *is_stuck = false,
            Some(done) = asked.join_next() => {
                // Only a runtime that goes down cancels a task.
                if let Ok(key) = done {
                    evictor.under_way.retain(|other| *other != key);
                }
            }
        }
    }
}

struct Evictor {
    daemon: Arc<Daemon>,
    limits: Limits,
    /// Those who have been asked, and have not answered.
    asked: JoinSet<Key>,
    under_way: Vec<Key>,
    /// Somebody wants room, and nobody may be asked for it.
    is_stuck: bool,
}

impl Evictor {
    /// Asks those who have been idle for too long, and, while memory is short, the one whom nobody misses most.
    fn look(&mut self) {
        let now = Instant::now();
        for (key, entry, signs) in candidates(&self.daemon, &self.under_way, None) {
            let idle = signs.idle_since.map_or(Duration::ZERO, |since| now - since);
            if signs.idle_limit.is_some_and(|limit| idle >= limit) && self.asked.len() < AT_ONCE {
                self.ask(key, entry, format!("nobody has wanted it for {} s", idle.as_secs()));
            }
        }
        // One after the other: the next look tells whether it was enough.
        if self.asked.is_empty()
            && let Some(reason) = pressure(&self.limits, self.daemon.anchor.pid())
            && let Some((key, entry, _)) = candidates(&self.daemon, &self.under_way, None).into_iter().next()
        {
            tracing::warn!(reason, notebook = %key, tenant = %key.tenant, "memory is short: evicting");
            self.ask(key, entry, reason);
        }
    }

    /// Asks the first who would make room for one of those who wait.
    fn make_room(&mut self, whose: &[Option<TenantId>]) {
        let found = whose
            .iter()
            .find_map(|whose| candidates(&self.daemon, &self.under_way, whose.as_ref()).into_iter().next());
        match found {
            Some((key, entry, _)) => self.ask(key, entry, "another notebook wants its place".to_owned()),
            None => self.is_stuck = true,
        }
    }

    fn ask(&mut self, key: Key, entry: Entry, reason: String) {
        self.under_way.push(key.clone());
        self.asked.spawn(ask(key, entry, reason));
    }
}

/// Returns when workers are wanted for which there is no room; whose have to go, for each, if not anybody's.
///
/// # Cancel safety
/// Safe: what is wanted is looked at anew.
async fn room_wanted(daemon: &Daemon, is_stuck: bool) -> Vec<Option<TenantId>> {
    let short = if is_stuck { Vec::new() } else { daemon.launches.short() };
    if short.is_empty() {
        return std::future::pending().await;
    }
    let whose = |short| match short {
        Short::All => None,
        Short::Tenant(tenant) => tenant.parse().ok(),
    };
    short.into_iter().map(whose).collect()
}

/// Those that may be evicted now, whom nobody misses most first.
fn candidates(daemon: &Daemon, under_way: &[Key], whose: Option<&TenantId>) -> Vec<(Key, Entry, Signs)> {
    let now = Instant::now();
    let mut found: Vec<_> = {
        let notebooks = daemon.notebooks.lock();
        let all = notebooks.awake.iter().map(|(key, entry)| (key, entry, entry.vitals.get()));
        all.filter(|(key, _, signs)| {
            signs.idle_since.is_some()
                && signs.is_evictable
                && signs.not_before.is_none_or(|then| then <= now)
                && whose.is_none_or(|tenant| key.tenant == *tenant)
                && !under_way.contains(key)
        })
        .map(|(key, entry, signs)| (key.clone(), entry.clone(), signs))
        .collect()
    };
    found.sort_by_key(|(_, _, signs)| rank(signs, now));
    found
}

/// Who goes first has the least: who loses nothing, and of those whom nobody has wanted for the longest.
fn rank(signs: &Signs, now: Instant) -> (bool, Reverse<Option<Duration>>) {
    (signs.would_lose, Reverse(signs.idle_since.map(|since| now - since)))
}

async fn ask(key: Key, entry: Entry, reason: String) -> Key {
    let (answer, answered) = oneshot::channel();
    if entry.inbox.send(Message::Evict { reason, answer }).await.is_ok() {
        // Whatever it says, its vitals tell.
        let _ = timeout(PATIENCE, answered).await;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::lonely_daemon;
    use tokio::sync::mpsc;

    const CALM: Limits = Limits { available_percent: 0, stalled_percent: 0 };

    fn key(tenant: &str, notebook: &str) -> Key {
        Key { tenant: tenant.parse().unwrap(), notebook: notebook.parse().unwrap() }
    }

    async fn asked(told: &mut mpsc::Receiver<Message>) -> (String, Answer) {
        match timeout(INTERVAL, told.recv()).await {
            Ok(Some(Message::Evict { reason, answer })) => (reason, answer),
            other => panic!("not asked: {other:?}"),
        }
    }

    fn idle(seconds: u64) -> Signs {
        let idle_since = Some(Instant::now() - Duration::from_secs(seconds));
        Signs { idle_since, is_evictable: true, ..Signs::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn who_loses_nothing_and_was_unwanted_for_longest_goes_first() {
        let now = Instant::now();
        let loses = |seconds| Signs { would_lose: true, ..idle(seconds) };
        let mut found = [loses(90), idle(5), idle(50), loses(20), idle(70)];
        found.sort_by_key(|signs| rank(signs, now));
        assert_eq!(found, [idle(70), idle(50), idle(5), loses(90), loses(20)]);
    }

    #[tokio::test(start_paused = true)]
    async fn only_who_may_go_now_and_makes_the_room_that_is_wanted_is_asked() {
        let (_temp, daemon) = lonely_daemon();
        let soon = Some(Instant::now() + Duration::from_secs(1));
        for (tenant, notebook, signs) in [
            ("operator", "goes", idle(9)),
            ("uid-5", "goes", idle(5)),
            ("operator", "works", Signs { idle_since: None, ..idle(9) }),
            ("operator", "pinned", Signs { is_evictable: false, ..idle(9) }),
            ("operator", "stayed", Signs { not_before: soon, ..idle(9) }),
            ("operator", "asked", idle(9)),
        ] {
            daemon.pretend(&key(tenant, notebook), signs);
        }
        let found = |whose: Option<&str>| -> Vec<Key> {
            let whose = whose.map(|tenant| tenant.parse().unwrap());
            let found = candidates(&daemon, &[key("operator", "asked")], whose.as_ref());
            found.into_iter().map(|(key, ..)| key).collect()
        };
        assert_eq!(found(None), [key("operator", "goes"), key("uid-5", "goes")]);
        assert_eq!(found(Some("uid-5")), [key("uid-5", "goes")]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(found(None).contains(&key("operator", "stayed")), "it may be asked again");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_idle_for_too_long_is_asked_and_while_memory_is_short_one_after_the_other() {
        let (_temp, daemon) = lonely_daemon();
        let limited = |limit| Signs { idle_limit: Some(Duration::from_secs(limit)), ..idle(20) };
        let (mut over, _) = daemon.pretend(&key("operator", "over"), limited(20));
        let (mut under, _) = daemon.pretend(&key("operator", "under"), limited(21));
        let new = |limits| Evictor {
            daemon: Arc::clone(&daemon),
            limits,
            asked: JoinSet::new(),
            under_way: Vec::new(),
            is_stuck: false,
        };
        let mut evictor = new(CALM);
        evictor.look();
        let (reason, answer) = asked(&mut over).await;
        assert_eq!(reason, "nobody has wanted it for 20 s");
        assert!(under.try_recv().is_err());
        drop(answer);
        daemon.notebooks.lock().awake.remove(&key("operator", "over"));

        // More than all of it can never be available.
        let mut evictor = new(Limits { available_percent: 101, ..CALM });
        let (mut next, _) = daemon.pretend(&key("operator", "next"), idle(10));
        evictor.look();
        let (reason, answer) = asked(&mut under).await;
        assert!(reason.contains("% of the machine's memory"), "{reason}");
        evictor.look();
        tokio::task::yield_now().await;
        assert!(next.try_recv().is_err(), "one at a time");
        drop(answer);
    }

    #[tokio::test(start_paused = true)]
    async fn who_becomes_idle_while_somebody_waits_for_room_is_asked_if_its_end_makes_it() {
        let (_temp, daemon) = lonely_daemon();
        daemon.launches.set_most_of("uid-5", 1);
        let _lease = daemon.launches.claim("uid-5");
        let (mut told, vitals) = daemon.pretend(&key("uid-5", "works"), Signs::default());
        let (mut others, _) = daemon.pretend(&key("operator", "idle"), idle(9));
        let _waits = daemon.launches.place("uid-5");
        let evicting = tokio::spawn(run(Arc::clone(&daemon), CALM));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(told.try_recv().is_err(), "it works");
        vitals.set(idle(0));
        daemon.idle.notify_one();
        let (reason, _answer) = asked(&mut told).await;
        assert!(reason.contains("wants its place"), "{reason}");
        assert!(others.try_recv().is_err(), "its end would help nobody");
        evicting.abort();
    }
}
