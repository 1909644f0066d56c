//! Starting a worker: everything it needs is found, planned and said to a shim in one Command. What
//! the shim then reports comes as events, to whoever owns the link.

mod program;

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cellblock_proto::client::ErrorCode;
use cellblock_proto::id::WorkerId;
use cellblock_proto::shim::{Checkpoints, Claim, Command, StartFailure, StartSpec, ZygoteSpec};
use cellblock_proto::store::StoreOrder;
use sandbox_profiles::{
    Barrier, CheckpointPolicy, Checkpointing, Host, Lifecycle, Profile, Step, Workspace, plan, spare_plan,
    unplanned, zygote_plan,
};
use tokio::net::UnixStream;

use crate::anchor::AnchorError;
use crate::build::build;
use crate::daemon::{Daemon, Key};
use crate::host;
use crate::interpreter::{self, Found, InterpreterError};
use crate::link::{self, LinkReader, LinkWriter};
use crate::log::chain;
use crate::metrics::StartKind;
use crate::prepare;
use crate::profiles::{self, ProfilesError};
use crate::quota;
use crate::removal;
use crate::slots::SlotLease;
use crate::store::{self, StoreError};
use crate::warm::{self, Spare, Taken};
use crate::workspace::{self, WorkspaceError};

pub(crate) use program::Program;
use program::{argv, environment};

/// Events a shim keeps while nobody takes them, in bytes.
const RETAIN_BYTES: u64 = 8 << 20;

/// How long a shim holds the writer back when that is full: longer than a restart of ours takes.
const RETAIN_GRACE_MS: u64 = 30_000;

/// How long a worker lives without a supervisor: over a night with nobody to start it again…
const ORPHAN_MS: u64 = 24 * 3600 * 1000;

/// …but not longer than its program when the daemon was private.
const PRIVATE_ORPHAN_MS: u64 = 30_000;

/// A notebook's name in its worker's: enough to recognise it in a process list.
const NAME_BYTES: usize = 40;

/// Whose zygotes and unclaimed spares are, in lists and logs.
const NOBODY: &str = "nobody";

/// The notebook whose sandbox [`preview`] plans.
const PREVIEWED: &str = "NOTEBOOK";

/// A shim with its orders, and what comes of it.
#[derive(Debug)]
pub(crate) struct Launched {
    /// Its worker.
    pub(crate) worker: WorkerId,
    /// What it says.
    pub(crate) reader: LinkReader,
    /// What it is told.
    pub(crate) writer: LinkWriter,
    /// Its host ids; absent when its worker has ended already.
    pub(crate) slot: Option<SlotLease>,
    /// The zygote that forks it; should that fail, a fresh interpreter may do.
    pub(crate) zygote: Option<PathBuf>,
    /// How it comes to be, for those who count.
    pub(crate) kind: StartKind,
    /// What its profile says of its life.
    pub(crate) life: Life,
}

/// What a notebook has to know of its worker's profile.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life {
    /// When it is evicted.
    pub(crate) lifecycle: Lifecycle,
    /// Whether there are checkpoints.
    pub(crate) saves: bool,
}

impl Life {
    /// As a profile says.
    pub(crate) fn of(profile: &Profile) -> Self {
        let saves = profile.checkpoints.when != Checkpointing::None;
        Life { lifecycle: profile.lifecycle, saves }
    }
}

/// What is to be started.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// Which code.
    pub(crate) program: Program,
    /// For whom.
    pub(crate) notebook: Key,
    /// The profile's name as the shim reports it.
    pub(crate) profile_name: String,
    /// What it may do.
    pub(crate) profile: Profile,
    /// On which Python.
    pub(crate) python: Found,
    /// What it can write.
    pub(crate) workspace: Workspace,
    /// The interpreter's cache.
    pub(crate) cache: Option<PathBuf>,
    /// Whether it begins with the variables that were saved.
    pub(crate) restore: bool,
}

/// What variables a notebook's worker begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Those of the current checkpoint.
    Saved,
    /// Those of this one, which becomes the current one.
    At(u64),
    /// None.
    Anew,
}

/// How a worker is to come to be.
#[derive(Clone, Debug)]
pub(crate) enum Beginning {
    /// Python is executed; with the reason where the profile asks for something else.
    Exec(Option<String>),
    /// The zygote that listens there forks it.
    Fork(PathBuf),
    /// The same, but for no notebook yet.
    Spare(PathBuf),
}

