//! A notebook's journal: which Executions were accepted and how each ended, so that after any kill each has its one
//! Outcome, can be read again by its id, and is never run again.
//!
//! Entries are appended before anybody is told. There is no fsync: what is written outlives every process, but not
//! a power cut. A file that is long, or has many Executions, becomes the older of two and the one before it goes;
//! the new one begins with the fingerprints of the last thousand, and with those that have not ended.
//!
//! In memory there are fingerprints, 8 bytes an Execution; the rest is read when it is asked for.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cellblock_proto::codec::Codec;
use cellblock_proto::execution::{Checkpoint, Death, End, Outcome, Variables};
use cellblock_proto::id::ExecutionId;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::entry::{CHANGED, Entries, Entry, Head, Kind, PASSED, SAVED, blocking};
use crate::outbox::Payload;
use crate::records::Stored;
use crate::unsaved::Unsaved;

/// Executions remembered at least, in the order in which they were accepted.
pub(crate) const REMEMBERED: usize = 1000;

/// A file with more is followed by another.
const FILE_BYTES: u64 = 4 << 20;

/// Ended ones that a shim may still tell of when the daemon has been killed: it is told soon what is taken.
const RECENT: usize = 200;

/// Kept free on the disk behind what is written while the file is open, that the ends of what has been accepted are
/// written when the disk is full too: so much, and so much for each that is open.
const RESERVE_BYTES: u64 = 8 << 10;
const END_BYTES: u64 = 1 << 10;

const NAME: &str = "journal";
const OLDER: &str = "journal.1";
const NEXT: &str = "journal.new";

/// An Execution that has been accepted and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) execution: ExecutionId,
    /// See [`crate::entry::INTERRUPT`].
    pub(crate) flags: u8,
}

/// How an Execution ended, as it was written.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) outputs: u64,
    pub(crate) outcome: Outcome,
    pub(crate) payload: Payload,
    /// Bytes of all its outputs.
    pub(crate) put_out: u64,
    /// Those that were written along with it.
    pub(crate) inline: Vec<(u64, Stored)>,
}

/// The journal of one notebook.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// `None` where nothing is kept.
    folder: Option<Arc<Path>>,
    file: Option<File>,
    bytes: u64,
    /// Up to where the disk has promised room.
    reserved: u64,
    known: VecDeque<u64>,
    /// Of those, how many the newer file is to blame for.
    since: usize,
    open: Vec<Open>,
    recent: VecDeque<ExecutionId>,
    unsaved: Unsaved,
    is_failing: bool,
    has_turned: bool,
}

