//! The store process: does one thing with a notebook's checkpoints, says what became of it, and ends.
//!
//! What it is to do, and the folder, come over its standard input, see `cellblock_proto::store`. By the time that
//! anything is heard from a worker or read from the disk, that folder is the only place it can still reach: what a
//! worker says comes from a worker, a file to import from anywhere, and what lies on a disk may be damaged.

mod open;
mod tools;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cellblock_checkpoints::{LeftOut, Limits, OpenError, Reader, Retention, Store, serve_offer};
use cellblock_proto::checkpoint::{Keep, NotRestored};
use cellblock_proto::codec::Codec;
use cellblock_proto::store::{StoreOrder, StoreReply};
use cellblock_steps::talk::hear_in;
use cellblock_steps::{landlock, sys as steps_sys};

use crate::sys;

/// How long another writer is waited for: a collection copies gigabytes at most.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether it is done.
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// What is told of what was left out; the manifest has it all.
const MOST_TOLD: usize = 100;

/// Does what standard input says.
pub fn run() -> anyhow::Result<()> {
    let order = sys::inherited(0).context("standard input must be a socket")?;
    crate::outer::end_with_parent()?;
    let (order, files): (StoreOrder, Vec<OwnedFd>) = hear_in(Codec::Json, order.as_fd())
        .context("failed to hear the order")?
        .context("there is no order")?;
    let mut files = files.into_iter();
    let folder = files.next().context("the folder must come with the order")?;
    // Confined it cannot be opened any more.
    let null = File::options().write(true).open("/dev/null").context("failed to open /dev/null")?;
    confine(folder.as_fd()).context("failed to confine the store process")?;
    let other = files.next();
    let keep = match &order {
        StoreOrder::Save { keep, .. } => Some(*keep),
        _ => None,
    };
    let reply = match obey(order, folder.as_fd(), other) {
        Ok(reply) => reply,
        Err(error) => Some(StoreReply::Failed { reason: format!("{error:#}") }),
    };
    let saved = matches!(reply, Some(StoreReply::Saved { .. }));
    if let Some(reply) = &reply {
        say(reply)?;
    }
    // Who reads the reply reads to its end, and need not wait for ours.
    rustix::stdio::dup2_stdout(&null).context("failed to end standard output")?;
    match keep.filter(|_| saved) {
        Some(keep) => tidy(folder.as_fd(), keep),
        None => Ok(()),
    }
}

/// Nothing is to be said any more of what has said it by itself.
fn obey(
    order: StoreOrder,
    folder: BorrowedFd<'_>,
    other: Option<OwnedFd>,
) -> anyhow::Result<Option<StoreReply>> {
    let other = || other.context("a second descriptor must come with this order");
    let reply = match order {
        StoreOrder::Open { checkpoint } => {
            open::open(folder, other()?.as_fd(), checkpoint)?;
            return Ok(None);
        }
        StoreOrder::Save { keep, seconds } => save(folder, other()?.as_fd(), keep, seconds)?,
        StoreOrder::Mend { checkpoint } => tools::mend(folder, checkpoint)?,
        StoreOrder::List => tools::list(folder)?,
        StoreOrder::Content { checkpoint } => tools::content(folder, checkpoint)?,
        StoreOrder::SetCurrent { checkpoint } => {
            writable(folder)?.set_head(checkpoint)?;
            StoreReply::Done
        }
        StoreOrder::Verify { checkpoint } => tools::verify(folder, checkpoint)?,
        StoreOrder::Collect { keep } => tools::collect(folder, keep)?,
        StoreOrder::Export { checkpoint, notebook } => {
            tools::export(folder, &mut File::from(other()?), checkpoint, &notebook)?
        }
        StoreOrder::Import { keep } => {
            let mut file = io::BufReader::with_capacity(1 << 20, File::from(other()?));
            let published = writable(folder)?.import(&mut file, quota_bytes(keep))?;
            StoreReply::Imported { checkpoint: published.id }
        }
    };
    Ok(Some(reply))
}

