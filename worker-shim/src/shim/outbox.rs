//! What the shim has to say to the supervisor: events numbered and kept until taken, written to
//! whichever connection there is, begun anew when another one comes.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{FrameReader, Kind, Limits};
use cellblock_proto::id::ExecutionId;
use cellblock_proto::shim::{Event, EventBody};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

/// How many events one write takes at most.
const AT_ONCE: usize = 16;

struct Kept {
    seq: u64,
    bytes: Vec<u8>,
    /// What it gives back.
    returned: Option<ExecutionId>,
}

/// Events on their way.
#[derive(Default)]
pub struct Outbox {
    last_seq: u64,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// Index in `kept` of the first event that the present connection has not got whole.
    cursor: usize,
    /// Frames that are not numbered: answers, states, refusals. Lost with the connection.
    loose: VecDeque<Vec<u8>>,
    /// Bytes of the frame under way that have been written.
    written: usize,
    /// The frame under way is `loose[0]`, not `kept[cursor]`.
    writing_loose: bool,
    /// Who reads is of another build, and gets JSON.
    is_for_another: bool,
}

impl Outbox {
    /// Adds an event.
    pub fn push(&mut self, body: EventBody, payload: Vec<u8>) {
        self.last_seq += 1;
        let returned = match &body {
            EventBody::Returned { execution, .. } => Some(execution.clone()),
            _ => None,
        };
        let bytes = encode(self.codec(), &Event { seq: self.last_seq, body }, 0, payload);
        self.kept_bytes += bytes.len();
        self.kept.push_back(Kept { seq: self.last_seq, bytes, returned });
    }

    /// Adds a frame that nobody will ask for again.
    pub fn push_loose(&mut self, request: u32, body: EventBody, payload: Vec<u8>) {
        self.loose.push_back(encode(self.codec(), &Event { seq: 0, body }, request, payload));
    }

    fn codec(&self) -> Codec {
        if self.is_for_another { Codec::Json } else { Codec::Bincode }
    }

    /// Forgets events up to `seq`. Says whether there were any.
    pub fn taken(&mut self, seq: u64) -> bool {
        let before = self.kept.len();
        while self.kept.front().is_some_and(|kept| kept.seq <= seq) && self.cursor > 0 {
            if let Some(kept) = self.kept.pop_front() {
                self.kept_bytes -= kept.bytes.len();
                self.cursor -= 1;
            }
        }
        self.kept.len() < before
    }

    /// What was given back is not to be once more.
    pub fn settled(&mut self, execution: &ExecutionId) {
        // What has not been sent cannot be meant.
        let mut sent = self.kept.iter().take(self.cursor);
        if let Some(at) = sent.position(|kept| kept.returned.as_ref() == Some(execution))
            && let Some(kept) = self.kept.remove(at)
        {
            self.kept_bytes -= kept.bytes.len();
            self.cursor -= 1;
        }
    }

    /// Begins anew for another connection, behind what its supervisor has, which may be of another build.
    pub fn rewind(&mut self, taken: u64, is_for_another: bool) {
        self.loose.clear();
        (self.written, self.writing_loose) = (0, false);
        self.cursor = self.kept.len();
        self.taken(taken);
        self.cursor = 0;
        if std::mem::replace(&mut self.is_for_another, is_for_another) != is_for_another {
            let codec = self.codec();
            for kept in &mut self.kept {
                let bytes = recode(codec, &kept.bytes);
                self.kept_bytes = self.kept_bytes - kept.bytes.len() + bytes.len();
                kept.bytes = bytes;
            }
        }
    }

    /// Bytes of events that have not been taken.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// Whether every event has been taken.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether there is something to write.
    pub fn has_unsent(&self) -> bool {
        self.cursor < self.kept.len() || !self.loose.is_empty()
    }