/// Why there is no shim.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error(transparent)]
    Profile(#[from] ProfilesError),
    #[error(transparent)]
    Interpreter(#[from] InterpreterError),
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error(
        "profile {profile:?} requires {}, which this host cannot give: `cellctl doctor` says why; a profile \
         of yours with `base = {profile:?}` can make it \"best_effort\"",
        barriers.iter().map(|barrier| barrier.key()).collect::<Vec<_>>().join(" and ")
    )]
    Barriers { profile: String, barriers: Vec<Barrier> },
    #[error("{path} is not UTF-8: sandboxes are described in text; use another path")]
    NotText { path: PathBuf },
    #[error("no host ids are left: too many workers live at once")]
    NoSlot,
    #[cfg(debug_assertions)]
    #[error("bad test switch: {0}")]
    Switch(String),
    #[error("failed to start a shim")]
    Anchor(#[from] AnchorError),
    #[error("failed to connect to a new shim")]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LaunchError {
    /// What a client is told.
    pub(crate) fn for_client(&self) -> (ErrorCode, String) {
        let code = match self {
            LaunchError::Profile(_) => ErrorCode::BadProfile,
            LaunchError::Interpreter(_) | LaunchError::NotText { .. } => ErrorCode::Interpreter,
            LaunchError::Workspace(_) => ErrorCode::Storage,
            LaunchError::NoSlot => ErrorCode::Busy,
            LaunchError::Store(error) => error.for_client().0,
            LaunchError::Barriers { .. } | LaunchError::Anchor(_) | LaunchError::Socket(_) => {
                ErrorCode::Sandbox
            }
            #[cfg(debug_assertions)]
            LaunchError::Switch(_) => ErrorCode::Sandbox,
        };
        (code, chain(self))
    }
}

/// What is told of a worker that did not start.
pub(crate) fn describe(failure: StartFailure) -> (ErrorCode, String) {
    match failure {
        StartFailure::Step { step, error, cure } => {
            let cure = cure.map_or(String::new(), |cure| format!("; {cure}"));
            (ErrorCode::Sandbox, format!("the sandbox could not be made: failed to {step}: {error}{cure}"))
        }
        StartFailure::Warm { why } => (ErrorCode::Sandbox, format!("no worker could be forked: {why}")),
        StartFailure::Interpreter { detail } => {
            (ErrorCode::Interpreter, format!("Python did not start: {detail}"))
        }
    }
}

/// Why a worker is not forked, though there was a zygote.
#[derive(Debug)]
pub(crate) struct Cold {
    /// Where that listens.
    pub(crate) zygote: PathBuf,
    /// What failed.
    pub(crate) why: String,
}

/// Starts a notebook's worker; with a `cold` reason, by executing Python whatever the profile says.
///
/// # Errors
/// Whatever keeps it from being started; nothing is left behind.
pub(crate) async fn notebook_worker(
    daemon: Arc<Daemon>,
    notebook: Key,
    profile_name: String,
    cold: Option<Cold>,
    begin: Begin,
) -> Result<Launched, LaunchError> {
    // Read anew for each worker: an operator's edit holds from the next one on.
    let profile = profiles::load(daemon.profiles.as_deref(), &profile_name)
        .inspect_err(|_| warm::forget(&daemon, &profile_name))?;
    daemon.runners.set_most(&profile_name, profile.max_running);
    if let Begin::At(checkpoint) = begin {
        store::run(&daemon, &notebook, &StoreOrder::SetCurrent { checkpoint }, None).await?;
    }
    let restore = begin != Begin::Anew;
    let workspace = quota::prepare(&daemon, &notebook, profile.limits.workspace_bytes).await?;
    let python = profile.interpreter.as_deref().unwrap_or(&daemon.python);
    let python = interpreter::find(python, &daemon.search)?;
    let cache = prepare::cache(&daemon, &profile, &python).await;
    let program = Program::Main;
    let order = Order { program, notebook, profile_name, profile, python, workspace, cache, restore };
    if let Some(Cold { zygote, why }) = cold {
        warm::suspect(&daemon, &order.profile_name, zygote, &why);
        return start(&daemon, order, Beginning::Exec(Some(why))).await;
    }
    let beginning = match warm::take(&daemon, &order).await {
        Taken::Spare(spare) => match claim(&daemon, *spare, &order).await {
            Ok(launched) => return Ok(launched),
            Err(ClaimError::Launch(error)) => return Err(error),
            Err(ClaimError::Gone(zygote)) => Beginning::Fork(zygote),
        },
        Taken::Zygote(socket) => Beginning::Fork(socket),
        Taken::Nothing(why) => Beginning::Exec(why),
    };
    start(&daemon, order, beginning).await
}

/// What workers of a profile have in common: an order for a notebook that nobody has.
///
/// # Errors
/// A profile or a Python that cannot be used.
pub(crate) async fn nobodys(daemon: &Daemon, profile_name: String) -> Result<Order, LaunchError> {
    let profile = profiles::load(daemon.profiles.as_deref(), &profile_name)?;
    let python = profile.interpreter.as_deref().unwrap_or(&daemon.python);
    let python = interpreter::find(python, &daemon.search)?;
    let cache = prepare::cache(daemon, &profile, &python).await;
    let (program, notebook) = (Program::Main, Key::own(NOBODY.parse().map_err(io::Error::other)?));
    let workspace = quota::planned(daemon, &notebook);
    Ok(Order { program, notebook, profile_name, profile, python, workspace, cache, restore: false })
}

/// The same, from an order for a notebook.
pub(crate) fn of_nobody(daemon: &Daemon, order: &Order) -> Option<Order> {
    let notebook = Key::own(NOBODY.parse().ok()?);
    let workspace = quota::planned(daemon, &notebook);
    Some(Order { notebook, workspace, ..order.clone() })
}

/// Why a spare was not claimed.
enum ClaimError {
    /// It has ended meanwhile; its zygote listens there.
    Gone(PathBuf),
    /// There can be no worker like this.
    Launch(LaunchError),
}

/// Makes a spare a notebook's. What becomes of it, it says itself.
async fn claim(daemon: &Daemon, spare: Spare, order: &Order) -> Result<Launched, ClaimError> {
    let Spare { launched: Launched { worker, reader, mut writer, slot, .. }, zygote } = spare;
    let number = slot.as_ref().map_or(0, SlotLease::slot);
    let steps = steps(daemon, order, number).map_err(ClaimError::Launch)?;
    let attach = spare_plan(&steps).claim;
    let checkpoints = checkpoints(daemon, order).map_err(ClaimError::Launch)?;
    let Key { tenant, notebook } = order.notebook.clone();
    let claim = Claim { notebook, tenant, attach, steps, checkpoints };
    writer.push(&Command::Claim(Box::new(claim)), 0, &[]);
    if writer.flush_all().await.is_err() {
        return Err(ClaimError::Gone(zygote));
    }
    tracing::info!(%worker, slot = number, "spare claimed");
    let life = Life::of(&order.profile);
    let kind = StartKind::Spare;
    Ok(Launched { worker, reader, writer, slot, zygote: Some(zygote), kind, life })
}

/// Has the anchor start a shim and gives it its orders.
///
/// # Errors
/// As [`notebook_worker`].
pub(crate) async fn start(
    daemon: &Daemon,
    order: Order,
    beginning: Beginning,
) -> Result<Launched, LaunchError> {
    let slot = daemon.slots.lease().ok_or(LaunchError::NoSlot)?;
    let worker = worker_id(&order.notebook, daemon.runtime.worker_name_bytes())?;
    let life = Life::of(&order.profile);
    let mut spec = spec(daemon, order, &worker, slot.slot())?;
    match beginning {
        Beginning::Exec(why) => spec.no_zygote = why,
        Beginning::Fork(zygote) => spec.zygote = Some(zygote),
        Beginning::Spare(zygote) => {
            spec.zygote = Some(zygote);
            spec.spare = true;
            spec.steps = spare_plan(&spec.steps).before;
        }
    }
    let zygote = spec.zygote.clone();
    let (reader, writer) = send(daemon, &worker, Command::Start(Box::new(spec))).await?;
    let kind = if zygote.is_some() { StartKind::Zygote } else { StartKind::Exec };
    Ok(Launched { worker, reader, writer, slot: Some(slot), zygote, kind, life })
}

/// Starts a zygote; gives where it listens. It ends when what it gives is dropped.
///
/// # Errors
/// As [`notebook_worker`].
pub(crate) async fn zygote(daemon: &Daemon, order: Order) -> Result<(Launched, PathBuf), LaunchError> {
    let worker = worker_id(&order.notebook, daemon.runtime.worker_name_bytes())?;
    let mut start = spec(daemon, order, &worker, 0)?;
    start.steps = zygote_plan(&start.steps);
    let socket = start.control_socket.clone();
    let command = Command::Zygote(Box::new(ZygoteSpec { start, socket: socket.clone() }));
    let (reader, writer) = send(daemon, &worker, command).await?;
    let (kind, life) = (StartKind::Exec, Life::default());
    Ok((Launched { worker, reader, writer, slot: None, zygote: None, kind, life }, socket))
}

async fn send(
    daemon: &Daemon,
    worker: &WorkerId,
    first: Command,
) -> Result<(LinkReader, LinkWriter), LaunchError> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let (reader, mut writer) = link::split(UnixStream::from_std(ours)?);
    let shim_pid = daemon.anchor.spawn(worker.clone(), theirs.into()).await?;
    tracing::info!(%worker, shim_pid, "shim started");
    writer.push(&first, 0, &[]);
    writer.flush_all().await?;
    Ok((reader, writer))
}

