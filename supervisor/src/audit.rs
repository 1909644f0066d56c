//! Who did what: a line of JSON per deed in a file of the operator's, or lines of the log with the target `audit`.
//!
//! A line is written when the deed is asked for, before it is done: a daemon that is killed over it has told of it.
//! What was refused is told by a second line with the same connection and request. Of code there are length and
//! BLAKE3, never the code; of workspaces' files no names.
//!
//! Nobody waits for the disk: lines go through a bounded channel to a thread. What does not fit, or cannot be
//! written, is counted, and the file says how many lines are missing where they are.

mod deed;
mod file;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::Context;
use cellblock_proto::client::{ErrorCode, Request};
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use crate::metrics::code as code_name;

pub(crate) use deed::Deed;

/// Lines that wait for the disk.
const WAITING: usize = 4_096;

/// How long the last lines may take when the daemon ends.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Who asks.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Peer {
    /// The user, as the kernel says.
    pub(crate) uid: u32,
    /// Its process, when it connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<i32>,
    /// Whose notebooks it works with.
    pub(crate) tenant: String,
    /// What it calls itself.
    pub(crate) client: String,
    /// Counts the connections of this daemon.
    pub(crate) connection: u64,
}

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    peer: &'a Peer,
    /// The request's id in its connection.
    request: u32,
    #[serde(flatten)]
    deed: &'a Deed<'a>,
}

/// What was refused.
#[derive(Debug, Serialize)]
struct Refused<'a> {
    time: String,
    #[serde(flatten)]
    peer: &'a Peer,
    request: u32,
    action: &'static str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// The audit log.
#[derive(Debug)]
pub(crate) struct Audit {
    file: Option<SyncSender<Message>>,
    /// Lines that did not fit and that the file does not know of yet.
    missing: Arc<AtomicU64>,
    lost: Counter,
}

/// What the thread is told.
#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Answered when all before it is written.
    Flush(mpsc::SyncSender<()>),
}

impl Audit {
    /// To the log.
    pub(crate) fn to_log(lost: Counter) -> Self {
        Audit { file: None, missing: Arc::default(), lost }
    }

    /// To a file, which is made if there is none.
    ///
    /// # Errors
    /// It cannot be written, or is no file.
    pub(crate) fn to_file(path: &Path, lost: Counter) -> anyhow::Result<Self> {
        let open = file::Appender::open(path);
        let appender = open.with_context(|| format!("failed to open --audit-log {}", path.display()))?;
        let (sender, receiver) = sync_channel(WAITING);
        let missing = Arc::<AtomicU64>::default();
        let writer = file::Writer::new(appender, Arc::clone(&missing), lost.clone());
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&receiver))?;
        Ok(Audit { file: Some(sender), missing, lost })
    }

    /// Tells of a request, if it is one to be told of.
    pub(crate) fn asked(&self, peer: &Peer, id: u32, request: &Request, payload: &[u8]) {
        let Some(deed) = Deed::of(request) else { return };
        let deed = if self.is_read(&deed) { deed.with_payload(request, payload) } else { return };
        if self.file.is_some() {
            self.write(&Line { time: crate::log::now(), peer, request: id, deed: &deed });
        } else {
            deed.log(peer, id);
        }
    }

    /// Tells of a refusal. What somebody may not is in the log as well: see [`crate::denial`].
    pub(crate) fn refused(&self, peer: &Peer, request: u32, code: ErrorCode, message: &str) {
        let is_denial = code == ErrorCode::Forbidden;
        if self.file.is_some() {
            let action = if is_denial { "denied" } else { "refused" };
            let (code, time) = (code_name(code), crate::log::now());
            // Other messages name what is in a workspace.
            let reason = Some(message).filter(|_| is_denial);
            self.write(&Refused { time, peer, request, action, code, reason });
        }
    }

    /// Whether anybody sees it. A hash for nobody would be paid by every Execution.
    fn is_read(&self, deed: &Deed<'_>) -> bool {
        self.file.is_some() || deed.is_logged()
    }

    fn write(&self, line: &impl Serialize) {
        let Some(file) = &self.file else { return };
        let Ok(mut bytes) = crate::log::json(line) else { return };
        bytes.push(b'\n');
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            file.try_send(Message::Line(bytes))
        {
            self.lost.inc();
            if self.missing.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::error!("the audit log is not written fast enough: lines are missing in it");
            }
        }
    }

    /// Waits, not for long, until all is written. Blocks.
    pub(crate) fn flush(&self) {
        let Some(file) = &self.file else { return };
        let (written, wait) = mpsc::sync_channel(1);
        if file.try_send(Message::Flush(written)).is_ok() {
            // Too late or not, there is nothing more to do.
            let _ = wait.recv_timeout(LAST_PATIENCE);
        }
    }
}

#[cfg(test)]
#[path = "audit/tests.rs"]
mod tests;
