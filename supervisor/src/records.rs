//! What is kept of a notebook's Executions so that clients can attach: outputs, ends, and who is
//! attached. Bounded: what has been read goes first, oldest first; what nobody has read yet goes
//! only when nobody has come for it in time, and then from the middle, with the gap marked.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use cellblock_proto::execution::{Outcome, Output};
use cellblock_proto::id::ExecutionId;

use crate::delivery::Attachment;
use crate::outbox::Payload;

/// Outputs kept for one notebook, in bytes. Reading from the shim stops above it.
const MAX_BYTES: usize = 16 << 20;

/// Eviction goes down to here, so that it does not run for each output.
const EVICT_TO_BYTES: usize = MAX_BYTES / 4 * 3;

/// Outputs kept of an Execution that nobody is attached to, in bytes; above it reading stops, or,
/// once that has lasted too long, the middle is dropped. More than a shim retains, so that in
/// general it is the shim that stops the writer and decides what to keep.
const MAX_UNREAD_BYTES: usize = 12 << 20;

/// What an output costs besides its payload, about.
const OVERHEAD_BYTES: usize = 256;

/// An output as it is kept.
#[derive(Debug)]
pub(crate) struct Stored {
    /// What it is.
    pub(crate) output: Output,
    /// Its bytes.
    pub(crate) payload: Payload,
}

impl Stored {
    fn bytes(&self) -> usize {
        self.payload.len() + OVERHEAD_BYTES
    }
}

/// The end of an Execution as it is kept.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How many outputs there were.
    pub(crate) outputs: u64,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// The bytes of its expressions.
    pub(crate) payload: Payload,
    /// Whether it has reached a client's socket.
    pub(crate) written: bool,
}

/// What comes next for a reader.
pub(crate) enum Next<'a> {
    /// This output, under its number.
    Output(u64, &'a Stored),
    /// Nothing before this number is left; so many bytes are missing.
    Gap { resume_at: u64, dropped_bytes: u64 },
    /// Nothing yet.
    Nothing,
}

/// One Execution.
#[derive(Debug, Default)]
pub(crate) struct Record {
    outputs: BTreeMap<u64, Stored>,
    bytes: usize,
    /// The number of the next output; unknown when an earlier daemon saw the last one.
    next: Option<u64>,
    /// Every output before this number has reached a client's socket, or a client said so.
    written: u64,
    /// Bytes of those that have not.
    unwritten_bytes: usize,
    dropped_bytes: u64,
    /// Nobody came: from this number on the oldest are dropped.
    lossy_from: Option<u64>,
    /// The place in the queue that the shim gave it.
    pub(crate) accepted: Option<u32>,
    /// Its end.
    pub(crate) ended: Option<Ended>,
    /// Who reads it.
    pub(crate) attached: Vec<Attachment>,
    /// Whether it waits for input; unknown when an earlier daemon saw the question.
    pub(crate) asks: Option<bool>,
}

impl Record {
    fn add(&mut self, seq: u64, stored: Stored) {
        if self.next.is_some_and(|next| seq < next) {
            tracing::warn!(seq, "the shim numbered an output twice; dropped");
            return;
        }
        self.asks = Some(matches!(stored.output, Output::InputRequest { .. }));
        self.next = Some(seq + 1);
        // A background task may print after its Execution has ended.
        if let Some(ended) = &mut self.ended {
            ended.outputs = ended.outputs.max(seq + 1);
        }
        self.bytes += stored.bytes();
        if seq >= self.written {
            self.unwritten_bytes += stored.bytes();
        }
        self.outputs.insert(seq, stored);
        self.drop_middle();
    }

    fn remove(&mut self, seq: u64) -> usize {
        let Some(stored) = self.outputs.remove(&seq) else { return 0 };
        let bytes = stored.bytes();
        self.bytes -= bytes;
        self.dropped_bytes += stored.payload.len() as u64;
        if seq >= self.written {
            self.unwritten_bytes -= bytes;
        }
        bytes
    }

    fn drop_middle(&mut self) {
        let Some(from) = self.lossy_from else { return };
        while self.unwritten_bytes > MAX_UNREAD_BYTES {
            // The newest always stays: it is what the reader will want to see.
            let mut tail = self.outputs.range(from.max(self.written)..).map(|(seq, _)| *seq);
            let (Some(oldest), Some(_)) = (tail.next(), tail.next()) else { return };
            self.remove(oldest);
        }
    }