/// The reply is a whole line.
fn say(reply: &StoreReply) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut stdout = io::stdout();
    stdout.write_all(&line).and_then(|()| stdout.flush()).context("failed to say what became of it")
}

/// Leaves this process the folder, as far as the kernel can.
fn confine(folder: BorrowedFd<'_>) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let Some(rights) = landlock::rights(steps_sys::landlock_abi(), false) else { return Ok(()) };
    let rules = steps_sys::landlock_ruleset(rights.files, rights.net, rights.scopes)?;
    steps_sys::landlock_allow(rules.as_fd(), folder, rights.files)?;
    Ok(steps_sys::landlock_restrict(rules.as_fd())?)
}

/// The store, when its other writers are done with it.
#[expect(clippy::disallowed_methods, reason = "flock(2) does not wait until a deadline")]
fn writable(folder: BorrowedFd<'_>) -> Result<Store, OpenError> {
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match Store::open(folder) {
            Err(OpenError::Locked) if Instant::now() < patience => std::thread::sleep(LOCK_INTERVAL),
            opened => return opened,
        }
    }
}

/// The store as it is; of an empty folder an empty one is made.
fn readable(folder: BorrowedFd<'_>) -> Result<Reader, OpenError> {
    match Reader::open(folder) {
        Err(OpenError::File(error)) if error.is_missing() => {
            drop(writable(folder)?);
            Reader::open(folder)
        }
        opened => opened,
    }
}

/// What the store may have for a moment: what is kept, and one that is new besides.
fn quota_bytes(keep: Keep) -> u64 {
    keep.max_bytes.saturating_mul(2)
}

fn retention(keep: Keep) -> Retention {
    Retention {
        keep_last: keep.last as usize,
        keep_daily: keep.daily as usize,
        max_bytes: Some(keep.max_bytes),
    }
}

fn save(
    folder: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
    keep: Keep,
    seconds: u64,
) -> anyhow::Result<StoreReply> {
    let mut store = writable(folder).context("failed to open the store")?;
    if store.used_bytes() > keep.max_bytes {
        // A collection was cut short, or the rule has become stricter: what is to go makes room first.
        store.retain(&retention(keep))?;
        store.collect()?;
    }
    let limits = Limits { quota_bytes: quota_bytes(keep), time: Duration::from_secs(seconds) };
    let published = serve_offer(socket, &mut store, &limits)?;
    let left_out = store.reader().manifest(published.id)?.left_out;
    Ok(StoreReply::Saved {
        checkpoint: published.id,
        written_bytes: published.bytes_written,
        left_out_count: left_out.len() as u64,
        left_out: left_out.into_iter().take(MOST_TOLD).map(not_restored).collect(),
    })
}

/// After a checkpoint: removes those that are not kept any more, once there are enough of them to be worth it.
fn tidy(folder: BorrowedFd<'_>, keep: Keep) -> anyhow::Result<()> {
    let mut store = writable(folder)?;
    let most = keep.last.saturating_add(keep.daily) as usize;
    let slack = (most / 4).max(4);
    if store.reader().ids()?.len() <= most + slack && store.used_bytes() <= keep.max_bytes {
        return Ok(());
    }
    let removed = store.retain(&retention(keep))?;
    if !removed.is_empty() {
        store.collect()?;
    }
    Ok(())
}

fn not_restored(left_out: LeftOut) -> NotRestored {
    NotRestored { path: left_out.path, kind: left_out.r#type, reason: left_out.reason }
}

/// The number of the checkpoint that is meant.
fn meant(reader: &Reader, checkpoint: Option<u64>) -> anyhow::Result<u64> {
    match checkpoint {
        Some(id) => Ok(id),
        None => match reader.head()?.manifest {
            Some(manifest) => Ok(manifest.id),
            None => bail!("there is no checkpoint yet: variables are saved after a cell"),
        },
    }
}
