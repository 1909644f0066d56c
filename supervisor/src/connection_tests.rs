//! Clients that do not keep to what clients may do.

use std::time::Duration;

use cellblock_proto::client::{ErrorCode, Reply, Request};
use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{Frame, Kind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::tenants::{Counted, Held};
use cellblock_proto::id::TenantId;

use crate::notebook_tests::{Peer, daemon, id, notebook};

#[tokio::test(start_paused = true)]
async fn frame_that_does_not_end_ends_the_connection_and_silence_does_not() {
    let (_temp, daemon, _shims) = daemon().await;
    let mut peer = Peer::connect(&daemon).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    peer.send(&Request::Notebooks, b"").await;
    assert!(matches!(peer.reply().await.1, Reply::Notebooks { .. }));

    let frame = Codec::Json.frame(Kind::Request, 9, &Request::Notebooks).unwrap();
    let mut bytes = Vec::new();
    frame.write_to(&mut bytes);
    // A byte every 10 s is no excuse.
    for byte in &bytes[..6] {
        peer.socket.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let (request, reply, _) = peer.reply().await;
    let Reply::Error { code: ErrorCode::BadRequest, message, .. } = reply else { panic!("{reply:?}") };
    assert!(request == 0 && message.contains("60 s"), "{message}");
    assert_eq!(peer.socket.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn code_above_the_limit_is_refused_and_whoever_sent_it_hears_so() {
    let (_temp, daemon, _shims) = daemon().await;
    let mut peer = Peer::connect(&daemon).await;
    let execute = Request::Execute { notebook: notebook(), execution: id("e"), options: Default::default() };
    peer.send(&execute, &vec![b'#'; (16 << 20) + 1]).await;
    let (_, reply, _) = peer.reply().await;
    let Reply::Error { code: ErrorCode::TooLarge, message, .. } = reply else { panic!("{reply:?}") };
    assert!(message.contains("16777216"), "{message}");
}

async fn until(is_so: impl Fn() -> bool) {
    let look = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), look).await.expect("it comes to be so");
}

#[tokio::test]
async fn what_has_come_of_a_frame_is_counted_as_its_tenants_bytes() {
    let (_temp, daemon, _shims) = daemon().await;
    let tenant = daemon.tenants.named(&TenantId::operator());
    let uses = || tenant.uses(Counted::Buffered);
    let mut bytes = Vec::new();
    let frame = Codec::Json.frame(Kind::Request, 9, &Request::Notebooks).unwrap();
    Frame { payload: vec![b'#'; 1 << 20], ..frame }.write_to(&mut bytes);
    let (last, begun) = bytes.split_last().unwrap();

    let mut peer = Peer::connect(&daemon).await;
    peer.socket.write_all(begun).await.unwrap();
    until(|| uses() >= 1 << 20).await;
    peer.socket.write_all(&[*last]).await.unwrap();
    let (_, reply, _) = peer.reply().await;
    assert!(matches!(reply, Reply::Notebooks { .. }), "{reply:?}");
    assert!(uses() < 1 << 20);

    let _others = Held::claim(&tenant, Counted::Buffered, 1 << 30);
    peer.socket.write_all(begun).await.unwrap();
    let (request, reply, _) = peer.reply().await;
    let Reply::Error { code: ErrorCode::Busy, message, .. } = reply else { panic!("{reply:?}") };
    assert!(request == 0 && message.contains("max_buffered_bytes"), "{message}");
    until(|| uses() == 1 << 30).await;
}
