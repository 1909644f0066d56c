//! The life of the daemon: come up, take back what outlived the last one, serve, go down.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cellblock_proto::client::ErrorCode;
use tokio::net::UnixListener;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio::time::Instant;

use crate::anchor::Anchor;
use crate::args::{Args, Switch};
use crate::audit::Audit;
use crate::checkpoints;
use crate::daemon::{Daemon, Notebooks};
use crate::drain::{self, Drained, Draining, Signals};
use crate::interpreter::{self, Search};
use crate::launches::Launches;
use crate::metrics::{self, Metrics};
use crate::newest::Newest;
use crate::places::Places;
use crate::prepare::Caches;
use crate::quota::{Means, Ready};
use crate::runners::{self, Runners};
use crate::runtime_dir::{self, RuntimeDir};
use crate::slots::Slots;
use crate::systemd::{self, Given, Heart};
use crate::tenants::{Served, Tenants, TenantsError};
use crate::warm::{self, Warm};
use crate::{
    adopt, connection, evict, files, groups, host, overview, pressure, process, reconcile, registry, removal,
    workspace,
};

/// The Python of an operator who names none.
const DEFAULT_PYTHON: &str = "python3";

/// Clients that are being told at once that there is no place for them. More than can be accepted without a
/// pause (128, the budget of a task of tokio's): the oldest, who makes room, has been told.
const MAX_TURNED_AWAY: usize = 256;

/// After accept(2) fails for want of descriptors, before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long cells have that run when the daemon is drained, where nobody says.
const DRAIN_SECONDS: u32 = 30;

/// What is still being written to clients when the daemon ends gets this long.
const LAST_WRITES: Duration = Duration::from_millis(500);

/// Runs the daemon until it is told to end; gives what it leaves to the next one.
///
/// # Errors
/// Whatever keeps it from coming up; a private daemon leaves nothing behind then.
pub(crate) async fn run(args: Args, given: Option<Given>) -> anyhow::Result<Drained> {
    let root = args.runtime_dir.clone().unwrap_or_else(|| runtime_dir::default_root(args.private));
    check(&args)?;
    let metrics = match args.metrics_address {
        Some(address) => Some(metrics::listener::bind(address).await?),
        None => None,
    };
    let group = args.socket_group.as_deref().map(groups::find).transpose().context("bad --socket-group")?;
    let (root, socket) = (absolute(root)?, args.socket.clone().map(absolute).transpose()?);
    let runtime = match given {
        Some(given) => RuntimeDir::open_with(root, socket, given)?,
        None => RuntimeDir::open(root, socket)?,
    };
    let daemon = match come_up(&args, &runtime).await {
        Ok(ground) => daemon(&args, runtime, ground)?,
        Err(error) => {
            if args.private {
                runtime.remove(is_ephemeral(&args));
            }
            return Err(error);
        }
    };
    adopt::adopt(&daemon).await.context("failed to take over the workers that live")?;
    warm::begin(&daemon);
    reconcile::begin(&daemon);
    let limits = pressure::Limits {
        available_percent: args.min_available.into(),
        stalled_percent: args.max_stalled.into(),
    };
    tokio::spawn(evict::run(Arc::clone(&daemon), limits));
    // Before anybody is told that we are there: who ends us then ends us in order.
    let mut signals = Signals::new().context("failed to listen to signals")?;
    let listener = daemon.runtime.bind(group)?;
    tracing::info!(socket = %daemon.runtime.socket().display(), state = %daemon.state.display(), "listening");
    if args.private || args.print_ready {
        // Whoever waits for this line reads it; if nobody does, there is nobody to tell.
        let _ = writeln!(io::stdout(), "ready {}", daemon.runtime.socket().display());
    }
    if let Some(listener) = metrics {
        let daemon = Arc::clone(&daemon);
        let text = move || std::future::ready(overview::metrics(&daemon));
        tokio::spawn(metrics::listener::serve(listener, text));
    }
    systemd::ready();
    tokio::task::spawn_blocking({
        let daemon = Arc::clone(&daemon);
        move || registry::look_for_sleepers(&daemon)
    });
    // Of a daemon that ends with its program nothing waits for cells.
    let seconds = args.drain_seconds.unwrap_or(if args.private { 0 } else { DRAIN_SECONDS });
    let (present, mut clients) = mpsc::channel(1);
    let left = tokio::select! {
        () = accept(&daemon, listener, present) => Drained::default(),
        left = drain::until_the_end(&daemon, &mut signals, seconds) => left,
    };
    drain::go_down(&daemon).await;
    // A runtime that ends drops its tasks where they are: what has been said would not be heard.
    let _ = tokio::time::timeout(LAST_WRITES, clients.recv()).await;
    Ok(left)
}

