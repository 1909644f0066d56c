//! Ctrl-C: the first interrupts the running cell, the second gives up waiting for it, and the
//! third ends the program on the spot. SIGTERM and SIGHUP count as the second.
//!
//! Giving up means hanging up: the main thread's read fails, so it leaves the ordinary way and
//! ends its private daemon and its files.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cellblock_proto::client::Request;
use cellblock_proto::id::{NotebookId, TenantId};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as SignalStream;

use crate::client::{Connection, Hangup};
use crate::exit::Exit;

/// How long a SIGTERM waits for the main thread when there is nothing to hang up.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a signal acts on.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) socket: PathBuf,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) notebook: NotebookId,
    pub(crate) hangup: Hangup,
}

/// How often we were asked to stop, and what is running.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicU32,
    target: Mutex<Option<Target>>,
}

impl Signals {
    /// Starts listening, in a thread of its own.
    pub(crate) fn listen() -> io::Result<Self> {
        let signals = Signals::default();
        let mut stream = SignalStream::new([SIGINT, SIGTERM, SIGHUP])?;
        let listener = signals.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in stream.forever() {
                listener.heard(if signal == SIGINT { 1 } else { 2 });
            }
        })?;
        Ok(signals)
    }

    /// Whether to begin nothing new.
    pub(crate) fn stopping(&self) -> bool {
        self.shared.asked.load(Ordering::SeqCst) > 0
    }

    /// Names what signals act on from now on.
    pub(crate) fn aim(&self, target: Option<Target>) {
        *self.shared.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    fn heard(&self, weight: u32) {
        let asked = self.shared.asked.fetch_add(weight, Ordering::SeqCst) + weight;
        if asked > 2 && weight == 1 {
            give_up();
        }
        let target = self.shared.target.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(target) = target.as_ref() else {
            if weight == 2 {
                // Between two executions the main thread stops by itself. One that waits for something
                // else is not waited for.
                std::thread::spawn(|| {
                    std::thread::park_timeout(PATIENCE);
                    give_up();
                });
            }
            return;
        };
        if asked == 1 {
            // A second connection, because the first belongs to the main thread, which reads it.
            let interrupted =
                Connection::connect_as(&target.socket, target.tenant.as_ref()).and_then(|mut connection| {
                    connection.tell(&Request::Interrupt { notebook: target.notebook.clone() })
                });
            if interrupted.is_ok() {
                return;
            }
        }
        target.hangup.hang_up();
    }
}

#[expect(clippy::exit, reason = "the third Ctrl-C: whoever presses it wants no more tidying up")]
fn give_up() {
    std::process::exit(Exit::Interrupted as i32);
}
