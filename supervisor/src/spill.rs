//! Outputs of one Execution on the disk: what does not stay in memory, so that a cell nobody reads runs on and
//! whoever comes later, also from the daemon after us, reads it from there.
//!
//! They lie in segments, files that are only appended to. Beyond the cap whole segments go: of what has been read
//! first, then the middle of what has not, so that head and tail are left. No descriptor is kept but that of the
//! segment being written, and no segment is read as a whole.

mod shelf;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cellblock_proto::codec::Codec;
use cellblock_proto::id::ExecutionId;

use crate::entry::{Entries, Head, Kind, blocking};
use crate::journal;
use crate::outbox::Payload;
use crate::records::Stored;

pub(crate) use self::shelf::{Shelf, expire};

/// A segment that has so many bytes is followed by another.
const SEGMENT_BYTES: u64 = 4 << 20;

/// What is kept of one Execution, in bytes; the last segment may exceed it by one output.
pub(crate) const CAP_BYTES: u64 = 64 << 20;

/// What is kept of a notebook's ended Executions, in bytes.
pub(crate) const NOTEBOOK_BYTES: u64 = 256 << 20;

/// How long outputs of an ended Execution are kept.
pub(crate) const DAYS: u64 = 7;

/// What of it is its head: segments that go last.
const HEAD_SEGMENTS: u64 = CAP_BYTES / SEGMENT_BYTES / 2;

/// What one write(2) has, about.
const WRITE_BYTES: usize = 1 << 20;

/// What a reader has of a segment at once, about.
const AHEAD_BYTES: usize = 256 << 10;

/// Parts a segment's name from an Execution's id, which cannot have it.
const SEPARATOR: char = '~';

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    /// Which of all that there have been.
    index: u64,
    /// Its first output.
    first: u64,
    bytes: u64,
}

/// Where a reader is.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    queue: VecDeque<(u64, Stored)>,
    /// A segment by index, and how far in it.
    place: Option<(u64, u64)>,
    /// Bytes that the Execution had put out before what the reader gets next, as far as that is known.
    pub(crate) position: Option<u64>,
}

impl Ahead {
    /// Nothing read yet of what begins with output `next`.
    pub(crate) fn at(next: u64) -> Self {
        Ahead { position: (next == 0).then_some(0), ..Ahead::default() }
    }
}

/// The segments of one Execution.
#[derive(Debug)]
pub(crate) struct Spill {
    folder: Arc<Path>,
    execution: ExecutionId,
    segments: Vec<Segment>,
    writer: Option<File>,
    next_index: u64,
    next: u64,
    put_out: u64,
}

impl Spill {
    /// Nothing yet.
    pub(crate) fn new(folder: &Arc<Path>, execution: &ExecutionId) -> Self {
        Spill {
            folder: Arc::clone(folder),
            execution: execution.clone(),
            segments: Vec::new(),
            writer: None,
            next_index: 0,
            next: 0,
            put_out: 0,
        }
    }

