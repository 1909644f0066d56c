//! What a client sends, frame by frame.

use cellblock_proto::frame::{Frame, FrameReader, Kind};
use tokio::net::unix::OwnedReadHalf;
use tokio::time::{Instant, timeout_at};

use crate::intake;

use super::{ConnectionError, FRAME_PATIENCE, LIMITS};

/// A client's half.
pub(super) struct Reader {
    half: OwnedReadHalf,
    frames: FrameReader,
}

impl Reader {
    /// Of this socket.
    pub(super) fn new(half: OwnedReadHalf) -> Self {
        Reader { half, frames: FrameReader::new(LIMITS) }
    }

    /// The next request; `None` when the client has ended the connection, torn frame or not.
    pub(super) async fn request(&mut self) -> Result<Option<Frame>, ConnectionError> {
        let mut patience = None;
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return if frame.kind == Kind::Request {
                    Ok(Some(frame))
                } else {
                    Err(ConnectionError::Kind(frame.kind))
                };
            }
            // Counted while we listen: that we did not for a while is not the client's fault.
            if self.frames.pending_bytes() > 0 {
                patience.get_or_insert_with(|| Instant::now() + FRAME_PATIENCE);
            }
            let read = intake::read(&mut self.half, |bytes| self.frames.feed(bytes));
            let read = match patience {
                Some(patience) => timeout_at(patience, read).await.map_err(|_| ConnectionError::Torn)?,
                None => read.await,
            };
            if read? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads on until the client has ended the connection too; nothing is kept.
    pub(super) async fn drain(&mut self) {
        while intake::read(&mut self.half, |_| ()).await.is_ok_and(|count| count > 0) {}
    }
}
