//! What systemd gives us and is told, when it has started us: a socket that it listens on already, that we
//! are ready or about to end, and that we still do our work. Elsewhere nothing of this happens.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
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
    /// What came along at our start; `None` when we are to listen ourselves. To be called while there is
    /// one thread: what says so is taken out of the environment.
    ///
    /// # Errors
    /// More than one socket, or one of another kind.
    pub(crate) fn take() -> Result<Option<Self>, GivenError> {
        let mut sockets = ListenFd::from_env();
        if sockets.len() > 1 {
            return Err(GivenError::Many { count: sockets.len() });
        }
        // It looks at the socket's family and type, and sees to it that no program that we start inherits it.
        match sockets.take_unix_listener(0) {
            Ok(taken) => taken.map(Given::new).transpose(),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(GivenError::Kind),
            Err(error) => Err(GivenError::Take(error)),
        }
    }

    fn new(listener: UnixListener) -> Result<Self, GivenError> {
        if !socket_acceptconn(&listener).is_ok_and(|listens| listens) {
            return Err(GivenError::Kind);
        }
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
    use super::*;

    #[test]
    fn socket_that_listens_at_a_path_is_taken_and_no_other() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("api.sock");
        assert_eq!(Given::new(UnixListener::bind(&path).unwrap()).unwrap().path(), path);
        let (stream, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let silent = UnixListener::from(std::os::fd::OwnedFd::from(stream));
        assert!(matches!(Given::new(silent), Err(GivenError::Kind)));
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
