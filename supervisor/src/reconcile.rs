//! Removes what belongs to nothing: when we have come up, and every minute from then on, with a line in the log for each
//! thing removed. What belongs to something is never touched, and less so what is another daemon's: all that is looked
//! at bears our own anchor's socket, or lies in our own folders.
//!
//! | what | belongs to nothing when |
//! |---|---|
//! | shim of our anchor | nobody in this daemon has it |
//! | anchor at our socket | it is not the one that we reach there |
//! | shim of such an anchor | neither our anchor nor another shim is its parent |
//! | socket of a shim | our anchor has no such shim |
//! | unpacked Python and native code | it is not ours, and no shim of a daemon before us lives |
//! | trash, files half made | nobody has written to it for an hour |
//! | outputs of an Execution | it has ended so long ago that they are kept no longer ([`crate::expiry`]) |
//!
//! Shims and processes are looked at twice: what is just being started or ended is not left over.
//!
//! Deliberately absent, because the kernel removes them with the last process that has them: mounts, network
//! namespaces, loop devices (each is freed with its last user, see `worker-shim/src/sandbox/quota.rs`). Cgroups
//! are the anchor's, which removes those of anchors that were killed as well. Which host ids are in use is known only
//! here ([`crate::slots`]), and is leased by whoever has the worker.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::id::WorkerId;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::daemon::Daemon;
use crate::log::chain;
use crate::quota::Ready;
use crate::stat::{PARENT, STATE, Stat};
use crate::{expiry, removal, workspace};

/// Before the first round: clients that come back after a restart come first.
const FIRST: Duration = Duration::from_secs(1);

/// Between two rounds.
const EVERY: Duration = Duration::from_secs(60);

/// Between two looks at the same round's processes; a start or an end takes milliseconds.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// So many rounds are one that looks through all notebooks' folders.
const ROUNDS_PER_WALK: u32 = 60;

/// Files nobody has written to for so long are left over. The longest that we do with one is to check an image (10 min).
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// What every shim has in its environment, see `worker-shim/src/anchor.rs`.
const MARK: &str = "CELLBLOCK_ANCHOR_SOCKET";

/// Reconciles until the daemon ends.
pub(crate) fn begin(daemon: &Arc<Daemon>) {
    let daemon = Arc::clone(daemon);
    let (first, every, rounds_per_walk) = pace();
    tokio::spawn(async move {
        let mut ending = daemon.ending.subscribe();
        tokio::time::sleep(first).await;
        let mut expiry = expiry::Walk::default();
        for round in 0_u32.. {
            let walks = round % rounds_per_walk == 0;
            let looks = async {
                look(&daemon, every.min(SECOND_LOOK), walks).await;
                expiry.go_on(&daemon, rounds_per_walk == 1).await;
            };
            tokio::select! {
                () = looks => {}
                _ = ending.wait_for(|ending| *ending) => return,
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = ending.wait_for(|ending| *ending) => return,
            }
        }
    });
}

/// When, and how often; tests are in a hurry, or want none.
fn pace() -> (Duration, Duration, u32) {
    #[cfg(debug_assertions)]
    if let Some(every) = std::env::var("CELLBLOCK_TEST_RECONCILE_MS").ok().and_then(|text| text.parse().ok())
    {
        let every = Duration::from_millis(every);
        return (every, every, 1);
    }
    (FIRST, EVERY, ROUNDS_PER_WALK)
}

/// One round.
async fn look(daemon: &Arc<Daemon>, second_look: Duration, walks: bool) {
    let sockets = sockets(&daemon.runtime.workers());
    // Without an anchor there is no shim; the next one is started when it is needed.
    if let Ok(listed) = daemon.anchor.list().await {
        let listed: BTreeSet<WorkerId> = listed.into_iter().collect();
        remove_sockets(daemon, sockets, &listed);
        if !daemon.anchor.shims().any_of_before(&listed) {
            remove_payloads(daemon).await;
        }
        let (unknown, strays) = (unknown(daemon, listed), strays(daemon).await);
        if !unknown.is_empty() || !strays.is_empty() {
            tokio::time::sleep(second_look).await;
            end_still_unknown(daemon, unknown).await;
            end_still_strays(daemon, strays).await;
        }
    }
    if walks {
        let daemon = Arc::clone(daemon);
        // Only a runtime that goes down cancels it.
        let _ = tokio::task::spawn_blocking(move || remove_files(&daemon)).await;
    }
}

/// The shims' control sockets that there are. Looked at before the anchor is asked which shims live: one that is
/// made in between is not taken for left over.
pub(crate) fn sockets(folder: &Path) -> Vec<WorkerId> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let name = entry.file_name();
        name.to_str()?.strip_suffix(".sock").filter(|name| *name != "anchor")?.parse().ok()
    });
    names.collect()
}

