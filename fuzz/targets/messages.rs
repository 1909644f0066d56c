//! Every message of every hop, from both codecs: what decodes has a wire form in both, and that form
//! decodes to the same message. A path in a request is refused, or is names below the workspace that
//! are asked for again as they are listed.
#![no_main]

use cellblock_proto::codec::Codec;
use cellblock_proto::frame::Kind;
use cellblock_proto::{anchor, client, path, shim, worker};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};

const KINDS: [Kind; 8] = [
    Kind::Request,
    Kind::Reply,
    Kind::Command,
    Kind::Event,
    Kind::WorkerCommand,
    Kind::WorkerEvent,
    Kind::AnchorRequest,
    Kind::AnchorReply,
];

/// `meta` as a message of type `M`.
fn check<M: Serialize + DeserializeOwned>(codec: Codec, meta: &[u8]) {
    let message: M = match codec.decode(meta) {
        Ok(message) => message,
        Err(error) => {
            let _ = error.to_string();
            return;
        }
    };
    // Compared as bytes: not every message can be compared, and bincode's bytes are one to one.
    let canonical = Codec::Bincode.encode(&message).expect("what was decoded has a bincode form");
    let again: M = Codec::Bincode.decode(&canonical).expect("our own bincode decodes");
    assert!(Codec::Bincode.encode(&again).is_ok_and(|bytes| bytes == canonical), "bincode changed a message");

    // JSON cannot say a path that is not UTF-8; everything else it must.
    let Ok(json) = Codec::Json.encode(&message) else { return };
    let again: M = Codec::Json.decode(&json).expect("our own JSON decodes");
    assert!(Codec::Bincode.encode(&again).is_ok_and(|bytes| bytes == canonical), "JSON changed a message");
}

fn check_path(codec: Codec, meta: &[u8]) {
    use client::Request::{ListFiles, ReadFile, RemoveFile, WriteFile};
    let Ok(request) = codec.decode(meta) else { return };
    let (ListFiles { path, .. } | ReadFile { path, .. } | WriteFile { path, .. } | RemoveFile { path, .. }) =
        request
    else {
        return;
    };
    let Ok(names) = path::parse(&path) else { return };
    for name in &names {
        assert!(!name.is_empty() && name != b"." && name != b"..", "{path:?} leads elsewhere");
        assert!(!name.contains(&b'/') && !name.contains(&0), "{path:?} is no path of names");
        assert_eq!(path::parse(&path::escape(name)).as_deref(), Ok(&[name.clone()][..]), "{path:?}");
    }
}

fuzz_target!(|data: &[u8]| {
    // A seed is the kind and the codec as the header has them, then the meta.
    let [kind, codec, meta @ ..] = data else { return };
    let codec = if codec % 2 == 1 { Codec::Json } else { Codec::Bincode };
    match KINDS[usize::from(kind.wrapping_sub(1)) % KINDS.len()] {
        Kind::Request => {
            check::<client::Request>(codec, meta);
            check_path(codec, meta);
        }
        Kind::Reply => check::<client::Reply>(codec, meta),
        Kind::Command => check::<shim::Command>(codec, meta),
        Kind::Event => check::<shim::Event>(codec, meta),
        Kind::WorkerCommand => check::<worker::WorkerCommand>(codec, meta),
        Kind::WorkerEvent => check::<worker::WorkerEvent>(codec, meta),
        Kind::AnchorRequest => check::<anchor::AnchorRequest>(codec, meta),
        Kind::AnchorReply => check::<anchor::AnchorReply>(codec, meta),
    }
});
