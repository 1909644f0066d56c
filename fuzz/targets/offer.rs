//! What a snapshot child and the store say to each other: a packet that is read is written as it was read, and nothing
//! in it lies outside of it.
#![no_main]

use cellblock_checkpoints::offer::{CHUNK_BYTES, DATA_BYTES, FromChild, FromStore};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut written = Vec::new();
    if let Ok(message) = FromChild::decode(data) {
        message.encode(&mut written);
        assert_eq!(written, data, "a child's message is not written as it was read");
        match message {
            FromChild::Offer { chunks, .. } => {
                for chunk in chunks.iter() {
                    assert!((1..=CHUNK_BYTES).contains(&(chunk.length as usize)));
                }
            }
            FromChild::Data { chunks } => {
                let total: usize = chunks.iter().map(|sent| sent.length as usize).sum();
                assert!(total <= DATA_BYTES);
            }
            _ => {}
        }
    }
    if let Ok(message) = FromStore::decode(data) {
        message.encode(&mut written);
        assert_eq!(written, data, "the store's message is not written as it was read");
        if let FromStore::Want { count, .. } = message {
            assert!(!message.wants(count as usize));
        }
    }
});