    /// Writes as much as the socket takes.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn write(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        loop {
            if self.written == 0 {
                // Numbered events first: a State tells how things stand behind all of them.
                self.writing_loose = self.cursor >= self.kept.len();
            }
            let mut parts = if self.writing_loose {
                self.loose.front().map(Vec::as_slice).into_iter().collect::<Vec<_>>()
            } else {
                // Together: each send wakes the reader.
                self.kept.range(self.cursor..).take(AT_ONCE).map(|kept| kept.bytes.as_slice()).collect()
            };
            let Some(first) = parts.first_mut() else { return Ok(()) };
            *first = &first[self.written..];
            let parts: Vec<IoSlice<'_>> = parts.into_iter().map(IoSlice::new).collect();
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::sendmsg(socket, &parts, &mut SendAncillaryBuffer::default(), flags) {
                Ok(count) => self.wrote(count),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// So many bytes more are out.
    fn wrote(&mut self, count: usize) {
        self.written += count;
        loop {
            let frame = if self.writing_loose {
                self.loose.front().map(Vec::len)
            } else {
                self.kept.get(self.cursor).map(|kept| kept.bytes.len())
            };
            let Some(bytes) = frame.filter(|bytes| *bytes <= self.written) else { return };
            self.written -= bytes;
            if self.writing_loose {
                // Sent alone.
                self.loose.pop_front();
                return;
            }
            self.cursor += 1;
        }
    }
}

/// What we have written ourselves, written anew.
fn recode(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    let mut reader = FrameReader::new(Limits::DEFAULT);
    reader.feed(bytes);
    let frame = reader.next_frame().ok().flatten().expect("a frame that we have written");
    let event = frame.message().expect("an event that we have written");
    encode(codec, &event, frame.request, frame.payload)
}

fn encode(codec: Codec, event: &Event, request: u32, payload: Vec<u8>) -> Vec<u8> {
    let frame = codec
        .frame(Kind::Event, request, event)
        .expect("events hold nothing that has no wire form")
        .with_payload(payload);
    let mut bytes = Vec::new();
    frame.write_to(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn started(n: usize) -> EventBody {
        let execution: ExecutionId = format!("e{n}").parse().expect("a legal id");
        EventBody::Started { execution }
    }

    fn read(socket: &mut UnixStream) -> Vec<u64> {
        let mut bytes = Vec::new();
        let _ = socket.read_to_end(&mut bytes);
        let mut reader = FrameReader::new(Limits::DEFAULT);
        reader.feed(&bytes);
        std::iter::from_fn(|| reader.next_frame().expect("whole frames"))
            .map(|frame| frame.message::<Event>().expect("an event").seq)
            .collect()
    }

    #[test]
    fn second_connection_gets_what_was_not_taken_and_the_state_last() {
        let mut outbox = Outbox::default();
        (1..=5).for_each(|n| outbox.push(started(n), vec![0; 10]));
        let (ours, mut theirs) = UnixStream::pair().expect("a socketpair");
        outbox.write(ours.as_fd()).expect("written");
        drop(ours);
        assert_eq!(read(&mut theirs), [1, 2, 3, 4, 5]);

        assert!(outbox.taken(2));
        outbox.rewind(3, false);
        outbox.push_loose(1, EventBody::Refused { reason: "late".to_owned() }, vec![]);
        outbox.push(started(6), vec![]);
        let (ours, mut theirs) = UnixStream::pair().expect("a socketpair");
        outbox.write(ours.as_fd()).expect("written");
        drop(ours);
        assert_eq!(read(&mut theirs), [4, 5, 6, 0]);
    }

    #[test]
    fn socket_that_takes_parts_gets_each_event_whole_and_once() {
        let mut outbox = Outbox::default();
        (1..=100).for_each(|n| outbox.push(started(n), vec![0; n * 500]));
        outbox.push_loose(1, EventBody::Spare, vec![0; 10]);
        outbox.push_loose(1, EventBody::Spare, vec![0; 10]);
        let (ours, mut theirs) = UnixStream::pair().expect("a socketpair");
        rustix::net::sockopt::set_socket_send_buffer_size(&ours, 4096).expect("a small buffer");
        let reading = std::thread::spawn(move || read(&mut theirs));
        while outbox.has_unsent() {
            outbox.write(ours.as_fd()).expect("written");
        }
        drop(ours);
        let wanted: Vec<u64> = (1..=100).chain([0, 0]).collect();
        assert_eq!(reading.join().expect("read"), wanted);
    }

    #[test]
    fn what_is_settled_is_not_given_back_again() {
        let mut outbox = Outbox::default();
        let execution: ExecutionId = "e7".parse().expect("a legal id");
        outbox.push(started(1), vec![]);
        let options = cellblock_proto::execution::ExecuteOptions::default();
        outbox.push(EventBody::Returned { execution: execution.clone(), options }, vec![0; 10]);
        outbox.push(started(3), vec![]);
        outbox.settled(&execution);
        let (ours, mut theirs) = UnixStream::pair().expect("a socketpair");
        outbox.write(ours.as_fd()).expect("written");
        drop(ours);
        assert_eq!(read(&mut theirs), [1, 2, 3], "it had not been given back");
        outbox.settled(&execution);
        outbox.rewind(0, false);
        let (ours, mut theirs) = UnixStream::pair().expect("a socketpair");
        outbox.write(ours.as_fd()).expect("written");
        drop(ours);
        assert_eq!(read(&mut theirs), [1, 3]);
        assert!(outbox.taken(3) && outbox.is_empty() && outbox.kept_bytes() == 0);
    }

    #[test]
    fn reader_of_another_build_gets_json_of_the_old_and_the_new_and_one_of_ours_bincode_again() {
        let codecs = |theirs: &mut UnixStream| {
            let mut bytes = Vec::new();
            let _ = theirs.read_to_end(&mut bytes);
            let mut reader = FrameReader::new(Limits::DEFAULT);
            reader.feed(&bytes);
            let frames = std::iter::from_fn(|| reader.next_frame().expect("whole frames"));
            frames
                .map(|frame| (frame.codec, frame.message::<Event>().expect("an event"), frame.payload))
                .collect()
        };
        let mut outbox = Outbox::default();
        (1..=2).for_each(|n| outbox.push(started(n), vec![7; n]));
        let mut told: Vec<Vec<(Codec, Event, Vec<u8>)>> = Vec::new();
        for is_for_another in [false, true, false] {
            outbox.rewind(0, is_for_another);
            outbox.push_loose(4, EventBody::Spare, vec![]);
            let (ours, mut theirs) = UnixStream::pair().expect("a socketpair");
            outbox.write(ours.as_fd()).expect("written");
            drop(ours);
            told.push(codecs(&mut theirs));
        }
        assert!(told[0].iter().all(|(codec, ..)| *codec == Codec::Bincode) && told[0] == told[2]);
        assert!(told[1].iter().all(|(codec, ..)| *codec == Codec::Json));
        let said =
            |at: usize| told[at].iter().map(|(_, event, payload)| (event, payload)).collect::<Vec<_>>();
        assert_eq!((said(0).len(), said(0)), (3, said(1)));
        assert!(outbox.taken(2) && outbox.is_empty() && outbox.kept_bytes() == 0);
    }

    #[test]
    fn taken_never_forgets_what_was_not_written() {
        let mut outbox = Outbox::default();
        outbox.push(started(1), vec![0; 10]);
        assert!(!outbox.taken(1));
        assert!(outbox.has_unsent() && !outbox.is_empty());
    }
}