fn worker_id(notebook: &Key, room: usize) -> Result<WorkerId, LaunchError> {
    let suffix = removal::random_suffix()?;
    let name: String =
        notebook.as_str().chars().take(NAME_BYTES.min(room.saturating_sub(suffix.len() + 1))).collect();
    format!("{name}-{suffix}").parse().map_err(|error| io::Error::other(error).into())
}

fn spec(daemon: &Daemon, order: Order, worker: &WorkerId, slot: u32) -> Result<StartSpec, LaunchError> {
    let steps = steps(daemon, &order, slot)?;
    let environment = environment(&order, |name| std::env::var_os(name));
    let argv = argv(order.program, text(&order.python.interpreter.program)?);
    let checkpoints = checkpoints(daemon, &order)?;
    Ok(StartSpec {
        build: build(),
        worker: worker.clone(),
        notebook: order.notebook.notebook,
        tenant: order.notebook.tenant,
        profile: order.profile_name,
        slot,
        steps,
        limits: order.profile.limits,
        argv,
        environment,
        control_socket: daemon.runtime.worker_socket(worker.as_str()),
        retain_bytes: RETAIN_BYTES,
        retain_grace_ms: RETAIN_GRACE_MS,
        orphan_ms: if daemon.private { PRIVATE_ORPHAN_MS } else { ORPHAN_MS },
        zygote: None,
        no_zygote: None,
        checkpoints,
        spare: false,
    })
}