/// Removes, of these, the sockets of shims that neither live nor are being started.
pub(crate) fn remove_sockets(daemon: &Daemon, sockets: Vec<WorkerId>, listed: &BTreeSet<WorkerId>) {
    for worker in sockets {
        if !listed.contains(&worker) && !daemon.anchor.shims().has(&worker) {
            tracing::info!(%worker, "removing the socket of a shim that is no more");
            daemon.metrics.reconciled("socket");
            daemon.runtime.remove_worker_socket(worker.as_str());
        }
    }
}

/// Of the anchor's shims, those that nobody here has.
fn unknown(daemon: &Daemon, listed: BTreeSet<WorkerId>) -> BTreeSet<WorkerId> {
    listed.into_iter().filter(|worker| !daemon.anchor.shims().has(worker)).collect()
}

async fn end_still_unknown(daemon: &Daemon, before: BTreeSet<WorkerId>) {
    let Ok(listed) = daemon.anchor.list().await else { return };
    for worker in unknown(daemon, listed.into_iter().collect()).intersection(&before) {
        tracing::warn!(%worker, "ending a shim that belongs to nothing");
        daemon.metrics.reconciled("shim");
        if let Err(error) = daemon.anchor.kill(worker.clone()).await {
            tracing::warn!(%worker, error = chain(&error), "could not end it");
        }
        daemon.runtime.remove_worker_socket(worker.as_str());
    }
}

/// A process that is ours and nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stray {
    Anchor,
    Shim,
}

/// What is known of a process of ours.
struct Seen {
    kind: Stray,
    /// Its parent is an anchor or a shim.
    is_held: bool,
}

async fn strays(daemon: &Arc<Daemon>) -> BTreeMap<i32, Stray> {
    let daemon = Arc::clone(daemon);
    let found = tokio::task::spawn_blocking(move || {
        let anchor = daemon.anchor.pid();
        anchor.map_or_else(BTreeMap::new, |anchor| choose(anchor, &ours(&daemon.runtime.anchor_socket())))
    });
    found.await.unwrap_or_default()
}

/// Of the processes that are ours, those that are nobody's: an anchor that is not the one we reach, and a shim whose
/// parent has gone. Children look like their parent until they execute something else, and some never do. Whose a
/// parent is cannot always be read, but that it is one of these.
fn choose(anchor: i32, ours: &BTreeMap<i32, Seen>) -> BTreeMap<i32, Stray> {
    let strays = ours.iter().filter(|(pid, seen)| **pid != anchor && !seen.is_held);
    strays.map(|(pid, seen)| (*pid, seen.kind)).collect()
}

fn ours(socket: &Path) -> BTreeMap<i32, Seen> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, see(pid, socket)?))).collect()
}

/// A process, if it is an anchor at that socket or a shim of one.
fn see(pid: i32, socket: &Path) -> Option<Seen> {
    let words = words(pid);
    let kind = kind(&words)?;
    let socket = socket.as_os_str().as_encoded_bytes();
    let is_ours = match kind {
        Stray::Anchor => words.windows(2).any(|pair| pair[0] == b"--socket" && pair[1] == socket),
        Stray::Shim => {
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let own = [MARK.as_bytes(), b"=", socket].concat();
            environment.split(|byte| *byte == 0).any(|entry| entry == own)
        }
    };
    let stat = Stat::read(&pid.to_string())?;
    let (state, parent) = (stat.text(STATE)?, stat.text(PARENT)?.parse().ok()?);
    let is_held = self::kind(&self::words(parent)).is_some();
    (is_ours && state != "Z").then_some(Seen { kind, is_held })
}

/// Its arguments; everybody can read them.
fn words(pid: i32) -> Vec<Vec<u8>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

fn kind(words: &[Vec<u8>]) -> Option<Stray> {
    match words.get(1)?.as_slice() {
        b"--anchor" => Some(Stray::Anchor),
        b"--worker" => Some(Stray::Shim),
        _ => None,
    }
}

async fn end_still_strays(daemon: &Arc<Daemon>, before: BTreeMap<i32, Stray>) {
    for (number, kind) in strays(daemon).await {
        if before.get(&number) != Some(&kind) {
            continue;
        }
        let Some(pid) = Pid::from_raw(number) else { continue };
        let Ok(process) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // The number is this process's from here on; it may have been another's a moment ago.
        if see(number, &daemon.runtime.anchor_socket()).is_none_or(|seen| seen.kind != kind) {
            continue;
        }
        tracing::warn!(pid = number, ?kind, "ending a process of ours that belongs to nothing");
        daemon.metrics.reconciled("process");
        // An anchor ends its shims in order, and removes its cgroups.
        let signal = if kind == Stray::Anchor { Signal::TERM } else { Signal::KILL };
        if let Err(error) = rustix::process::pidfd_send_signal(&process, signal) {
            tracing::warn!(pid = number, %error, "could not end it");
        }
    }
}

