//! Opening notebooks and listing them.

use std::sync::Arc;

use cellblock_proto::checkpoint::NotebookEvent;
use cellblock_proto::client::{ErrorCode, NotebookInfo, WorkerState};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument, Span, info_span};

use crate::daemon::{Daemon, Entry, Key, Known, Sleeper};
use crate::log::chain;
use crate::notebook::{self, INBOX, Message, Notebook, Survivor};
use crate::tenants::{Counted, Held};
use crate::vitals::Vitals;
use crate::workspace::{Settings, WorkspaceError};
use crate::{profiles, workspace};
use cellblock_proto::id::{NotebookId, TenantId};

/// Why a notebook cannot be opened, as the client is told.
pub(crate) type Refusal = (ErrorCode, String);

/// Makes a notebook known, or finds it; nothing is started.
///
/// # Errors
/// A bad profile, one that its tenant may not have, another than it is open with, no place for its files.
pub(crate) async fn open(
    daemon: &Arc<Daemon>,
    notebook: Key,
    profile: Option<String>,
) -> Result<NotebookInfo, Refusal> {
    let began = Instant::now();
    let seen = match look(daemon, &notebook) {
        Some(seen) => seen,
        None => create(daemon, notebook.clone(), profile.as_deref()).await?,
    };
    if let Some(profile) = profile.filter(|profile| *profile != seen.profile()) {
        let message = format!(
            "notebook {:?} is open with profile {:?}, not {profile:?}: close it first",
            notebook.as_str(),
            seen.profile()
        );
        return Err((ErrorCode::BadProfile, message));
    }
    let opened = seen.info().await.ok_or_else(|| {
        (ErrorCode::Busy, format!("notebook {:?} is being closed: try again", notebook.as_str()))
    })?;
    daemon.metrics.opened(began.elapsed());
    Ok(opened)
}

/// A notebook that is open, as it is found: to look wakes nobody.
enum Seen {
    Awake(Entry),
    Asleep(NotebookInfo),
}

impl Seen {
    fn profile(&self) -> &str {
        match self {
            Seen::Awake(entry) => &entry.profile,
            Seen::Asleep(info) => &info.profile,
        }
    }

    /// The line for lists; `None` of one that is being closed.
    async fn info(self) -> Option<NotebookInfo> {
        match self {
            Seen::Awake(entry) => info(&entry).await,
            Seen::Asleep(info) => Some(info),
        }
    }
}

async fn create(daemon: &Arc<Daemon>, notebook: Key, profile: Option<&str>) -> Result<Seen, Refusal> {
    let tenant = daemon.tenants.named(&notebook.tenant);
    let profile = profile.unwrap_or_else(|| tenant.default_profile()).to_owned();
    if let Some(reason) = tenant.forbids(&profile) {
        return Err((ErrorCode::Forbidden, reason));
    }
    let open =
        Held::take(&tenant, Counted::Notebooks, 1).map_err(|met| (ErrorCode::Busy, tenant.explain(met)))?;
    let settings = Settings { profile, pinned: false, evicted: false };
    let (folder, state, owner) = (daemon.profiles.clone(), daemon.state.clone(), daemon.anchor.first_uid());
    let (told, id) = (settings.clone(), notebook.clone());
    let checked = tokio::task::spawn_blocking(move || {
        profiles::load(folder.as_deref(), &told.profile)
            .map_err(|error| (ErrorCode::BadProfile, chain(&error)))?;
        let opened = workspace::open(&state, &id, owner);
        let kept = opened.and_then(|_| workspace::remember(&state, &id, &told));
        kept.map_err(|error| (ErrorCode::Storage, chain(&error)))
    });
    checked.await.unwrap_or_else(|error| Err((ErrorCode::Internal, error.to_string())))?;
    let sleeper = Sleeper { settings, executions: 0, open: Arc::new(open) };
    Ok(insert(daemon, notebook, sleeper, |notebook, settings| {
        let profile = &settings.profile;
        tracing::info!(tenant = %notebook.tenant, %notebook, profile, "notebook opened");
        notebook::tell(daemon, &tenant, || NotebookEvent::Opened {
            notebook: notebook.notebook.clone(),
            tenant: notebook.tenant.clone(),
            profile: profile.clone(),
        });
    }))
}

/// A notebook that is open: also one that sleeps, which wakes up, and one that was open when the daemon before us ended.
pub(crate) fn find(daemon: &Arc<Daemon>, notebook: &Key) -> Option<Entry> {
    if let Some(entry) = awake(daemon, notebook) {
        return Some(entry);
    }
    look(daemon, notebook)?;
    awake(daemon, notebook)
}

