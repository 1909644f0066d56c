//! The store process: takes one checkpoint from a snapshot child, or opens one for a worker, and ends.
//!
//! - `--store save QUOTA SECONDS`: descriptor 3 is the store's end of an offer. Prints what became of it.
//! - `--store open [ID]`: over descriptor 3 goes one message, with a description, the stream in its normalised form
//!   (both in memfds), and the packs that its buffers lie in.
//!
//! Standard input is the notebook's folder of checkpoints, and by the time that anything is heard or read the only
//! place this process can still reach: what a worker says comes from a worker, and what lies on a disk may be damaged.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, bail};
use cellblock_checkpoints::{Limits, Manifest, Reader, Store, serve_offer};
use cellblock_steps::{landlock, sys as steps_sys};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::Serialize;

use crate::sys;

/// Packs at most that one message can carry, with room for the two memfds.
const MOST_PACKS: usize = 250;

/// What became of an offer.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Ended {
    Saved { id: u64, written: u64 },
    Failed { reason: String },
}

/// What a worker needs to know of a checkpoint besides its stream. Nothing here was ever unpickled.
#[derive(Serialize)]
struct Description<'a> {
    id: u64,
    /// What had to be passed over to find it.
    passed_over: Vec<String>,
    manifest: &'a Manifest,
    buffers: Vec<Placed>,
}

/// Where a buffer lies, or why it cannot be had.
type Placed = Result<(u64, Vec<Run>), String>;

/// Which of the packs that came along, offset, length in bytes.
type Run = (usize, u64, u64);

/// Does what the arguments say.
pub fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    let texts: Vec<&str> = arguments.iter().map(|text| text.to_str().unwrap_or_default()).collect();
    let folder = sys::inherited(0).context("standard input must be the folder of checkpoints")?;
    let socket = sys::inherited(3).context("descriptor 3 must be a socket")?;
    crate::outer::end_with_parent()?;
    confine(folder.as_fd()).context("failed to confine the store process")?;
    match texts[..] {
        ["save", quota, seconds] => {
            let number = |text: &str| text.parse().with_context(|| format!("{text:?} is no number"));
            save(folder.as_fd(), socket.as_fd(), number(quota)?, number(seconds)?)
        }
        ["open"] => open(folder.as_fd(), socket.as_fd(), None),
        ["open", id] => {
            let id = id.parse().with_context(|| format!("{id:?} is no checkpoint's number"))?;
            open(folder.as_fd(), socket.as_fd(), Some(id))
        }
        _ => bail!("--store takes `save QUOTA SECONDS` or `open [ID]`"),
    }
}

/// Leaves this process the folder, as far as the kernel can.
fn confine(folder: BorrowedFd<'_>) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    let Some(rights) = landlock::rights(steps_sys::landlock_abi(), false) else { return Ok(()) };
    let rules = steps_sys::landlock_ruleset(rights.files, rights.net, rights.scopes)?;
    steps_sys::landlock_allow(rules.as_fd(), folder, rights.files)?;
    Ok(steps_sys::landlock_restrict(rules.as_fd())?)
}

fn save(folder: BorrowedFd<'_>, socket: BorrowedFd<'_>, quota: u64, seconds: u64) -> anyhow::Result<()> {
    let limits = Limits { quota_bytes: quota, time: Duration::from_secs(seconds) };
    let served = Store::open(folder)
        .context("failed to open the store")
        .and_then(|mut store| Ok(serve_offer(socket, &mut store, &limits)?));
    let ended = match served {
        Ok(published) => Ended::Saved { id: published.id, written: published.bytes_written },
        Err(error) => Ended::Failed { reason: format!("{error:#}") },
    };
    let mut line = serde_json::to_vec(&ended)?;
    line.push(b'\n');
    std::io::stdout().write_all(&line).context("failed to say what became of it")
}

fn open(folder: BorrowedFd<'_>, socket: BorrowedFd<'_>, id: Option<u64>) -> anyhow::Result<()> {
    let reader = Reader::open(folder)?;
    let (manifest, passed_over) = match id {
        Some(id) => (reader.manifest(id)?, Vec::new()),
        None => {
            let head = reader.head()?;
            let found = head.manifest.or_else(|| newest_in_parts(&reader));
            (found.context("there is no checkpoint")?, head.passed_over)
        }
    };
    let mut stream = memfd("stream")?;
    reader.stream(&manifest, &mut stream)?;
    let mut packs = BTreeMap::new();
    let mut files = Vec::new();
    let mut buffers = Vec::new();
    for buffer in reader.extents(&manifest)? {
        let placed = buffer.map_err(anyhow::Error::from).and_then(|buffer| {
            let mut extents = Vec::new();
            for extent in buffer.extents {
                let at = match packs.get(&extent.pack) {
                    Some(at) => *at,
                    None if files.len() == MOST_PACKS => bail!("it lies in more than {MOST_PACKS} packs"),
                    None => {
                        files.push(reader.pack(extent.pack)?);
                        packs.insert(extent.pack, files.len() - 1);
                        files.len() - 1
                    }
                };
                extents.push((at, extent.offset, extent.bytes));
            }
            Ok((buffer.bytes, extents))
        });
        buffers.push(placed.map_err(|error| format!("{error:#}")));
    }
    let passed_over = passed_over.iter().map(ToString::to_string).collect();
    let mut description = memfd("description")?;
    let text = Description { id: manifest.id, passed_over, manifest: &manifest, buffers };
    serde_json::to_writer(&mut description, &text)?;
    hand_over(socket, description, stream, &files)
}

/// Where none is complete: the newest that has its stream. What its missing buffers were part of is lost by name,
/// which is better than all of it.
fn newest_in_parts(reader: &Reader) -> Option<Manifest> {
    let ids = reader.ids().unwrap_or_default();
    let mut manifests = ids.into_iter().rev().filter_map(|id| reader.manifest(id).ok());
    manifests.find(|manifest| reader.stream(manifest, &mut io::sink()).is_ok())
}

fn memfd(name: &str) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(File::from(rustix::fs::memfd_create(name, flags)?))
}

fn hand_over(
    socket: BorrowedFd<'_>,
    description: File,
    stream: File,
    packs: &[OwnedFd],
) -> anyhow::Result<()> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    for memfd in [&description, &stream] {
        rustix::fs::fcntl_add_seals(memfd, seals)?;
    }
    let files: Vec<BorrowedFd<'_>> =
        [description.as_fd(), stream.as_fd()].into_iter().chain(packs.iter().map(AsFd::as_fd)).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_PACKS + 2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        bail!("{} descriptors are too many for one message", files.len());
    }
    let message = [IoSlice::new(b"opened")];
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &message, &mut control, SendFlags::NOSIGNAL))
        .context("failed to hand the checkpoint over")?;
    Ok(())
}
