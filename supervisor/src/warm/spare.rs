//! A spare, and the watch over one until it is claimed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::shim::EventBody;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::daemon::Daemon;
use crate::launch::{self, Beginning, Launched, Order};
use crate::log::chain;
use crate::loss;
use crate::quota;

/// How long a spare may take to be ready; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker that waits for its notebook.
#[derive(Debug)]
pub(crate) struct Spare {
    /// Its shim.
    pub(crate) launched: Launched,
    /// Where the zygote listens that it comes from.
    pub(crate) zygote: PathBuf,
}

impl Spare {
    /// Makes one.
    ///
    /// # Errors
    /// Why there is none, one sentence; nothing is left behind.
    pub(super) async fn make(daemon: &Daemon, order: Order, zygote: PathBuf) -> Result<Spare, String> {
        make_images(daemon, &order, order.profile.spares).await;
        let launched = launch::start(daemon, order, Beginning::Spare(zygote.clone())).await;
        let mut launched = launched.map_err(|error| chain(&error))?;
        let ready = match tokio::time::timeout(PATIENCE, launched.reader.arrival()).await {
            Ok(Ok(arrival)) => match arrival.event.body {
                EventBody::Spare => Ok(()),
                EventBody::StartFailed { failure } => Err(launch::describe(failure).1),
                other => Err(format!("it said {other:?}")),
            },
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("not ready after {} s", PATIENCE.as_secs())),
        };
        match ready {
            Ok(()) => Ok(Spare { launched, zygote }),
            Err(why) => {
                end(daemon, launched).await;
                Err(why)
            }
        }
    }
}

/// Sees that so many workspace images are ready.
pub(super) async fn make_images(daemon: &Daemon, order: &Order, count: u32) {
    let bytes = order.profile.limits.workspace_bytes;
    if let Err(error) = quota::make_ready(daemon, bytes, usize::try_from(count).unwrap_or(1)).await {
        // A notebook will make its own, or say why it cannot.
        tracing::warn!(error = chain(&error), "no workspace image is ready");
    }
}

/// A spare that is watched.
#[derive(Debug)]
pub(super) struct Held {
    claim: oneshot::Sender<()>,
    watch: JoinHandle<Option<Spare>>,
}

impl Held {
    /// Watches it; `died` is woken when it ends unclaimed.
    pub(super) fn new(daemon: Arc<Daemon>, mut spare: Spare, died: Arc<Notify>) -> Self {
        let (claim, claimed) = oneshot::channel::<()>();
        let watch = tokio::spawn(async move {
            tokio::select! {
                // Nothing comes of a spare but its end.
                ended = spare.launched.reader.arrival() => {
                    let why = match ended.map(|arrival| arrival.event.body) {
                        Ok(EventBody::WorkerEnded { death, .. }) => format!("its worker {}", loss::cause(&death)),
                        Ok(EventBody::StartFailed { failure }) => launch::describe(failure).1,
                        Ok(other) => format!("it said {other:?}"),
                        Err(error) => chain(&error),
                    };
                    tracing::warn!(worker = %spare.launched.worker, why, "a spare has ended");
                    end(&daemon, spare.launched).await;
                    died.notify_one();
                    None
                }
                claimed = claimed => claimed.ok().map(|()| spare),
            }
        });
        Held { claim, watch }
    }

    /// Whether it has not ended.
    pub(super) fn lives(&self) -> bool {
        !self.watch.is_finished()
    }

    /// Takes it; `None` when it has ended.
    pub(super) async fn take(self) -> Option<Spare> {
        let _ = self.claim.send(());
        self.watch.await.ok().flatten()
    }
}

/// Ends a shim that is nobody's, and removes its socket.
pub(super) async fn end(daemon: &Daemon, launched: Launched) {
    let Launched { worker, reader, writer, slot, .. } = launched;
    drop((reader, writer));
    // It ends by itself when we are gone; but now is better.
    let _ = daemon.anchor.kill(worker.clone()).await;
    daemon.runtime.remove_worker_socket(worker.as_str());
    drop(slot);
}
