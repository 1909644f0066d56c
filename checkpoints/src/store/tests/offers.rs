use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use proptest::prelude::*;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use super::support::{Home, QUOTA, State, head, save};
use crate::hash::Hash;
use crate::offer::{
    CHUNK_BYTES, FromChild, FromStore, Kind, MESSAGE_BYTES, OFFERED_CHUNKS, Offered, Sent, buffer_chunks,
};
use crate::store::damage::chain;
use crate::store::{Limits, OfferError, Published, SocketError, Store, serve_offer};

const NAMES: &str = r#"{"execution": "e-1", "python": "3.13.0", "packages": {"numpy": "2.3"},
    "names": [{"name": "x", "type": "int", "bytes": 28}], "left_out": []}"#;

const LIMITS: Limits = Limits { quota_bytes: QUOTA, time: Duration::from_secs(20) };

/// Changes the message of a number, and what is in its memfd.
type Tamper<'t> = dyn Fn(usize, &mut Vec<u8>, &mut Option<Vec<u8>>) + Sync + 't;

/// Ends the child's part of a conversation: the store has gone, or has said that it failed.
struct Over;

/// A snapshot child that can be told to misbehave.
struct Child<'t> {
    socket: OwnedFd,
    tamper: &'t Tamper<'t>,
    sent: usize,
}

impl Child<'_> {
    fn send(&mut self, message: FromChild<'_>, content: Option<Vec<u8>>) -> Result<(), Over> {
        let (mut packet, mut content) = (Vec::new(), content);
        message.encode(&mut packet);
        (self.tamper)(self.sent, &mut packet, &mut content);
        self.sent += 1;
        let memfd = content.map(|content| {
            let memfd = rustix::fs::memfd_create("chunks", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            rustix::io::pwrite(&memfd, &content, 0).unwrap();
            memfd
        });
        send(&self.socket, &packet, memfd.iter().map(AsFd::as_fd))
    }

    fn answer<T>(&self, read: impl FnOnce(FromStore<'_>) -> T) -> Result<T, Over> {
        let mut packet = vec![0; MESSAGE_BYTES];
        let (bytes, _) =
            rustix::net::recv(&self.socket, &mut packet[..], RecvFlags::empty()).map_err(|_| Over)?;
        match FromStore::decode(&packet[..bytes]) {
            Ok(FromStore::Failed { .. }) | Err(_) => Err(Over),
            Ok(answer) => Ok(read(answer)),
        }
    }

    fn chunks(&mut self, kind: Kind, chunks: &[&[u8]]) -> Result<(), Over> {
        for part in chunks.chunks(OFFERED_CHUNKS) {
            let offered: Vec<_> = part
                .iter()
                .map(|chunk| Offered { hash: Hash::of(chunk), length: chunk.len() as u32 })
                .collect();
            self.send(FromChild::Offer { kind, chunks: offered[..].into() }, None)?;
            let wanted: Vec<usize> =
                self.answer(|want| (0..part.len()).filter(|index| want.wants(*index)).collect())?;
            for wanted in wanted.chunks(3) {
                let sent: Vec<_> = wanted
                    .iter()
                    .map(|index| Sent { index: *index as u32, length: part[*index].len() as u32 })
                    .collect();
                let content = wanted.iter().flat_map(|index| part[*index]).copied().collect();
                self.send(FromChild::Data { chunks: sent[..].into() }, Some(content))?;
            }
        }
        Ok(())
    }

    fn offer(&mut self, state: &State) -> Result<Published, Over> {
        let stream: Vec<_> = state.stream_chunks().collect();
        let (stream_chunks, buffers) = (stream.len() as u64, state.buffers.len() as u64);
        self.send(FromChild::Begin { version: 1, stream_chunks, buffers }, None)?;
        for buffer in &state.buffers {
            let bytes = buffer.len() as u64;
            self.send(FromChild::Buffer { bytes, chunks: buffer_chunks(bytes) }, None)?;
            self.chunks(Kind::Buffer, &buffer.chunks(CHUNK_BYTES).collect::<Vec<_>>())?;
        }
        self.send(FromChild::Stream { bytes: state.stream.len() as u64 }, None)?;
        self.chunks(Kind::Other, &stream)?;
        self.send(FromChild::Names { bytes: NAMES.len() as u64 }, Some(NAMES.into()))?;
        self.send(FromChild::End, None)?;
        self.answer(|answer| match answer {
            FromStore::Done { id, written } => Ok(Published { id, bytes_written: written }),
            _ => Err(Over),
        })?
    }
}

fn send<'f>(
    socket: &OwnedFd,
    packet: &[u8],
    descriptors: impl Iterator<Item = std::os::fd::BorrowedFd<'f>>,
) -> Result<(), Over> {
    let descriptors: Vec<_> = descriptors.collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let parts = [std::io::IoSlice::new(packet)];
    rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL).map(drop).map_err(|_| Over)
}

