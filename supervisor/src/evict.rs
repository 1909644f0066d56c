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
    let mut asked: JoinSet<Key> = JoinSet::new();
    let mut under_way: Vec<Key> = Vec::new();
    // Somebody wants room, and nobody may be asked for it.
    let mut is_stuck = false;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let now = Instant::now();
                for (key, entry, signs) in candidates(&daemon, &under_way, None) {
                    let idle = signs.idle_since.map_or(Duration::ZERO, |since| now - since);
                    if signs.idle_limit.is_some_and(|limit| idle >= limit) && asked.len() < AT_ONCE {
                        let reason = format!("nobody has wanted it for {} s", idle.as_secs());
                        under_way.push(key.clone());
                        asked.spawn(ask(key, entry, reason));
                    }
                }
                // One after the other: the next look tells whether it was enough.
                if asked.is_empty()
                    && let Some(reason) = pressure(&limits, daemon.anchor.pid())
                    && let Some((key, entry, _)) = candidates(&daemon, &under_way, None).into_iter().next()
                {
                    tracing::warn!(reason, notebook = %key, tenant = %key.tenant, "memory is short: evicting");
                    under_way.push(key.clone());
                    asked.spawn(ask(key, entry, reason));
                }
            }
            whose = room_wanted(&daemon, is_stuck), if asked.len() < daemon.launches.waiting().min(AT_ONCE) => {
                let mut found = whose.iter().flat_map(|whose| candidates(&daemon, &under_way, whose.as_ref()));
                match found.next() {
                    Some((key, entry, _)) => {
                        under_way.push(key.clone());
                        asked.spawn(ask(key, entry, "another notebook wants its place".to_owned()));
                    }
                    None => is_stuck = true,
                }
            }
            () = daemon.launches.shortage() => is_stuck = false,
            () = daemon.idle.notified() => is_stuck = false,
            Some(done) = asked.join_next() => {
                // Only a runtime that goes down cancels a task.
                if let Ok(key) = done {
                    under_way.retain(|other| *other != key);
                }
            }
        }
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
    found.sort_by_key(|(_, _, signs)| (signs.would_lose, Reverse(signs.idle_since.map(|since| now - since))));
    found
}

async fn ask(key: Key, entry: Entry, reason: String) -> Key {
    let (answer, answered) = oneshot::channel();
    if entry.inbox.send(Message::Evict { reason, answer }).await.is_ok() {
        // Whatever it says, its vitals tell.
        let _ = timeout(PATIENCE, answered).await;
    }
    key
}
