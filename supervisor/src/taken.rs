//! Which events a shim may forget. `Taken` is cumulative, so one output that a client has not read
//! yet holds all later events as well; the shim has the room, and a daemon that is killed has lost
//! nothing.

use std::collections::VecDeque;

use crate::records::{Held, Hold, Records};

/// What only lies in our memory is left with the shim as well up to this size: half of what it
/// keeps, so that there is room for what is being read.
const SOFT_BYTES: usize = 4 << 20;

/// The same in events.
const SOFT_EVENTS: usize = 4096;

/// `Taken` is sent at once after so many events…
const COALESCE_EVENTS: u64 = 64;

/// …or so many bytes; otherwise when nothing has happened for a moment.
const COALESCE_BYTES: usize = 256 << 10;

/// What a shim may keep of an event besides its payload, about.
const OVERHEAD_BYTES: usize = 64;

#[derive(Debug)]
struct Pending {
    seq: u64,
    hold: Hold,
    bytes: usize,
}

/// The events of one shim that it still keeps.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    free: u64,
    said: u64,
    unsaid_bytes: usize,
}

impl Taken {
    /// Notes an event that came.
    pub(crate) fn arrived(&mut self, seq: u64, hold: Hold, payload_bytes: usize) {
        if seq != 0 {
            let bytes = payload_bytes + OVERHEAD_BYTES;
            self.pending_bytes += bytes;
            self.pending.push_back(Pending { seq, hold, bytes });
        }
    }

    /// Looks how far the shim may forget.
    pub(crate) fn advance(&mut self, records: &Records) {
        while let Some(first) = self.pending.front() {
            let full = self.pending_bytes > SOFT_BYTES || self.pending.len() > SOFT_EVENTS;
            match records.held(&first.hold) {
                Held::Free => {}
                Held::Soft if full => {}
                Held::Soft | Held::Hard => break,
            }
            self.pop();
        }
    }

    /// Everything may be forgotten: the notebook is closed, or nobody came in time.
    pub(crate) fn release(&mut self) {
        while !self.pending.is_empty() {
            self.pop();
        }
    }

    /// Whether there is an Execution among them that only this shim and we have.
    pub(crate) fn gives_back(&self, records: &Records) -> bool {
        self.pending.iter().any(|pending| {
            matches!(pending.hold, Hold::Returned(_)) && records.held(&pending.hold) == Held::Hard
        })
    }

    fn pop(&mut self) {
        if let Some(first) = self.pending.pop_front() {
            self.pending_bytes -= first.bytes;
            self.unsaid_bytes += first.bytes;
            self.free = first.seq;
        }
    }

    /// Whether everything that came may be forgotten.
    pub(crate) fn is_clear(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether there is something to say.
    pub(crate) fn is_waiting(&self) -> bool {
        self.free > self.said
    }

    /// Whether it should be said at once.
    pub(crate) fn is_due(&self) -> bool {
        self.free - self.said >= COALESCE_EVENTS || self.unsaid_bytes >= COALESCE_BYTES
    }

    /// What to say.
    pub(crate) fn say(&mut self) -> u64 {
        self.said = self.free;
        self.unsaid_bytes = 0;
        self.free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Payload;
    use cellblock_proto::execution::{Output, StreamName};
    use cellblock_proto::id::ExecutionId;

    fn id() -> ExecutionId {
        "a".parse().unwrap()
    }

    fn add(records: &mut Records, taken: &mut Taken, seq: u64, bytes: usize) {
        let output = Output::Stream { name: StreamName::Stdout };
        records.add(&id(), seq, output, Payload::new(vec![0; bytes]));
        taken.arrived(seq + 2, Hold::Output(id(), seq), bytes);
    }

    #[test]
    fn unread_output_of_a_running_execution_is_not_taken_before_it_is_on_the_disk() {
        let temp = tempfile::tempdir().unwrap();
        let (mut records, mut taken) = (Records::open(&temp.path().join("outputs")), Taken::default());
        taken.arrived(1, Hold::Nothing, 0);
        add(&mut records, &mut taken, 0, 10);
        add(&mut records, &mut taken, 1, 10);
        taken.advance(&records);
        assert_eq!((taken.is_waiting(), taken.say()), (true, 1));
        // A client has it, but another may come.
        records.ensure(&id()).mark_written(1);
        taken.advance(&records);
        assert!(!taken.is_waiting());
        add(&mut records, &mut taken, 2, 1 << 20);
        taken.advance(&records);
        assert_eq!(taken.say(), 4);
        assert!(taken.is_clear());
    }

    #[test]
    fn what_was_given_back_is_not_taken_before_another_has_it() {
        let (mut records, mut taken) = (Records::default(), Taken::default());
        taken.arrived(1, Hold::Returned(id()), 0);
        records.give_back(&id(), true);
        taken.advance(&records);
        assert_eq!((taken.is_waiting(), taken.gives_back(&records)), (false, true));
        records.give_back(&id(), false);
        taken.advance(&records);
        assert_eq!((taken.say(), taken.gives_back(&records)), (1, false));
    }

    #[test]
    fn execution_that_has_ended_is_taken_and_without_a_disk_it_stays_with_the_shim_while_there_is_room() {
        let temp = tempfile::tempdir().unwrap();
        for (mut records, expected) in
            [(Records::open(&temp.path().join("outputs")), 8), (Records::default(), 6)]
        {
            let mut taken = Taken::default();
            for seq in 0..6 {
                add(&mut records, &mut taken, seq, 300 << 10);
            }
            let outcome = crate::loss::unmeasured(
                cellblock_proto::execution::End::Ok,
                cellblock_proto::execution::Variables::Kept,
            );
            records.end(&id(), Some(6), outcome, Payload::default());
            taken.arrived(8, Hold::Outcome(id()), 0);
            taken.advance(&records);
            assert!(taken.say() <= expected);
            assert_eq!(taken.is_clear(), expected == 8);
        }
    }
}
