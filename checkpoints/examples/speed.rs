//! How fast a checkpoint is: `cargo run --release -p cellblock-checkpoints --example speed -- FOLDER [MIB]`.
//!
//! A child on a thread offers one buffer of MIB mebibytes (1,024) over the real protocol: all of it new, then all of
//! it known, then one byte changed. Then the store is opened, its extents are listed and its bytes verified. The child
//! here hashes and copies as well, on its own thread.

use std::error::Error;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cellblock_checkpoints::hash::Hash;
use cellblock_checkpoints::offer::{
    CHUNK_BYTES, DATA_BYTES, FromChild, FromStore, Kind, MESSAGE_BYTES, OFFERED_CHUNKS, Offered, Sent,
    VERSION, buffer_chunks,
};
use cellblock_checkpoints::{Limits, Reader, Store, serve_offer};
use rustix::net::{AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

const NAMES: &[u8] = br#"{"execution":"","python":"","packages":{},"names":[],"left_out":[]}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("give an empty folder on the disk to be measured")?;
    let mebibytes: usize = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let dir = File::open(&folder)?;
    let mut buffer = vec![0; mebibytes << 20];
    fill(&mut buffer);

    let mut store = Store::open(dir.as_fd())?;
    for what in ["new", "unchanged", "one byte changed"] {
        if what == "one byte changed" {
            buffer[0] ^= 1;
        }
        let started = Instant::now();
        let written = checkpoint(&mut store, &buffer)?;
        let time = started.elapsed();
        let speed = (mebibytes as f64) / 1024.0 / time.as_secs_f64();
        eprintln!("{what}: {time:.1?} ({speed:.2} GiB/s), {written} bytes written");
    }
    drop(store);
    let started = Instant::now();
    let reader = Reader::open(dir.as_fd())?;
    eprintln!("opened: {:.2?}", started.elapsed());
    let started = Instant::now();
    let manifest = reader.head()?.manifest.ok_or("there is no checkpoint")?;
    eprintln!("head: {:.2?}", started.elapsed());
    let started = Instant::now();
    let extents: usize =
        reader.extents(&manifest)?.into_iter().flatten().map(|found| found.extents.len()).sum();
    eprintln!(
        "extents: {:.2?}, {extents} of them for {} chunks",
        started.elapsed(),
        buffer_chunks(buffer.len() as u64)
    );
    let started = Instant::now();
    let losses = reader.verify(&manifest);
    eprintln!("verified: {:.1?}, {} losses", started.elapsed(), losses.len());
    Ok(())
}

/// Bytes that do not compress.
fn fill(bytes: &mut [u8]) {
    let mut state = 1u64;
    for word in bytes.as_chunks_mut::<8>().0 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *word = (state ^ state >> 29).to_le_bytes();
    }
}

/// Takes one checkpoint of the buffer; returns what it wrote, in bytes.
fn checkpoint(store: &mut Store, buffer: &[u8]) -> Result<u64, Box<dyn Error>> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    std::thread::scope(|scope| {
        let child = scope.spawn(move || offer(&theirs, buffer).map_err(|error| error.to_string()));
        let limits = Limits { quota_bytes: u64::MAX, time: Duration::from_secs(600) };
        let published = serve_offer(ours.as_fd(), store, &limits)?;
        child.join().map_err(|_| "the child panicked")??;
        Ok(published.bytes_written)
    })
}

fn offer(socket: &OwnedFd, buffer: &[u8]) -> Result<(), Box<dyn Error>> {
    say(socket, FromChild::Begin { version: VERSION, stream_chunks: 1, buffers: 1 }, None)?;
    let bytes = buffer.len() as u64;
    say(socket, FromChild::Buffer { bytes, chunks: buffer_chunks(bytes) }, None)?;
    for part in buffer.chunks(OFFERED_CHUNKS * CHUNK_BYTES) {
        offer_part(socket, Kind::Buffer, part)?;
    }
    say(socket, FromChild::Stream { bytes: 6 }, None)?;
    offer_part(socket, Kind::Other, b"stream")?;
    say(socket, FromChild::Names { bytes: NAMES.len() as u64 }, Some(NAMES))?;
    say(socket, FromChild::End, None)?;
    hear(socket, |_| ())
}

fn offer_part(socket: &OwnedFd, kind: Kind, part: &[u8]) -> Result<(), Box<dyn Error>> {
    let chunks: Vec<_> = part.chunks(CHUNK_BYTES).collect();
    let offered: Vec<_> =
        chunks.iter().map(|chunk| Offered { hash: Hash::of(chunk), length: chunk.len() as u32 }).collect();
    say(socket, FromChild::Offer { kind, chunks: offered[..].into() }, None)?;
    let wanted: Vec<usize> =
        hear(socket, |want| (0..chunks.len()).filter(|index| want.wants(*index)).collect())?;
    for wanted in wanted.chunks(DATA_BYTES / CHUNK_BYTES) {
        let sent = |index: &usize| Sent { index: *index as u32, length: chunks[*index].len() as u32 };
        let sent: Vec<_> = wanted.iter().map(sent).collect();
        let content = wanted.iter().map(|index| chunks[*index]).collect::<Vec<_>>().concat();
        say(socket, FromChild::Data { chunks: sent[..].into() }, Some(&content))?;
    }
    Ok(())
}

fn say(socket: &OwnedFd, message: FromChild<'_>, content: Option<&[u8]>) -> Result<(), Box<dyn Error>> {
    let mut packet = Vec::new();
    message.encode(&mut packet);
    let memfd = match content {
        None => None,
        Some(content) => {
            let memfd = rustix::fs::memfd_create("chunks", rustix::fs::MemfdFlags::CLOEXEC)?;
            rustix::io::pwrite(&memfd, content, 0)?;
            Some(memfd)
        }
    };
    let descriptors: Vec<_> = memfd.iter().map(AsFd::as_fd).collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    rustix::net::sendmsg(socket, &[std::io::IoSlice::new(&packet)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn hear<T>(socket: &OwnedFd, read: impl FnOnce(FromStore<'_>) -> T) -> Result<T, Box<dyn Error>> {
    let mut packet = vec![0; MESSAGE_BYTES];
    let (bytes, _) = rustix::net::recv(socket, &mut packet[..], RecvFlags::empty())?;
    match FromStore::decode(&packet[..bytes])? {
        FromStore::Failed { reason } => Err(reason.into()),
        answer => Ok(read(answer)),
    }
}