    /// What a daemon before us, or we ourselves, have left; `None` for nothing.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn find(folder: &Arc<Path>, execution: &ExecutionId) -> io::Result<Option<Self>> {
        let mut spill = Spill::new(folder, execution);
        for entry in list(folder)? {
            if let Some((owner, index, first)) = parse(&entry)
                && owner == *execution
            {
                let bytes = fs::metadata(folder.join(&entry))?.len();
                spill.segments.push(Segment { index, first, bytes });
            }
        }
        spill.segments.sort_by_key(|segment| segment.index);
        // Its writer may have been killed in the middle of an entry.
        while let Some(last) = spill.segments.last_mut() {
            let path = path(folder, execution, last.index, last.first);
            let mut entries = Entries::open(File::open(&path)?, 0)?;
            let mut newest = None;
            while let Some(entry) = entries.next()? {
                newest = Some((entry.number + 1, entry.before + entry.payload.len() as u64));
            }
            spill.next_index = last.index + 1;
            if let Some((next, put_out)) = newest {
                if entries.offset() < entries.file_bytes() {
                    OpenOptions::new().write(true).open(&path)?.set_len(entries.offset())?;
                }
                last.bytes = entries.offset();
                (spill.next, spill.put_out) = (next, put_out);
                return Ok(Some(spill));
            }
            fs::remove_file(&path)?;
            spill.segments.pop();
        }
        Ok(None)
    }

    /// The number after its last output.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// How many bytes the Execution had put out up to there.
    pub(crate) fn put_out(&self) -> u64 {
        self.put_out
    }

    /// What it takes on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Adds outputs behind those that there are. `written` is the number up to which they have been read.
    ///
    /// # Errors
    /// What the disk says; then what [`Spill::next`] tells is there.
    pub(crate) fn append<'a>(
        &mut self,
        outputs: impl Iterator<Item = (u64, &'a Stored)>,
        written: u64,
    ) -> io::Result<()> {
        blocking(|| {
            let mut buffer = Vec::new();
            let mut newest = (self.next, self.put_out);
            for (seq, stored) in outputs {
                if self.writer.is_none() || self.last_bytes() + buffer.len() as u64 >= SEGMENT_BYTES {
                    self.write(&mut buffer, newest)?;
                    self.begin(seq)?;
                }
                let meta = Codec::Json.encode(&stored.output).map_err(io::Error::other)?;
                let head =
                    Head { number: seq, before: stored.before, ..Head::new(Kind::Output, &self.execution) };
                head.write(&meta, &stored.payload, &mut buffer);
                newest = (seq + 1, stored.before + stored.payload.len() as u64);
                if buffer.len() >= WRITE_BYTES {
                    self.write(&mut buffer, newest)?;
                }
            }
            self.write(&mut buffer, newest)?;
            self.trim(written);
            Ok(())
        })
    }

    fn last_bytes(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.bytes)
    }

    /// The segment that output `seq` goes into: the last, or one after it.
    fn begin(&mut self, seq: u64) -> io::Result<()> {
        if let Some(last) = self.segments.last().filter(|last| last.bytes < SEGMENT_BYTES) {
            let path = path(&self.folder, &self.execution, last.index, last.first);
            self.writer = Some(OpenOptions::new().append(true).open(path)?);
            return Ok(());
        }
        let (index, first) = (self.next_index, seq);
        let path = path(&self.folder, &self.execution, index, first);
        self.writer = Some(open_new(&path, &self.folder)?);
        self.next_index += 1;
        self.segments.push(Segment { index, first, bytes: 0 });
        Ok(())
    }

    fn write(&mut self, buffer: &mut Vec<u8>, newest: (u64, u64)) -> io::Result<()> {
        if buffer.is_empty() {
            return Ok(());
        }
        let (Some(file), Some(last)) = (&mut self.writer, self.segments.last_mut()) else { return Ok(()) };
        if let Err(error) = file.write_all(buffer) {
            // What of it is there is no whole entry, and nothing may stand behind it.
            let cut = file.set_len(last.bytes);
            self.writer = None;
            if cut.is_err() {
                last.bytes = SEGMENT_BYTES;
            }
            return Err(error);
        }
        last.bytes += buffer.len() as u64;
        (self.next, self.put_out) = newest;
        buffer.clear();
        Ok(())
    }

    /// Lets go of the descriptor: nothing more is to come soon.
    pub(crate) fn rest(&mut self) {
        self.writer = None;
    }

    fn trim(&mut self, written: u64) {
        while self.bytes() > CAP_BYTES {
            let Some(victim) = self.victim(written) else { return };
            let segment = self.segments.remove(victim);
            let path = path(&self.folder, &self.execution, segment.index, segment.first);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "could not remove outputs above the cap");
            }
        }
    }

    /// What goes first; never the last segment.
    fn victim(&self, written: u64) -> Option<usize> {
        let closed = self.segments.len().saturating_sub(1);
        let is_read = |at: &usize| self.segments[*at + 1].first <= written;
        if let Some(read) = (0..closed).find(|at| is_read(at) && self.segments[*at].index >= HEAD_SEGMENTS) {
            return Some(read);
        }
        if let Some(read) = (0..closed).find(is_read) {
            return Some(read);
        }
        let mut head_bytes = 0;
        let middle = (0..closed).find(|at| {
            head_bytes += self.segments[*at].bytes;
            head_bytes > CAP_BYTES / 2
        });
        middle.or_else(|| closed.checked_sub(1))
    }

    /// The first output at or after `from` that is on the disk.
    pub(crate) fn read<'a>(&self, from: u64, ahead: &'a mut Ahead) -> Option<(u64, &'a Stored)> {
        while ahead.queue.front().is_some_and(|(seq, _)| *seq < from) {
            ahead.queue.pop_front();
        }
        if ahead.queue.is_empty() && from < self.next {
            blocking(|| self.fill(from, ahead));
        }
        ahead.queue.front().map(|(seq, stored)| (*seq, stored))
    }

    fn fill(&self, from: u64, ahead: &mut Ahead) {
        while ahead.queue.is_empty() {
            let Some((segment, offset)) = self.place(from, ahead.place) else { return };
            let read = self.fill_from(segment, offset, from, ahead);
            let end = read.unwrap_or_else(|error| {
                let (index, execution) = (segment.index, &self.execution);
                tracing::warn!(%execution, index, %error, "could not read outputs back; what is left is told as missing");
                u64::MAX
            });
            ahead.place = Some((segment.index, end));
        }
    }

    /// Which segment is read next, and from where.
    fn place(&self, from: u64, place: Option<(u64, u64)>) -> Option<(&Segment, u64)> {
        match place {
            Some((index, offset)) => {
                let next = self.segments.iter().find(|segment| {
                    segment.index > index || (segment.index == index && offset < segment.bytes)
                })?;
                Some((next, if next.index == index { offset } else { 0 }))
            }
            None => {
                let at = self.segments.partition_point(|segment| segment.first <= from).saturating_sub(1);
                Some((self.segments.get(at)?, 0))
            }
        }
    }

    /// Where what comes next begins.
    fn fill_from(&self, segment: &Segment, offset: u64, from: u64, ahead: &mut Ahead) -> io::Result<u64> {
        let path = path(&self.folder, &self.execution, segment.index, segment.first);
        let mut entries = Entries::open(File::open(path)?, offset)?;
        let mut bytes = 0;
        while bytes < AHEAD_BYTES {
            let Some(entry) = entries.next()? else {
                if entries.offset() < segment.bytes {
                    return Err(io::Error::other("an entry is damaged"));
                }
                break;
            };
            if entry.number < from {
                ahead.position = Some(entry.before + entry.payload.len() as u64);
                continue;
            }
            bytes += entry.payload.len() + entry.meta.len();
            let output = Codec::Json.decode(&entry.meta).map_err(io::Error::other)?;
            let payload = Payload::new(entry.payload);
            ahead.queue.push_back((entry.number, Stored { output, payload, before: entry.before }));
        }
        Ok(entries.offset())
    }
}

fn open_new(path: &Path, folder: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            journal::make_folder(folder)?;
            open()
        }
        opened => opened,
    }
}

/// Removes an Execution's segments.
fn remove_all(folder: &Path, execution: &ExecutionId) {
    match list(folder) {
        Ok(names) => {
            for name in names {
                if parse(&name).is_some_and(|(owner, ..)| owner == *execution) {
                    remove(folder, &folder.join(name));
                }
            }
        }
        Err(error) => {
            tracing::warn!(path = %folder.display(), %error, "could not look for outputs to remove")
        }
    }
}

fn remove(folder: &Path, path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "could not remove outputs");
    }
}

fn list(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn path(folder: &Path, execution: &ExecutionId, index: u64, first: u64) -> PathBuf {
    folder.join(format!("{execution}{SEPARATOR}{index}{SEPARATOR}{first}"))
}

fn parse(name: &str) -> Option<(ExecutionId, u64, u64)> {
    let mut parts = name.split(SEPARATOR);
    let (execution, index, first) = (parts.next()?, parts.next()?, parts.next()?);
    Some((execution.parse().ok()?, index.parse().ok()?, first.parse().ok()?))
}

#[cfg(test)]
#[path = "spill_tests.rs"]
mod tests;
