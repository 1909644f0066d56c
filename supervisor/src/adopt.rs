//! Taking back what outlived the daemon before us: its shims are asked how things stand, and their
//! notebooks are as if nothing had happened. Done before the first client is accepted.
//!
//! A shim of another build is asked in JSON, as every shim is, and goes on in it: it is taken over too, and
//! drained later. One that speaks another language altogether is told to end in order, and waited for, so that
//! its notebook comes back from what it has saved and no second worker is at the same files meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::codec::Codec;
use cellblock_proto::id::WorkerId;
use cellblock_proto::link::is_understood;
use cellblock_proto::shim::{Command, EventBody, ShimState};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::anchor::AnchorError;
use crate::build::{self, build};
use crate::daemon::{Daemon, Key};
use crate::launch::{Launched, Life};
use crate::link::{self, Arrival, LinkError, LinkReader, LinkWriter};
use crate::log::chain;
use crate::metrics::StartKind;
use crate::notebook::Survivor;
use crate::outdated;
use crate::prepare;
use crate::profiles;
use crate::reconcile;
use crate::registry;
use crate::shims::Since;

/// A shim answers at once; one that does not is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a shim that is told to retire may take: 2 s for what runs, 8 s for what is saved, and some to end.
const RETIRE_PATIENCE: Duration = Duration::from_secs(12);

#[derive(Debug, thiserror::Error)]
enum AdoptError {
    #[error("failed to connect to it")]
    Connect(#[source] io::Error),
    #[error("failed to hear from it")]
    Link(#[from] LinkError),
    #[error("it did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("it was told to end and to save what it had, because it cannot be understood: {reason}")]
    Retired { reason: String },
    #[error("it cannot be understood ({reason}), and did not end within {} s", RETIRE_PATIENCE.as_secs())]
    Lingers { reason: String },
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
    let sockets = reconcile::sockets(&daemon.runtime.workers());
    let workers: BTreeSet<WorkerId> = daemon.anchor.list().await?.into_iter().collect();
    reconcile::remove_sockets(daemon, sockets, &workers);
    let mut resuming = JoinSet::new();
    for worker in workers {
        let daemon = Arc::clone(daemon);
        resuming.spawn(async move {
            let resumed = resume(&daemon, &worker).await;
            (worker, resumed)
        });
    }
    let mut survivors: BTreeMap<Key, Vec<Survivor>> = BTreeMap::new();
    while let Some(joined) = resuming.join_next().await {
        // Only a runtime that goes down cancels a task.
        let Ok((worker, resumed)) = joined else { continue };
        match resumed {
            Ok(survivor) => {
                daemon.anchor.shims().add(worker, Since::Before);
                daemon.metrics.adopted();
                let ShimState { tenant, notebook, .. } = &survivor.state;
                let key = Key { tenant: tenant.clone(), notebook: notebook.clone() };
                survivors.entry(key).or_default().push(survivor);
            }
            Err(error) => {
                tracing::warn!(%worker, error = chain(&error), "shim not taken over");
                if !matches!(error, AdoptError::Retired { .. })
                    && let Err(error) = daemon.anchor.kill(worker.clone()).await
                {
                    tracing::warn!(%worker, error = chain(&error), "could not kill a shim");
                }
                daemon.runtime.remove_worker_socket(worker.as_str());
            }
        }
    }
    // Whoever runs is counted before anybody else gets leave to.
    let _hold = daemon.runners.hold();
    let mut outdated = Vec::new();
    for (notebook, mut survivors) in survivors {
        // What has ended comes before what lives.
        survivors.sort_by_key(|survivor| !has_ended(&survivor.arrivals));
        tracing::info!(tenant = %notebook.tenant, %notebook, shims = survivors.len(), "notebook taken over");
        if survivors.iter().any(Survivor::is_outdated) {
            outdated.push(notebook.clone());
        }
        registry::adopt(daemon, notebook, survivors);
    }
    outdated::drain(daemon, outdated);
    Ok(())
}

async fn resume(daemon: &Daemon, worker: &WorkerId) -> Result<Survivor, AdoptError> {
    let asked = tokio::time::timeout(PATIENCE, ask(daemon, worker)).await;
    let (reader, mut writer, arrivals, state) = match asked.unwrap_or(Err(AdoptError::Silent))? {
        Answer::State(reader, writer, arrivals, state) => (reader, writer, arrivals, state),
        Answer::Refused(reader, writer, reason) => return Err(retire(reader, writer, reason).await),
    };
    if !is_understood(state.link) {
        let reason = format!("it is of build {} and speaks link {}", state.build, state.link);
        return Err(retire(reader, writer, reason).await);
    }
    if state.build == build() {
        writer.speak(Codec::Bincode);
    }
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
    let profile = profiles::load(daemon.profiles.as_deref(), &state.profile);
    // One that cannot be read is told of when it is needed: at the next start of a worker.
    let life = profile.as_ref().map(Life::of).unwrap_or_default();
    let launched =
        Launched { worker: worker.clone(), reader, writer, slot, zygote: None, kind: StartKind::Exec, life };
    Ok(Survivor { launched, arrivals, state: *state })
}

/// What a shim answers.
enum Answer {
    State(LinkReader, LinkWriter, Vec<Arrival>, Box<ShimState>),
    Refused(LinkReader, LinkWriter, String),
}

async fn ask(daemon: &Daemon, worker: &WorkerId) -> Result<Answer, AdoptError> {
    let path = daemon.runtime.worker_socket(worker.as_str());
    let socket = UnixStream::connect(path).await.map_err(AdoptError::Connect)?;
    let (mut reader, mut writer) = link::split(socket);
    writer.speak(Codec::Json);
    writer.push(&Command::Resume { build: build(), link: build::link(), taken: 0 }, 0, &[]);
    writer.flush_all().await.map_err(LinkError::Io)?;
    let mut arrivals = Vec::new();
    loop {
        let arrival = reader.arrival().await?;
        match arrival.event.body {
            EventBody::State(state) => return Ok(Answer::State(reader, writer, arrivals, Box::new(state))),
            EventBody::Refused { reason } => return Ok(Answer::Refused(reader, writer, reason)),
            _ => arrivals.push(arrival),
        }
    }
}

/// Has it end in order: nothing else that we could say would be understood.
async fn retire(mut reader: LinkReader, mut writer: LinkWriter, reason: String) -> AdoptError {
    let ended = async {
        writer.push(&Command::Retire { reason: reason.clone() }, 0, &[]);
        writer.flush_all().await?;
        // Whatever it says is not for us; its end is.
        while reader.fill().await.is_ok() {}
        io::Result::Ok(())
    };
    match tokio::time::timeout(RETIRE_PATIENCE, ended).await {
        Ok(_) => AdoptError::Retired { reason },
        Err(_) => AdoptError::Lingers { reason },
    }
}

fn has_ended(arrivals: &[Arrival]) -> bool {
    arrivals.iter().any(|arrival| {
        matches!(arrival.event.body, EventBody::WorkerEnded { .. } | EventBody::StartFailed { .. })
    })
}