    /// From now on its outputs do not hold anybody up: head and tail are kept.
    fn give_up(&mut self) {
        let mut head_bytes = 0;
        let from = self.outputs.range(self.written..).find_map(|(seq, stored)| {
            head_bytes += stored.bytes();
            (head_bytes > MAX_UNREAD_BYTES / 2).then_some(*seq)
        });
        self.lossy_from = from.or(self.next);
    }

    fn evict(&mut self, want: usize) -> usize {
        let read = self.attached.iter().map(Attachment::next).min().unwrap_or(u64::MAX).min(self.written);
        let limit = if self.ended.is_some() && self.attached.is_empty() { u64::MAX } else { read };
        let mut freed = 0;
        while freed < want {
            match self.outputs.first_key_value() {
                Some((&seq, _)) if seq < limit => freed += self.remove(seq),
                _ => break,
            }
        }
        freed
    }

    /// Notes that everything before `upto` has reached a reader.
    pub(crate) fn mark_written(&mut self, upto: u64) {
        if upto > self.written {
            let newly: usize = self.outputs.range(self.written..upto).map(|(_, stored)| stored.bytes()).sum();
            self.unwritten_bytes -= newly;
            self.written = upto;
        }
    }

    /// What a reader gets who has everything before `from`.
    pub(crate) fn next_from(&self, from: u64) -> Next<'_> {
        let dropped_bytes = self.dropped_bytes;
        match self.outputs.range(from..).next() {
            // A mark stands for what is missing before it.
            Some((&seq, stored)) if seq == from || matches!(stored.output, Output::Truncated { .. }) => {
                Next::Output(seq, stored)
            }
            Some((&resume_at, _)) => Next::Gap { resume_at, dropped_bytes },
            None => match self.end_seq() {
                Some(resume_at) if from < resume_at => Next::Gap { resume_at, dropped_bytes },
                _ => Next::Nothing,
            },
        }
    }

    /// The number after the last output, as far as it is known.
    pub(crate) fn end_seq(&self) -> Option<u64> {
        self.ended.as_ref().map(|ended| ended.outputs).max(self.next)
    }

    /// Adds a reader.
    pub(crate) fn attach(&mut self, attachment: Attachment) {
        self.mark_written(attachment.next());
        self.lossy_from = None;
        self.attached.push(attachment);
    }

    fn is_unread(&self) -> bool {
        self.attached.is_empty()
            && self.ended.is_none()
            && self.lossy_from.is_none()
            && self.unwritten_bytes >= MAX_UNREAD_BYTES
    }
}

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
}

/// Why reading from the shim has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// A client reads slowly.
    Reader,
    /// Nobody reads.
    Unread,
}

/// All Executions of a notebook.
#[derive(Debug, Default)]
pub(crate) struct Records {
    map: HashMap<ExecutionId, Record>,
    /// Ended ones, oldest first: the order of eviction.
    ended: VecDeque<ExecutionId>,
    /// Those with readers, so that nobody looks through a thousand ended ones.
    read: BTreeSet<ExecutionId>,
    /// Those that may be unread.
    unread: BTreeSet<ExecutionId>,
    bytes: usize,
}

impl Records {
    /// The record, made when it is new.
    pub(crate) fn ensure(&mut self, execution: &ExecutionId) -> &mut Record {
        self.map.entry(execution.clone()).or_default()
    }

    /// The record.
    pub(crate) fn get(&self, execution: &ExecutionId) -> Option<&Record> {
        self.map.get(execution)
    }

    /// Adds a reader.
    pub(crate) fn attach(&mut self, execution: &ExecutionId, attachment: Attachment) {
        self.ensure(execution).attach(attachment);
        self.read.insert(execution.clone());
    }

    /// A new Execution: its outputs begin at 0.
    pub(crate) fn create(&mut self, execution: &ExecutionId) {
        self.ensure(execution).next = Some(0);
    }

    /// Keeps an output.
    pub(crate) fn add(&mut self, execution: &ExecutionId, seq: u64, output: Output, payload: Payload) {
        let record = self.map.entry(execution.clone()).or_default();
        let before = record.bytes;
        record.add(seq, Stored { output, payload });
        self.bytes = self.bytes + record.bytes - before;
        if record.is_unread() {
            self.unread.insert(execution.clone());
        }
    }

