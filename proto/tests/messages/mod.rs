//! One message of every variant, and the golden files made of them. The example `vectors` writes
//! those files, the test `golden` holds the code against them.

mod checkpoints;
mod client;
mod malformed;
mod operations;
mod shim;
mod worker;

use std::fmt::Write as _;

use cellblock_proto::anchor::{AnchorReply, AnchorRequest};
use cellblock_proto::client::{Reply, Request};
use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{Frame, Kind};
use cellblock_proto::shim::{Command, Event};
use cellblock_proto::worker::{WorkerCommand, WorkerEvent};
use serde_json::{Value, json};

pub(crate) use malformed::malformed;

/// Where the golden files lie.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors");

/// A message of any hop.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Request(Request),
    Reply(Reply),
    Command(Command),
    Event(Event),
    WorkerCommand(WorkerCommand),
    WorkerEvent(WorkerEvent),
    AnchorRequest(AnchorRequest),
    AnchorReply(AnchorReply),
}

/// Does the same to the message of whichever hop.
macro_rules! each_hop {
    ($message:expr, $inner:ident => $body:expr) => {
        match $message {
            Message::Request($inner) => $body,
            Message::Reply($inner) => $body,
            Message::Command($inner) => $body,
            Message::Event($inner) => $body,
            Message::WorkerCommand($inner) => $body,
            Message::WorkerEvent($inner) => $body,
            Message::AnchorRequest($inner) => $body,
            Message::AnchorReply($inner) => $body,
        }
    };
}

impl Message {
    /// The frame kind and the hop's name in the golden file.
    fn hop(&self) -> (Kind, &'static str) {
        match self {
            Message::Request(_) => (Kind::Request, "request"),
            Message::Reply(_) => (Kind::Reply, "reply"),
            Message::Command(_) => (Kind::Command, "command"),
            Message::Event(_) => (Kind::Event, "event"),
            Message::WorkerCommand(_) => (Kind::WorkerCommand, "worker_command"),
            Message::WorkerEvent(_) => (Kind::WorkerEvent, "worker_event"),
            Message::AnchorRequest(_) => (Kind::AnchorRequest, "anchor_request"),
            Message::AnchorReply(_) => (Kind::AnchorReply, "anchor_reply"),
        }
    }
}

/// A message with what else is in its frame.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Unique within its hop; says what is special about it.
    pub(crate) name: &'static str,
    pub(crate) message: Message,
    pub(crate) request: u32,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

impl Sample {
    fn new(name: &'static str, message: Message, request: u32) -> Self {
        Sample { name, message, request, flags: 0, payload: Vec::new() }
    }

    fn flag(mut self, flag: u8) -> Self {
        self.flags |= flag;
        self
    }

    fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The sample as a frame.
    pub(crate) fn frame(&self, codec: Codec) -> Frame {
        let frame =
            each_hop!(&self.message, message => codec.frame(self.message.hop().0, self.request, message));
        frame.expect("every sample has a wire form").with_flag(self.flags).with_payload(self.payload.clone())
    }

    /// The meta's JSON, whatever the codec of the frame.
    fn json(&self) -> Value {
        each_hop!(&self.message, message => serde_json::to_value(message))
            .expect("every sample has a JSON form")
    }
}

/// All of them, hop by hop.
pub(crate) fn samples() -> Vec<Sample> {
    let client = [client::requests(), client::replies(), checkpoints::requests(), checkpoints::replies()];
    let operators = [operations::requests(), operations::replies()];
    let rest = [shim::commands(), shim::events(), worker::samples()];
    client.into_iter().chain(operators).chain(rest).flatten().collect()
}

/// The golden file of whole frames: a JSON array, an element per line so that a diff shows what changed.
pub(crate) fn render_frames() -> String {
    let codecs = [(Codec::Json, "json"), (Codec::Bincode, "bincode")];
    let entries = samples().into_iter().flat_map(|sample| {
        codecs.map(|(codec, codec_name)| {
            let frame = sample.frame(codec);
            let header = frame.header();
            let mut bytes = Vec::new();
            frame.write_to(&mut bytes);
            json!({
                "name": format!("{}.{codec_name}", sample.name),
                "hop": sample.message.hop().1,
                "codec": codec_name,
                "frame": hex(&bytes),
                "header": {
                    "kind": header.kind as u8,
                    "codec": header.codec as u8,
                    "flags": header.flags,
                    "request": header.request,
                    "meta_bytes": header.meta_bytes,
                    "payload_bytes": header.payload_bytes,
                },
                "meta": sample.json(),
                "payload": hex(&sample.payload),
            })
        })
    });
    lines(entries)
}

/// The golden file of malformed frames: what is wrong with them, byte for byte, and the words for it.
pub(crate) fn render_malformed() -> String {
    lines(malformed().into_iter().map(
        |(name, bytes, error)| json!({ "name": name, "frame": hex(&bytes), "error": error.to_string() }),
    ))
}

fn lines(entries: impl Iterator<Item = Value>) -> String {
    let entries: Vec<String> = entries.map(|entry| entry.to_string()).collect();
    format!("[\n{}\n]\n", entries.join(",\n"))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("the ids of samples are legal")
}
