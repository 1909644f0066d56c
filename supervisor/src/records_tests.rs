#[path = "records_tests/interleavings.rs"]
mod interleavings;

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

/// Records with a place on the disk.
fn kept() -> (tempfile::TempDir, Records) {
    let temp = tempfile::tempdir().unwrap();
    let records = Records::open(&temp.path().join("outputs"));
    (temp, records)
}

/// The daemon is killed, and another comes.
fn again(temp: &tempfile::TempDir) -> Records {
    Records::open(&temp.path().join("outputs"))
}

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
    Client { outbox: Arc::new(Outbox::default()), codec: Codec::Bincode, teller: None }
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
    assert!(records.find(&id("a")).unwrap().attached.is_empty());
}

#[tokio::test]
async fn more_than_the_outbox_holds_arrives_whole() {
    let (_temp, mut records) = kept();
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
async fn cell_that_nobody_reads_runs_on_and_is_read_whole_later_also_after_a_kill() {
    let wake = Arc::new(Notify::new());
    let (temp, mut records) = kept();
    records.create(&id("a"), false);
    records.accept(&id("a"), 0);
    for seq in 0..50 {
        add(&mut records, "a", seq, MIB);
        assert!(!records.deliver(&wake));
        assert!(records.bytes <= MAX_BYTES, "{}", records.bytes);
        assert_eq!(records.held(&Hold::Output(id("a"), seq)), Held::Free);
    }
    end(&mut records, "a", 50);
    let expected: Vec<String> = std::iter::once("accepted 0".to_owned())
        .chain((0..50).map(|seq| seq.to_string()))
        .chain(["outcome 50".to_owned()])
        .collect();
    assert_eq!(summary(&read(&mut records, "a", 0).await), expected);
    let mut records = again(&temp);
    assert!(records.knows(&id("a")) && records.open_ones().is_empty());
    assert!(records.find(&id("a")).is_some());
    assert_eq!(summary(&read(&mut records, "a", 0).await), expected);
    assert_eq!(summary(&read(&mut records, "a", 48).await), ["accepted 0", "48", "49", "outcome 50"]);
}

#[tokio::test]
async fn beyond_the_cap_head_and_tail_are_left_and_the_gap_is_told_to_the_byte() {
    let (_temp, mut records) = kept();
    records.create(&id("a"), false);
    for seq in 0..200 {
        add(&mut records, "a", seq, MIB);
    }
    end(&mut records, "a", 200);
    let replies = read(&mut records, "a", 0).await;
    let outputs: Vec<u64> = replies
        .iter()
        .filter_map(|reply| match reply {
            Reply::Output(frame) if !matches!(frame.output, Output::Truncated { .. }) => Some(frame.seq),
            _ => None,
        })
        .collect();
    let missing = 200 - outputs.len();
    assert!((100..=140).contains(&missing), "{missing} MiB are missing");
    assert_eq!((outputs[..28].to_vec(), *outputs.last().unwrap()), ((0..28).collect(), 199));
    let marks: Vec<String> =
        summary(&replies).into_iter().filter(|line| line.contains("truncated")).collect();
    let resume_at = outputs.windows(2).find(|pair| pair[1] != pair[0] + 1).unwrap()[1];
    assert_eq!(marks, [format!("{} truncated {}", resume_at - 1, missing * MIB)]);
}

#[tokio::test]
async fn what_was_read_goes_before_what_nobody_has_read() {
    let (_temp, mut records) = kept();
    records.create(&id("a"), false);
    for seq in 0..120 {
        if seq == 60 {
            records.ensure(&id("a")).mark_written(60);
        }
        add(&mut records, "a", seq, MIB);
    }
    end(&mut records, "a", 120);
    // All 60 that a client was away for.
    let lines = summary(&read(&mut records, "a", 60).await);
    assert_eq!(lines[1..61].to_vec(), (60..120).map(|seq| seq.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_a_disk_head_and_tail_stay_in_memory_and_nothing_waits() {
    let wake = Arc::new(Notify::new());
    let mut records = Records::default();
    for seq in 0..160 {
        add(&mut records, "a", seq, MIB / 8);
        assert!(!records.deliver(&wake));
    }
    assert_eq!(records.held(&Hold::Output(id("a"), 159)), Held::Free);
    assert!(records.bytes <= MEMORY_BYTES + MIB / 8 + 256);
    end(&mut records, "a", 160);
    let replies = read(&mut records, "a", 0).await;
    let lines = summary(&replies);
    assert_eq!(lines[..7], ["accepted 0", "0", "1", "2", "3", "4", "5"]);
    assert_eq!(lines[lines.len() - 2..], ["159", "outcome 160"]);
    let kept = lines.iter().filter(|line| line.parse::<u64>().is_ok()).count();
    let marks: Vec<&String> = lines.iter().filter(|line| line.contains("truncated")).collect();
    assert!(marks.len() == 1 && marks[0].ends_with(&format!(" {}", (160 - kept) * MIB / 8)), "{marks:?}");
    let said = format!("{replies:?}");
    assert!(said.contains("the disk did not take it"), "{said}");
}

#[tokio::test]
async fn ended_executions_leave_memory_and_are_read_again() {
    let (_temp, mut records) = kept();
    for number in 0..300 {
        let name = format!("e{number}");
        records.create(&id(&name), false);
        records.accept(&id(&name), 0);
        add(&mut records, &name, 0, 10);
        end(&mut records, &name, 1);
        records.deliver(&Arc::new(Notify::new()));
    }
    assert!(records.map.len() <= MAX_ENDED);
    records.rest();
    assert_eq!((records.map.len(), records.bytes), (0, 0));
    for name in ["e0", "e299"] {
        assert!(records.find(&id(name)).is_some());
        assert_eq!(summary(&read(&mut records, name, 0).await), ["accepted 0", "0", "outcome 1"]);
    }
    assert!(records.find(&id("e300")).is_none());
}

#[tokio::test]
async fn accepted_execution_whose_shim_is_gone_is_open_until_it_is_ended_once() {
    let (temp, mut records) = kept();
    records.create(&id("a"), false);
    records.accept(&id("a"), 0);
    add(&mut records, "a", 0, 3 * MIB);
    add(&mut records, "a", 1, 10);
    drop(records);
    let mut records = again(&temp);
    assert_eq!(records.open_ones(), [id("a")]);
    let outcome = crate::loss::unmeasured(End::Interrupted, Variables::Kept);
    records.end(&id("a"), None, outcome, Payload::default());
    for mut records in [records, again(&temp)] {
        assert_eq!((records.open_ones(), records.has_ended(&id("a"))), (vec![], true));
        end(&mut records, "a", 7);
        assert!(records.find(&id("a")).is_some());
        // What lay in memory only went with the daemon.
        assert_eq!(summary(&read(&mut records, "a", 0).await), ["accepted 0", "0", "outcome 1"]);
    }
}

#[tokio::test]
async fn what_a_background_task_prints_after_the_end_is_kept_too() {
    let (temp, mut records) = kept();
    records.create(&id("a"), false);
    add(&mut records, "a", 0, 10);
    end(&mut records, "a", 1);
    add(&mut records, "a", 1, 20);
    for mut records in [records, again(&temp)] {
        assert!(records.find(&id("a")).is_some());
        assert_eq!(summary(&read(&mut records, "a", 0).await), ["accepted 0", "0", "1", "outcome 2"]);
    }
}

#[tokio::test]
async fn slow_reader_of_a_running_execution_stops_reading_from_the_shim() {
    let wake = Arc::new(Notify::new());
    let (_temp, mut records) = kept();
    let client = client();
    records.attach(&id("a"), Attachment::new(Responder::new(client.clone(), 1), 0));
    records.ensure(&id("a")).accepted = Some(0);
    add(&mut records, "a", 0, 2 * MIB);
    assert!(!records.deliver(&wake));
    add(&mut records, "a", 1, 10);
    assert!(records.deliver(&wake));
    client.outbox.close();
    assert!(!records.deliver(&wake), "it has gone");
    assert_eq!(records.held(&Hold::Output(id("a"), 0)), Held::Free);
    assert_eq!(records.held(&Hold::Output(id("a"), 1)), Held::Hard);
}

#[tokio::test]
async fn execution_that_is_to_end_with_its_client_is_told_when_the_last_has_gone() {
    let wake = Arc::new(Notify::new());
    let (temp, mut records) = kept();
    let clients = [client(), client()];
    for name in ["a", "b"] {
        records.create(&id(name), name == "a");
        records.accept(&id(name), 0);
        for client in &clients {
            records.attach(&id(name), Attachment::new(Responder::new(client.clone(), 1), 0));
        }
    }
    records.deliver(&wake);
    for (client, expected) in clients.iter().zip([vec![], vec![id("a")]]) {
        client.outbox.close();
        tokio::time::timeout(std::time::Duration::from_secs(5), wake.notified()).await.unwrap();
        records.deliver(&wake);
        assert_eq!(records.take_deserted(), expected);
    }
    let mut records = again(&temp);
    assert!(records.has_deserted());
    records.desert_unread();
    assert_eq!(records.take_deserted(), [id("a")]);
    // Somebody has come back to it.
    let mut records = again(&temp);
    records.attach(&id("a"), Attachment::new(Responder::new(client(), 1), 0));
    records.desert_unread();
    assert_eq!(records.take_deserted(), []);
}

#[tokio::test]
async fn who_reads_what_is_on_the_disk_reads_on_when_it_is_let_go() {
    for (mut records, goes) in [(kept().1, 0), (Records::default(), 1)] {
        records.create(&id("a"), false);
        add(&mut records, "a", 0, 10);
        end(&mut records, "a", 1);
        records.attach(&id("a"), Attachment::new(Responder::new(client(), 1), 0));
        assert_eq!(records.let_go(&id("a")).len(), goes);
        assert_eq!(records.find(&id("a")).is_some(), goes == 0);
    }
}

#[test]
fn files_of_what_the_journal_has_forgotten_go() {
    let (temp, mut records) = kept();
    add(&mut records, "old", 0, MIB);
    end(&mut records, "old", 1);
    let segments = || {
        let names = std::fs::read_dir(temp.path().join("outputs")).unwrap();
        names.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("old")).count()
    };
    assert_eq!(segments(), 1);
    for number in 0..=2 * crate::journal::REMEMBERED {
        end(&mut records, &format!("e{number}"), 0);
    }
    assert_eq!((segments(), records.journal.knows(&id("old"))), (0, false));
}

#[test]
fn without_a_disk_what_a_client_has_goes_before_what_nobody_has() {
    let mut records = Records::default();
    (0..8).for_each(|seq| add(&mut records, "a", seq, MIB / 4));
    records.ensure(&id("a")).mark_written(3);
    (8..12).for_each(|seq| add(&mut records, "a", seq, MIB / 4));
    let kept: Vec<u64> = records.ensure(&id("a")).outputs.keys().copied().collect();
    assert_eq!(kept, [5, 6, 7, 8, 9, 10, 11]);
}
