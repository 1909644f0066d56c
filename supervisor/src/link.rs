//! The socket to one shim: Commands out, Events in. Reading and writing are apart, because a shim
//! that is not read from must still be told to interrupt.

use std::io;

use cellblock_proto::codec::{Codec, CodecError};
use cellblock_proto::frame::{Frame, FrameError, FrameReader, Kind, Limits};
use cellblock_proto::shim::{Command, Event};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::intake;
use crate::outbox::Payload;

/// What stays allocated for commands that are to be written; a worker's plan, the first of them, takes more.
const KEPT_BYTES: usize = 1 << 10;

/// Why a shim cannot be understood. It is killed: what it says next would be guessed at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("failed to read from the shim")]
    Io(#[from] io::Error),
    #[error("the shim has gone")]
    Gone,
    #[error("the shim sent something that is not a frame")]
    Frame(#[from] FrameError),
    #[error("the shim sent a frame of kind {found:?}")]
    Kind { found: Kind },
    #[error("the shim sent something that is not an event")]
    Codec(#[from] CodecError),
}

/// An event with what came along.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The request it answers; 0 for none.
    pub(crate) request: u32,
    /// What happened.
    pub(crate) event: Event,
    /// Its bytes.
    pub(crate) payload: Payload,
}

/// The half that brings events.
#[derive(Debug)]
pub(crate) struct LinkReader {
    half: OwnedReadHalf,
    frames: FrameReader,
}

/// The half that takes commands.
#[derive(Debug)]
pub(crate) struct LinkWriter {
    half: OwnedWriteHalf,
    codec: Codec,
    waiting: Vec<u8>,
    start: usize,
}

/// Takes both halves of a connected socket.
pub(crate) fn split(socket: UnixStream) -> (LinkReader, LinkWriter) {
    let (read, write) = socket.into_split();
    let frames = FrameReader::new(Limits::DEFAULT);
    (
        LinkReader { half: read, frames },
        LinkWriter { half: write, codec: Codec::Bincode, waiting: Vec::new(), start: 0 },
    )
}

impl LinkReader {
    /// Reads once; what came is then taken with [`LinkReader::next`].
    ///
    /// # Errors
    /// The socket's, and its end.
    ///
    /// # Cancel safety
    /// Safe: nothing is read when it is dropped before it returns.
    pub(crate) async fn fill(&mut self) -> Result<(), LinkError> {
        match intake::read(&mut self.half, |bytes| self.frames.feed(bytes)).await? {
            0 => Err(LinkError::Gone),
            _ => Ok(()),
        }
    }

    /// The next event that has come whole.
    ///
    /// # Errors
    /// Bytes that are no event.
    pub(crate) fn next(&mut self) -> Result<Option<Arrival>, LinkError> {
        let Some(frame) = self.frames.next_frame()? else { return Ok(None) };
        if frame.kind != Kind::Event {
            return Err(LinkError::Kind { found: frame.kind });
        }
        let event = frame.message()?;
        Ok(Some(Arrival { request: frame.request, event, payload: Payload::new(frame.payload) }))
    }

    /// Reads until an event has come.
    ///
    /// # Errors
    /// As [`LinkReader::fill`] and [`LinkReader::next`].
    ///
    /// # Cancel safety
    /// Safe: an event is either returned or still there.
    pub(crate) async fn arrival(&mut self) -> Result<Arrival, LinkError> {
        loop {
            if let Some(arrival) = self.next()? {
                return Ok(arrival);
            }
            self.fill().await?;
        }
    }
}

impl LinkWriter {
    /// From here on speaks that. Of what is read, each frame says it itself.
    pub(crate) fn speak(&mut self, codec: Codec) {
        self.codec = codec;
    }

    /// Queues a command; [`LinkWriter::flush`] writes it.
    pub(crate) fn push(&mut self, command: &Command, request: u32, payload: &[u8]) {
        let meta = match self.codec.encode(command) {
            Ok(meta) => meta,
            Err(error) => {
                // Only a path that is not UTF-8 has no wire form, and the plan was made of UTF-8.
                tracing::error!(%error, "a command has no wire form; not sent");
                return;
            }
        };
        let frame = Frame {
            kind: Kind::Command,
            codec: self.codec,
            flags: 0,
            request,
            meta,
            payload: payload.to_vec(),
        };
        frame.write_to(&mut self.waiting);
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.waiting.len()
    }

    /// Writes once.
    ///
    /// # Errors
    /// The socket's.
    ///
    /// # Cancel safety
    /// Safe: what is not written stays queued.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.start += self.half.write(&self.waiting[self.start..]).await?;
        if self.is_empty() {
            self.forget();
        }
        Ok(())
    }

    /// Writes what the socket takes without waiting: the common case, and a select less.
    pub(crate) fn try_flush(&mut self) {
        while !self.is_empty() {
            match self.half.try_write(&self.waiting[self.start..]) {
                Ok(count) if count > 0 => self.start += count,
                // Full, or broken: the reader sees the end of a broken one.
                _ => return,
            }
        }
        self.forget();
    }

    /// All is written.
    fn forget(&mut self) {
        self.waiting.clear();
        self.waiting.shrink_to(KEPT_BYTES);
        self.start = 0;
    }

    /// Writes everything.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn flush_all(&mut self) -> io::Result<()> {
        while !self.is_empty() {
            self.flush().await?;
        }
        Ok(())
    }
}
