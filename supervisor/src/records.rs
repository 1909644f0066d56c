//! What is kept of a notebook's Executions so that clients can attach: outputs, ends, and who is attached. In
//! memory it is bounded; what does not stay there is on the disk, an Execution that has ended as a whole, so that
//! it can be read again after any restart. A cell that nobody reads runs on.

mod record;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use cellblock_proto::execution::{Outcome, Output};
use cellblock_proto::id::ExecutionId;

use crate::delivery::Attachment;
use crate::entry::INTERRUPT;
use crate::journal::Journal;
use crate::outbox::Payload;
use crate::spill::{Shelf, Spill};
use crate::unsaved::Unsaved;
pub(crate) use record::{Ended, Next, Record, Stored};
use record::{IsWritten, MEMORY_BYTES};

/// Outputs kept in memory for one notebook, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// Ended Executions that stay in memory; the others are read again when they are asked for.
const MAX_ENDED: usize = 64;

/// Whether a shim may forget something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Yes.
    Free,
    /// Nobody waits for it, but it lies in our memory only.
    Soft,
    /// Somebody is reading it, or may come back for it while it runs.
    Hard,
}

/// What an event of a shim must not be forgotten for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nothing.
    Nothing,
    /// An output, by number.
    Output(ExecutionId, u64),
    /// The end of an Execution.
    Outcome(ExecutionId),
    /// What it has given back: until somebody else holds it, there is nothing of it but this and our memory.
    Returned(ExecutionId),
}

/// All Executions of a notebook.
#[derive(Debug, Default)]
pub(crate) struct Records {
    map: HashMap<ExecutionId, Record>,
    /// Those that a worker which has ended has given back, and that no other has yet.
    given_back: BTreeSet<ExecutionId>,
    /// Ended ones, oldest first: the order of eviction.
    ended: VecDeque<ExecutionId>,
    /// One may have become such that it need not be in memory.
    has_idle: bool,
    /// Those with readers, so that nobody looks through a thousand ended ones.
    read: BTreeSet<ExecutionId>,
    bytes: usize,
    /// Those whose last reader has gone, and which are to end then.
    deserted: Vec<ExecutionId>,
    /// Where the rest is; `None` where nothing is kept.
    folder: Option<Arc<Path>>,
    journal: Journal,
    shelf: Shelf,
}

