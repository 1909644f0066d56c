//! Frames that must be refused, with the words of the refusal.

use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{FrameError, Header, Kind, Limits};

/// (name, bytes, error). The bytes are a header; nothing after it is ever looked at.
pub(crate) fn malformed() -> Vec<(&'static str, Vec<u8>, FrameError)> {
    let Limits { meta_bytes, payload_bytes } = Limits::DEFAULT;
    let too_large = |part, found, limit| FrameError::TooLarge { part, found, limit };
    vec![
        ("http_spoken_at_the_socket", b"GET / HTTP/1.1\r\n".to_vec(), FrameError::Magic { found: b'G' }),
        ("magic_zero", with(0, 0), FrameError::Magic { found: 0 }),
        ("kind_zero", with(1, 0), FrameError::Kind { found: 0 }),
        ("kind_after_the_last", with(1, 9), FrameError::Kind { found: 9 }),
        ("codec_zero", with(2, 0), FrameError::Codec { found: 0 }),
        ("codec_after_the_last", with(2, 3), FrameError::Codec { found: 3 }),
        ("flag_unknown", with(3, 0b100), FrameError::Flags { found: 0b100 }),
        ("flags_all", with(3, 0xff), FrameError::Flags { found: 0xff }),
        ("meta_one_above", lengths(meta_bytes + 1, 0), too_large("meta", meta_bytes + 1, meta_bytes)),
        ("meta_greatest", lengths(u32::MAX, 0), too_large("meta", u32::MAX, meta_bytes)),
        (
            "payload_one_above",
            lengths(2, payload_bytes + 1),
            too_large("payload", payload_bytes + 1, payload_bytes),
        ),
        ("payload_greatest", lengths(2, u32::MAX), too_large("payload", u32::MAX, payload_bytes)),
        ("both_greatest", lengths(u32::MAX, u32::MAX), too_large("meta", u32::MAX, meta_bytes)),
    ]
}

fn lengths(meta_bytes: u32, payload_bytes: u32) -> Vec<u8> {
    let header =
        Header { kind: Kind::Request, codec: Codec::Json, flags: 0, request: 1, meta_bytes, payload_bytes };
    header.encode().to_vec()
}

/// A sound header with one byte replaced.
fn with(at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = lengths(2, 0);
    bytes[at] = byte;
    bytes
}
