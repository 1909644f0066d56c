//! A byte stream, however it is cut, gives the same frames, and each is written as it was read.
#![no_main]

use cellblock_proto::frame::{Frame, FrameError, FrameReader, HEADER_BYTES, Limits};
use libfuzzer_sys::fuzz_target;

/// Small, so that mutations reach both sides of each limit.
const LIMITS: Limits = Limits { meta_bytes: 256, payload_bytes: 512 };

fn read(chunks: impl Iterator<Item = impl AsRef<[u8]>>) -> (Vec<Frame>, Option<FrameError>, usize) {
    let mut reader = FrameReader::new(LIMITS);
    let mut frames = Vec::new();
    for chunk in chunks {
        reader.feed(chunk.as_ref());
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error), 0),
            }
        }
        // Nobody can make a reader keep more than one frame that has begun.
        let most = HEADER_BYTES + (LIMITS.meta_bytes + LIMITS.payload_bytes) as usize;
        assert!(reader.pending_bytes() < most, "{} bytes are kept", reader.pending_bytes());
    }
    (frames, None, reader.pending_bytes())
}

fuzz_target!(|data: &[u8]| {
    // The last byte says how the stream is cut, so that a seed is a plain stream.
    let Some((cut, stream)) = data.split_last() else { return };
    let whole = read(std::iter::once(stream));
    assert_eq!(whole, read(stream.chunks(usize::from(*cut).max(1))), "frames depend on how they came");

    let (frames, error, pending) = whole;
    let mut written = Vec::new();
    for frame in &frames {
        frame.write_to(&mut written);
    }
    assert!(stream.starts_with(&written), "a frame is not written as it was read");
    if error.is_none() {
        assert_eq!(written.len() + pending, stream.len(), "bytes were lost");
    }
});
