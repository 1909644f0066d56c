//! What must hold of the normalised form, whatever the stream. That values survive it, Python's tests show.

use proptest::collection::vec;
use proptest::prelude::*;

use super::denormalise::denormalise;
use super::normalise::normalise;
use super::opcodes;

#[test]
fn frames_go_and_references_count_events() {
    // [a, b, a, a]: the list is object 0, "a" is 1, "b" is 2.
    let pickle = b"\x80\x05\x95\x11\0\0\0\0\0\0\0]\x94(\x8c\x01a\x94\x8c\x01b\x94h\x01h\x01e.";
    let normalised = normalise(pickle).unwrap();
    assert_eq!(normalised.bytes, b"\x80\x05]\x94(\x8c\x01a\x94\x8c\x01b\x94h\x02h\x01e.\0\0\0\0\0\0\0\0");
    assert_eq!(denormalise(&normalised.bytes).unwrap(), pickle);
}

#[test]
fn seams_go_where_a_container_goes_on_and_stay_where_a_tuple_begins() {
    let normalised = normalise(b"\x80\x05](K\x01e(K\x02K\x03e(K\x04ea.").unwrap();
    assert_eq!(&normalised.bytes[..14], b"\x80\x05](K\x01K\x02K\x03K\x04ea.".first_chunk::<14>().unwrap());
    // Before byte 6, and four bytes later; one byte each.
    assert_eq!(&normalised.bytes[normalised.bytes.len() - 10..], b"\x18\x10\x02\0\0\0\0\0\0\0");

    let tuple_behind_a_list = b"\x80\x05](](K\x01e(K\x02K\x03K\x04K\x05te.";
    let normalised = normalise(tuple_behind_a_list).unwrap();
    assert_eq!(&normalised.bytes[..tuple_behind_a_list.len()], tuple_behind_a_list);
}

#[test]
fn inner_seams_are_put_back_too() {
    let pickle = b"](](K\x01e(K\x02eK\x03e(](K\x04e(K\x05ee.";
    let normalised = normalise(pickle).unwrap();
    assert_eq!(without_frames(&denormalise(&normalised.bytes).unwrap()), pickle);
    assert_eq!(&normalised.bytes[..18], b"](](K\x01K\x02eK\x03](K\x04K\x05ee.".first_chunk::<18>().unwrap());
}

#[test]
fn older_ways_to_memoise_become_memoize() {
    let binary = normalise(b"](X\x01\0\0\0aq\0X\x01\0\0\0br\x01\0\0\0h\0j\x01\0\0\0e.").unwrap();
    let text = normalise(b"](X\x01\0\0\0ap0\nX\x01\0\0\0bp1\ng0\ng1\ne.").unwrap();
    assert_eq!(binary.bytes, text.bytes);
    assert!(binary.bytes.starts_with(b"](X\x01\0\0\0a\x94X\x01\0\0\0b\x94h\x02h\x02e."));
}

#[test]
fn what_is_no_pickle_is_refused_with_its_place() {
    for (pickle, what, at) in [
        (&b""[..], "no further opcode", 0),
        (b"]", "no further opcode", 1),
        (b"K", "an opcode without the end of its argument", 0),
        (b"N\x8c\x05abc", "an opcode without the end of its argument", 1),
        (b"\xff.", "an unknown opcode", 0),
        (b"h\x00.", "a reference to nothing", 0),
        (b"]q\x05.", "an object memoised out of order", 1),
        (b"]p-1\n.", "a memo index that is no number", 1),
        (b"N.N.", "more than one pickle", 2),
    ] {
        let malformed = normalise(pickle).unwrap_err();
        assert_eq!((malformed.what, malformed.at), (what, at), "{pickle:?}");
    }
}

#[test]
fn what_is_no_normalised_stream_is_refused() {
    for (stream, what) in [
        (&b"N."[..], "no list of seams"),
        (b"N.\x09\0\0\0\0\0\0\0", "no list of seams"),
        (b"N.\xff\xff\xff\xff\xff\xff\xff\xff", "no list of seams"),
        (b"h\0.\0\0\0\0\0\0\0\0", "a reference to nothing"),
        (b"]\x94h\x02.\0\0\0\0\0\0\0\0", "a reference to nothing"),
        (b"h\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff.\0\0\0\0\0\0\0\0", "a number without its end"),
        (b"\x95\0\0\0\0\0\0\0\0.\0\0\0\0\0\0\0\0", "an opcode of no normalised stream"),
        (b"K\x01.\x04\x01\0\0\0\0\0\0\0", "a seam inside of an opcode"),
        (b"N.\x40\x01\0\0\0\0\0\0\0", "a seam behind the last opcode"),
        (b"N.\x07\x01\0\0\0\0\0\0\0", "an impossible seam"),
    ] {
        assert_eq!(denormalise(stream).unwrap_err().what, what, "{stream:?}");
    }
}

