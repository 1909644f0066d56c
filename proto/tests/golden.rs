//! The wire is what `vectors/` says: this build writes the same bytes and reads them back as the
//! same messages. `golden/coverage.rs` sees that no variant is missing there, `golden/hostile.rs`
//! that bytes which are no frames do no harm.

mod messages;

#[path = "golden/coverage.rs"]
mod coverage;
#[path = "golden/hostile.rs"]
mod hostile;

use std::path::Path;

use cellblock_proto::codec::{Codec, CodecError};
use cellblock_proto::frame::{Frame, FrameReader, Limits};
use messages::{Message, hex, malformed, render_frames, render_malformed, samples};
use serde_json::Value;

#[test]
fn frames_are_written_as_the_vectors_say() {
    assert_same("v1.json", &render_frames());
    assert_same("v1-malformed.json", &render_malformed());
}

#[test]
fn stored_frames_decode_to_the_messages_they_were_made_of() {
    let stored: Vec<Value> = serde_json::from_str(&stored("v1.json")).expect("the vectors are JSON");
    let written =
        samples().into_iter().flat_map(|sample| [(sample.clone(), Codec::Json), (sample, Codec::Bincode)]);
    let mut compared = 0;
    for (vector, (sample, codec)) in stored.iter().zip(written) {
        let mut reader = FrameReader::new(Limits::DEFAULT);
        reader.feed(&unhex(vector["frame"].as_str().expect("`frame` is text")));
        let frame = reader.next_frame().expect("a vector is sound").expect("a vector is whole");
        assert_eq!(reader.pending_bytes(), 0, "{}", vector["name"]);
        assert_eq!((frame.codec, frame.flags, frame.request), (codec, sample.flags, sample.request));
        assert_eq!(hex(&frame.payload), vector["payload"]);
        assert_eq!(decode_like(&sample.message, &frame).expect("a vector decodes"), sample.message);
        compared += 1;
    }
    assert_eq!(compared, samples().len() * 2);
}

#[test]
fn names_are_unique_within_their_hop() {
    let stored: Vec<Value> = serde_json::from_str(&stored("v1.json")).expect("the vectors are JSON");
    let names: std::collections::BTreeSet<_> =
        stored.iter().map(|vector| (vector["hop"].to_string(), vector["name"].to_string())).collect();
    assert_eq!(names.len(), stored.len());
}

#[test]
fn malformed_frames_give_the_error_they_name() {
    for (name, bytes, error) in malformed() {
        let mut reader = FrameReader::new(Limits::DEFAULT);
        reader.feed(&bytes);
        assert_eq!(reader.next_frame(), Err(error), "{name}");
    }
}

/// Decodes the frame's meta as a message of the same hop.
fn decode_like(message: &Message, frame: &Frame) -> Result<Message, CodecError> {
    Ok(match message {
        Message::Request(_) => Message::Request(frame.message()?),
        Message::Reply(_) => Message::Reply(frame.message()?),
        Message::Command(_) => Message::Command(frame.message()?),
        Message::Event(_) => Message::Event(frame.message()?),
        Message::WorkerCommand(_) => Message::WorkerCommand(frame.message()?),
        Message::WorkerEvent(_) => Message::WorkerEvent(frame.message()?),
        Message::AnchorRequest(_) => Message::AnchorRequest(frame.message()?),
        Message::AnchorReply(_) => Message::AnchorReply(frame.message()?),
    })
}

fn stored(file: &str) -> String {
    std::fs::read_to_string(Path::new(messages::FOLDER).join(file))
        .expect("the vectors are in the repository")
}

/// Compares line by line, so that a failure shows the frame that differs and not the whole file.
fn assert_same(file: &str, written: &str) {
    let stored = stored(file);
    for (old, new) in stored.lines().zip(written.lines()) {
        assert_eq!(old, new, "{file}: the wire has changed; if that is meant, see proto/README.md");
    }
    assert_eq!(stored.len(), written.len(), "{file}: frames were added or taken away");
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("two hexadecimal digits");
    (0..text.len()).step_by(2).map(digit).collect()
}
