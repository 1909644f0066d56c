//! The child's side of the offer protocol (`cellblock_checkpoints::offer`): says what there is, sends what is
//! wanted.
//!
//! Everything goes in *windows* of at most 8 MiB, so that whatever is saved costs the same memory: a window
//! is hashed where it lies and offered; what the store wants of it is copied into one memfd. While the store
//! thinks about one window the next one is hashed.

use std::borrow::Cow;
use std::fmt;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cellblock_checkpoints::hash::Hash;
use cellblock_checkpoints::offer::{
    self, CHUNK_BYTES, DATA_BYTES, FromChild, FromStore, Kind, MESSAGE_BYTES, NAMES_BYTES, Offered, Sent,
    buffer_chunks,
};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};

use super::normalise::normalise;
use super::opcodes::Malformed;
use super::{chunks, pages};

/// What is to be saved, and where.
pub(super) struct Snapshot<'a> {
    /// SEQPACKET, to the store. A receive timeout set on it is the longest that an answer may take.
    pub(super) socket: BorrowedFd<'a>,
    /// Whether this process is there for this snapshot only: nobody writes into what it has, and nobody reads
    /// it afterwards.
    pub(super) forked: bool,
    /// One pickle.
    pub(super) stream: &'a [u8],
    /// Its out-of-band buffers, in order.
    pub(super) buffers: Vec<&'a [u8]>,
    /// The worker's part of the manifest, a JSON document.
    pub(super) names: &'a [u8],
}

/// A published checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Saved {
    /// Its number.
    pub(super) id: u64,
    /// What it added to the store, in bytes.
    pub(super) written: u64,
}

/// Why nothing was saved.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Stream(Malformed),
    /// The stream wants another number of buffers than there are.
    Buffers {
        wanted: usize,
        given: usize,
    },
    /// The JSON document is too long.
    Names {
        bytes: usize,
    },
    /// The store's own words.
    Refused(String),
    /// The store said something that is no answer.
    Answer(Option<offer::Malformed>),
    Silent,
    Gone,
    System(Errno),
}

/// Saves the snapshot, and waits until it is published.
pub(super) fn save(snapshot: &Snapshot<'_>) -> Result<Saved, Failure> {
    let normalised = normalise(snapshot.stream).map_err(Failure::Stream)?;
    if normalised.buffers != snapshot.buffers.len() {
        return Err(Failure::Buffers { wanted: normalised.buffers, given: snapshot.buffers.len() });
    }
    if snapshot.names.len() > NAMES_BYTES {
        return Err(Failure::Names { bytes: snapshot.names.len() });
    }
    if snapshot.forked {
        // SAFETY: the pickle has been read, and a forked child is there for nothing else.
        unsafe { pages::drop_pages(snapshot.stream) };
    }
    let stream = normalised.bytes;
    let stream_chunks = chunks::lengths(&stream);
    let alone = pages::alone(&[&snapshot.buffers[..], &[snapshot.names]].concat());

    let mut store = Store::new(snapshot.socket);
    store.say(&FromChild::Begin {
        version: offer::VERSION,
        stream_chunks: stream_chunks.len() as u64,
        buffers: snapshot.buffers.len() as u64,
    })?;
    for (buffer, alone) in snapshot.buffers.iter().zip(alone) {
        let bytes = buffer.len() as u64;
        store.say(&FromChild::Buffer { bytes, chunks: buffer_chunks(bytes) })?;
        for window in store.offer(Kind::Buffer, Windows::of_buffer(buffer, snapshot.forked)) {
            let window = window?;
            if snapshot.forked && alone {
                // SAFETY: the window has been sent, and is in no other buffer.
                unsafe { pages::drop_pages(&window.bytes) };
            }
        }
    }
    store.say(&FromChild::Stream { bytes: stream.len() as u64 })?;
    store
        .offer(Kind::Other, Windows::of_stream(&stream, &stream_chunks))
        .try_for_each(|sent| sent.map(drop))?;
    store.say_with(&FromChild::Names { bytes: snapshot.names.len() as u64 }, &memfd([snapshot.names])?)?;
    store.say(&FromChild::End)?;
    match store.hear()? {
        FromStore::Done { id, written } => Ok(Saved { id, written }),
        _ => Err(Failure::Answer(None)),
    }
}