fn sockets() -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// Serves what `child` does with its end of the socket, on a thread.
fn serve<T: Send>(
    store: &mut Store,
    limits: &Limits,
    child: impl FnOnce(OwnedFd) -> T + Send,
) -> (Result<Published, OfferError>, T) {
    let (ours, theirs) = sockets();
    std::thread::scope(|scope| {
        let child = scope.spawn(move || child(theirs));
        let served = serve_offer(ours.as_fd(), store, limits);
        drop(ours);
        (served, child.join().unwrap())
    })
}

fn state() -> State {
    let mut state = State::new(5, &[3 * CHUNK_BYTES + 9, 0, 4096, 12]);
    // The same chunk twice in one offer, and a buffer twice.
    let twice = state.buffers[0][..CHUNK_BYTES].to_vec();
    state.buffers[0].splice(CHUNK_BYTES..2 * CHUNK_BYTES, twice);
    state.buffers.push(state.buffers[2].clone());
    state
}

fn honest(socket: OwnedFd, state: &State) -> Option<Published> {
    Child { socket, tamper: &|_, _, _| {}, sent: 0 }.offer(state).ok()
}

#[test]
fn an_offered_checkpoint_is_published_and_told() {
    let home = Home::new();
    let mut store = home.store();
    let state = state();
    let (served, told) = serve(&mut store, &LIMITS, |socket| honest(socket, &state));
    let served = served.unwrap();
    assert_eq!(told, Some(served));
    assert_eq!(head(&home.reader()), Some((1, state.clone())));
    let manifest = store.reader().manifest(1).unwrap();
    assert_eq!((manifest.names[0].name.as_str(), manifest.execution.as_str()), ("x", "e-1"));
    let (again, _) = serve(&mut store, &LIMITS, |socket| honest(socket, &state));
    assert!(again.unwrap().bytes_written < 2000);
}

#[test]
fn the_store_wants_only_what_it_does_not_have_and_each_chunk_once() {
    let home = Home::new();
    let mut store = home.store();
    let mut first = state();
    first.buffers.remove(0);
    save(&mut store, &first).unwrap();
    let (served, wants) = serve(&mut store, &LIMITS, |socket| {
        let chunks = [vec![1; CHUNK_BYTES], vec![2; CHUNK_BYTES], vec![1; CHUNK_BYTES]];
        let offered =
            chunks.each_ref().map(|chunk| Offered { hash: Hash::of(chunk), length: CHUNK_BYTES as u32 });
        let mut child = Child { socket, tamper: &|_, _, _| {}, sent: 0 };
        let _ = child.send(FromChild::Begin { version: 1, stream_chunks: 1, buffers: 2 }, None);
        let _ = child.send(FromChild::Buffer { bytes: 3 * CHUNK_BYTES as u64, chunks: 3 }, None);
        let _ = child.send(FromChild::Offer { kind: Kind::Buffer, chunks: offered[..].into() }, None);
        child.answer(|want| [0, 1, 2].map(|index| want.wants(index))).ok()
    });
    assert_eq!(wants, Some([true, true, false]));
    assert!(matches!(served, Err(OfferError::Socket(SocketError::Closed))));
}