/// What an operator has named must be there: a typing error shows now, not in the first notebook.
fn check(args: &Args) -> anyhow::Result<()> {
    if let Some(python) = &args.python {
        interpreter::find(python, &Search::from_environment())?;
    }
    if let Some(profiles) = &args.profiles {
        let read = std::fs::read_dir(profiles);
        read.with_context(|| format!("no folder of profiles at {}: see --profiles", profiles.display()))?;
    }
    tenants(args)?;
    Ok(())
}

/// Who is served.
fn tenants(args: &Args) -> Result<Tenants, TenantsError> {
    let served = Served { uids: args.allow_uid.clone(), all: args.serve_group };
    Tenants::open(args.tenants.as_deref(), &served)
}

/// Of a daemon that ends with its program nothing stays, unless somebody said where.
fn is_ephemeral(args: &Args) -> bool {
    args.private && args.state_dir.is_none()
}

fn absolute(path: PathBuf) -> anyhow::Result<PathBuf> {
    std::path::absolute(&path).with_context(|| format!("failed to make {} absolute", path.display()))
}

/// What is needed before there is a daemon to speak of.
struct Ground {
    anchor: Anchor,
    state: PathBuf,
    cache: PathBuf,
    payload: PathBuf,
    means: Means,
    metrics: Metrics,
    audit: Audit,
}

async fn come_up(args: &Args, runtime: &RuntimeDir) -> anyhow::Result<Ground> {
    // First what an operator may have named wrongly.
    let metrics = Metrics::new();
    let audit = match args.audit_log.clone().map(absolute).transpose()? {
        Some(path) => Audit::to_file(&path, metrics.audit_lost())?,
        None => Audit::to_log(metrics.audit_lost()),
    };
    let state = args
        .state_dir
        .clone()
        .or_else(|| is_ephemeral(args).then(|| runtime.state()))
        .or_else(runtime_dir::default_state)
        .context("there is no home folder to keep notebooks in: name one with --state-dir")?;
    let state = absolute(state)?;
    workspace::make_private_dir(&state)?;
    let shim = args.shim.clone().unwrap_or_else(process::shim_beside_us);
    let payload = process::unpack(&shim, &runtime.payloads()).await?;
    let means = Means::find(&shim, &state).await;
    let cache = absolute(args.cache_dir.clone().unwrap_or_else(|| state.join("python")))?;
    workspace::make_private_dir(&cache)?;
    let mut swept = workspace::all_folders(&state);
    swept.extend([Ready::of(&state).folder(), cache.clone()]);
    // Nobody waits for it, however much it is.
    std::thread::spawn(move || swept.iter().for_each(|folder| removal::sweep(folder)));
    let anchor = Anchor::open(&shim, &runtime.anchor_socket(), args).await?;
    tracing::info!(build = anchor.build(), rootful = host::is_rootful(), "anchor found");
    Ok(Ground { anchor, state, cache, payload, means, metrics, audit })
}

fn daemon(args: &Args, runtime: RuntimeDir, ground: Ground) -> anyhow::Result<Arc<Daemon>> {
    let Ground { anchor, state, cache, payload, means, metrics, audit } = ground;
    let tenants = tenants(args)?;
    let total = tenants.total();
    let launches = Launches::new(
        args.max_workers.or(Some(total.workers).filter(|most| *most != 0)).map(|most| most as usize),
    );
    let most = args.max_running.or(Some(total.running).filter(|most| *most != 0));
    let runners = Runners::new(most.map_or_else(runners::default_most, |most| most as usize));
    Ok(Arc::new(Daemon {
        private: args.private,
        ephemeral: is_ephemeral(args),
        state,
        cache,
        payload,
        means,
        python: args.python.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PYTHON)),
        profiles: args.profiles.clone().map(absolute).transpose()?,
        places: Places::new(total.connections as usize),
        tenants,
        runtime,
        anchor,
        slots: Slots::default(),
        launches,
        runners,
        caches: Caches::default(),
        warm: Warm::new(args.warm_start.unwrap_or(if args.private { Switch::Off } else { Switch::On })),
        search: Search::from_environment(),
        system: host::system(),
        file_threads: Arc::new(Semaphore::new(files::MAX_THREADS)),
        events: broadcast::Sender::new(checkpoints::EVENTS),
        idle: Notify::new(),
        notebooks: Notebooks::default(),
        metrics,
        audit,
        since: Instant::now(),
        draining: Draining::default(),
        ending: watch::Sender::new(false),
    }))
}