/// The store, at the other end of the socket.
struct Store<'a> {
    socket: BorrowedFd<'a>,
    /// The message being written.
    message: Vec<u8>,
    /// The answer being read.
    answer: Vec<u8>,
}

impl<'a> Store<'a> {
    fn new(socket: BorrowedFd<'a>) -> Self {
        Store { socket, message: Vec::new(), answer: vec![0; MESSAGE_BYTES] }
    }

    /// Offers one window after the other, sends what is wanted, and gives each back once that is done.
    fn offer<'w>(
        &mut self,
        kind: Kind,
        mut windows: Windows<'w>,
    ) -> impl Iterator<Item = Result<Window<'w>, Failure>> {
        let mut ahead = windows.next();
        std::iter::from_fn(move || {
            let window = ahead.take()?;
            let offered = self.say(&FromChild::Offer { kind, chunks: window.chunks.as_slice().into() });
            ahead = windows.next();
            Some(offered.and_then(|()| self.send_wanted(&window)).map(|()| window))
        })
    }

    fn send_wanted(&mut self, window: &Window<'_>) -> Result<(), Failure> {
        let wants = match self.hear()? {
            wants @ FromStore::Want { count, .. } if count as usize == window.chunks.len() => wants,
            _ => return Err(Failure::Answer(None)),
        };
        let mut rest = &window.bytes[..];
        let (mut sent, mut bytes) = (Vec::new(), Vec::new());
        for (index, chunk) in window.chunks.iter().enumerate() {
            let (chunk_bytes, after) = rest.split_at(chunk.length as usize);
            rest = after;
            if wants.wants(index) {
                sent.push(Sent { index: index as u32, length: chunk.length });
                bytes.push(chunk_bytes);
            }
        }
        if sent.is_empty() {
            return Ok(());
        }
        self.say_with(&FromChild::Data { chunks: sent.as_slice().into() }, &memfd(bytes)?)
    }

    fn say(&mut self, message: &FromChild<'_>) -> Result<(), Failure> {
        self.send(message, &mut SendAncillaryBuffer::default())
    }

    fn say_with(&mut self, message: &FromChild<'_>, memfd: &OwnedFd) -> Result<(), Failure> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [memfd.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        self.send(message, &mut control)
    }

    fn send(
        &mut self,
        message: &FromChild<'_>,
        control: &mut SendAncillaryBuffer<'_, '_, '_>,
    ) -> Result<(), Failure> {
        message.encode(&mut self.message);
        let parts = [IoSlice::new(&self.message)];
        match retry_on_intr(|| sendmsg(self.socket, &parts, control, SendFlags::NOSIGNAL)) {
            Ok(_) => Ok(()),
            // A store that refuses says why before it closes.
            Err(Errno::PIPE | Errno::CONNRESET) => Err(match self.hear() {
                Err(refused @ Failure::Refused(_)) => refused,
                _ => Failure::Gone,
            }),
            Err(error) => Err(error.into()),
        }
    }

    fn hear(&mut self) -> Result<FromStore<'_>, Failure> {
        let mut receive = || {
            retry_on_intr(|| recv(self.socket, &mut self.answer[..], RecvFlags::empty()))
                .map(|(_, bytes)| bytes)
        };
        let bytes = match receive() {
            // Says once that the store closed without reading all; its last words come after that.
            Err(Errno::CONNRESET) => receive()?,
            received => received?,
        };
        if bytes == 0 {
            return Err(Failure::Gone);
        }
        match FromStore::decode(&self.answer[..bytes]) {
            Ok(FromStore::Failed { reason }) => Err(Failure::Refused(reason.to_owned())),
            Ok(answer) => Ok(answer),
            Err(malformed) => Err(Failure::Answer(Some(malformed))),
        }
    }
}

