//! What costs seconds and is the same in every worker (compiled modules, matplotlib's font list) is
//! made once per interpreter, in a sandbox like any other, and shown to all workers read-only.
//!
//! Nothing depends on it: a cache that cannot be made is a line in the log and a slower start.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cellblock_proto::execution::Death;
use cellblock_proto::shim::EventBody;
use sandbox_profiles::{Profile, Workspace};
use tokio::sync::OnceCell;

use crate::daemon::{Daemon, Key};
use crate::interpreter::Found;
use crate::launch::{self, Beginning, Launched, Order, Program};
use crate::log::chain;
use crate::time::milliseconds;
use crate::{removal, workspace};

/// Importing and compiling pandas, matplotlib and friends takes some ten seconds on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The profile name of such workers. No profile can be called that, so a daemon that finds one of
/// them knows that nobody waits for it any more.
pub(crate) const PROFILE_NAME: &str = "(prepare)";

/// Caches this daemon has made, found, or failed to make.
#[derive(Debug, Default)]
pub(crate) struct Caches(Mutex<HashMap<PathBuf, Arc<OnceCell<bool>>>>);

/// The cache of an interpreter; the first to ask makes it, others wait.
pub(crate) async fn cache(daemon: &Daemon, profile: &Profile, python: &Found) -> Option<PathBuf> {
    let path = place(daemon, python);
    let cell = {
        let mut caches = daemon.caches.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(caches.entry(path.clone()).or_default())
    };
    let there = cell
        .get_or_init(|| async {
            if path.is_dir() {
                return true;
            }
            let begun = tokio::time::Instant::now();
            match make(daemon, profile, python, &path).await {
                Ok(()) => {
                    let took_ms = milliseconds(begun.elapsed());
                    tracing::info!(path = %path.display(), took_ms, "interpreter cache made");
                    true
                }
                Err(reason) => {
                    tracing::warn!(%reason, "no interpreter cache: each worker starts more slowly");
                    false
                }
            }
        })
        .await;
    there.then_some(path)
}

/// Where the cache of an interpreter lies, once it is made.
pub(crate) fn place(daemon: &Daemon, python: &Found) -> PathBuf {
    daemon.cache.join(key(daemon, python))
}

/// Changes with the interpreter, the packages installed, and our own code. A package changed in
/// place under the same folder times is not seen; its stale modules are told by Python itself.
fn key(daemon: &Daemon, python: &Found) -> String {
    let mut hasher = DefaultHasher::new();
    daemon.payload.file_name().hash(&mut hasher);
    let program = &python.interpreter.program;
    for path in std::iter::once(program).chain(&python.packages) {
        path.hash(&mut hasher);
        if let Ok(found) = fs::metadata(path) {
            (found.mtime(), found.mtime_nsec(), found.ino()).hash(&mut hasher);
        }
    }
    format!("{:016x}", hasher.finish())
}

async fn make(daemon: &Daemon, profile: &Profile, python: &Found, path: &Path) -> Result<(), String> {
    // Another daemon may be at the same: each has a name of its own, and the first to end wins.
    let making = path.with_extension(format!("{}.tmp", std::process::id()));
    let made = fill(daemon, profile, python, &making).await;
    if let Err(reason) = made {
        remove(&making).await;
        return Err(reason);
    }
    // Workers are nobody to the host: what is shown to them must be readable by all. The folder above
    // stays ours alone.
    let opened = fs::set_permissions(&making, fs::Permissions::from_mode(0o755));
    match opened.and_then(|()| fs::rename(&making, path)) {
        Err(_) if path.is_dir() => {
            remove(&making).await;
            Ok(())
        }
        other => other.map_err(|error| format!("failed to put {} in place: {error}", path.display())),
    }
}

async fn fill(daemon: &Daemon, profile: &Profile, python: &Found, making: &Path) -> Result<(), String> {
    // What a daemon that was killed meanwhile has left.
    remove(making).await;
    workspace::make_private_dir(making).map_err(|error| chain(&error))?;
    workspace::give(making, daemon.anchor.first_uid()).map_err(|error| chain(&error))?;
    let order = Order {
        program: Program::Prepare,
        notebook: Key::own("prepare".parse().map_err(|error| format!("{error}"))?),
        profile_name: PROFILE_NAME.to_owned(),
        profile: Profile {
            environment: Default::default(),
            pass_environment: Default::default(),
            // A barrier that this folder cannot have (a quota) is no reason to do without a cache.
            barriers: Default::default(),
            ..profile.clone()
        },
        python: python.clone(),
        workspace: Workspace { folder: making.to_owned(), quota: None },
        cache: None,
        restore: false,
    };
    let mut launched =
        launch::start(daemon, order, Beginning::Exec(None)).await.map_err(|error| chain(&error))?;
    let ended = match tokio::time::timeout(PATIENCE, wait(&mut launched)).await {
        Ok(ended) => ended,
        Err(_) => Err(format!("not done after {} s", PATIENCE.as_secs())),
    };
    // It has ended by itself, unless it took too long; then there is nothing to kill.
    let _ = daemon.anchor.kill(launched.worker.clone()).await;
    daemon.runtime.remove_worker_socket(launched.worker.as_str());
    ended
}

/// What a worker has made there is removed with care; what stays is removed by a later daemon.
async fn remove(making: &Path) {
    let path = making.to_owned();
    let removed = tokio::task::spawn_blocking(move || removal::remove_tree(&path)).await;
    if let Ok(Err(error)) = removed
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %making.display(), %error, "could not remove an unfinished cache");
    }
}

async fn wait(launched: &mut Launched) -> Result<(), String> {
    loop {
        let event = launched.reader.arrival().await.map_err(|error| chain(&error))?.event;
        let end = match event.body {
            EventBody::WorkerEnded { death: Death::Exited { code: 0 }, .. } => Ok(()),
            EventBody::WorkerEnded { death, .. } => Err(format!("the worker ended: {death:?}")),
            EventBody::StartFailed { failure } => Err(format!("the worker did not start: {failure:?}")),
            _ => continue,
        };
        return end;
    }
}
