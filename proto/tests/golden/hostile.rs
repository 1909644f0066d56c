//! Bytes from a stranger: they never panic, never allocate what they merely claim, and how a stream
//! is cut into reads never changes what is read.

use cellblock_proto::anchor::{AnchorReply, AnchorRequest};
use cellblock_proto::client::{Reply, Request};
use cellblock_proto::codec::{Codec, CodecError};
use cellblock_proto::frame::{Frame, FrameReader, HEADER_BYTES, Header, Kind, Limits};
use cellblock_proto::shim::{Command, Event};
use cellblock_proto::worker::{WorkerCommand, WorkerEvent};
use proptest::prelude::*;

use crate::messages::samples;

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_in_the_frame_reader(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..16)) {
        let mut reader = FrameReader::new(Limits::DEFAULT);
        for chunk in &chunks {
            reader.feed(chunk);
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }

    #[test]
    fn a_header_that_decodes_is_within_limits_and_encodes_to_the_same_bytes(
        mut bytes in any::<[u8; HEADER_BYTES]>(),
        sound in any::<bool>(),
    ) {
        if sound {
            // Random bytes are almost never a header: make the first four plausible.
            let [_, kind, codec, flags, ..] = bytes;
            bytes[..4].copy_from_slice(&[0xCB, kind % 10, codec % 4, flags % 5]);
            bytes[11] = 0;
            bytes[15] = 0;
        }
        if let Ok(header) = Header::decode(&bytes, &Limits::DEFAULT) {
            prop_assert!(header.meta_bytes <= Limits::DEFAULT.meta_bytes);
            prop_assert!(header.payload_bytes <= Limits::DEFAULT.payload_bytes);
            prop_assert_eq!(header.encode(), bytes);
        }
    }

    #[test]
    fn arbitrary_meta_never_panics_in_either_codec(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        decode_as_everything(&bytes);
    }

    #[test]
    fn a_message_with_bytes_changed_never_panics_in_either_codec(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        keep in any::<prop::sample::Index>(),
    ) {
        let samples = samples();
        for codec in [Codec::Json, Codec::Bincode] {
            let mut meta = which.get(&samples).frame(codec).meta;
            for (at, byte) in &changes {
                let at = at.index(meta.len());
                meta[at] = *byte;
            }
            decode_as_everything(&meta);
            meta.truncate(keep.index(meta.len()));
            decode_as_everything(&meta);
        }
    }

    #[test]
    fn any_split_of_a_stream_gives_the_same_frames(
        which in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let samples = samples();
        let codecs = [Codec::Json, Codec::Bincode].into_iter().cycle();
        let sent: Vec<Frame> = which.iter().zip(codecs).map(|(at, codec)| at.get(&samples).frame(codec)).collect();
        let mut stream = Vec::new();
        sent.iter().for_each(|frame| frame.write_to(&mut stream));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();

        let mut reader = FrameReader::new(Limits::DEFAULT);
        let mut received = Vec::new();
        for cut in cuts.windows(2) {
            reader.feed(&stream[cut[0]..cut[1]]);
            while let Some(frame) = reader.next_frame().expect("the stream is sound") {
                received.push(frame);
            }
        }
        prop_assert_eq!(received, sent);
        prop_assert_eq!(reader.pending_bytes(), 0);
    }
}

#[test]
fn a_torn_frame_is_pending_and_never_a_frame() {
    let mut bytes = Vec::new();
    samples()[3].frame(Codec::Json).write_to(&mut bytes);
    let mut reader = FrameReader::new(Limits::DEFAULT);
    reader.feed(&bytes[..bytes.len() - 1]);
    assert_eq!(reader.next_frame(), Ok(None));
    assert_eq!(reader.pending_bytes(), bytes.len() - 1);
}

#[test]
fn bytes_after_a_bincode_message_are_refused() {
    let mut meta = Codec::Bincode.encode(&Request::Doctor).expect("it has a wire form");
    meta.push(0);
    assert!(matches!(Codec::Bincode.decode::<Request>(&meta), Err(CodecError::Trailing { extra: 1 })));
}

/// A few bytes that claim gigabytes. A reader that believed them would show it in its address space
/// (the larger claims would even abort it).
#[test]
fn a_bincode_length_bomb_is_refused_without_allocating_what_it_claims() {
    const CLAIMS: [u64; 4] = [1 << 21, 4 << 30, 1 << 40, u64::MAX];
    // Threads of the other tests reserve address space too, some 64 MiB each.
    const SLACK_KIB: u64 = 1 << 20;
    let before = peak_address_space_kib();
    for claim in CLAIMS {
        // The tag of a u64 in bincode's variable-length integers, then the u64.
        let length = [&[253], claim.to_le_bytes().as_slice()].concat();
        // Request::OpenNotebook (variant 1): the notebook's name is the bomb.
        assert!(Codec::Bincode.decode::<Request>(&[&[1], length.as_slice()].concat()).is_err());
        // Reply::Notebooks (variant 7): a list of structs is the bomb.
        assert!(Codec::Bincode.decode::<Reply>(&[&[7], length.as_slice()].concat()).is_err());
    }
    let grown = peak_address_space_kib() - before;
    assert!(grown < SLACK_KIB, "address space grew by {grown} KiB");
}

#[test]
fn a_frame_that_claims_too_much_is_refused_before_its_body_comes() {
    let limits = Limits { meta_bytes: 10, payload_bytes: 10 };
    for (meta_bytes, payload_bytes) in [(11, 0), (0, 11), (u32::MAX, u32::MAX)] {
        let header = Header {
            kind: Kind::Reply,
            codec: Codec::Bincode,
            flags: 0,
            request: 1,
            meta_bytes,
            payload_bytes,
        };
        let mut reader = FrameReader::new(limits);
        reader.feed(&header.encode());
        assert!(reader.next_frame().is_err());
    }
}

fn decode_as_everything(meta: &[u8]) {
    for codec in [Codec::Json, Codec::Bincode] {
        let _ = codec.decode::<Request>(meta);
        let _ = codec.decode::<Reply>(meta);
        let _ = codec.decode::<Command>(meta);
        let _ = codec.decode::<Event>(meta);
        let _ = codec.decode::<WorkerCommand>(meta);
        let _ = codec.decode::<WorkerEvent>(meta);
        let _ = codec.decode::<AnchorRequest>(meta);
        let _ = codec.decode::<AnchorReply>(meta);
    }
}

/// `VmPeak` of proc(5), in KiB.
fn peak_address_space_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).expect("proc(5) promises it");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of KiB")
}
