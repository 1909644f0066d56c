//! The client against a store of a few lines, which checks what each side of the protocol owes the other.

use std::collections::{HashMap, HashSet};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::thread;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, SocketFlags, SocketType, recvmsg, send,
    socketpair,
};

use super::*;

/// What a session brought.
#[derive(Debug, Default, PartialEq)]
struct Received {
    buffers: Vec<Vec<u8>>,
    stream: Vec<u8>,
    names: Vec<u8>,
    /// Lengths of the chunks that were sent.
    sent: Vec<u32>,
}

#[derive(Default)]
struct Double {
    chunks: HashMap<Hash, Vec<u8>>,
    checkpoints: u64,
}

impl Double {
    /// Serves one session to its end.
    fn serve(&mut self, socket: &OwnedFd) -> Received {
        let mut received = Received::default();
        let mut message = vec![0; MESSAGE_BYTES];
        // Offered, and which of those were wanted.
        let mut offered: Vec<Offered> = Vec::new();
        let mut wanted: Vec<u32> = Vec::new();
        // The hashes of what is open, and where it goes; the stream is the last.
        let mut things: Vec<(u64, Vec<Hash>)> = Vec::new();
        let mut expected_chunks = (0, 0);
        loop {
            let (bytes, memfd) = receive(socket, &mut message);
            let said = FromChild::decode(&message[..bytes]).unwrap();
            assert_eq!(memfd.is_some(), said.carries_memfd(), "{said:?}");
            assert!(wanted.is_empty() || matches!(said, FromChild::Data { .. }), "{wanted:?} were not sent");
            match said {
                FromChild::Begin { version, stream_chunks, buffers } => {
                    assert_eq!(version, offer::VERSION);
                    expected_chunks = (stream_chunks, buffers);
                }
                FromChild::Buffer { bytes, .. } | FromChild::Stream { bytes } => {
                    things.push((bytes, Vec::new()))
                }
                FromChild::Offer { chunks, .. } => {
                    offered = chunks.iter().collect();
                    things.last_mut().unwrap().1.extend(offered.iter().map(|chunk| chunk.hash));
                    let mut bitmap = vec![0u8; offered.len().div_ceil(8)];
                    let mut asked = HashSet::new();
                    for (index, chunk) in offered.iter().enumerate() {
                        if !self.chunks.contains_key(&chunk.hash) && asked.insert(chunk.hash) {
                            bitmap[index / 8] |= 1 << (index % 8);
                            wanted.push(index as u32);
                        }
                    }
                    answer(socket, &FromStore::Want { count: offered.len() as u32, bitmap: &bitmap });
                }
                FromChild::Data { chunks } => {
                    let mut at = 0;
                    for sent in chunks.iter() {
                        assert_eq!(sent.index, wanted.remove(0));
                        let chunk = offered[sent.index as usize];
                        let mut bytes = vec![0; chunk.length as usize];
                        rustix::io::pread(memfd.as_ref().unwrap(), &mut bytes[..], at).unwrap();
                        at += bytes.len() as u64;
                        assert_eq!(
                            Hash(*blake3::hash(&bytes).as_bytes()),
                            chunk.hash,
                            "not what was offered"
                        );
                        received.sent.push(sent.length);
                        self.chunks.insert(chunk.hash, bytes);
                    }
                }
                FromChild::Names { bytes } => {
                    received.names.resize(bytes as usize, 0);
                    rustix::io::pread(memfd.unwrap(), &mut received.names[..], 0).unwrap();
                }
                FromChild::End => break,
            }
        }
        let (stream_bytes, stream) = things.pop().unwrap();
        assert_eq!((stream.len() as u64, things.len() as u64), expected_chunks);
        received.stream = self.whole(stream_bytes, &stream);
        received.buffers = things.iter().map(|(bytes, hashes)| self.whole(*bytes, hashes)).collect();
        self.checkpoints += 1;
        let written = received.sent.iter().map(|bytes| u64::from(*bytes)).sum();
        answer(socket, &FromStore::Done { id: self.checkpoints, written });
        received
    }