/// Wakes one that is known and sleeps.
fn awake(daemon: &Arc<Daemon>, notebook: &Key) -> Option<Entry> {
    let mut known = daemon.notebooks.lock();
    if let Some(entry) = known.awake.get(notebook) {
        return Some(entry.clone());
    }
    let sleeper = known.asleep.remove(notebook)?;
    Some(wake(daemon, &mut known, notebook.clone(), sleeper))
}

/// The same, and nobody is woken.
fn look(daemon: &Arc<Daemon>, notebook: &Key) -> Option<Seen> {
    {
        let known = daemon.notebooks.lock();
        if let Some(seen) = seen(&known, notebook) {
            return Some(seen);
        }
        // Whoever asks for many names that are none makes us look at no disk.
        if known.is_complete {
            return None;
        }
    }
    // Only until those of before have been looked for.
    let settings = workspace::recall(&daemon.state, notebook).ok().flatten()?;
    // It was counted when it was opened: no cap keeps it out now.
    let open = Held::claim(&daemon.tenants.named(&notebook.tenant), Counted::Notebooks, 1);
    let sleeper = Sleeper { settings, executions: 0, open: Arc::new(open) };
    Some(insert(daemon, notebook.clone(), sleeper, |_, _| {}))
}

fn seen(known: &Known, notebook: &Key) -> Option<Seen> {
    let asleep = || known.asleep.get(notebook).map(|sleeper| Seen::Asleep(told(notebook, sleeper)));
    known.awake.get(notebook).map(|entry| Seen::Awake(entry.clone())).or_else(asleep)
}

/// It sleeps until somebody has a wish: who opens ten thousand pays for those that he uses. What is to be said of it is said
/// before anything can follow from it, and of one that somebody else has opened meanwhile not again.
fn insert(daemon: &Arc<Daemon>, notebook: Key, sleeper: Sleeper, say: impl FnOnce(&Key, &Settings)) -> Seen {
    let mut known = daemon.notebooks.lock();
    seen(&known, &notebook).unwrap_or_else(|| {
        say(&notebook, &sleeper.settings);
        let info = told(&notebook, &sleeper);
        known.asleep.insert(notebook, sleeper);
        Seen::Asleep(info)
    })
}

fn wake(daemon: &Arc<Daemon>, known: &mut Known, notebook: Key, sleeper: Sleeper) -> Entry {
    let Sleeper { settings, executions, open } = sleeper;
    let evicted = settings.evicted;
    let (sender, inbox) = mpsc::channel(INBOX);
    let (vitals, span) = (Vitals::default(), span(&notebook));
    let profile = settings.profile.clone();
    let task = Notebook::new(Arc::clone(daemon), notebook.clone(), settings, inbox, vitals.clone());
    let mut task = Box::new(task);
    task.has_slept(executions, evicted);
    tokio::spawn(task.run().instrument(span));
    let entry = Entry { profile, inbox: sender, vitals, open };
    known.awake.insert(notebook, entry.clone());
    entry
}

/// Looks for the notebooks that were open when the daemon before us ended: they sleep. When all have been found, no
/// other name is looked for on the disk.
pub(crate) fn look_for_sleepers(daemon: &Arc<Daemon>) {
    let mut missed = None;
    match workspace::all_notebooks(&daemon.state) {
        Ok(all) => {
            for key in all {
                if let Err(error) = look_for_sleeper(daemon, key) {
                    missed = Some(error);
                }
            }
        }
        Err(error) => missed = Some(error),
    }
    match missed {
        None => daemon.notebooks.lock().is_complete = true,
        Some(error) => tracing::warn!(
            error = chain(&error),
            "not all notebooks that were open could be looked for: each is when it is asked for"
        ),
    }
}

fn look_for_sleeper(daemon: &Arc<Daemon>, key: Key) -> Result<(), WorkspaceError> {
    let Some(settings) = workspace::recall(&daemon.state, &key)? else { return Ok(()) };
    let open = Held::claim(&daemon.tenants.named(&key.tenant), Counted::Notebooks, 1);
    let mut known = daemon.notebooks.lock();
    // It may have been closed since we looked, which is done with the lock: looked at once more.
    if !known.awake.contains_key(&key) && workspace::recall(&daemon.state, &key)?.is_some() {
        let open = Arc::new(open);
        known.asleep.entry(key).or_insert(Sleeper { settings, executions: 0, open });
    }
    Ok(())
}

fn span(notebook: &Key) -> Span {
    info_span!("notebook", tenant = %notebook.tenant, %notebook)
}