/// What a child may do wrong, and what the store says to it; nothing of it is published.
#[test]
fn every_breach_is_named_and_publishes_nothing() {
    let state = State::new(5, &[2 * CHUNK_BYTES]);
    // Its messages: 0 Begin, 1 Buffer, 2 Offer, 3 Data, 4 Stream, 5 Offer, 6 Data, 7 Data, …, Names, End.
    let replace = |at: usize, message: FromChild<'static>| -> Box<Tamper<'static>> {
        Box::new(move |number, packet, memfd| {
            if number == at {
                message.encode(packet);
                *memfd = None;
            }
        })
    };
    let content = |at: usize, change: fn(&mut Vec<u8>)| -> Box<Tamper<'static>> {
        Box::new(move |number, _, memfd| {
            if let (true, Some(memfd)) = (number == at, memfd) {
                change(memfd);
            }
        })
    };
    let breaches: Vec<(Box<Tamper<'_>>, &str)> = vec![
        (replace(0, FromChild::End), "it did not begin"),
        (
            replace(0, FromChild::Begin { version: 2, stream_chunks: 4, buffers: 1 }),
            "speaks version 2 of the offer",
        ),
        (replace(0, FromChild::Begin { version: 1, stream_chunks: 0, buffers: 1 }), "has no stream"),
        (replace(0, FromChild::Begin { version: 1, stream_chunks: u64::MAX, buffers: 1 }), "too many chunks"),
        (
            replace(0, FromChild::Begin { version: 1, stream_chunks: 4, buffers: 0 }),
            "another buffer than it began with",
        ),
        (replace(0, FromChild::Begin { version: 1, stream_chunks: 4, buffers: 2 }), "before its buffers"),
        (replace(1, FromChild::Begin { version: 1, stream_chunks: 4, buffers: 2 }), "began twice"),
        (replace(1, FromChild::Buffer { bytes: 1 << 60, chunks: 1 << 42 }), "buffer that is too large"),
        (replace(1, FromChild::Buffer { bytes: 5, chunks: 1 }), "chunk that does not fit"),
        (replace(1, FromChild::Buffer { bytes: 3 << 18, chunks: 3 }), "offered less than it opened"),
        (replace(1, FromChild::Stream { bytes: 5 }), "before its buffers"),
        (replace(2, FromChild::Names { bytes: 5 }), "offered less than it opened"),
        (replace(3, FromChild::End), "did not send all that was wanted"),
        (content(3, |memfd| memfd[77] ^= 1), "a part of the checkpoint"),
        (content(3, |memfd| memfd.truncate(1000)), "cannot read 524288 bytes of a memfd"),
        (
            Box::new(|number, _, memfd| {
                if number == 3 {
                    *memfd = None
                }
            }),
            "came with 0 descriptors instead of 1",
        ),
        (
            Box::new(|number, _, memfd| {
                if number == 1 {
                    *memfd = Some(vec![1])
                }
            }),
            "came with 1 descriptors instead of 0",
        ),
        (
            Box::new(|number, packet, _| {
                if number == 3 {
                    packet[5] = 1
                }
            }),
            "another chunk than the next",
        ),
        (
            // The first chunk is shorter than a buffer's chunk that is not the last.
            Box::new(|number, packet, _| {
                if number == 2 {
                    packet[38..42].copy_from_slice(&1000u32.to_le_bytes());
                }
            }),
            "chunk that does not fit",
        ),
        (
            Box::new(|number, packet, _| {
                if number == 2 {
                    packet[1] = 1
                }
            }),
            "chunks of nothing that is open",
        ),
        (
            Box::new(|number, packet, _| {
                if number == 4 {
                    packet[2] ^= 2
                }
            }),
            "does not fit",
        ),
        (
            Box::new(|number, packet, _| {
                if number == 4 {
                    packet[2] ^= 16
                }
            }),
            "less than it opened",
        ),
        (
            Box::new(|number, packet, _| {
                if number == 1 {
                    packet.resize(MESSAGE_BYTES + 1, 0)
                }
            }),
            "more than 65536 bytes",
        ),
        (
            Box::new(|number, packet, _| {
                if number == 1 {
                    packet[0] = 99
                }
            }),
            "what is no message",
        ),
        (
            Box::new(|_, packet, memfd| {
                if packet[0] == 6 {
                    memfd.as_mut().unwrap()[0] = b'['
                }
            }),
            "worker's part is not",
        ),
        (
            Box::new(|_, packet, memfd| {
                if packet[0] == 6 {
                    *memfd = None;
                    *packet = vec![7]
                }
            }),
            "ended before its names",
        ),
    ];
    for (tamper, says) in &breaches {
        let home = Home::new();
        let mut store = home.store();
        let (served, _) =
            serve(&mut store, &LIMITS, |socket| Child { socket, tamper, sent: 0 }.offer(&state).is_ok());
        let error = served.expect_err(says);
        let told = chain(&error);
        assert!(
            told.contains(says) || says.starts_with("a part") && told.contains("but is another"),
            "{told:?} instead of {says:?}"
        );
        assert_eq!(home.files(), ["FORMAT"], "{says}");
    }
}

