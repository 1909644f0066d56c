//! Notebooks that nobody wants: what is left of them.

use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::client::{Reply, Request};
use cellblock_proto::id::NotebookId;
use tokio::sync::mpsc;

use super::{Peer, daemon, notebook};
use crate::daemon::{Daemon, Key};
use crate::notebook::{INBOX, Message, Notebook};
use crate::vitals::Vitals;
use crate::workspace::Settings;

/// Whether all of so many sleep.
fn all_sleep(daemon: &Daemon, count: usize) -> bool {
    let known = daemon.notebooks.lock();
    known.awake.is_empty() && known.asleep.len() == count
}

/// Longer than a notebook waits for a wish.
async fn let_them_sleep() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    tokio::time::resume();
}

async fn status(peer: &mut Peer, notebook: NotebookId) {
    peer.send(&Request::Status { notebook }, b"").await;
    assert!(matches!(peer.reply().await.1, Reply::Status(_)));
}

#[tokio::test]
async fn notebook_sleeps_until_it_is_wanted_and_when_nobody_wants_it_any_more() {
    let (_temp, daemon, _shims) = daemon().await;
    let mut peer = Peer::connect(&daemon).await;
    peer.open().await;
    assert!(all_sleep(&daemon, 1), "to open it wakes nobody");
    peer.open().await;
    assert!(all_sleep(&daemon, 1), "nor to find it open");
    status(&mut peer, notebook()).await;
    let key = Key::own(notebook());
    assert!(daemon.notebooks.get(&key).is_some() && daemon.notebooks.lock().asleep.is_empty());
    let_them_sleep().await;
    assert!(all_sleep(&daemon, 1));
    peer.send(&Request::Notebooks, b"").await;
    let Reply::Notebooks { notebooks, more: false } = peer.reply().await.1 else { panic!("no list") };
    assert_eq!(notebooks.len(), 1, "it is open");
    assert!(all_sleep(&daemon, 1), "a list wakes nobody");
    peer.send(&Request::Delete { notebook: notebook() }, b"").await;
    assert!(matches!(peer.reply().await.1, Reply::Done));
    assert!(crate::registry::find(&daemon, &key).is_none(), "it is gone for good");
}

#[tokio::test]
async fn nothing_is_left_of_those_that_sleep_but_their_names() {
    let (_temp, daemon, _shims) = daemon().await;
    let mut peer = Peer::connect(&daemon).await;
    let tenant = daemon.tenants.named(&Key::own(notebook()).tenant);
    let left = || (Arc::strong_count(&daemon), Arc::strong_count(&tenant));
    let names: Vec<NotebookId> = (0..20).map(|number| format!("n{number}").parse().unwrap()).collect();
    for notebook in &names {
        peer.send(&Request::OpenNotebook { notebook: notebook.clone(), profile: None }, b"").await;
        assert!(matches!(peer.reply().await.1, Reply::Notebook(_)));
    }
    // Each is counted as its tenant's.
    let before = left();
    for notebook in &names {
        status(&mut peer, notebook.clone()).await;
    }
    assert_eq!(daemon.notebooks.lock().awake.len(), names.len());
    assert!(left().0 >= before.0 + names.len());
    let_them_sleep().await;
    assert!(all_sleep(&daemon, names.len()));
    assert_eq!(left(), before, "no task, and nothing that a task had");
}

#[tokio::test]
async fn daemon_that_ends_with_its_notebooks_closes_those_that_sleep_too() {
    let (_temp, daemon, _shims) = daemon().await;
    let mut peer = Peer::connect(&daemon).await;
    peer.open().await;
    assert!(all_sleep(&daemon, 1));
    crate::drain::close_notebooks(&daemon).await;
    assert!(
        crate::registry::find(&daemon, &Key::own(notebook())).is_none(),
        "not open for the next one either"
    );
}

/// Hundreds are awake at once, each with its task and an inbox that has room for 32 messages from the beginning.
#[tokio::test]
async fn notebook_that_is_awake_takes_a_few_kibibytes() {
    let (_temp, daemon, _shims) = daemon().await;
    let (_sender, inbox) = mpsc::channel(INBOX);
    let settings = Settings { profile: "default".to_owned(), pinned: false, evicted: false };
    let task = Notebook::new(Arc::clone(&daemon), Key::own(notebook()), settings, inbox, Vitals::default());
    let bytes = [size_of_val(&task), size_of_val(&Box::new(task).run()), 32 * size_of::<Message>()];
    assert!(bytes.iter().sum::<usize>() < 8 << 10, "notebook, future, inbox: {bytes:?}");
}
