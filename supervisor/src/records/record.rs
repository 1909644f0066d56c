//! What is kept of one Execution: the newest outputs in memory, those before them on the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cellblock_proto::execution::{Outcome, Output};
use cellblock_proto::id::ExecutionId;

use crate::delivery::Attachment;
use crate::journal::Found;
use crate::outbox::Payload;
use crate::spill::{self, Ahead, Spill};

/// Outputs that lie in memory only, in bytes; with more they go to the disk. Less than a shim is left with
/// ([`crate::taken`]), so that no output is lost with us alone.
const UNSAVED_BYTES: usize = 1 << 20;

/// What stays in memory of an Execution, so that who reads at its pace reads from there; and all that is kept of
/// it when the disk does not take it, head and tail.
pub(super) const MEMORY_BYTES: usize = 2 << 20;

/// Outputs that are written along with the Outcome instead of into a file of their own, in bytes.
const INLINE_BYTES: usize = 16 << 10;

/// What an output costs besides its payload, about.
const OVERHEAD_BYTES: usize = 256;

/// An output as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// What it is.
    pub(crate) output: Output,
    /// Its bytes.
    pub(crate) payload: Payload,
    /// How many bytes its Execution had put out before.
    pub(crate) before: u64,
}

impl Stored {
    fn bytes(&self) -> usize {
        self.payload.len() + OVERHEAD_BYTES
    }

    /// How many bytes its Execution had put out with it.
    pub(crate) fn after(&self) -> u64 {
        self.before + self.payload.len() as u64
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
    /// Whether it is in the journal, with all outputs on the disk.
    pub(crate) saved: bool,
}

/// What comes next for a reader.
pub(crate) enum Next {
    /// This output, under its number.
    Output(u64, Stored),
    /// Nothing before this number is left; so many bytes are missing, and why.
    Gap { resume_at: u64, dropped_bytes: u64, position: u64, reason: String },
    /// Nothing yet.
    Nothing,
}

/// One Execution.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Those in memory.
    pub(super) outputs: BTreeMap<u64, Stored>,
    pub(super) bytes: usize,
    /// The number of the next output; unknown when an earlier daemon saw the last one.
    pub(super) next: Option<u64>,
    /// Bytes put out.
    pub(super) put_out: u64,
    /// What is kept before this number is on the disk.
    pub(super) saved: u64,
    unsaved_bytes: usize,
    pub(super) spill: Option<Spill>,
    /// What is on the disk is in the journal, all or at first, and in memory as long as this is.
    pub(super) is_inline: bool,
    /// The disk did not take it; from this number on the oldest are dropped.
    lossy_from: Option<u64>,
    /// Every output before this number has reached a client's socket, or a client said so.
    written: u64,
    /// The place in the queue that the shim gave it.
    pub(crate) accepted: Option<u32>,
    /// It is to end when nobody is attached.
    pub(crate) interrupt: bool,
    /// Its end.
    pub(crate) ended: Option<Ended>,
    /// Who reads it.
    pub(crate) attached: Vec<Attachment>,
    /// Whether it waits for input; unknown when an earlier daemon saw the question.
    pub(crate) asks: Option<bool>,
}

impl Record {
    /// What a daemon before us had on the disk of one that had not ended.
    pub(super) fn taken_up(spill: Option<Spill>, interrupt: bool) -> Self {
        let mut record = Record { interrupt, ..Record::default() };
        record.take_spill(spill);
        record
    }

    /// One that has ended, as the journal has it.
    pub(super) fn found(found: Found, spill: Option<Spill>) -> Self {
        let Found { outputs, outcome, payload, put_out, inline } = found;
        let mut record = Record { next: Some(outputs), put_out, asks: Some(false), ..Record::default() };
        record.take_inline(inline);
        record.take_spill(spill);
        let outputs = record.next.unwrap_or(outputs);
        record.ended = Some(Ended { outputs, outcome, payload, written: true, saved: true });
        record
    }

    fn take_spill(&mut self, spill: Option<Spill>) {
        if let Some(spill) = spill {
            self.next = self.next.max(Some(spill.next()));
            self.put_out = self.put_out.max(spill.put_out());
            self.saved = self.saved.max(spill.next());
            self.spill = Some(spill);
        }
    }

