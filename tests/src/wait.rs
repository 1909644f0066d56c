//! Waiting for a state. All waits of the tests are here or built on this.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long anything may take that should be quick. Two slow cores with other tests on them.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Between two looks at something that cannot be waited for by descriptor, e.g. a folder of /proc.
pub const GLANCE: Duration = Duration::from_millis(3);

/// Looks until there is something.
///
/// # Panics
/// After [`PATIENCE`], with `what`.
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain: {what}"))
}

/// Looks until there is something; `None` when `patience` is over.
pub fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        let _ = poll(&mut [], Timespec::try_from(GLANCE).ok().as_ref());
    }
}

/// Whether the descriptor can be read (or has ended) within `patience`.
pub fn readable(fd: impl AsFd, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}
