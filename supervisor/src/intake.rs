//! What comes on a socket. It goes through a buffer that is lent for the moment of reading, and is not the socket's: of
//! thousands of sockets most say nothing, and hold nothing here.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::io::{AsyncRead, ReadBuf};

/// Read at once; what a shim batches is 64 KiB.
const READ_BYTES: usize = 128 << 10;

/// Those that nobody reads into: as many as threads have ever read at the same moment. One for each thread would be many
/// more, because whoever waits for a disk gives the runtime another one.
static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn buffers() -> MutexGuard<'static, Vec<Vec<u8>>> {
    BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads once and gives away what came; how much that was, 0 at the end.
///
/// # Errors
/// The socket's.
///
/// # Cancel safety
/// Safe: nothing is read when it is dropped before it returns.
pub(crate) async fn read(
    socket: &mut (impl AsyncRead + Unpin),
    mut take: impl FnMut(&[u8]),
) -> io::Result<usize> {
    poll_fn(|context| {
        let lent = buffers().pop();
        let mut buffer = lent.unwrap_or_else(|| vec![0; READ_BYTES]);
        let mut into = ReadBuf::new(&mut buffer);
        let polled = Pin::new(&mut *socket).poll_read(context, &mut into);
        let count = into.filled().len();
        if let Poll::Ready(Ok(())) = polled {
            take(&buffer[..count]);
        }
        buffers().push(buffer);
        polled.map_ok(|()| count)
    })
    .await
}