/// No worker sees them any more.
async fn remove_payloads(daemon: &Arc<Daemon>) {
    let daemon = Arc::clone(daemon);
    let removal = tokio::task::spawn_blocking(move || {
        let entries = fs::read_dir(daemon.runtime.payloads()).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|path| *path != daemon.payload) {
            remove(&daemon, &path, "removing the unpacked code of another build, which no worker sees");
        }
    });
    let _ = removal.await;
}

fn remove_files(daemon: &Daemon) {
    let notebooks = workspace::all_folders(&daemon.state);
    let folders = notebooks.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let unfinished = folders.flat_map(|entry| workspace::UNFINISHED.map(|name| entry.path().join(name)));
    let others = [Ready::of(&daemon.state).folder(), daemon.cache.clone()];
    let trash = notebooks.iter().chain(&others).flat_map(|folder| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|entry| is_trash(&entry.file_name().to_string_lossy())).map(|entry| entry.path())
    });
    for path in unfinished.chain(trash).filter(|path| is_left_over(path)) {
        remove(daemon, &path, "removing what was begun and never finished");
    }
}

/// What is being removed, or a cache of an interpreter that is being made.
fn is_trash(name: &str) -> bool {
    name.starts_with(removal::TRASH) || name.ends_with(".tmp")
}

fn is_left_over(path: &Path) -> bool {
    let written = fs::symlink_metadata(path).and_then(|found| found.modified());
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age >= LEFT_OVER))
}

fn remove(daemon: &Daemon, path: &Path, why: &str) {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let removed = if is_folder { removal::remove_tree(path) } else { fs::remove_file(path) };
    match removed {
        Ok(()) => {
            tracing::info!(path = %path.display(), "{why}");
            daemon.metrics.reconciled("files");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "could not remove what belongs to nothing")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_no_living_parent_of_ours_is_a_stray() {
        let seen = |kind, is_held| Seen { kind, is_held };
        let ours = BTreeMap::from([
            (10, seen(Stray::Anchor, false)),
            (11, seen(Stray::Shim, true)),
            // A shim that is just being started.
            (14, seen(Stray::Anchor, true)),
            (20, seen(Stray::Anchor, false)),
            (30, seen(Stray::Shim, false)),
        ]);
        let expected = BTreeMap::from([(20, Stray::Anchor), (30, Stray::Shim)]);
        assert_eq!(choose(10, &ours), expected);
    }

    #[test]
    fn a_process_is_ours_only_with_our_socket() {
        let socket = Path::new("/run/cellblock-test/workers/anchor.sock");
        assert!(see(std::process::id().cast_signed(), socket).is_none());
        assert!(ours(socket).is_empty());
    }

    #[tokio::test]
    async fn shims_that_nobody_has_are_ended_and_sockets_of_those_that_are_no_more_removed() {
        use crate::anchor::{Anchor, fake_anchor};
        use crate::shims::Since;
        use cellblock_proto::anchor::{AnchorReply, AnchorRequest};
        use std::sync::mpsc;

        let id = |name: &str| name.parse::<WorkerId>().unwrap();
        let (kills, killed) = mpsc::channel();
        let shims = vec![(id("ours-1"), 1), (id("nobodys-1"), 2)];
        let socket = fake_anchor(move |request, _| match request {
            AnchorRequest::List => AnchorReply::Shims { shims: shims.clone() },
            AnchorRequest::Kill { worker } => {
                kills.send(worker).unwrap();
                AnchorReply::Done
            }
            other => panic!("{other:?}"),
        });
        let temp = tempfile::tempdir().unwrap();
        let daemon = crate::server::test_daemon(temp.path(), Anchor::with_socket(socket));
        for name in ["ours-1", "starting-1"] {
            daemon.anchor.shims().add(id(name), Since::Now);
        }
        let there = || {
            let names = ["gone-1", "nobodys-1", "ours-1", "starting-1"];
            names.map(|name| daemon.runtime.worker_socket(name).exists())
        };
        for name in ["gone-1", "nobodys-1", "ours-1", "starting-1"] {
            fs::write(daemon.runtime.worker_socket(name), "").unwrap();
        }
        // What was somebody's, or not there yet, at the first look.
        end_still_unknown(&daemon, BTreeSet::new()).await;
        assert_eq!((killed.try_iter().count(), there()), (0, [true; 4]));
        look(&daemon, Duration::ZERO, false).await;
        assert_eq!(killed.try_iter().collect::<Vec<_>>(), [id("nobodys-1")]);
        assert_eq!(there(), [false, false, true, true]);
        let metrics = crate::overview::metrics(&daemon);
        for kind in ["shim", "socket"] {
            let line = format!("cellblock_reconciled_total{{kind=\"{kind}\"}} 1\n");
            assert!(metrics.contains(&line), "{line}{metrics}");
        }
    }
}
