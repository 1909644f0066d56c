//! What comes on a socket. It goes through a buffer of the thread that reads, not of the socket: of thousands of sockets
//! most say nothing, and hold nothing here.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Read at once, by each of the runtime's threads; what a shim batches is 64 KiB.
const READ_BYTES: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// Reads once and gives away what came; how much that was, 0 at the end. `take` reads nothing itself.
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
        BUFFER.with_borrow_mut(|buffer| {
            let mut into = ReadBuf::new(buffer);
            ready!(Pin::new(&mut *socket).poll_read(context, &mut into))?;
            take(into.filled());
            Poll::Ready(Ok(into.filled().len()))
        })
    })
    .await
}
