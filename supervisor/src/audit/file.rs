//! The file of the audit log, and the thread that writes it. A file that was moved away (logrotate) is left, and a
//! new one is begun in its place: no signal is needed for that.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use prometheus_client::metrics::counter::Counter;
use rustix::fs::{Mode, OFlags};

use super::Message;

/// Bytes that are written at once.
const BATCH_BYTES: usize = 64 << 10;

/// A file that is only ever added to.
#[derive(Debug)]
pub(super) struct Appender {
    path: PathBuf,
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// The last line in it has no end: the disk was full in the middle of it.
    is_torn: bool,
}

impl Appender {
    /// Opens it, or makes it for its owner alone.
    ///
    /// # Errors
    /// It cannot be, or is no regular file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        // NONBLOCK: a pipe that nobody reads is an error, not a daemon that does not start.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW;
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Appender {
            path: path.to_owned(),
            file,
            identity: (metadata.dev(), metadata.ino()),
            is_torn: false,
        })
    }

    /// Whether the path still leads to it.
    fn is_in_place(&self) -> bool {
        let found = std::fs::symlink_metadata(&self.path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.is_in_place() {
            *self = Appender::open(&self.path)?;
        }
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = &rest[count..];
                    self.is_torn = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.is_torn = false;
        Ok(())
    }
}

/// The thread.
#[derive(Debug)]
pub(super) struct Writer {
    appender: Appender,
    missing: Arc<AtomicU64>,
    lost: Counter,
    /// The last attempt failed, which was said.
    is_failing: bool,
}

impl Writer {
    pub(super) fn new(appender: Appender, missing: Arc<AtomicU64>, lost: Counter) -> Self {
        Writer { appender, missing, lost, is_failing: false }
    }

    /// Writes what comes until nobody can send any more.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let (mut batch, mut lines, mut flushed) = (Vec::new(), 0, Vec::new());
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Line(line) => {
                        batch.extend_from_slice(&line);
                        lines += 1;
                    }
                    Message::Flush(done) => flushed.push(done),
                }
                next = if batch.len() < BATCH_BYTES { messages.try_recv().ok() } else { None };
            }
            self.write(batch, lines);
            for done in flushed {
                // Whoever waited may have gone.
                let _ = done.send(());
            }
        }
    }

    fn write(&mut self, mut batch: Vec<u8>, lines: u64) {
        if lines == 0 {
            return;
        }
        let missing = self.missing.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let gap = format!(
                "{{\"time\":\"{}\",\"action\":\"lines_missing\",\"count\":{missing}}}\n",
                crate::log::now()
            );
            // Those that could not be written were before these, those that did not fit came after them.
            let at = if self.is_failing { 0 } else { batch.len() };
            batch.splice(at..at, gap.into_bytes());
        }
        match self.appender.append(&batch) {
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                tracing::warn!("the audit log can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.lost.inc_by(lines);
                self.missing.fetch_add(missing + lines, Ordering::Relaxed);
                if !self.is_failing {
                    self.is_failing = true;
                    let path = self.appender.path.display();
                    tracing::error!(%path, %error, "the audit log cannot be written: lines are missing in it");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_half_a_line_begins_a_line_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"half").unwrap();
        let mut appender = Appender::open(&path).unwrap();
        appender.is_torn = true;
        appender.append(b"{}\n").unwrap();
        appender.append(b"{}\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"half\n{}\n{}\n");
    }
}