/// Makes a notebook of what outlived the daemon before us.
pub(crate) fn adopt(daemon: &Arc<Daemon>, notebook: Key, survivors: Vec<Survivor>) {
    let Some(last) = survivors.last() else { return };
    let profile = last.state.profile.clone();
    // One that cannot be read is told of when it is needed: at the next start of a worker.
    if let Ok(loaded) = profiles::load(daemon.profiles.as_deref(), &profile) {
        daemon.runners.set_most(&profile, loaded.max_running);
    }
    let (sender, inbox) = mpsc::channel(INBOX);
    let span = span(&notebook);
    let vitals = Vitals::default();
    // It was open when it was left; at least what its shim says of it is known.
    let settings = workspace::recall(&daemon.state, &notebook).ok().flatten();
    let unknown = || Settings { profile: profile.clone(), pinned: false, evicted: false };
    let settings = settings.unwrap_or_else(unknown);
    let settings = Settings { profile: profile.clone(), ..settings };
    let task = Notebook::new(Arc::clone(daemon), notebook.clone(), settings, inbox, vitals.clone());
    let mut task = Box::new(task);
    span.in_scope(|| task.adopt(survivors));
    tokio::spawn(task.run().instrument(span));
    let open = Held::claim(&daemon.tenants.named(&notebook.tenant), Counted::Notebooks, 1);
    let entry = Entry { profile, inbox: sender, vitals, open: Arc::new(open) };
    daemon.notebooks.lock().awake.insert(notebook, entry);
}

/// Notebooks in one answer: with the longest names they fit into a frame.
const MOST_LISTED: usize = 2_000;

/// Open notebooks of a tenant behind a name, sorted by name; and whether there are more.
pub(crate) async fn list(
    daemon: &Daemon,
    tenant: &TenantId,
    after: Option<&NotebookId>,
) -> (Vec<NotebookInfo>, bool) {
    let is_meant = |name: &NotebookId| after.is_none_or(|after| name > after);
    let mut notebooks = asleep(daemon, Some(tenant));
    notebooks.retain(|info| is_meant(&info.notebook));
    let awake: Vec<(NotebookId, Entry)> = {
        let known = daemon.notebooks.lock();
        let own = known.awake.iter().filter(|(key, _)| key.tenant == *tenant && is_meant(&key.notebook));
        own.take(MOST_LISTED + 1).map(|(key, entry)| (key.notebook.clone(), entry.clone())).collect()
    };
    // Nobody is asked whose name is behind those that are told.
    let mut names: Vec<&NotebookId> = notebooks.iter().map(|info| &info.notebook).collect();
    names.extend(awake.iter().map(|(name, _)| name));
    names.sort();
    let last = names.get(MOST_LISTED).map(|name| (*name).clone());
    for (name, entry) in &awake {
        if last.as_ref().is_none_or(|last| name < last) {
            // One that is being closed does not answer, and is not listed.
            notebooks.extend(info(entry).await);
        }
    }
    notebooks.retain(|info| last.as_ref().is_none_or(|last| info.notebook < *last));
    notebooks.sort_by(|one, other| one.notebook.cmp(&other.notebook));
    // One that has gone to sleep, or woken up, meanwhile.
    notebooks.dedup_by(|one, other| one.notebook == other.notebook);
    (notebooks, last.is_some())
}

/// Those that sleep, of a tenant or of all.
pub(crate) fn asleep(daemon: &Daemon, tenant: Option<&TenantId>) -> Vec<NotebookInfo> {
    let known = daemon.notebooks.lock();
    let meant = known.asleep.iter().filter(|(key, _)| tenant.is_none_or(|tenant| key.tenant == *tenant));
    meant.map(|(key, sleeper)| told(key, sleeper)).collect()
}

/// One that sleeps, as a line for lists.
fn told(key: &Key, sleeper: &Sleeper) -> NotebookInfo {
    NotebookInfo {
        notebook: key.notebook.clone(),
        profile: sleeper.settings.profile.clone(),
        state: WorkerState::None,
        queued: 0,
        executions: sleeper.executions,
        tenant: Some(key.tenant.clone()),
        pinned: sleeper.settings.pinned,
        evicted: sleeper.settings.evicted,
        idle_ms: None,
        memory_bytes: None,
        saved_whole: true,
        running_ms: None,
        cpu_ms: None,
    }
}

async fn info(entry: &Entry) -> Option<NotebookInfo> {
    let (reply, answer) = oneshot::channel();
    entry.inbox.send(Message::Info { reply }).await.ok()?;
    answer.await.ok()
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "registry_left_tests.rs"]
mod left_tests;
