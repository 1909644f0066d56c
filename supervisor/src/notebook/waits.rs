//! What a notebook's task waits for, each of which may not be there.

use std::future::pending;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::launch::{LaunchError, Launched};
use crate::link::{LinkError, LinkReader, LinkWriter};

/// The end of a launch.
pub(super) async fn joined(
    launching: &mut Option<JoinHandle<Result<Launched, LaunchError>>>,
) -> Result<Launched, LaunchError> {
    match launching {
        // A launch does not panic; when the runtime goes down, nobody looks at the result.
        Some(handle) => handle.await.unwrap_or_else(|error| Err(std::io::Error::other(error).into())),
        None => pending().await,
    }
}

/// More of what the shim says.
pub(super) async fn fill(reader: Option<&mut LinkReader>) -> Result<(), LinkError> {
    match reader {
        Some(reader) => reader.fill().await,
        None => pending().await,
    }
}

/// What it is told is on its way.
pub(super) async fn flush(writer: Option<&mut LinkWriter>) {
    match writer {
        Some(writer) if !writer.is_empty() => {
            if writer.flush().await.is_err() {
                // The reader sees the end of it, with what the shim said before.
                pending().await
            }
        }
        _ => pending().await,
    }
}

/// A moment.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
