//! Opening a checkpoint for a worker: over its socket goes one message, with a description, the stream in its
//! normalised form (both in memfds), and the packs that its buffers lie in.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, bail};
use cellblock_checkpoints::{Manifest, ReadError, Reader};
use cellblock_proto::store::StoreReply;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::Serialize;

/// Packs at most that one message can carry, with room for the two memfds.
const MOST_PACKS: usize = 250;

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

/// Hands one over.
pub fn open(folder: BorrowedFd<'_>, socket: BorrowedFd<'_>, id: Option<u64>) -> anyhow::Result<()> {
    let reader = Reader::open(folder)?;
    let Found { manifest, stream, passed_over } = match id {
        Some(id) => {
            let manifest = reader.manifest(id)?;
            let stream = stream_of(&reader, &manifest)?;
            Found { manifest, stream, passed_over: Vec::new() }
        }
        None => current(&reader)?,
    };
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
    // First, so that it has been said when the worker says that it has loaded it.
    let execution = manifest.execution.clone();
    super::say(&StoreReply::Opened { checkpoint: manifest.id, execution, passed_over: passed_over.clone() })?;
    let mut description = memfd("description")?;
    let text = Description { id: manifest.id, passed_over, manifest: &manifest, buffers };
    serde_json::to_writer(&mut description, &text)?;
    hand_over(socket, description, stream, &files)
}

/// The checkpoint that is opened, its stream verified.
struct Found {
    manifest: Manifest,
    stream: File,
    passed_over: Vec<String>,
}

/// The current checkpoint; where it cannot be read the newest that can; where none is complete the newest that has its
/// stream: what its missing buffers were part of is lost by name, which is better than all of it.
fn current(reader: &Reader) -> anyhow::Result<Found> {
    let head = reader.head()?;
    let mut passed_over: Vec<String> = head.passed_over.iter().map(ToString::to_string).collect();
    let first = head.manifest.as_ref().map(|manifest| manifest.id);
    let mut ids = reader.ids()?;
    ids.reverse();
    ids.retain(|id| Some(*id) != first);
    let whole = ids.iter().copied().filter(|id| first.is_some() && reader.check(*id).is_ok());
    for id in first.into_iter().chain(whole).chain(ids.iter().copied()) {
        let opened = reader.manifest(id).and_then(|manifest| Ok((stream_of(reader, &manifest)?, manifest)));
        match opened {
            Ok((stream, manifest)) => return Ok(Found { manifest, stream, passed_over }),
            Err(error) => passed_over.push(format!("`manifests/{id}`: {:#}", anyhow::Error::from(error))),
        }
    }
    if passed_over.is_empty() {
        bail!("there is no checkpoint");
    }
    bail!("there is no checkpoint that can be read: {}", passed_over.join("; "))
}

/// Its stream, whole and verified, in memory that nobody changes.
fn stream_of(reader: &Reader, manifest: &Manifest) -> Result<File, ReadError> {
    let id = manifest.id;
    let mut stream = memfd("stream").map_err(|source| ReadError::Output { id, source })?;
    reader.stream(manifest, &mut stream)?;
    Ok(stream)
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