impl Journal {
    /// Reads what a daemon before us has left in a folder, which need not be there yet.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn open(folder: &Arc<Path>) -> io::Result<Self> {
        let is_cut = Cell::new(false);
        let mut journal = Journal::read(folder, |name, bytes| {
            tracing::info!(name, "the journal's writer was killed half-way: its last entry is dropped");
            is_cut.set(true);
            OpenOptions::new().write(true).open(folder.join(name))?.set_len(bytes)
        })?;
        if is_cut.get() && !journal.open.is_empty() {
            // What was reserved for their ends has gone with it; if it cannot be had again, others are refused.
            let _ = journal.make_room();
        }
        Ok(journal)
    }

    /// The same, of one that somebody may be writing: nothing is changed, and what is being written is not seen yet.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn look(folder: &Arc<Path>) -> io::Result<Self> {
        Journal::read(folder, |_, _| Ok(()))
    }

    /// Reads both files. Of one that ends in the middle of an entry `cut` is told how long it is without that.
    fn read(folder: &Arc<Path>, cut: impl Fn(&'static str, u64) -> io::Result<()>) -> io::Result<Self> {
        let mut journal = Journal { folder: Some(Arc::clone(folder)), ..Journal::default() };
        for name in [OLDER, NAME] {
            journal.since = 0;
            journal.bytes = 0;
            let Some(mut entries) = open(&folder.join(name))? else { continue };
            while let Some(entry) = entries.next()? {
                journal.replay(entry);
            }
            journal.bytes = entries.offset();
            if entries.offset() < entries.file_bytes() {
                cut(name, entries.offset())?;
            }
        }
        Ok(journal)
    }

    fn replay(&mut self, entry: Entry) {
        let Entry { kind, flags, execution, payload, .. } = entry;
        match kind {
            Kind::Known => {
                let numbers = payload.chunks_exact(8);
                self.known =
                    numbers.map(|bytes| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))).collect();
            }
            Kind::Accepted => {
                self.note(&execution);
                if !self.is_open(&execution) {
                    self.open.push(Open { execution, flags });
                }
            }
            Kind::Ended => {
                self.note(&execution);
                self.open.retain(|open| open.execution != execution);
                self.ended(execution, flags);
            }
            Kind::Settled => drop(self.unsaved.settle(execution.as_str())),
            Kind::Output => {}
        }
    }

    fn note(&mut self, execution: &ExecutionId) {
        let fingerprint = fingerprint(execution);
        // The newest are at the end, and they are meant mostly.
        if !self.known.iter().rev().any(|known| *known == fingerprint) {
            self.known.push_back(fingerprint);
            self.since += 1;
        }
    }

    fn ended(&mut self, execution: ExecutionId, flags: u8) {
        if flags & SAVED != 0 {
            self.unsaved.clear();
        } else if flags & CHANGED != 0 {
            self.unsaved.changed(&execution);
        } else if flags & PASSED != 0 {
            self.unsaved.passed(&execution);
        }
        self.recent.push_back(execution);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    fn is_open(&self, execution: &ExecutionId) -> bool {
        self.open.iter().any(|open| open.execution == *execution)
    }

    /// Whether an Execution of that id has ever been, as far as that is remembered.
    pub(crate) fn knows(&self, execution: &ExecutionId) -> bool {
        let fingerprint = fingerprint(execution);
        self.known.contains(&fingerprint)
    }

    /// Whether it has been and has ended, as far as that is remembered.
    pub(crate) fn has_ended(&self, execution: &ExecutionId) -> bool {
        self.knows(execution) && !self.is_open(execution)
    }

    /// What has been accepted and has not ended.
    pub(crate) fn open_ones(&self) -> &[Open] {
        &self.open
    }

    /// What has ended last.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &ExecutionId> {
        self.recent.iter()
    }

    /// What is lost if there is no checkpoint of it and nobody knows of it any more.
    pub(crate) fn unsaved(&self) -> &Unsaved {
        &self.unsaved
    }

    /// Up to this one, or without one up to the last, all is saved, or told, or given up.
    pub(crate) fn settle(&mut self, up_to: Option<&ExecutionId>) {
        let Some(last) = up_to.or(self.unsaved.last()).cloned() else { return };
        if self.unsaved.settle(last.as_str()) {
            let mut bytes = Vec::new();
            Head::new(Kind::Settled, &last).write(&[], &[], &mut bytes);
            self.append(&bytes);
        }
    }

    /// Whether there is room for the end of one more, so that [`Journal::make_room`] has nothing to do.
    pub(crate) fn has_room(&self) -> bool {
        self.folder.is_none() || (self.file.is_some() && self.reserved >= self.bytes + self.wanted())
    }

    fn wanted(&self) -> u64 {
        RESERVE_BYTES + self.open.len() as u64 * END_BYTES
    }

    /// Sees that there is room for the end of one more.
    ///
    /// # Errors
    /// There is none: nothing more must be accepted.
    pub(crate) fn make_room(&mut self) -> io::Result<()> {
        self.reserve(0)
    }

    /// Sees that there is room for so many bytes, and for all ends after them.
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        if self.reserved >= self.bytes + bytes + self.wanted() {
            return Ok(());
        }
        // Twice, so that it is not asked for each time.
        let room = bytes + 2 * self.wanted();
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(append_to(&folder)?),
        };
        promise(file, self.bytes, room)?;
        self.reserved = self.bytes + room;
        Ok(())
    }

    /// Notes that an Execution is accepted, unless that is noted.
    pub(crate) fn accept(&mut self, execution: &ExecutionId, flags: u8) {
        if self.knows(execution) {
            return;
        }
        self.note(execution);
        let mut bytes = Vec::new();
        Head { flags, ..Head::new(Kind::Accepted, execution) }.write(&[], &[], &mut bytes);
        self.append(&bytes);
        self.open.push(Open { execution: execution.clone(), flags });
    }

    /// Notes an end, with outputs that are few and lie nowhere else; whether it is written.
    pub(crate) fn end<'a>(
        &mut self,
        execution: &ExecutionId,
        (outputs, put_out): (u64, u64),
        (outcome, payload): (&Outcome, &[u8]),
        inline: impl Iterator<Item = (u64, &'a Stored)>,
    ) -> bool {
        self.note(execution);
        self.open.retain(|open| open.execution != *execution);
        let flags = flags(outcome);
        self.ended(execution.clone(), flags);
        let mut bytes = Vec::new();
        let mut has_inline = false;
        for (number, stored) in inline {
            has_inline = true;
            let Ok(meta) = Codec::Json.encode(&stored.output) else { return false };
            let head = Head { number, before: stored.before, ..Head::new(Kind::Output, execution) };
            head.write(&meta, &stored.payload, &mut bytes);
        }
        let Ok(meta) = Codec::Json.encode(outcome) else { return false };
        let head = Head { flags, number: outputs, before: put_out, ..Head::new(Kind::Ended, execution) };
        head.write(&meta, payload, &mut bytes);
        // Not written at a venture: what does not fit takes with it the room that the ends have, when it is cut off.
        let fits = !has_inline || blocking(|| self.reserve(bytes.len() as u64)).is_ok();
        if fits && self.append(&bytes) {
            return true;
        }
        // The end itself is what must not be lost.
        bytes.clear();
        let head = Head { flags, number: outputs, before: put_out, ..Head::new(Kind::Ended, execution) };
        head.write(&meta, payload, &mut bytes);
        self.append(&bytes) && !has_inline
    }

    /// How it ended; `None` when that is not known any more.
    pub(crate) fn find(&self, execution: &ExecutionId) -> Option<Found> {
        let folder = self.folder.as_ref().filter(|_| self.knows(execution))?;
        let found = blocking(|| find(folder, execution));
        found.unwrap_or_else(|error| {
            tracing::warn!(%execution, %error, "could not read in the journal");
            None
        })
    }

    /// Whether Executions have been forgotten since this was asked last.
    pub(crate) fn take_turned(&mut self) -> bool {
        std::mem::take(&mut self.has_turned)
    }

    /// Lets go of the descriptor: nothing more is to come soon.
    pub(crate) fn rest(&mut self) {
        if let Some(file) = self.file.take()
            && self.reserved > self.bytes
        {
            // Gives back what was reserved and not needed.
            let _ = file.set_len(self.bytes);
        }
        self.reserved = 0;
    }

    fn append(&mut self, bytes: &[u8]) -> bool {
        let Some(folder) = self.folder.clone() else { return false };
        match self.write(&folder, bytes) {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the journal is written again");
                }
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    let path = folder.join(NAME);
                    tracing::warn!(path = %path.display(), %error, "the journal cannot be written: what ends now is lost with cellblockd and shim");
                }
                false
            }
        }
    }

    fn write(&mut self, folder: &Path, bytes: &[u8]) -> io::Result<()> {
        if (self.bytes >= FILE_BYTES || self.since >= REMEMBERED)
            && let Err(error) = self.rotate(folder)
        {
            // It grows meanwhile.
            tracing::debug!(%error, "no new journal could be begun");
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(append_to(folder)?),
        };
        if let Err(error) = file.write_all(bytes) {
            // Nothing may stand behind what is not whole. What was reserved goes with it.
            self.reserved = 0;
            if file.set_len(self.bytes).is_err() {
                self.file = None;
            }
            return Err(error);
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn rotate(&mut self, folder: &Path) -> io::Result<()> {
        let surplus = self.known.len().saturating_sub(REMEMBERED);
        self.known.drain(..surplus);
        let mut begin = Vec::new();
        let fingerprints: Vec<u8> = self.known.iter().flat_map(|known| known.to_le_bytes()).collect();
        let Some(anybody) = self.recent.back().or(self.open.first().map(|open| &open.execution)) else {
            return Ok(());
        };
        Head::new(Kind::Known, anybody).write(&[], &fingerprints, &mut begin);
        for Open { execution, flags } in &self.open {
            Head { flags: *flags, ..Head::new(Kind::Accepted, execution) }.write(&[], &[], &mut begin);
        }
        // Whole, before it takes the place of the one there is.
        let room = 2 * self.wanted();
        let next = folder.join(NEXT);
        let mut file =
            OpenOptions::new().append(true).create(true).truncate(false).mode(0o600).open(&next)?;
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all(&begin))
            .and_then(|()| promise(&file, begin.len() as u64, room));
        if let Err(error) = written {
            let _ = fs::remove_file(&next);
            return Err(error);
        }
        fs::rename(folder.join(NAME), folder.join(OLDER))?;
        fs::rename(&next, folder.join(NAME))?;
        (self.bytes, self.since, self.has_turned) = (begin.len() as u64, 0, true);
        self.reserved = self.bytes + room;
        self.file = Some(file);
        Ok(())
    }
}