/// Serves whoever comes; each connection holds a clone of `present` until its last word is written.
async fn accept(daemon: &Arc<Daemon>, listener: UnixListener, present: mpsc::Sender<()>) {
    let mut farewells = Newest::new(MAX_TURNED_AWAY);
    let mut heart = Heart::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = heart.due() => {
                // Not from a task of its own: where clients are no longer accepted, or whoever holds this
                // lock hangs, systemd is to notice.
                let what = if daemon.draining.is_on() { "draining" } else { "listening" };
                let open = {
                    let known = daemon.notebooks.lock();
                    known.awake.len() + known.asleep.len()
                };
                Heart::beat(&format!("{what}, notebooks open: {open}"));
                continue;
            }
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let uid = match socket.peer_cred() {
            Ok(peer) => peer.uid(),
            Err(error) => {
                tracing::warn!(%error, "could not tell who a client is");
                continue;
            }
        };
        match daemon.places.take(uid, daemon.tenants.of(uid).as_deref()) {
            Ok(place) => {
                let daemon = Arc::clone(daemon);
                let present = present.clone();
                tokio::spawn(async move {
                    let _counted = daemon.metrics.connected();
                    connection::serve(Arc::clone(&daemon), socket).await;
                    drop((place, present));
                });
            }
            Err(reason) => {
                daemon.metrics.turned_away();
                farewells.spawn(connection::turn_away(socket, ErrorCode::Busy, reason, None));
            }
        }
    }
}

/// A daemon in a temporary folder, with the system's own `env` as a Python that nobody runs.
#[cfg(test)]
pub(crate) fn test_daemon(folder: &std::path::Path, anchor: Anchor) -> Arc<Daemon> {
    use clap::Parser;
    let args = ["cellblockd", "--python=/usr/bin/env", "--warm-start=off", "--max-workers=8"];
    let args = Args::parse_from(args);
    let runtime = RuntimeDir::open(folder.join("run"), None).unwrap();
    let ground = Ground {
        anchor,
        state: folder.join("state"),
        cache: folder.join("cache"),
        payload: runtime.payloads().join("test"),
        means: Means::of("", None),
        audit: Audit::to_log(Default::default()),
        metrics: Metrics::new(),
    };
    daemon(&args, runtime, ground).unwrap()
}

/// One in a folder of its own, whose anchor has no shims and does as it is told.
#[cfg(test)]
pub(crate) fn lonely_daemon() -> (tempfile::TempDir, Arc<Daemon>) {
    use crate::anchor::fake_anchor;
    use cellblock_proto::anchor::{AnchorReply, AnchorRequest};
    let temp = tempfile::tempdir().unwrap();
    let anchor = fake_anchor(|request, _| match request {
        AnchorRequest::List => AnchorReply::Shims { shims: Vec::new() },
        _ => AnchorReply::Done,
    });
    let daemon = test_daemon(temp.path(), Anchor::with_socket(anchor));
    (temp, daemon)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn python_and_profiles_that_were_named_must_be_there() {
        let parse = |args: &[&str]| Args::parse_from([&["cellblockd"], args].concat());
        for args in [["--python", "/nonexist"], ["--profiles", "/nonexist"]] {
            let error = format!("{:#}", check(&parse(&args)).unwrap_err());
            assert!(error.contains("/nonexist") && error.contains(args[0]), "{error}");
        }
        check(&parse(&["--python", "/usr/bin/env", "--profiles", "/"])).unwrap();
    }
}
