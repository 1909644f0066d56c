//! Text on its way from the pipes to the outbox: batched, bounded, its head and tail kept.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cellblock_proto::execution::{Output, StreamName};
use cellblock_proto::id::ExecutionId;

/// Text goes out no more often than this: below what an eye sees, above what a loop prints in.
const BATCH_TIME: Duration = Duration::from_millis(10);
/// And after a silence it waits only so long for more, a whole line not at all: a line comes in two writes.
const LONE_TIME: Duration = Duration::from_millis(1);
/// And a batch is at most so large, in bytes.
const BATCH_BYTES: usize = 64 << 10;
/// What is kept of the end of text that was dropped, per stream, in bytes.
const TAIL_BYTES: usize = 64 << 10;

/// Why text is being dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// The profile's cap for one Execution, in bytes.
    Cap(u64),
    /// Nobody took the output for the grace, in milliseconds, and what can be kept is kept.
    NobodyReads(u64),
}

impl Gap {
    fn reason(self) -> String {
        match self {
            Gap::Cap(bytes) => format!("the profile's output_bytes of {bytes} bytes were reached"),
            Gap::NobodyReads(ms) => format!("nobody read the output for {ms} ms"),
        }
    }
}

/// An output ready for the outbox.
pub type Ready = (ExecutionId, Output, Vec<u8>);

/// The text of one worker.
#[derive(Default)]
pub struct Text {
    batch: Option<Batch>,
    /// When a batch last went because its time was over.
    last: Option<Instant>,
    gap: Option<Dropped>,
}

struct Batch {
    execution: ExecutionId,
    name: StreamName,
    bytes: Vec<u8>,
    /// When it must go.
    due: Instant,
    /// An incomplete character was given time for its rest.
    waited: bool,
}

struct Dropped {
    execution: ExecutionId,
    gap: Gap,
    /// Bytes dropped and their last part, for stdout and stderr.
    streams: [(u64, VecDeque<u8>); 2],
    /// Bytes of displays dropped.
    displays: u64,
}

impl Text {
    /// Takes text; gives what is complete by it. With a `gap` it is dropped but for its tail.
    pub fn push(
        &mut self,
        execution: &ExecutionId,
        name: StreamName,
        bytes: &[u8],
        gap: Option<Gap>,
        now: Instant,
    ) -> Vec<Ready> {
        if let Some(gap) = gap {
            let mut ready = self.flush();
            ready.extend(self.drop_text(execution, name, bytes, gap));
            return ready;
        }
        let mut ready = Vec::new();
        if self.batch.as_ref().is_some_and(|batch| batch.execution != *execution || batch.name != name) {
            ready.extend(self.flush());
        }
        let quiet = self.last.map_or(now, |last| last + BATCH_TIME).max(now);
        let due = quiet.max(now + LONE_TIME);
        let batch = self.batch.get_or_insert_with(|| Batch {
            execution: execution.clone(),
            name,
            bytes: Vec::new(),
            due,
            waited: false,
        });
        let mut rest = bytes;
        while batch.bytes.len() + rest.len() >= BATCH_BYTES {
            let (first, more) = rest.split_at(BATCH_BYTES.saturating_sub(batch.bytes.len()).min(rest.len()));
            batch.bytes.extend_from_slice(first);
            rest = more;
            // A character cut by us would be two broken ones for whoever decodes frame by frame.
            let kept = incomplete_end(&batch.bytes);
            let tail = batch.bytes.split_off(batch.bytes.len() - kept);
            let whole = std::mem::replace(&mut batch.bytes, tail);
            ready.push((batch.execution.clone(), Output::Stream { name }, whole));
        }
        batch.bytes.extend_from_slice(rest);
        if batch.bytes.ends_with(b"\n") {
            batch.due = batch.due.min(quiet);
        }
        ready
    }

    /// When the batch must go.
    pub fn due(&self) -> Option<Instant> {
        self.batch.as_ref().map(|batch| batch.due)
    }

    /// Gives the batch.
    pub fn flush(&mut self) -> Vec<Ready> {
        let batch = self.batch.take().filter(|batch| !batch.bytes.is_empty());
        batch
            .map(|batch| (batch.execution, Output::Stream { name: batch.name }, batch.bytes))
            .into_iter()
            .collect()
    }

    /// Gives the batch because its time is over: an incomplete character may wait for its rest.
    pub fn flush_due(&mut self, now: Instant) -> Vec<Ready> {
        let Some(batch) = self.batch.as_mut().filter(|batch| now >= batch.due) else {
            return Vec::new();
        };
        let kept = incomplete_end(&batch.bytes);
        if kept > 0 && kept == batch.bytes.len() && !batch.waited {
            (batch.due, batch.waited) = (now + BATCH_TIME, true);
            return Vec::new();
        }
        self.last = Some(now);
        if kept > 0 && kept < batch.bytes.len() {
            let tail = batch.bytes.split_off(batch.bytes.len() - kept);
            let whole = std::mem::replace(&mut batch.bytes, tail);
            (batch.due, batch.waited) = (now + BATCH_TIME, true);
            return vec![(batch.execution.clone(), Output::Stream { name: batch.name }, whole)];
        }
        self.flush()
    }