    /// What was written along with its end.
    fn take_inline(&mut self, inline: Vec<(u64, Stored)>) {
        self.is_inline = !inline.is_empty();
        for (seq, stored) in inline {
            self.bytes += stored.bytes();
            self.saved = self.saved.max(seq + 1);
            self.outputs.insert(seq, stored);
        }
    }

    /// Whether it is new, and not what a shim repeats.
    pub(super) fn add(&mut self, seq: u64, output: Output, payload: Payload) -> bool {
        if self.next.is_some_and(|next| seq < next) {
            return false;
        }
        self.asks = Some(matches!(output, Output::InputRequest { .. }));
        self.next = Some(seq + 1);
        // A background task may print after its Execution has ended.
        if let Some(ended) = &mut self.ended {
            ended.outputs = ended.outputs.max(seq + 1);
        }
        let stored = Stored { output, payload, before: self.put_out };
        self.put_out = stored.after();
        self.bytes += stored.bytes();
        self.unsaved_bytes += stored.bytes();
        self.outputs.insert(seq, stored);
        true
    }

    /// Whether it is time to bring what is in memory to the disk.
    pub(super) fn is_to_be_saved(&self) -> bool {
        self.unsaved_bytes >= UNSAVED_BYTES || (self.ended.is_some() && self.unsaved_bytes > 0)
    }

    /// Brings what lies in memory only to the disk. When that does not take it, head and tail stay in memory:
    /// that is no reason to hold the cell up, and none for it to fail.
    pub(super) fn save(&mut self, folder: Option<&Arc<Path>>, execution: &ExecutionId) -> bool {
        if self.unsaved_bytes == 0 {
            return true;
        }
        let result = match folder {
            Some(folder) => {
                let spill = self.spill.get_or_insert_with(|| Spill::new(folder, execution));
                let unsaved = self.outputs.range(self.saved..).map(|(seq, stored)| (*seq, stored));
                let result = spill.append(unsaved, self.written);
                let saved = self.saved.max(spill.next());
                self.note_saved(saved);
                result
            }
            None => Err(std::io::ErrorKind::Unsupported.into()),
        };
        let Err(error) = result else { return true };
        if self.lossy_from.is_none() {
            if folder.is_some() {
                tracing::warn!(%execution, %error, "outputs cannot be written to the disk: head and tail stay in memory");
            }
            self.lossy_from = Some(self.end_of_head());
        }
        self.drop_middle();
        false
    }

    fn note_saved(&mut self, saved: u64) {
        let newly: usize = self.outputs.range(self.saved..saved).map(|(_, stored)| stored.bytes()).sum();
        self.unsaved_bytes -= newly;
        self.saved = saved;
    }

    /// Where the head ends that stays when only memory is left.
    fn end_of_head(&self) -> u64 {
        let mut head_bytes = 0;
        let past = self.outputs.range(self.saved.max(self.written)..).find_map(|(seq, stored)| {
            head_bytes += stored.bytes();
            (head_bytes > MEMORY_BYTES / 2).then_some(*seq)
        });
        past.or(self.next).unwrap_or(0)
    }

    fn drop_middle(&mut self) {
        let Some(from) = self.lossy_from else { return };
        while self.unsaved_bytes > MEMORY_BYTES {
            let is_read = |seq: &&u64| **seq < self.written;
            let read = self.outputs.range(self.saved..).map(|(seq, _)| seq).find(is_read).copied();
            // The newest always stays: it is what the reader will want to see.
            let mut tail = self.outputs.range(from.max(self.saved)..).map(|(seq, _)| *seq);
            let middle = tail.next().filter(|_| tail.next().is_some());
            let Some(victim) = read.or(middle) else { return };
            self.remove(victim);
        }
    }

    fn remove(&mut self, seq: u64) -> usize {
        let Some(stored) = self.outputs.remove(&seq) else { return 0 };
        let bytes = stored.bytes();
        self.bytes -= bytes;
        if seq >= self.saved {
            self.unsaved_bytes -= bytes;
        }
        bytes
    }

    /// Takes out of memory what is on the disk, until `keep` bytes are left.
    pub(super) fn let_go(&mut self, keep: usize) {
        while self.bytes > keep && !self.is_inline {
            match self.outputs.first_key_value() {
                Some((&seq, _)) if seq < self.saved => drop(self.remove(seq)),
                _ => return,
            }
        }
    }