#[test]
fn frames_hold_whole_opcodes_and_long_arguments_stand_outside() {
    let mut pickle = b"\x80\x05](".to_vec();
    for length in [70_000u32, 10, 65_531, 65_532, 200_000] {
        pickle.extend(b"K\x01".repeat(50_000));
        pickle.push(b'B');
        pickle.extend(length.to_le_bytes());
        pickle.resize(pickle.len() + length as usize, b'N');
    }
    pickle.extend(b"e.");
    let framed = denormalise(&normalise(&pickle).unwrap().bytes).unwrap();
    assert_eq!(without_frames(&framed), pickle);
    let (mut at, mut frame_end, mut in_frames) = (0, 0, 0);
    while at < framed.len() {
        let (opcode, end) = opcodes::read(&framed, at).unwrap();
        if opcode == opcodes::FRAME {
            assert!(at >= frame_end, "a frame in a frame");
            let length = u64::from_le_bytes(framed[at + 1..end].try_into().unwrap()) as usize;
            assert!((1..=64 << 10).contains(&length));
            frame_end = end + length;
            in_frames += length;
        }
        assert!(end <= frame_end || at >= frame_end, "an opcode across a frame's end");
        at = end;
    }
    assert!(pickle.len() - in_frames < 336_000, "{in_frames} bytes of {} in frames", pickle.len());
}

fn without_frames(pickle: &[u8]) -> Vec<u8> {
    let (mut plain, mut at) = (Vec::new(), 0);
    while at < pickle.len() {
        let (opcode, end) = opcodes::read(pickle, at).unwrap();
        if opcode != opcodes::FRAME {
            plain.extend_from_slice(&pickle[at..end]);
        }
        at = end;
    }
    plain
}

/// Opcodes in an order that makes no sense, but each whole; references are to what has been memoised.
fn opcode_salad() -> impl Strategy<Value = Vec<u8>> {
    let step = prop_oneof![
        4 => Just(Step::Memoize),
        4 => any::<prop::sample::Index>().prop_map(Step::Get),
        8 => prop::sample::select(b"(((eeeuuu\x90\x90tl1N]})0\x97".to_vec()).prop_map(Step::Plain),
        2 => vec(any::<u8>(), 0..40).prop_map(Step::Bytes),
        1 => any::<u64>().prop_map(Step::Frame),
    ];
    vec(step, 0..400).prop_map(|steps| {
        let (mut pickle, mut objects) = (b"\x80\x05".to_vec(), 0u32);
        for step in steps {
            match step {
                Step::Memoize => {
                    objects += 1;
                    pickle.push(opcodes::MEMOIZE);
                }
                Step::Get(_) if objects == 0 => {}
                Step::Get(index) => {
                    let index = index.index(objects as usize) as u32;
                    match u8::try_from(index) {
                        Ok(index) => pickle.extend([opcodes::BINGET, index]),
                        Err(_) => {
                            pickle.push(opcodes::LONG_BINGET);
                            pickle.extend(index.to_le_bytes());
                        }
                    }
                }
                Step::Plain(opcode) => pickle.push(opcode),
                Step::Bytes(bytes) => {
                    pickle.extend([b'C', bytes.len() as u8]);
                    pickle.extend(bytes);
                }
                Step::Frame(length) => {
                    pickle.push(opcodes::FRAME);
                    pickle.extend(length.to_le_bytes());
                }
            }
        }
        pickle.push(opcodes::STOP);
        pickle
    })
}

#[derive(Clone, Debug)]
enum Step {
    Memoize,
    Get(prop::sample::Index),
    Plain(u8),
    Bytes(Vec<u8>),
    Frame(u64),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Nothing but the frames is another.
    #[test]
    fn denormalising_gives_back_the_opcodes(pickle in opcode_salad()) {
        let normalised = normalise(&pickle).unwrap();
        let back = denormalise(&normalised.bytes).unwrap();
        prop_assert_eq!(without_frames(&back), without_frames(&pickle));
        prop_assert_eq!(normalise(&back).unwrap().bytes, normalised.bytes);
    }

    #[test]
    fn no_bytes_make_either_direction_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = normalise(&bytes);
        let _ = denormalise(&bytes);
    }

    /// Nearly right is worse than random: it comes further.
    #[test]
    fn no_changed_stream_makes_either_direction_panic(
        pickle in opcode_salad(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let normalised = normalise(&pickle).unwrap().bytes;
        for (stream, other) in [(pickle, false), (normalised, true)] {
            let mut stream = stream;
            for (index, byte) in &changes {
                let at = index.index(stream.len());
                stream[at] = *byte;
            }
            let _ = if other { denormalise(&stream).map(drop) } else { normalise(&stream).map(drop) };
            stream.truncate(cut.index(stream.len()));
            let _ = if other { denormalise(&stream).map(drop) } else { normalise(&stream).map(drop) };
        }
    }

    /// What memory a hostile stream can cost is bounded by its length.
    #[test]
    fn a_pickle_is_at_most_some_three_times_as_long(
        bytes in vec(prop::sample::select(b"h\x01\x94.\0e(".to_vec()), 0..300),
    ) {
        if let Ok(pickle) = denormalise(&bytes) {
            prop_assert!(pickle.len() <= 3 * bytes.len() + 16);
        }
    }
}