    fn whole(&self, bytes: u64, hashes: &[Hash]) -> Vec<u8> {
        let whole = hashes.iter().flat_map(|hash| self.chunks[hash].iter().copied()).collect::<Vec<_>>();
        assert_eq!(whole.len() as u64, bytes);
        whole
    }

    /// Saves `buffers` with a stream that names them, and gives what arrived.
    fn save(&mut self, forked: bool, strings: &[&str], buffers: &[&[u8]]) -> Received {
        let stream = pickle(strings, buffers.len());
        let (ours, theirs) = pair();
        let received = thread::scope(|scope| {
            let store = scope.spawn(|| self.serve(&theirs));
            let saved = save(&snapshot(&ours, forked, &stream, buffers)).unwrap();
            let received = store.join().unwrap();
            assert_eq!(saved.written, received.sent.iter().map(|bytes| u64::from(*bytes)).sum::<u64>());
            received
        });
        assert_eq!(received.names, b"{\"names\": []}");
        received
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

fn snapshot<'a>(socket: &'a OwnedFd, forked: bool, stream: &'a [u8], buffers: &[&'a [u8]]) -> Snapshot<'a> {
    let socket = socket.as_fd();
    Snapshot { socket, forked, stream, buffers: buffers.to_vec(), names: b"{\"names\": []}" }
}

/// A list of strings and then of out-of-band buffers.
fn pickle(strings: &[&str], buffers: usize) -> Vec<u8> {
    let mut pickle = b"\x80\x05](".to_vec();
    for string in strings {
        pickle.extend([0x8c, string.len() as u8]);
        pickle.extend(string.as_bytes());
    }
    pickle.extend(vec![0x97; buffers]);
    pickle.extend(b"e.");
    pickle
}

fn receive(socket: &OwnedFd, message: &mut [u8]) -> (usize, Option<OwnedFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(socket, &mut [IoSliceMut::new(message)], &mut control, RecvFlags::empty()).unwrap();
    let mut fds = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let memfd = fds.next();
    assert!(fds.next().is_none(), "more than one descriptor");
    (got.bytes, memfd)
}

fn answer(socket: &OwnedFd, answer: &FromStore<'_>) {
    let mut message = Vec::new();
    answer.encode(&mut message);
    send(socket, &message, SendFlags::empty()).unwrap();
}

/// Bytes of which no two chunks are equal.
fn array(bytes: usize, seed: u64) -> Vec<u8> {
    (0..bytes.div_ceil(8) as u64).flat_map(|i| (i * 8 + seed).to_le_bytes()).take(bytes).collect()
}

#[test]
fn only_what_has_changed_is_sent() {
    let mut store = Double::default();
    let mut first = array(20 << 20, 1);
    let second = array(300_000, 2);

    let received = store.save(false, &["a"], &[&first, &second]);
    assert_eq!(received.buffers, [&first[..], &second]);
    let chunk = CHUNK_BYTES as u32;
    assert_eq!(received.sent.len(), 80 + 2 + 1);
    assert_eq!(received.sent[80..82], [chunk, 300_000 - chunk]);

    first[5_000_000] ^= 1;
    let received = store.save(false, &["a"], &[&first, &second]);
    assert_eq!(received.buffers, [&first[..], &second]);
    assert_eq!(received.sent, [chunk]);

    let third = array(5, 3);
    let received = store.save(false, &["a"], &[&third, &first, &[], &second]);
    assert_eq!(received.buffers, [&third[..], &first, &[], &second]);
    assert_eq!(received.sent[0], 5);
    // And the stream, which has two buffers more.
    assert_eq!(received.sent.len(), 2);

    assert!(store.save(false, &["a"], &[&third, &first, &[], &second]).sent.is_empty());
}