/// Some chunks that lie one after the other, with their hashes.
struct Window<'a> {
    bytes: Cow<'a, [u8]>,
    chunks: Vec<Offered>,
}

/// Cuts bytes into windows of at most [`DATA_BYTES`], and hashes them.
struct Windows<'a> {
    rest: &'a [u8],
    lengths: Lengths<'a>,
    /// Whether others may write into the bytes: a window is then copied before it is hashed, so that what is
    /// sent is what was offered.
    shared: bool,
}

enum Lengths<'a> {
    /// [`CHUNK_BYTES`], but for the last.
    Fixed,
    Given(&'a [usize]),
}

impl<'a> Windows<'a> {
    fn of_buffer(buffer: &'a [u8], forked: bool) -> Self {
        Windows { rest: buffer, lengths: Lengths::Fixed, shared: !forked }
    }

    fn of_stream(stream: &'a [u8], lengths: &'a [usize]) -> Self {
        Windows { rest: stream, lengths: Lengths::Given(lengths), shared: false }
    }
}

impl<'a> Iterator for Windows<'a> {
    type Item = Window<'a>;

    fn next(&mut self) -> Option<Window<'a>> {
        let mut lengths = Vec::new();
        let mut bytes = 0;
        while bytes < self.rest.len() {
            let length = match &mut self.lengths {
                Lengths::Fixed => CHUNK_BYTES.min(self.rest.len() - bytes),
                Lengths::Given(lengths) => *lengths.first()?,
            };
            if bytes + length > DATA_BYTES {
                break;
            }
            if let Lengths::Given(lengths) = &mut self.lengths {
                *lengths = &lengths[1..];
            }
            bytes += length;
            lengths.push(length);
        }
        let (window, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        let bytes = if self.shared { Cow::Owned(window.to_vec()) } else { Cow::Borrowed(window) };
        let mut unhashed = &bytes[..];
        let hash = |length| {
            let (chunk, after) = unhashed.split_at(length);
            unhashed = after;
            Offered { hash: Hash(*blake3::hash(chunk).as_bytes()), length: length as u32 }
        };
        let chunks: Vec<_> = lengths.into_iter().map(hash).collect();
        (!chunks.is_empty()).then_some(Window { bytes, chunks })
    }
}

/// A memfd with these bytes, one after the other. It need not be sealed: the store reads it once, into memory
/// of its own.
fn memfd<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<OwnedFd, Failure> {
    let memfd = memfd_create(c"cellblock-checkpoint", MemfdFlags::CLOEXEC)?;
    for mut rest in parts {
        while !rest.is_empty() {
            let written = retry_on_intr(|| rustix::io::write(&memfd, rest))?;
            rest = &rest[written..];
        }
    }
    Ok(memfd)
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Self {
        match error {
            Errno::AGAIN => Failure::Silent,
            Errno::CONNRESET => Failure::Gone,
            error => Failure::System(error),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Stream(malformed) => write!(f, "the stream is no pickle: {malformed}"),
            Failure::Buffers { wanted, given } => {
                write!(f, "the stream has {wanted} buffers, {given} were given")
            }
            Failure::Names { bytes } => {
                write!(f, "the names take {bytes} bytes, the limit is {NAMES_BYTES} bytes")
            }
            Failure::Refused(reason) => f.write_str(reason),
            Failure::Answer(None) => f.write_str("the store gave an answer to something else"),
            Failure::Answer(Some(malformed)) => write!(f, "the store gave no answer: {malformed}"),
            Failure::Silent => f.write_str("the store did not answer in time"),
            Failure::Gone => f.write_str("the store is gone"),
            Failure::System(error) => write!(f, "a system call failed: {error}"),
        }
    }
}

#[cfg(test)]
mod tests;
