//! Taking back what outlived the daemon before us: its shims are asked how things stand, and their
//! notebooks are as if nothing had happened. Done before the first client is accepted.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::BUILD;
use cellblock_proto::id::WorkerId;
use cellblock_proto::shim::{Command, EventBody, ShimState};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::anchor::AnchorError;
use crate::daemon::{Daemon, Key};
use crate::launch::Launched;
use crate::link::{self, Arrival, LinkError};
use crate::log::chain;
use crate::notebook::Survivor;
use crate::prepare;
use crate::registry;

/// A shim answers at once; one that does not is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum AdoptError {
    #[error("failed to connect to it")]
    Connect(#[source] io::Error),
    #[error("failed to hear from it")]
    Link(#[from] LinkError),
    #[error("it did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("it refused: {reason}")]
    Refused { reason: String },
    #[error("its host ids are in use by another worker")]
    Slot,
    #[error("it was nobody's yet")]
    Spare,
    #[error("it was making an interpreter's cache, which nobody waits for any more")]
    Prepares,
}

/// Adopts every shim that can be, kills the others, and removes sockets that are nobody's.
///
/// # Errors
/// The anchor does not say which shims there are.
pub(crate) async fn adopt(daemon: &Arc<Daemon>) -> Result<(), AnchorError> {
    let workers = daemon.anchor.list().await?;
    remove_orphaned_sockets(&daemon.runtime.workers(), &workers);
    let mut resuming = JoinSet::new();
    for worker in workers {
        let daemon = Arc::clone(daemon);
        resuming.spawn(async move {
            let resumed = tokio::time::timeout(PATIENCE, resume(&daemon, &worker)).await;
            (worker, resumed.unwrap_or(Err(AdoptError::Silent)))
        });
    }
    let mut survivors: BTreeMap<Key, Vec<Survivor>> = BTreeMap::new();
    while let Some(joined) = resuming.join_next().await {
        // Only a runtime that goes down cancels a task.
        let Ok((worker, resumed)) = joined else { continue };
        match resumed {
            Ok(survivor) => {
                let ShimState { tenant, notebook, .. } = &survivor.state;
                let key = Key { tenant: tenant.clone(), notebook: notebook.clone() };
                survivors.entry(key).or_default().push(survivor);
            }
            Err(error) => {
                tracing::warn!(%worker, error = chain(&error), "shim not taken over; killing it");
                if let Err(error) = daemon.anchor.kill(worker.clone()).await {
                    tracing::warn!(%worker, error = chain(&error), "could not kill a shim");
                }
                daemon.runtime.remove_worker_socket(worker.as_str());
            }
        }
    }
    // Whoever runs is counted before anybody else gets leave to.
    let _hold = daemon.runners.hold();
    for (notebook, mut survivors) in survivors {
        // What has ended comes before what lives.
        survivors.sort_by_key(|survivor| !has_ended(&survivor.arrivals));
        tracing::info!(tenant = %notebook.tenant, %notebook, shims = survivors.len(), "notebook taken over");
        registry::adopt(daemon, notebook, survivors);
    }
    Ok(())
}

async fn resume(daemon: &Daemon, worker: &WorkerId) -> Result<Survivor, AdoptError> {
    let path = daemon.runtime.worker_socket(worker.as_str());
    let socket = UnixStream::connect(path).await.map_err(AdoptError::Connect)?;
    let (mut reader, mut writer) = link::split(socket);
    writer.push(&Command::Resume { build: BUILD.to_owned(), taken: 0 }, 0, &[]);
    writer.flush_all().await.map_err(LinkError::Io)?;
    let mut arrivals = Vec::new();
    let state = loop {
        let arrival = reader.arrival().await?;
        match arrival.event.body {
            EventBody::State(state) => break state,
            EventBody::Refused { reason } => return Err(AdoptError::Refused { reason }),
            _ => arrivals.push(arrival),
        }
    };
    if state.profile == prepare::PROFILE_NAME {
        return Err(AdoptError::Prepares);
    }
    if state.spare {
        return Err(AdoptError::Spare);
    }
    // The ids of one that has ended may be another's by now.
    let slot = match has_ended(&arrivals) {
        true => None,
        false => Some(daemon.slots.claim(state.slot).ok_or(AdoptError::Slot)?),
    };
    let launched = Launched { worker: worker.clone(), reader, writer, slot, zygote: None };
    Ok(Survivor { launched, arrivals, state })
}

fn has_ended(arrivals: &[Arrival]) -> bool {
    arrivals.iter().any(|arrival| {
        matches!(arrival.event.body, EventBody::WorkerEnded { .. } | EventBody::StartFailed { .. })
    })
}

fn remove_orphaned_sockets(folder: &Path, workers: &[WorkerId]) {
    let known: HashSet<&str> = workers.iter().map(WorkerId::as_str).collect();
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(worker) = name.to_str().and_then(|name| name.strip_suffix(".sock")) else { continue };
        if worker != "anchor" && !known.contains(worker) {
            tracing::info!(worker, "removing the socket of a shim that is no more");
            if let Err(error) = std::fs::remove_file(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "could not remove a socket");
            }
        }
    }
}
