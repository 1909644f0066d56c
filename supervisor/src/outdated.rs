//! Workers of another build, after an upgrade: drained one by one. What runs and waits in one goes on to its end; then
//! it is saved and ended, and the notebook's next request starts a worker of our build, which begins with what was
//! saved. What is asked for meanwhile waits for that.
//!
//! Here it is decided who is asked, and when: who has nothing to do at once, a few at a time, because each saves; who
//! runs something when that has ended. Who would lose all variables, because nothing of it is ever saved, is left alone
//! until nobody has wanted it for a while: it is understood, so there is no hurry. A worker whose workspace the kernel
//! has closed for writing goes the same way, once the disk has room.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::daemon::{Daemon, Entry, Key};
use crate::notebook::Message;

/// How many are saved at once. Each takes a core for as long as it is pickled, and so do those who work.
const AT_ONCE: usize = 2;

/// After one has stayed.
const AGAIN: Duration = Duration::from_secs(60);

/// The same, of one that waits for room on the disk: somebody works in it.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(5);

/// Drains these notebooks' workers.
pub(crate) fn drain(daemon: &Arc<Daemon>, notebooks: Vec<Key>) {
    if notebooks.is_empty() {
        return;
    }
    tracing::info!(workers = notebooks.len(), "draining workers of another build");
    let daemon = Arc::clone(daemon);
    tokio::spawn(async move {
        let savers = Arc::new(Semaphore::new(AT_ONCE));
        let mut draining = JoinSet::new();
        for key in notebooks {
            draining.spawn(drain_one(Arc::clone(&daemon), key, Arc::clone(&savers), AGAIN));
        }
        while draining.join_next().await.is_some() {}
        tracing::info!("no worker of another build is left");
    });
}

/// Has another worker take the place of a notebook's, which cannot write to its workspace.
pub(crate) fn renew(daemon: &Arc<Daemon>, notebook: Key) {
    tokio::spawn(drain_one(Arc::clone(daemon), notebook, Arc::new(Semaphore::new(AT_ONCE)), LOOK_FOR_ROOM));
}

async fn drain_one(daemon: Arc<Daemon>, key: Key, savers: Arc<Semaphore>, again: Duration) {
    let mut said = String::new();
    // A notebook that is closed has no worker.
    while let Some(entry) = daemon.notebooks.get(&key) {
        let is_idle = entry.vitals.get().idle_since.is_some();
        // What runs may take as long as it likes, and holds nobody up. Nobody closes the semaphore.
        let saver = if is_idle { Arc::clone(&savers).acquire_owned().await.ok() } else { None };
        let answer = ask(&entry).await;
        drop(saver);
        match answer {
            Ok(()) => return,
            Err(reason) => {
                if reason != said {
                    tracing::warn!(tenant = %key.tenant, notebook = %key, reason, "a worker that is to be replaced stays for now");
                    said = reason;
                }
                tokio::time::sleep(again).await;
            }
        }
    }
}

async fn ask(entry: &Entry) -> Result<(), String> {
    let (answer, answered) = oneshot::channel();
    if entry.inbox.send(Message::Replace { answer }).await.is_err() {
        return Ok(());
    }
    // It is being closed, which ends its worker.
    answered.await.unwrap_or(Ok(()))
}

#[cfg(test)]
#[path = "outdated_tests.rs"]
mod tests;
