use super::*;
use cellblock_proto::frame::FrameReader;
use tokio::io::AsyncReadExt;

fn client() -> Client {
    Client { outbox: Arc::new(Outbox::default()), codec: Codec::Bincode, teller: None }
}

#[tokio::test]
async fn output_waits_for_room_and_its_task_is_woken() {
    let client = client();
    let wake = Arc::new(Notify::new());
    let big = Arc::new(vec![7; ROOM_BYTES]);
    assert_eq!(client.offer(1, &Reply::Done, Some(Arc::clone(&big)), 0, &wake), Ok(1));
    assert_eq!(client.offer(1, &Reply::Done, Some(big), 0, &wake), Err(PushError::Full));
    // An answer goes in all the same.
    client.answer(2, &Reply::Done, None);

    let (mut near, far) = tokio::io::duplex(64 << 10);
    let outbox = Arc::clone(&client.outbox);
    let writer = tokio::spawn(async move { outbox.write_to(far).await });
    client.outbox.close();
    let mut bytes = Vec::new();
    near.read_to_end(&mut bytes).await.unwrap();
    writer.await.unwrap().unwrap();
    wake.notified().await;
    assert_eq!(client.outbox.written(), 2);
    let mut reader = FrameReader::new(Limits::DEFAULT);
    reader.feed(&bytes);
    assert_eq!(reader.next_frame().unwrap().unwrap().payload.len(), ROOM_BYTES);
    assert!(reader.next_frame().unwrap().unwrap().is_last());
}

#[tokio::test]
async fn client_that_goes_away_is_noticed_by_those_who_wait_for_room() {
    let client = client();
    let wake = Arc::new(Notify::new());
    let big = Arc::new(vec![7; ROOM_BYTES]);
    client.offer(1, &Reply::Done, Some(Arc::clone(&big)), 0, &wake).unwrap();
    let (near, far) = tokio::io::duplex(1024);
    drop(near);
    assert!(client.outbox.write_to(far).await.is_err());
    wake.notified().await;
    assert_eq!(client.offer(1, &Reply::Done, Some(big), 0, &wake), Err(PushError::Gone));
}

#[test]
fn request_id_is_in_use_until_its_last_frame() {
    let client = client();
    client.outbox.begin(5).unwrap();
    assert_eq!(client.outbox.begin(5), Err(BeginError::InUse));
    client.answer(5, &Reply::Done, None);
    client.outbox.begin(5).unwrap();
}

#[test]
fn responder_dropped_unanswered_answers_with_an_error() {
    let client = client();
    client.outbox.begin(5).unwrap();
    drop(Responder::new(client.clone(), 5));
    client.outbox.begin(5).unwrap();
}

#[test]
fn connection_keeps_nothing_of_those_that_no_longer_want_to_know_of_its_end() {
    let client = client();
    let stays = Arc::new(Notify::new());
    client.outbox.watch(&stays);
    for _ in 0..1000 {
        client.outbox.watch(&Arc::new(Notify::new()));
    }
    client.outbox.watch(&stays);
    assert_eq!(client.outbox.lock().watchers.len(), 1);
    assert_eq!((Arc::strong_count(&stays), Arc::weak_count(&stays)), (1, 1));
}
