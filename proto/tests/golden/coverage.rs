//! No variant of any message is missing among the samples: a variant added to the protocol does not
//! compile here until it has a name, and fails until it has a sample.

use std::collections::BTreeSet;

use cellblock_proto::anchor::{AnchorReply, AnchorRequest};
use cellblock_proto::client::{Reply, Request};
use cellblock_proto::execution::{Death, End, Output};
use cellblock_proto::query::{Answer, Query};
use cellblock_proto::shim::{Command, EventBody, StartFailure};
use cellblock_proto::worker::{WorkerCommand, WorkerEventBody};

use crate::messages::{Message, samples};

/// Names the variant of a value, exhaustively, and lists all names.
macro_rules! variants {
    ($name:ident, $all:ident, $Enum:ident: $($variant:ident)*) => {
        fn $name(value: &$Enum) -> &'static str {
            match value {
                $($Enum::$variant { .. } => concat!(stringify!($Enum), "::", stringify!($variant)),)*
            }
        }

        const $all: &[&str] = &[$(concat!(stringify!($Enum), "::", stringify!($variant))),*];
    };
}

variants!(request, REQUESTS, Request: Hello OpenNotebook Execute Attach Interrupt Cancel Input Query Restart Close
    Delete Notebooks Status Doctor Comm Shutdown Profiles Warm Plan ListFiles ReadFile WriteFile RemoveFile
    Checkpoint Checkpoints CheckpointContent Restore Fork ExportCheckpoint ImportCheckpoint VerifyCheckpoints
    CollectCheckpoints Clear Events Pin Evict Drain Metrics Overview Tenants
    NotebooksAfter);
variants!(reply, REPLIES, Reply: Hello Error Notebook Accepted Output Outcome Answer Notebooks Status Doctor Done
    Profiles Warm Plan Files File Checkpoint Checkpoints CheckpointContent Restored Part Imported Verified Collected
    Listening Event Drained Metrics Overview Tenants);
variants!(output, OUTPUTS, Output: Stream Display Result Error ClearOutput InputRequest Truncated Notice);
variants!(end, ENDS, End: Ok Error TimedOut Interrupted LimitHit WorkerDied Cancelled);
variants!(death, DEATHS, Death: Exited Signalled Ended ShimLost Protocol);
variants!(query, QUERIES, Query: Complete Inspect IsComplete History Variables);
variants!(answer, ANSWERS, Answer: Complete Inspect IsComplete History Variables Busy);
variants!(command, COMMANDS, Command: Start Zygote Claim Resume Taken Execute Interrupt Cancel Input Query End Leave
    Save Settled Retire);
variants!(event, EVENTS, EventBody: Ready StartFailed Accepted Started Output Finished Returned WorkerEnded Answer
    State Spare ZygoteUp Refused Checkpoint Restored Saved);
variants!(failure, FAILURES, StartFailure: Step Warm Interpreter);
variants!(worker_command, WORKER_COMMANDS, WorkerCommand: Execute Input Query Checkpoints Snapshot Restore);
variants!(worker_event, WORKER_EVENTS, WorkerEventBody: Ready Unfit Switch Output Finished Answer
    Snapshot Restored);
variants!(anchor_request, ANCHOR_REQUESTS, AnchorRequest: Hello Spawn List Kill Shutdown);
variants!(anchor_reply, ANCHOR_REPLIES, AnchorReply: Hello Started Shims Done Failed);

#[test]
fn every_variant_of_every_message_has_a_golden_frame() {
    let seen: BTreeSet<&str> = samples().iter().flat_map(|sample| names(&sample.message)).collect();
    let all = [
        REQUESTS,
        REPLIES,
        OUTPUTS,
        ENDS,
        DEATHS,
        QUERIES,
        ANSWERS,
        COMMANDS,
        EVENTS,
        FAILURES,
        WORKER_COMMANDS,
        WORKER_EVENTS,
        ANCHOR_REQUESTS,
        ANCHOR_REPLIES,
    ];
    let missing: Vec<_> = all.concat().into_iter().filter(|name| !seen.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

fn names(message: &Message) -> Vec<&'static str> {
    match message {
        Message::Request(Request::Query { query: asked, .. }) => vec!["Request::Query", query(asked)],
        Message::Request(other) => vec![request(other)],
        Message::Reply(Reply::Output(frame)) => vec!["Reply::Output", output(&frame.output)],
        Message::Reply(Reply::Outcome { outcome, .. }) => {
            [vec!["Reply::Outcome"], end_names(&outcome.end)].concat()
        }
        Message::Reply(Reply::Answer(given)) => vec!["Reply::Answer", answer(given)],
        Message::Reply(other) => vec![reply(other)],
        Message::Command(Command::Query(asked)) => vec!["Command::Query", query(asked)],
        Message::Command(other) => vec![command(other)],
        Message::Event(happened) => match &happened.body {
            EventBody::StartFailed { failure: why } => vec!["EventBody::StartFailed", failure(why)],
            other => vec![event(other)],
        },
        Message::WorkerCommand(other) => vec![worker_command(other)],
        Message::WorkerEvent(other) => vec![worker_event(&other.body)],
        Message::AnchorRequest(other) => vec![anchor_request(other)],
        Message::AnchorReply(other) => vec![anchor_reply(other)],
    }
}

fn end_names(ended: &End) -> Vec<&'static str> {
    match ended {
        End::WorkerDied(how) => vec![end(ended), death(how)],
        other => vec![end(other)],
    }
}
