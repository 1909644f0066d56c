//! What is seen from outside of a worker that has nothing to do, and what it does when it is asked to go.

use super::*;
use crate::daemon::{Entry, Key};
use crate::notebook::Message;
use crate::tenants::Counted;
use cellblock_proto::id::TenantId;
use cellblock_proto::query::Query;

/// A level that something reaches.
async fn until(is_so: impl Fn() -> bool) {
    let look = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it comes to be so");
}

/// A worker that has run something and put something out, and has nothing to do.
async fn idle(daemon: &Arc<Daemon>, shims: &mut mpsc::Receiver<OwnedFd>) -> (Peer, Shim, Entry) {
    let (mut peer, mut shim) = running(daemon, shims).await;
    shim.output("e", 0, &[b'x'; 10_000]).await;
    shim.finish("e", 1).await;
    while !matches!(peer.reply().await.1, Reply::Outcome { .. }) {}
    let entry = daemon.notebooks.get(&Key::own(notebook())).unwrap();
    until(|| entry.vitals.get().idle_since.is_some()).await;
    (peer, shim, entry)
}

#[tokio::test]
async fn worker_that_is_asked_something_is_not_idle() {
    let (_temp, daemon, mut shims) = daemon().await;
    let (mut peer, mut shim, entry) = idle(&daemon, &mut shims).await;
    peer.send(&Request::Query { notebook: notebook(), query: Query::Variables }, b"").await;
    assert!(matches!(shim.command().await.1, Command::Query(_)));
    assert_eq!(entry.vitals.get().idle_since, None);
}

#[tokio::test]
async fn what_an_idle_notebook_keeps_is_not_counted_as_its_tenants_bytes() {
    let (_temp, daemon, mut shims) = daemon().await;
    let (_peer, _shim, _entry) = idle(&daemon, &mut shims).await;
    let tenant = daemon.tenants.named(&TenantId::operator());
    until(|| tenant.uses(Counted::Buffered) == 0).await;
}

#[tokio::test]
async fn worker_that_was_pinned_since_it_was_chosen_stays() {
    let (_temp, daemon, mut shims) = daemon().await;
    let (mut peer, _shim, entry) = idle(&daemon, &mut shims).await;
    peer.send(&Request::Pin { notebook: notebook(), pinned: true }, b"").await;
    assert!(matches!(peer.reply().await.1, Reply::Notebook(info) if info.pinned));
    let (answer, answered) = tokio::sync::oneshot::channel();
    entry.inbox.send(Message::Evict { reason: "for want of room".to_owned(), answer }).await.unwrap();
    let told = answered.await.unwrap().unwrap_err();
    assert!(told.contains("may not be any more"), "{told}");
}

#[tokio::test]
async fn answers_that_a_client_does_not_read_are_counted_as_its_tenants_bytes() {
    let (_temp, daemon, _shims) = daemon().await;
    let tenant = daemon.tenants.named(&TenantId::operator());
    let mut peer = Peer::connect(&daemon).await;
    // More than its socket takes.
    for _ in 0..100 {
        peer.send(&Request::Metrics, b"").await;
    }
    until(|| tenant.uses(Counted::Buffered) > 10_000).await;
    drop(peer);
    until(|| tenant.uses(Counted::Buffered) == 0).await;
}