    /// Counts a display that is dropped.
    pub fn drop_display(&mut self, execution: &ExecutionId, bytes: u64, gap: Gap) -> Vec<Ready> {
        let mut ready = self.flush();
        ready.extend(self.other_gap(execution, gap));
        self.dropped(execution, gap).displays += bytes;
        ready
    }

    fn drop_text(&mut self, execution: &ExecutionId, name: StreamName, bytes: &[u8], gap: Gap) -> Vec<Ready> {
        let ready = self.other_gap(execution, gap);
        let (count, tail) =
            &mut self.dropped(execution, gap).streams[usize::from(name == StreamName::Stderr)];
        *count += bytes.len() as u64;
        tail.extend(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        let over = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..over);
        ready
    }

    fn other_gap(&mut self, execution: &ExecutionId, gap: Gap) -> Vec<Ready> {
        if self.gap.as_ref().is_some_and(|open| open.execution != *execution || open.gap != gap) {
            return self.close_gap();
        }
        Vec::new()
    }

    fn dropped(&mut self, execution: &ExecutionId, gap: Gap) -> &mut Dropped {
        self.gap.get_or_insert_with(|| Dropped {
            execution: execution.clone(),
            gap,
            streams: Default::default(),
            displays: 0,
        })
    }

    /// Ends the gap: says what is missing, and gives the tails.
    pub fn close_gap(&mut self) -> Vec<Ready> {
        let Some(Dropped { execution, gap, streams, displays }) = self.gap.take() else { return Vec::new() };
        let mut ready = Vec::new();
        let mut mark = |stream, dropped_bytes| {
            let output = Output::Truncated { stream, dropped_bytes, reason: gap.reason() };
            ready.push((execution.clone(), output, Vec::new()));
        };
        if displays > 0 {
            mark(None, displays);
        }
        for (name, (count, tail)) in [StreamName::Stdout, StreamName::Stderr].into_iter().zip(streams) {
            let missing = count - tail.len() as u64;
            if missing > 0 {
                let output =
                    Output::Truncated { stream: Some(name), dropped_bytes: missing, reason: gap.reason() };
                ready.push((execution.clone(), output, Vec::new()));
            }
            if !tail.is_empty() {
                ready.push((execution.clone(), Output::Stream { name }, tail.into()));
            }
        }
        ready
    }
}

/// How many bytes at the end begin a UTF-8 character that is not whole; at most 3.
fn incomplete_end(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0b1111_0000..=0b1111_0111 => 4,
            0b1110_0000..=0b1110_1111 => 3,
            0b1100_0000..=0b1101_1111 => 2,
            0b1000_0000..=0b1011_1111 => continue,
            _ => return 0,
        };
        return if length > back { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ExecutionId {
        "e".parse().expect("a legal id")
    }

    fn text_of(ready: &[Ready]) -> Vec<u8> {
        ready.iter().flat_map(|(_, _, bytes)| bytes.clone()).collect()
    }

    #[test]
    fn character_cut_by_the_batch_stays_whole() {
        let mut text = Text::default();
        let now = Instant::now();
        let long = "ä".repeat(BATCH_BYTES);
        let bytes = &long.as_bytes()[..BATCH_BYTES + 1];
        let mut ready = text.push(&id(), StreamName::Stdout, &[b"x", bytes].concat(), None, now);
        for (_, _, bytes) in &ready {
            assert!(std::str::from_utf8(bytes).is_ok());
        }
        ready.extend(text.flush());
        assert_eq!(text_of(&ready), [b"x", bytes].concat());
    }

    #[test]
    fn line_after_a_silence_goes_at_once_and_a_flood_in_batches() {
        let now = Instant::now();
        let mut text = Text::default();
        text.push(&id(), StreamName::Stdout, b"a", None, now);
        assert_eq!(text.due(), Some(now + LONE_TIME));
        text.push(&id(), StreamName::Stdout, b"\n", None, now);
        assert_eq!(text.due(), Some(now));
        let sent = now;
        assert_eq!(text.flush_due(sent).len(), 1);
        text.push(&id(), StreamName::Stdout, b"b\n", None, sent);
        assert_eq!(text.due(), Some(sent + BATCH_TIME));
        assert!(text.flush_due(sent + BATCH_TIME / 2).is_empty());
    }

    #[test]
    fn streams_do_not_share_a_batch() {
        let mut text = Text::default();
        let now = Instant::now();
        assert!(text.push(&id(), StreamName::Stdout, b"out", None, now).is_empty());
        let ready = text.push(&id(), StreamName::Stderr, b"err", None, now);
        assert!(matches!(&ready[..], [(_, Output::Stream { name: StreamName::Stdout }, _)]));
    }

    #[test]
    fn gap_says_what_is_missing_and_keeps_the_tail() {
        let mut text = Text::default();
        let gap = Some(Gap::Cap(7));
        let many = vec![b'a'; TAIL_BYTES];
        text.push(&id(), StreamName::Stdout, &many, gap, Instant::now());
        text.push(&id(), StreamName::Stdout, b"the end", gap, Instant::now());
        let ready = text.close_gap();
        let (_, Output::Truncated { dropped_bytes: 7, stream: Some(StreamName::Stdout), reason }, _) =
            &ready[0]
        else {
            panic!("{ready:?}")
        };
        assert_eq!(reason, "the profile's output_bytes of 7 bytes were reached");
        assert!(ready[1].2.ends_with(b"the end"));
        assert!(text.close_gap().is_empty());
    }
}
