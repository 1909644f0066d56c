use super::*;
use crate::outbox::{Client, Outbox, Responder};
use cellblock_proto::client::Reply;
use cellblock_proto::codec::Codec;
use cellblock_proto::execution::{End, StreamName, Variables};
use cellblock_proto::frame::{FrameReader, Limits};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

const MIB: usize = 1 << 20;

fn id(name: &str) -> ExecutionId {
    name.parse().unwrap()
}

fn add(records: &mut Records, name: &str, seq: u64, bytes: usize) {
    let output = Output::Stream { name: StreamName::Stdout };
    records.add(&id(name), seq, output, Payload::new(vec![b'x'; bytes]));
}

fn end(records: &mut Records, name: &str, outputs: u64) {
    let outcome = crate::loss::unmeasured(End::Ok, Variables::Kept);
    records.end(&id(name), Some(outputs), outcome, Payload::default());
}

fn client() -> Client {
    Client { outbox: Arc::new(Outbox::default()), codec: Codec::Bincode }
}

/// Everything an attached client reads until the end of its Execution.
async fn read(records: &mut Records, name: &str, from: u64) -> Vec<Reply> {
    let client = client();
    client.outbox.begin(1).unwrap();
    records.attach(&id(name), Attachment::new(Responder::new(client.clone(), 1), from));
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let outbox = Arc::clone(&client.outbox);
    let writer = tokio::spawn(async move { outbox.write_to(far).await });
    let wake = Arc::new(Notify::new());
    let mut reader = FrameReader::new(Limits::DEFAULT);
    let mut replies = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        records.deliver(&wake);
        while let Some(frame) = reader.next_frame().unwrap() {
            replies.push(frame.message::<Reply>().unwrap());
            if frame.is_last() {
                client.outbox.close();
                writer.await.unwrap().unwrap();
                records.deliver(&wake);
                return replies;
            }
        }
        let count = near.read(&mut buffer).await.unwrap();
        reader.feed(&buffer[..count]);
    }
}

fn summary(replies: &[Reply]) -> Vec<String> {
    let line = |reply: &Reply| match reply {
        Reply::Accepted { position, .. } => format!("accepted {position}"),
        Reply::Output(frame) => match &frame.output {
            Output::Truncated { dropped_bytes, .. } => format!("{} truncated {dropped_bytes}", frame.seq),
            _ => format!("{}", frame.seq),
        },
        Reply::Outcome { outputs, .. } => format!("outcome {outputs}"),
        other => format!("{other:?}"),
    };
    replies.iter().map(line).collect()
}

#[tokio::test]
async fn client_gets_outputs_from_its_place_on_then_the_outcome() {
    let mut records = Records::default();
    for seq in 0..3 {
        add(&mut records, "a", seq, 10);
    }
    records.ensure(&id("a")).accepted = Some(2);
    end(&mut records, "a", 3);
    let replies = read(&mut records, "a", 1).await;
    assert_eq!(summary(&replies), ["accepted 0", "1", "2", "outcome 3"]);
    assert_eq!(records.held(&Hold::Outcome(id("a"))), Held::Free);
    assert!(records.get(&id("a")).unwrap().attached.is_empty());
}

#[tokio::test]
async fn more_than_the_outbox_holds_arrives_whole() {
    let mut records = Records::default();
    for seq in 0..6 {
        add(&mut records, "a", seq, MIB);
    }
    end(&mut records, "a", 6);
    assert_eq!(read(&mut records, "a", 0).await.len(), 8);
}

#[tokio::test]
async fn what_was_dropped_is_marked_where_it_is_missing() {
    let mut records = Records::default();
    // What an earlier daemon has taken: outputs 0 to 4.
    add(&mut records, "a", 5, 10);
    end(&mut records, "a", 6);
    assert_eq!(summary(&read(&mut records, "a", 2).await), ["accepted 0", "4 truncated 0", "5", "outcome 6"]);
    // Everything taken, only the end is known.
    end(&mut records, "b", 7);
    assert_eq!(summary(&read(&mut records, "b", 2).await), ["accepted 0", "6 truncated 0", "outcome 7"]);
}

#[tokio::test]
async fn oldest_ended_outputs_go_first_when_memory_is_full() {
    let mut records = Records::default();
    for name in ["a", "b", "c"] {
        add(&mut records, name, 0, 6 * MIB);
        end(&mut records, name, 1);
        records.deliver(&Arc::new(Notify::new()));
    }
    assert!(records.bytes <= MAX_BYTES);
    let dropped = format!("0 truncated {}", 6 * MIB);
    assert_eq!(summary(&read(&mut records, "a", 0).await), ["accepted 0", dropped.as_str(), "outcome 1"]);
    assert_eq!(summary(&read(&mut records, "c", 0).await), ["accepted 0", "0", "outcome 1"]);
}

#[tokio::test]
async fn unread_execution_stops_reading_until_it_is_given_up_and_keeps_head_and_tail() {
    let wake = Arc::new(Notify::new());
    let mut records = Records::default();
    for seq in 0..12 {
        assert_eq!(records.deliver(&wake), None);
        add(&mut records, "a", seq, MIB);
    }
    assert_eq!(records.deliver(&wake), Some(Pressure::Unread));
    assert_eq!(records.held(&Hold::Output(id("a"), 3)), Held::Hard);
    records.give_up_unread();
    for seq in 12..30 {
        add(&mut records, "a", seq, MIB);
        assert_eq!(records.deliver(&wake), None);
    }
    assert_eq!(records.held(&Hold::Output(id("a"), 29)), Held::Free);
    end(&mut records, "a", 30);
    let lines = summary(&read(&mut records, "a", 0).await);
    let dropped = format!("23 truncated {}", 19 * MIB);
    assert_eq!(lines[..7], ["accepted 0", "0", "1", "2", "3", "4", dropped.as_str()]);
    assert_eq!(lines[lines.len() - 2..], ["29", "outcome 30"]);
}

#[tokio::test]
async fn slow_reader_of_a_running_execution_stops_reading_from_the_shim() {
    let wake = Arc::new(Notify::new());
    let mut records = Records::default();
    let client = client();
    records.attach(&id("a"), Attachment::new(Responder::new(client.clone(), 1), 0));
    records.ensure(&id("a")).accepted = Some(0);
    add(&mut records, "a", 0, 2 * MIB);
    assert_eq!(records.deliver(&wake), None);
    add(&mut records, "a", 1, 10);
    assert_eq!(records.deliver(&wake), Some(Pressure::Reader));
    client.outbox.close();
    assert_eq!(records.deliver(&wake), None, "it has gone, and little is unread");
    assert_eq!(records.held(&Hold::Output(id("a"), 0)), Held::Hard);
}