    /// Forgets all outputs in memory; how many bytes that were.
    pub(super) fn drop_outputs(&mut self) -> usize {
        let freed = std::mem::take(&mut self.bytes);
        self.outputs.clear();
        self.unsaved_bytes = 0;
        freed
    }

    /// Its end, written along with its outputs when these are few and none is on the disk yet.
    pub(super) fn inline(&self) -> Option<impl Iterator<Item = (u64, &Stored)>> {
        let fits = self.unsaved_bytes <= INLINE_BYTES && self.spill.is_none() && self.lossy_from.is_none();
        fits.then(|| self.outputs.iter().map(|(seq, stored)| (*seq, stored)))
    }

    /// What was inline is in the journal.
    pub(super) fn inlined(&mut self) {
        self.is_inline = self.unsaved_bytes > 0;
        self.note_saved(self.next.unwrap_or(0));
    }

    /// Notes that everything before `upto` has reached a reader.
    pub(crate) fn mark_written(&mut self, upto: u64) {
        self.written = self.written.max(upto);
    }

    /// What a reader gets who has everything before `from`.
    pub(crate) fn next_from(&self, from: u64, ahead: &mut Ahead) -> Next {
        let in_memory = self.outputs.range(from..).next().map(|(seq, stored)| (*seq, stored));
        let next = match in_memory {
            Some((seq, stored)) if seq == from => Some((seq, stored.clone())),
            _ => {
                let on_disk = self.spill.as_ref().and_then(|spill| spill.read(from, ahead));
                let nearest = in_memory.into_iter().chain(on_disk).min_by_key(|(seq, _)| *seq);
                nearest.map(|(seq, stored)| (seq, stored.clone()))
            }
        };
        if ahead.position.is_none() {
            ahead.position = self.outputs.range(..from).next_back().map(|(_, stored)| stored.after());
        }
        let missing = |before: u64| before.saturating_sub(ahead.position.unwrap_or(0));
        let gap = |resume_at, position| {
            let (dropped_bytes, reason) = (missing(position), self.reason());
            Next::Gap { resume_at, dropped_bytes, position, reason }
        };
        match next {
            // A mark stands for what is missing before it.
            Some((seq, stored))
                if seq == from
                    || matches!(stored.output, Output::Truncated { .. }) && missing(stored.before) == 0 =>
            {
                Next::Output(seq, stored)
            }
            Some((resume_at, stored)) => gap(resume_at, stored.before),
            None => match self.end_seq() {
                Some(resume_at) if from < resume_at => gap(resume_at, self.put_out),
                _ => Next::Nothing,
            },
        }
    }

    fn reason(&self) -> String {
        if self.lossy_from.is_some() {
            return format!(
                "the disk did not take it, and cellblockd keeps {} MiB of an execution in memory",
                MEMORY_BYTES >> 20
            );
        }
        format!(
            "cellblockd keeps {} MiB of an execution's outputs and {} MiB of a notebook's, for {} days",
            spill::CAP_BYTES >> 20,
            spill::NOTEBOOK_BYTES >> 20,
            spill::DAYS
        )
    }

    /// The number after the last output, as far as it is known.
    pub(crate) fn end_seq(&self) -> Option<u64> {
        self.ended.as_ref().map(|ended| ended.outputs).max(self.next)
    }

    /// Adds a reader.
    pub(super) fn attach(&mut self, attachment: Attachment) {
        self.mark_written(attachment.next());
        self.attached.push(attachment);
    }

    /// Whether everything of it can be read again when it is forgotten here.
    pub(super) fn can_be_read_again(&self) -> bool {
        self.attached.is_empty()
            && self.unsaved_bytes == 0
            && self.ended.as_ref().is_some_and(|ended| ended.saved)
    }

    /// Whether an output lies in our memory only and is to stay there, and whether a client has it.
    pub(super) fn needs(&self, seq: u64) -> Option<IsWritten> {
        let is_read = seq < self.written;
        let needed = seq >= self.saved
            && self.outputs.contains_key(&seq)
            && (self.lossy_from.is_none() || (!is_read && self.ended.is_some()));
        needed.then_some(IsWritten(is_read))
    }
}

/// Whether a client has an output.
#[derive(Clone, Copy, Debug)]
pub(super) struct IsWritten(pub(super) bool);