impl Records {
    /// What daemons before us have left in a folder, which need not be there.
    pub(crate) fn open(folder: &Path) -> Self {
        let folder: Arc<Path> = folder.into();
        let opened = crate::entry::blocking(|| {
            let journal = Journal::open(&folder)?;
            let shelf = Shelf::open(&folder, &journal)?;
            std::io::Result::Ok((journal, shelf))
        });
        let (journal, shelf) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let path = folder.display();
                tracing::error!(%path, %error, "could not read what was kept of executions: nothing is kept");
                return Records::default();
            }
        };
        let mut records = Records { folder: Some(folder), journal, shelf, ..Records::default() };
        for open in records.journal.open_ones().to_vec() {
            let spill = records.find_spill(&open.execution);
            records.map.insert(open.execution, Record::taken_up(spill, open.flags & INTERRUPT != 0));
        }
        records
    }

    fn find_spill(&self, execution: &ExecutionId) -> Option<Spill> {
        let found = crate::entry::blocking(|| Spill::find(self.folder.as_ref()?, execution).transpose());
        match found.transpose() {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%execution, %error, "could not look for outputs on the disk");
                None
            }
        }
    }

    /// Whether there is a place on the disk.
    pub(crate) fn is_open(&self) -> bool {
        self.folder.is_some()
    }

    /// Whether an Execution of that id has been, as far as that is remembered.
    pub(crate) fn knows(&self, execution: &ExecutionId) -> bool {
        self.map.contains_key(execution) || self.journal.knows(execution)
    }

    /// Whether it has been and has ended, as far as that is remembered.
    pub(crate) fn has_ended(&self, execution: &ExecutionId) -> bool {
        self.journal.has_ended(execution)
    }

    /// Whether it was accepted and has not ended.
    pub(crate) fn is_accepted(&self, execution: &ExecutionId) -> bool {
        self.journal.knows(execution) && !self.journal.has_ended(execution)
    }

    /// Those that a daemon before us had accepted and whose end nobody has told.
    pub(crate) fn open_ones(&self) -> Vec<ExecutionId> {
        self.journal.open_ones().iter().map(|open| open.execution.clone()).collect()
    }

    /// Those that have ended last, also in the time of daemons before us.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &ExecutionId> {
        self.journal.recent()
    }

    /// See [`Journal::unsaved`].
    pub(crate) fn unsaved(&self) -> &Unsaved {
        self.journal.unsaved()
    }

    /// See [`Journal::settle`].
    pub(crate) fn settle(&mut self, up_to: Option<&ExecutionId>) {
        self.journal.settle(up_to);
    }

    /// A worker that has ended has given it back (`true`), or somebody else has it, or nobody needs to.
    pub(crate) fn give_back(&mut self, execution: &ExecutionId, is_given_back: bool) {
        if is_given_back {
            self.given_back.insert(execution.clone());
        } else {
            self.given_back.remove(execution);
        }
    }

    /// The record, made when it is new.
    pub(crate) fn ensure(&mut self, execution: &ExecutionId) -> &mut Record {
        self.map.entry(execution.clone()).or_default()
    }

    /// The record, read again when it has ended and is not in memory; `None` when it never was, or is no more.
    pub(crate) fn find(&mut self, execution: &ExecutionId) -> Option<&mut Record> {
        if !self.map.contains_key(execution) && self.journal.has_ended(execution) {
            let found = self.journal.find(execution)?;
            let record = Record::found(found, self.find_spill(execution));
            self.bytes += record.bytes;
            self.map.insert(execution.clone(), record);
            self.ended.push_back(execution.clone());
            self.has_idle = true;
        }
        self.map.get_mut(execution)
    }

    /// Adds a reader.
    pub(crate) fn attach(&mut self, execution: &ExecutionId, attachment: Attachment) {
        let record = self.map.entry(execution.clone()).or_default();
        record.attach(attachment);
        self.read.insert(execution.clone());
    }

    /// A new Execution: its outputs begin at 0. Whether it is to end when nobody is attached.
    pub(crate) fn create(&mut self, execution: &ExecutionId, interrupt: bool) {
        let record = self.ensure(execution);
        (record.next, record.interrupt) = (Some(0), interrupt);
    }

    /// Its shim has it: noted before anybody is told.
    pub(crate) fn accept(&mut self, execution: &ExecutionId, position: u32) {
        let record = self.map.entry(execution.clone()).or_default();
        record.accepted = Some(position);
        self.journal.accept(execution, if record.interrupt { INTERRUPT } else { 0 });
    }

    /// Sees that the end of one more can be kept.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn make_room(&mut self) -> std::io::Result<()> {
        if self.journal.has_room() {
            return Ok(());
        }
        crate::entry::blocking(|| self.journal.make_room())
    }

    /// Whether somebody is still being told an end.
    pub(crate) fn is_telling(&self) -> bool {
        self.read.iter().any(|id| self.map.get(id).is_some_and(|record| record.ended.is_some()))
    }

    /// Keeps an output.
    pub(crate) fn add(&mut self, execution: &ExecutionId, seq: u64, output: Output, payload: Payload) {
        if self.find(execution).is_none() && self.journal.knows(execution) {
            // It has ended, and how is kept no more.
            return;
        }
        let record = self.map.entry(execution.clone()).or_default();
        let before = record.bytes;
        if record.add(seq, output, payload) && record.is_to_be_saved() {
            record.save(self.folder.as_ref(), execution);
            record.let_go(MEMORY_BYTES);
            if record.ended.is_some()
                && let Some(spill) = &mut record.spill
            {
                spill.rest();
            }
        }
        self.bytes = self.bytes + record.bytes - before;
    }

    /// Keeps an end; without `outputs` there were as many as we have seen.
    pub(crate) fn end(
        &mut self,
        execution: &ExecutionId,
        outputs: Option<u64>,
        outcome: Outcome,
        payload: Payload,
    ) {
        if self.journal.has_ended(execution) {
            // Told again by a shim that had not heard that it is taken.
            return;
        }
        let record = self.map.entry(execution.clone()).or_default();
        let before = record.bytes;
        let outputs = outputs.max(record.next).unwrap_or(0);
        record.asks = Some(false);
        let numbers = (outputs, record.put_out);
        let saved = if let Some(inline) = record.inline() {
            self.journal.end(execution, numbers, (&outcome, &payload), inline)
        } else {
            let saved = record.save(self.folder.as_ref(), execution);
            self.journal.end(execution, numbers, (&outcome, &payload), std::iter::empty()) && saved
        };
        if saved && record.spill.is_none() {
            record.inlined();
        }
        if let Some(spill) = &mut record.spill {
            spill.rest();
            self.shelf.put(self.folder.as_deref(), execution, spill.bytes());
        }
        record.let_go(MEMORY_BYTES);
        self.bytes = self.bytes + record.bytes - before;
        record.ended = Some(Ended { outputs, outcome, payload, written: false, saved });
        self.ended.push_back(execution.clone());
        self.has_idle = true;
        if let (true, Some(folder)) = (self.journal.take_turned(), &self.folder) {
            self.shelf.clear(folder, &self.journal);
        }
    }

    /// Forgets an Execution. Those who still read it are told that it is no more.
    pub(crate) fn forget(&mut self, execution: &ExecutionId) -> Vec<Attachment> {
        self.ended.retain(|id| id != execution);
        self.read.remove(execution);
        let Some(record) = self.map.remove(execution) else { return Vec::new() };
        self.bytes -= record.bytes;
        record.attached
    }

    /// As [`Records::forget`], unless it is on the disk: then those who read it go on.
    pub(crate) fn let_go(&mut self, execution: &ExecutionId) -> Vec<Attachment> {
        let is_saved = |record: &Record| record.ended.as_ref().is_some_and(|ended| ended.saved);
        if self.read.contains(execution) && self.map.get(execution).is_some_and(is_saved) {
            return Vec::new();
        }
        self.forget(execution)
    }

    /// Gives readers what there is and room for; whether reading from the shim has to wait for one of them.
    pub(crate) fn deliver(&mut self, wake: &Arc<tokio::sync::Notify>) -> bool {
        let mut blocked = false;
        let (map, deserted, has_idle) = (&mut self.map, &mut self.deserted, &mut self.has_idle);
        self.read.retain(|execution| {
            let Some(record) = map.get_mut(execution) else { return false };
            blocked |= crate::delivery::deliver(execution, record, wake) && record.ended.is_none();
            if record.attached.is_empty() && record.interrupt && record.ended.is_none() {
                deserted.push(execution.clone());
            }
            *has_idle |= record.attached.is_empty();
            !record.attached.is_empty()
        });
        self.evict();
        blocked
    }

    /// How much is kept in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether anybody still reads.
    pub(crate) fn has_readers(&self) -> bool {
        !self.read.is_empty()
    }

    /// Those that are to end because nobody is attached any more.
    pub(crate) fn take_deserted(&mut self) -> Vec<ExecutionId> {
        std::mem::take(&mut self.deserted)
    }

    /// Those of them that nobody has come back to since a daemon before us ended.
    pub(crate) fn desert_unread(&mut self) {
        let unread =
            |record: &Record| record.interrupt && record.ended.is_none() && record.attached.is_empty();
        let unread = self.map.iter().filter(|(_, record)| unread(record)).map(|(id, _)| id.clone());
        self.deserted.extend(unread);
    }

    /// Whether there are any for [`Records::desert_unread`] to look at.
    pub(crate) fn has_deserted(&self) -> bool {
        self.map.values().any(|record| record.interrupt && record.ended.is_none())
    }

    /// Forgets what is not known to be an Execution of this notebook.
    pub(crate) fn retain(&mut self, known: impl Fn(&ExecutionId) -> bool) {
        let is_unknown = |id: &&ExecutionId| !known(id) && !self.journal.knows(id);
        let unknown: Vec<ExecutionId> = self.map.keys().filter(is_unknown).cloned().collect();
        for execution in unknown {
            self.forget(&execution);
        }
    }

    /// There is no worker any more: nothing is kept in memory, and no descriptor, that need not be.
    pub(crate) fn rest(&mut self) {
        self.journal.rest();
        self.release(0);
        for record in self.map.values_mut() {
            if let Some(spill) = &mut record.spill {
                spill.rest();
            }
        }
    }

    /// Lets go of ended Executions that can be read again, the oldest first, until so many are left.
    fn release(&mut self, keep: usize) {
        let mut surplus = self.ended.len().saturating_sub(keep);
        let (map, bytes) = (&mut self.map, &mut self.bytes);
        self.ended.retain(|execution| {
            let goes = surplus > 0 && map.get(execution).is_none_or(Record::can_be_read_again);
            if goes {
                surplus -= 1;
                *bytes -= map.remove(execution).map_or(0, |record| record.bytes);
            }
            !goes
        });
    }

    fn evict(&mut self) {
        if std::mem::take(&mut self.has_idle) && self.ended.len() > MAX_ENDED {
            self.release(MAX_ENDED);
        }
        while self.bytes > MAX_BYTES && self.release_one() {}
        if self.bytes <= MAX_BYTES {
            return;
        }
        for record in self.map.values_mut() {
            let before = record.bytes;
            record.let_go(0);
            self.bytes -= before - record.bytes;
        }
        // The disk has not taken them, and nobody reads them: the oldest go.
        let unread = |map: &HashMap<ExecutionId, Record>, id: &ExecutionId| {
            map.get(id).is_some_and(|record| record.attached.is_empty() && record.bytes > 0)
        };
        for execution in self.ended.clone() {
            if self.bytes <= MAX_BYTES {
                return;
            }
            if unread(&self.map, &execution)
                && let Some(record) = self.map.get_mut(&execution)
            {
                self.bytes -= record.drop_outputs();
            }
        }
    }

    fn release_one(&mut self) -> bool {
        let is_idle = |id: &ExecutionId| self.map.get(id).is_none_or(Record::can_be_read_again);
        let Some(at) = self.ended.iter().position(is_idle) else { return false };
        let Some(execution) = self.ended.remove(at) else { return false };
        self.bytes -= self.map.remove(&execution).map_or(0, |record| record.bytes);
        true
    }

    /// Whether the shim may forget what this hold is about.
    pub(crate) fn held(&self, hold: &Hold) -> Held {
        match hold {
            Hold::Nothing => Held::Free,
            Hold::Output(execution, seq) => {
                let Some(record) = self.map.get(execution) else { return Held::Free };
                match record.needs(*seq) {
                    None => Held::Free,
                    Some(IsWritten(true)) => Held::Soft,
                    Some(IsWritten(false)) => self.held_for_readers(execution, record),
                }
            }
            Hold::Outcome(execution) => match self.map.get(execution) {
                Some(record) if record.ended.as_ref().is_some_and(|ended| !ended.saved && !ended.written) => {
                    self.held_for_readers(execution, record)
                }
                _ => Held::Free,
            },
            Hold::Returned(execution) if self.given_back.contains(execution) => Held::Hard,
            Hold::Returned(_) => Held::Free,
        }
    }

    fn held_for_readers(&self, execution: &ExecutionId, record: &Record) -> Held {
        if record.ended.is_some() && !self.read.contains(execution) { Held::Soft } else { Held::Hard }
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