#[test]
fn the_stream_arrives_normalised() {
    let strings: Vec<_> = (0..100_000).map(|number| format!("string {number}")).collect();
    let strings: Vec<_> = strings.iter().map(String::as_str).collect();
    let mut store = Double::default();
    let received = store.save(false, &strings, &[]);
    assert!(received.sent.len() > 10, "{} chunks", received.sent.len());
    assert_eq!(received.stream, normalise(&pickle(&strings, 0)).unwrap().bytes);
    let mut longer = strings.clone();
    longer.insert(3, "inserted");
    assert!(store.save(false, &longer, &[]).sent.len() <= 3);
}

#[test]
fn equal_chunks_are_sent_once() {
    let zeros = vec![0; 3 << 20];
    let received = Double::default().save(true, &[], &[&zeros, &zeros.clone()]);
    assert_eq!(received.buffers, [&zeros[..], &zeros]);
    assert_eq!(received.sent.len(), 2);
}

#[test]
fn a_forked_child_drops_what_is_sent_but_not_what_another_buffer_shares() {
    let base = array(10 << 20, 1);
    let other = array(10 << 20, 2);
    let (view, expected) = (&base[1_000_000..9_000_000], base[1_000_000..9_000_000].to_vec());
    let received = Double::default().save(true, &[], &[&base, &other, view]);
    assert_eq!(received.buffers[2], expected);
    assert_eq!(std::hint::black_box(&base)[..100], array(100, 1));
    let zeros = std::hint::black_box(&other).iter().filter(|byte| **byte == 0).count();
    assert!(zeros > other.len() - (64 << 10), "{zeros} bytes dropped");
}

#[test]
fn nothing_is_dropped_by_a_process_that_lives_on() {
    let base = array(10 << 20, 1);
    Double::default().save(false, &[], &[&base]);
    assert_eq!(std::hint::black_box(&base)[..], array(10 << 20, 1));
}

#[test]
fn a_refusal_reaches_the_caller_whenever_it_comes() {
    let stream = pickle(&["a"], 1);
    for read_first in [0, 1, 3] {
        let (ours, theirs) = pair();
        let buffer = array(50 << 20, 1);
        let failure = thread::scope(|scope| {
            scope.spawn(move || {
                let mut message = vec![0; MESSAGE_BYTES];
                (0..read_first).for_each(|_| drop(receive(&theirs, &mut message)));
                answer(&theirs, &FromStore::Failed { reason: "the quota of 1 MiB is full" });
            });
            save(&snapshot(&ours, false, &stream, &[&buffer])).unwrap_err()
        });
        assert_eq!(failure.to_string(), "the quota of 1 MiB is full", "after {read_first} messages");
    }
}

#[test]
fn a_store_that_ends_or_sleeps_or_babbles_is_named() {
    let stream = pickle(&["a"], 0);
    let (ours, theirs) = pair();
    drop(theirs);
    assert_eq!(save(&snapshot(&ours, false, &stream, &[])), Err(Failure::Gone));

    let (ours, _theirs) = pair();
    let timeout = Some(std::time::Duration::from_millis(10));
    rustix::net::sockopt::set_socket_timeout(&ours, rustix::net::sockopt::Timeout::Recv, timeout).unwrap();
    assert_eq!(save(&snapshot(&ours, false, &stream, &[])), Err(Failure::Silent));

    let (ours, theirs) = pair();
    answer(&theirs, &FromStore::Want { count: 2, bitmap: &[1] });
    assert_eq!(save(&snapshot(&ours, false, &stream, &[])), Err(Failure::Answer(None)));
}

#[test]
fn a_snapshot_that_is_none_is_not_begun() {
    let (ours, _theirs) = pair();
    let stream = pickle(&[], 2);
    let failure = save(&snapshot(&ours, false, &stream, &[&[1, 2, 3]])).unwrap_err();
    assert_eq!(failure.to_string(), "the stream has 2 buffers, 1 were given");
    let failure = save(&snapshot(&ours, false, b"\x80\x05\xff.", &[])).unwrap_err();
    assert_eq!(failure.to_string(), "the stream is no pickle: an unknown opcode at byte 2 of the stream");
}