    /// Keeps an end; without `outputs` there were as many as we have seen.
    pub(crate) fn end(
        &mut self,
        execution: &ExecutionId,
        outputs: Option<u64>,
        outcome: Outcome,
        payload: Payload,
    ) {
        let record = self.map.entry(execution.clone()).or_default();
        let outputs = outputs.or(record.next).unwrap_or(0);
        record.asks = Some(false);
        record.ended = Some(Ended { outputs, outcome, payload, written: false });
        self.ended.push_back(execution.clone());
    }

    /// Forgets an Execution. Those who still read it are told that it is no more.
    pub(crate) fn forget(&mut self, execution: &ExecutionId) -> Vec<Attachment> {
        self.ended.retain(|id| id != execution);
        self.read.remove(execution);
        self.unread.remove(execution);
        let Some(record) = self.map.remove(execution) else { return Vec::new() };
        self.bytes -= record.bytes;
        record.attached
    }

    /// Gives readers what there is and room for; returns why reading from the shim has to wait.
    pub(crate) fn deliver(&mut self, wake: &std::sync::Arc<tokio::sync::Notify>) -> Option<Pressure> {
        let mut blocked = false;
        let map = &mut self.map;
        self.read.retain(|execution| {
            let Some(record) = map.get_mut(execution) else { return false };
            blocked |= crate::delivery::deliver(execution, record, wake) && record.ended.is_none();
            if record.attached.is_empty() && record.is_unread() {
                self.unread.insert(execution.clone());
            }
            !record.attached.is_empty()
        });
        self.evict();
        self.unread.retain(|execution| map_unread(&self.map, execution));
        if blocked || (self.bytes > MAX_BYTES && self.unread.is_empty()) {
            Some(Pressure::Reader)
        } else if self.unread.is_empty() {
            None
        } else {
            Some(Pressure::Unread)
        }
    }

    /// Whether anybody still reads.
    pub(crate) fn has_readers(&self) -> bool {
        !self.read.is_empty()
    }

    /// Forgets what is not known to be an Execution of this notebook.
    pub(crate) fn retain(&mut self, known: impl Fn(&ExecutionId) -> bool) {
        let unknown: Vec<ExecutionId> = self.map.keys().filter(|id| !known(id)).cloned().collect();
        for execution in unknown {
            self.forget(&execution);
        }
    }

    /// Nobody came for what is unread: it must not hold the notebook up any longer.
    pub(crate) fn give_up_unread(&mut self) {
        for execution in std::mem::take(&mut self.unread) {
            if let Some(record) = self.map.get_mut(&execution) {
                tracing::warn!(%execution, "nobody reads its output: head and tail are kept from now on");
                record.give_up();
            }
        }
    }

    fn evict(&mut self) {
        if self.bytes <= MAX_BYTES {
            return;
        }
        let live = self.map.iter().filter(|(_, record)| record.ended.is_none()).map(|(id, _)| id.clone());
        let order: Vec<ExecutionId> = self.ended.iter().cloned().chain(live).collect();
        for execution in order {
            let want = self.bytes.saturating_sub(EVICT_TO_BYTES);
            if want == 0 {
                break;
            }
            if let Some(record) = self.map.get_mut(&execution) {
                self.bytes -= record.evict(want);
            }
        }
    }

    /// Whether the shim may forget what this hold is about.
    pub(crate) fn held(&self, hold: &Hold) -> Held {
        let (execution, needed) = match hold {
            Hold::Nothing => return Held::Free,
            Hold::Output(execution, seq) => {
                let needed = |record: &Record| {
                    *seq >= record.written && record.lossy_from.is_none() && record.outputs.contains_key(seq)
                };
                (execution, self.map.get(execution).filter(|record| needed(record)))
            }
            Hold::Outcome(execution) => {
                let unwritten = |record: &&Record| record.ended.as_ref().is_some_and(|ended| !ended.written);
                (execution, self.map.get(execution).filter(unwritten))
            }
        };
        match needed {
            None => Held::Free,
            Some(record) if record.ended.is_some() && !self.read.contains(execution) => Held::Soft,
            Some(_) => Held::Hard,
        }
    }
}

fn map_unread(map: &HashMap<ExecutionId, Record>, execution: &ExecutionId) -> bool {
    map.get(execution).is_some_and(Record::is_unread)
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
