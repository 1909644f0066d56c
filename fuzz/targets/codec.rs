//! Each shape that a message can be made of: what decodes is encoded to something that decodes to
//! the same, and a few bytes never become a large value.
#![no_main]

use std::collections::BTreeMap;

use cellblock_proto::codec::Codec;
use libfuzzer_sys::fuzz_target;
use serde::{Deserialize, Serialize};

/// One of each thing that the messages use.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Numbers(i8, u16, i32, u64, bool),
    Text { text: String, maybe: Option<Box<Shape>> },
    Bytes(Vec<u8>),
    Many(Vec<Shape>),
    Map(BTreeMap<String, Vec<u32>>),
}

fn size(shape: &Shape) -> usize {
    1 + match shape {
        Shape::Unit | Shape::Numbers(..) => 0,
        Shape::Text { text, maybe } => text.len() + maybe.as_deref().map_or(0, size),
        Shape::Bytes(bytes) => bytes.len(),
        Shape::Many(shapes) => shapes.iter().map(size).sum(),
        Shape::Map(map) => map.iter().map(|(key, values)| key.len() + values.len()).sum(),
    }
}

/// How deep one lies in another. No message holds one of its own kind; these shapes do.
fn depth(shape: &Shape) -> usize {
    1 + match shape {
        Shape::Text { maybe, .. } => maybe.as_deref().map_or(0, depth),
        Shape::Many(shapes) => shapes.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// serde_json reads 128 brackets in one another, of which a shape takes two at most, and refuses more.
const JSON_DEPTH: usize = 60;

fuzz_target!(|data: &[u8]| {
    for codec in [Codec::Json, Codec::Bincode] {
        let shape: Shape = match codec.decode(data) {
            Ok(shape) => shape,
            Err(error) => {
                let _ = error.to_string();
                continue;
            }
        };
        assert!(size(&shape) <= data.len() + 1, "{} bytes became {shape:?}", data.len());
        for other in [Codec::Json, Codec::Bincode] {
            let bytes = other.encode(&shape).expect("what was decoded has a wire form");
            if other == Codec::Json && depth(&shape) > JSON_DEPTH {
                let _ = other.decode::<Shape>(&bytes);
                continue;
            }
            assert_eq!(other.decode::<Shape>(&bytes).expect("our own bytes decode"), shape);
            // Nothing may follow a message.
            assert!(other.decode::<Shape>(&[bytes.as_slice(), b"\0"].concat()).is_err());
        }
    }
});