#[test]
fn the_child_is_told_why() {
    let home = Home::new();
    let (_, reason) = serve(&mut home.store(), &LIMITS, |socket| {
        let _ = send(&socket, &[99], std::iter::empty());
        let mut packet = [0; 200];
        let (bytes, _) = rustix::net::recv(&socket, &mut packet[..], RecvFlags::empty()).unwrap();
        packet[..bytes].to_vec()
    });
    let reason = FromStore::decode(&reason).unwrap();
    let says = "the snapshot child sent what is no message: no message begins with byte 99";
    assert_eq!(reason, FromStore::Failed { reason: says });
}

#[test]
fn a_silent_child_and_one_that_never_ends_meet_the_deadline() {
    let home = Home::new();
    let mut store = home.store();
    let short = Limits { time: Duration::from_millis(50), ..LIMITS };
    let (served, _) = serve(&mut store, &short, |socket| {
        let _ = rustix::net::recv(&socket, &mut [0; 9][..], RecvFlags::empty());
    });
    assert!(matches!(served, Err(OfferError::Socket(SocketError::Deadline))));
    // One that always has a next packet is never waited for.
    let (ours, theirs) = sockets();
    let mut child = Child { socket: theirs, tamper: &|_, _, _| {}, sent: 0 };
    let _ = child.send(FromChild::Begin { version: 1, stream_chunks: 1, buffers: 1 }, None);
    let _ = child.send(FromChild::End, None);
    let served = serve_offer(ours.as_fd(), &mut store, &Limits { time: Duration::ZERO, ..LIMITS });
    assert!(matches!(served, Err(OfferError::Socket(SocketError::Deadline))));
}

#[test]
fn only_memory_is_read() {
    let (pipe, _write) = rustix::pipe::pipe().unwrap();
    // A regular file with a length, in no memory of ours; on a disk it could as well be one of FUSE.
    let file = std::fs::File::open("/sys/kernel/uevent_seqnum").unwrap();
    for descriptor in [pipe.as_fd(), file.as_fd()] {
        let home = Home::new();
        let (served, _) = serve(&mut home.store(), &LIMITS, |socket| {
            let mut packet = Vec::new();
            FromChild::Begin { version: 1, stream_chunks: 1, buffers: 0 }.encode(&mut packet);
            let _ = send(&socket, &packet, std::iter::empty());
            FromChild::Names { bytes: 1 }.encode(&mut packet);
            let _ = send(&socket, &packet, [descriptor].into_iter());
            let _ = rustix::net::recv(&socket, &mut [0; 9][..], RecvFlags::empty());
        });
        assert!(matches!(served, Err(OfferError::Socket(SocketError::NotMemory))), "{served:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// One message or memfd of an honest child is changed: what is published then is whole, or nothing is.
    #[test]
    fn a_changed_message_never_publishes_something_that_is_not_whole(
        message in 0usize..30, at in prop_oneof![0usize..20, any::<usize>()], bit in 0u8..8,
        cut in proptest::option::weighted(0.2, 0usize..40), in_memfd in any::<bool>(),
    ) {
        let tamper = move |number: usize, packet: &mut Vec<u8>, memfd: &mut Option<Vec<u8>>| {
            let bytes = match memfd {
                Some(memfd) if in_memfd => memfd,
                _ => packet,
            };
            if number == message && !bytes.is_empty() {
                let at = at % bytes.len();
                bytes[at] ^= 1 << bit;
                bytes.truncate(cut.map_or(bytes.len(), |cut| cut + 1));
            }
        };
        let home = Home::new();
        let mut store = home.store();
        let limits = Limits { time: Duration::from_millis(300), ..LIMITS };
        let (served, _) = serve(&mut store, &limits, |socket| {
            Child { socket, tamper: &tamper, sent: 0 }.offer(&state()).is_ok()
        });
        match served {
            Ok(published) => prop_assert_eq!(head(&home.reader()).map(|(id, _)| id), Some(published.id)),
            Err(_) => prop_assert_eq!(home.files(), vec!["FORMAT"]),
        }
    }
}
