use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::hash::HASH_BYTES;

/// One of each, as golden bytes: two builds of the child and the store must agree on them.
#[test]
fn messages_have_these_bytes() {
    let offered = [Offered { hash: Hash([7; HASH_BYTES]), length: 0x0304 }];
    let sent = [Sent { index: 1, length: 2 }, Sent { index: 5, length: CHUNK_BYTES as u32 }];
    let mut offer = vec![4, 0, 1, 0, 0, 0];
    offer.extend([7; HASH_BYTES]);
    offer.extend([4, 3, 0, 0]);
    let golden: [(FromChild<'_>, Vec<u8>); 7] = [
        (
            FromChild::Begin { version: 1, stream_chunks: 2, buffers: 3 },
            vec![1, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            FromChild::Buffer { bytes: 0x4_0001, chunks: 2 },
            vec![2, 1, 0, 4, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        ),
        (FromChild::Stream { bytes: 9 }, vec![3, 9, 0, 0, 0, 0, 0, 0, 0]),
        (FromChild::Offer { kind: Kind::Buffer, chunks: offered[..].into() }, offer),
        (
            FromChild::Data { chunks: sent[..].into() },
            vec![5, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 4, 0],
        ),
        (FromChild::Names { bytes: 258 }, vec![6, 2, 1, 0, 0, 0, 0, 0, 0]),
        (FromChild::End, vec![7]),
    ];
    let mut out = Vec::new();
    for (message, bytes) in &golden {
        message.encode(&mut out);
        assert_eq!(&out, bytes);
        assert_eq!(FromChild::decode(bytes).as_ref(), Ok(message));
    }
    let answers: [(FromStore<'_>, Vec<u8>); 3] = [
        (FromStore::Want { count: 9, bitmap: &[0b1000_0001, 1] }, vec![65, 9, 0, 0, 0, 129, 1]),
        (FromStore::Done { id: 1, written: 256 }, vec![66, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        (FromStore::Failed { reason: "no" }, vec![67, b'n', b'o']),
    ];
    for (message, bytes) in &answers {
        message.encode(&mut out);
        assert_eq!(&out, bytes);
        assert_eq!(FromStore::decode(bytes), Ok(*message));
    }
}

#[test]
fn the_largest_offer_fits_a_message() {
    let chunks = vec![Offered { hash: Hash::NONE, length: 1 }; OFFERED_CHUNKS];
    let mut out = Vec::new();
    FromChild::Offer { kind: Kind::Other, chunks: chunks[..].into() }.encode(&mut out);
    assert_eq!(out.len(), 54_006);
    assert!(out.len() <= MESSAGE_BYTES);
}

#[test]
fn what_is_out_of_bounds_is_refused_by_name() {
    let words = |tag: &[u8], words: &[u32]| {
        let mut bytes = tag.to_vec();
        words.iter().for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes
    };
    for (bytes, says) in [
        (vec![], "an empty message"),
        (vec![9], "no message begins with byte 9"),
        (vec![7, 0], "message End has a wrong length of 2 bytes"),
        (words(&[5], &[u32::MAX]), "the count of message Data cannot be 4294967295"),
        (words(&[5], &[0]), "the count of message Data cannot be 0"),
        (words(&[5], &[1, 0]), "message Data has a wrong length of 9 bytes"),
        (words(&[5], &[1, 0, 0]), "the chunk length of message Data cannot be 0"),
        (words(&[5], &[1, 0, 262_145]), "the chunk length of message Data cannot be 262145"),
        (words(&[4, 2], &[1]), "the kind of message Offer cannot be 2"),
        (words(&[6], &[16_777_217, 0]), "the bytes of message Names cannot be 16777217"),
        (words(&[3], &[0, 0]), "the bytes of message Stream cannot be 0"),
        (words(&[2], &[1, 0, 2, 0]), "the chunks of message Buffer cannot be 2"),
    ] {
        assert_eq!(FromChild::decode(&bytes).unwrap_err().to_string(), says);
    }
    let sent: Vec<_> = (0..33).map(|index| Sent { index, length: CHUNK_BYTES as u32 }).collect();
    let mut out = Vec::new();
    FromChild::Data { chunks: sent[..].into() }.encode(&mut out);
    let says = "the total length of message Data cannot be 8650752";
    assert_eq!(FromChild::decode(&out).unwrap_err().to_string(), says);
    for bytes in [&[65, 1, 0, 0, 0, 2][..], &[65, 1, 0, 0, 0], &[65, 255, 255, 0, 0], &[67, 255]] {
        assert!(FromStore::decode(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let reason = "ä".repeat(REASON_BYTES);
    let mut out = Vec::new();
    FromStore::Failed { reason: &format!("x{reason}") }.encode(&mut out);
    let FromStore::Failed { reason: cut } = FromStore::decode(&out).unwrap() else {
        panic!("another message")
    };
    assert_eq!(cut.len(), REASON_BYTES - 1);
}

#[test]
fn bits_are_wanted_by_index_and_none_beyond_the_count() {
    let want = FromStore::Want { count: 9, bitmap: &[0b0000_0010, 1] };
    assert_eq!((0..20).filter(|index| want.wants(*index)).collect::<Vec<_>>(), [1, 8]);
    assert!(!FromStore::Failed { reason: "" }.wants(0));
}

fn offered() -> impl Strategy<Value = Offered> {
    (any::<[u8; HASH_BYTES]>(), 1..=CHUNK_BYTES as u32)
        .prop_map(|(hash, length)| Offered { hash: Hash(hash), length })
}

proptest! {
    /// What decodes is what encoding it again gives: there is one way to say a thing.
    #[test]
    fn arbitrary_bytes_are_refused_or_canonical(
        tag in prop_oneof![0u8..10, 60u8..70],
        rest in vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..120),
    ) {
        let bytes = [&[tag][..], &rest].concat();
        let mut out = Vec::new();
        if let Ok(message) = FromChild::decode(&bytes) {
            message.encode(&mut out);
            prop_assert_eq!(&out, &bytes);
        }
        if let Ok(message) = FromStore::decode(&bytes) {
            message.encode(&mut out);
            prop_assert_eq!(&out, &bytes);
        }
    }

    #[test]
    fn offers_come_back_as_they_were(chunks in vec(offered(), 1..40), cut in 1usize..10) {
        let message = FromChild::Offer { kind: Kind::Other, chunks: chunks[..].into() };
        let mut out = Vec::new();
        message.encode(&mut out);
        prop_assert_eq!(FromChild::decode(&out), Ok(message));
        prop_assert!(FromChild::decode(&out[..out.len() - cut]).is_err());
    }
}
