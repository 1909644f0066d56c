//! What a client sends, frame by frame.

use std::sync::Arc;

use cellblock_proto::frame::{Frame, FrameReader, Kind};
use tokio::net::unix::OwnedReadHalf;
use tokio::time::{Instant, timeout_at};

use crate::intake;
use crate::tenants::{Counted, Held, Tenant};

use super::{ConnectionError, FRAME_PATIENCE, LIMITS};

/// Of a frame that has not ended so much is nobody's: most are smaller.
const UNCOUNTED_BYTES: usize = 64 << 10;

/// A client's half.
pub(super) struct Reader {
    half: OwnedReadHalf,
    frames: FrameReader,
    /// For whom what has come of a frame is counted, and how much that is.
    held: Option<(Arc<Tenant>, Held)>,
}

impl Reader {
    /// Of this socket.
    pub(super) fn new(half: OwnedReadHalf) -> Self {
        Reader { half, frames: FrameReader::new(LIMITS), held: None }
    }

    /// Counts from now on what has come of a frame as this tenant's.
    pub(super) fn count_for(&mut self, tenant: &Arc<Tenant>) {
        self.held = Some((Arc::clone(tenant), Held::claim(tenant, Counted::Buffered, 0)));
    }

    fn count(&mut self) -> Result<(), ConnectionError> {
        let pending = Some(self.frames.pending_bytes()).filter(|bytes| *bytes > UNCOUNTED_BYTES);
        let Some((tenant, held)) = &mut self.held else { return Ok(()) };
        let counted = pending.unwrap_or(0) as u64;
        match counted.checked_sub(held.amount()).filter(|more| *more > 0) {
            Some(more) => held.more(more).map_err(|met| ConnectionError::Full(tenant.explain(met))),
            None => {
                held.set(counted);
                Ok(())
            }
        }
    }

    /// The next request; `None` when the client has ended the connection, torn frame or not.
    pub(super) async fn request(&mut self) -> Result<Option<Frame>, ConnectionError> {
        let mut patience = None;
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                self.count()?;
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
            self.count()?;
        }
    }

    /// Reads on until the client has ended the connection too; nothing is kept.
    pub(super) async fn drain(&mut self) {
        self.frames = FrameReader::new(LIMITS);
        self.held = None;
        while intake::read(&mut self.half, |_| ()).await.is_ok_and(|count| count > 0) {}
    }
}