/// Has the disk promise room behind what is written.
fn promise(file: &File, bytes: u64, room: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, bytes, room) {
        // Not every file system can.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The newer file, to be appended to, in its folder.
fn append_to(folder: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join(NAME));
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(folder)?;
            open()
        }
        opened => opened,
    }
}

/// Makes the folder of a notebook's outputs, which nobody but cellblockd looks into. The notebook's own is there,
/// or it has been deleted.
///
/// # Errors
/// What the disk says.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn open(path: &PathBuf) -> io::Result<Option<Entries>> {
    match File::open(path) {
        Ok(file) => Entries::open(file, 0).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn find(folder: &Path, execution: &ExecutionId) -> io::Result<Option<Found>> {
    for name in [NAME, OLDER] {
        let Some(mut entries) = open(&folder.join(name))? else { continue };
        let mut inline = Vec::new();
        while let Some(entry) = entries.next()? {
            if entry.execution != *execution {
                continue;
            }
            let (meta, payload) = (&entry.meta, Payload::new(entry.payload));
            match entry.kind {
                Kind::Output => {
                    let output = Codec::Json.decode(meta).map_err(io::Error::other)?;
                    inline.push((entry.number, Stored { output, payload, before: entry.before }));
                }
                Kind::Ended => {
                    let outcome = Codec::Json.decode(meta).map_err(io::Error::other)?;
                    let (outputs, put_out) = (entry.number, entry.before);
                    return Ok(Some(Found { outputs, outcome, payload, put_out, inline }));
                }
                Kind::Accepted | Kind::Known | Kind::Settled => {}
            }
        }
    }
    Ok(None)
}

/// What an end says of the variables.
fn flags(outcome: &Outcome) -> u8 {
    match outcome.checkpoint {
        _ if outcome.end == End::WorkerDied(Death::ShimLost) => PASSED,
        _ if outcome.variables != Variables::Kept || !outcome.has_begun() => 0,
        Some(Checkpoint::Saved { .. } | Checkpoint::Partial { .. }) => CHANGED | SAVED,
        _ => CHANGED,
    }
}

/// FNV-1a: it stays the same in every build.
fn fingerprint(execution: &ExecutionId) -> u64 {
    execution
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