/// Where a notebook's variables are saved, if its profile says that they are.
fn checkpoints(daemon: &Daemon, order: &Order) -> Result<Option<Checkpoints>, LaunchError> {
    let CheckpointPolicy { when, seconds, keep, .. } = order.profile.checkpoints;
    if when == Checkpointing::None || order.program != Program::Main || order.notebook.as_str() == NOBODY {
        return Ok(None);
    }
    let folder = workspace::checkpoints(&daemon.state, &order.notebook, daemon.anchor.first_uid())?;
    Ok(Some(Checkpoints { folder, when, restore: order.restore, keep, seconds }))
}

/// The plan of a sandbox: the one place where what is asked for and what this host is come together.
fn steps(daemon: &Daemon, order: &Order, slot: u32) -> Result<Vec<Step>, LaunchError> {
    let host = Host {
        rootful: host::is_rootful(),
        system: daemon.system.paths.clone(),
        files: daemon.system.files.clone(),
        links: daemon.system.links.clone(),
        interpreter: order.python.interpreter.clone(),
        payload: daemon.payload.clone(),
        cache: order.cache.clone(),
        workspace: order.workspace.clone(),
        slot,
    };
    let trees = host.interpreter.trees.iter().map(|tree| &tree.source);
    let paths = trees.chain([&host.interpreter.program, &host.workspace.folder, &host.payload]);
    for path in paths.chain(&host.cache) {
        text(path)?;
    }
    let steps = plan(&order.profile, &host);
    let barriers = unplanned(&order.profile, &steps);
    if !barriers.is_empty() {
        return Err(LaunchError::Barriers { profile: order.profile_name.clone(), barriers });
    }
    #[cfg(debug_assertions)]
    let steps = crate::weaken::weaken(steps).map_err(LaunchError::Switch)?;
    Ok(steps)
}

/// What [`notebook_worker`] would make of a profile now, for a notebook of which nothing is known yet.
/// Nothing is made.
///
/// # Errors
/// What would keep a worker of this profile from being started.
pub(crate) fn preview(daemon: &Daemon, profile_name: String) -> Result<Vec<Step>, LaunchError> {
    let profile = profiles::load(daemon.profiles.as_deref(), &profile_name)?;
    let python = profile.interpreter.as_deref().unwrap_or(&daemon.python);
    let python = interpreter::find(python, &daemon.search)?;
    let cache = Some(prepare::place(daemon, &python)).filter(|cache| cache.is_dir());
    let notebook = Key::own(PREVIEWED.parse().map_err(io::Error::other)?);
    let workspace = quota::planned(daemon, &notebook);
    let program = Program::Main;
    let restore = false;
    steps(daemon, &Order { program, notebook, profile_name, profile, python, workspace, cache, restore }, 0)
}

fn text(path: &Path) -> Result<String, LaunchError> {
    path.to_str().map(str::to_owned).ok_or_else(|| LaunchError::NotText { path: path.to_owned() })
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
