//! What systemd gives us and is told, when it has started us: a socket that it listens on already, that we
//! are ready or about to end, and that we still do our work. Elsewhere nothing of this happens.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior};

/// Beats per time that systemd waits for one: one may be late.
const BEATS: u32 = 2;

/// A socket that systemd has bound, listens on and will remove.
#[derive(Debug)]
pub(crate) struct Given {
    /// It.
    listener: UnixListener,
    /// Where it is.
    path: PathBuf,
}

/// Why what we were given cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GivenError {
    #[error("failed to take the socket that systemd has handed over")]
    Take(#[source] io::Error),
    #[error("systemd has handed over {count} sockets: leave one ListenStream= in the socket unit")]
    Many { count: usize },
    #[error(
        "what systemd has handed over is no listening Unix stream socket with a path: \
         name a path with ListenStream= in the socket unit"
    )]
    Kind,
}

impl Given {
    /// What came along at our start; `None` when we are to listen ourselves.
    ///
    /// # Errors
    /// More than one socket, or one of another kind.
    pub(crate) fn take() -> Result<Option<Self>, GivenError> {
        // From now on no program that we start inherits them.
        let mut fds = sd_notify::listen_fds().map_err(GivenError::Take)?;
        match (fds.len(), fds.next()) {
            (1, Some(fd)) => own(fd).map_err(GivenError::Take).and_then(Given::new).map(Some),
            (0, _) => Ok(None),
            (count, _) => Err(GivenError::Many { count }),
        }
    }

    fn new(socket: OwnedFd) -> Result<Self, GivenError> {
        let of_kind = socket_domain(&socket).is_ok_and(|domain| domain == AddressFamily::UNIX)
            && socket_type(&socket).is_ok_and(|kind| kind == SocketType::STREAM)
            && socket_acceptconn(&socket).is_ok_and(|listens| listens);
        if !of_kind {
            return Err(GivenError::Kind);
        }
        let listener = UnixListener::from(socket);
        let address = listener.local_addr().map_err(GivenError::Take)?;
        let path = address.as_pathname().ok_or(GivenError::Kind)?.to_owned();
        Ok(Given { listener, path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It, for tokio.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener)
    }
}

/// A copy of a descriptor that is known by its number alone. To take the number itself would need unsafe
/// code; the original stays open, and it is the same socket.
fn own(fd: RawFd) -> io::Result<OwnedFd> {
    let us = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(pidfd_getfd(us.as_fd(), fd, PidfdGetfdFlags::empty())?)
}

/// Tells systemd, if there is one that wants to know.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "could not tell systemd how we are");
    }
}

/// We serve.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("listening")]);
}

/// We are about to end.
pub(crate) fn stopping(why: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(&format!("ending: {why}"))]);
}

/// The watchdog of systemd, which ends a daemon that says nothing for too long. Only whoever does the
/// daemon's work may let it beat: a timer on a thread of its own would live on in a daemon that hangs.
#[derive(Debug)]
pub(crate) struct Heart(Option<Interval>);

impl Heart {
    /// Beats when systemd wants it to (`WatchdogSec=`).
    pub(crate) fn new() -> Self {
        Heart::every(sd_notify::watchdog_enabled())
    }

    fn every(wanted: Option<Duration>) -> Self {
        let period = wanted.map(|wanted| wanted / BEATS).filter(|period| !period.is_zero());
        Heart(period.map(|period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    /// Waits until it is to beat. Nothing is lost when it is dropped before.
    pub(crate) async fn due(&mut self) {
        match &mut self.0 {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Beats, and says what there is.
    pub(crate) fn beat(status: &str) {
        tell(&[NotifyState::Watchdog, NotifyState::Status(status)]);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn listening_socket_with_a_path_is_taken_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("api.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let given = Given::new(listener.into()).unwrap();
        assert_eq!(given.path(), path);
        let (stream, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let datagram = UnixDatagram::bind(temp.path().join("other.sock")).unwrap();
        let internet = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for other in [OwnedFd::from(stream), datagram.into(), internet.into()] {
            let error = Given::new(other).unwrap_err();
            assert!(matches!(error, GivenError::Kind), "{error}");
        }
    }

    #[test]
    fn descriptor_known_by_its_number_is_the_same_socket() {
        use std::os::fd::AsRawFd;
        let temp = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(temp.path().join("api.sock")).unwrap();
        let copy = UnixListener::from(own(listener.as_raw_fd()).unwrap());
        assert_eq!(copy.local_addr().unwrap().as_pathname(), listener.local_addr().unwrap().as_pathname());
    }

    #[tokio::test(start_paused = true)]
    async fn heart_is_due_twice_per_time_that_systemd_waits_and_never_when_it_does_not() {
        let mut heart = Heart::every(Some(Duration::from_secs(10)));
        heart.due().await;
        let begun = tokio::time::Instant::now();
        heart.due().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        let mut none = Heart::every(None);
        let never = tokio::time::timeout(Duration::from_secs(3600), none.due());
        assert!(never.await.is_err());
    }
}
