//! What all of the daemon shares: where things are, who is asked for what, which notebooks are open.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cellblock_proto::checkpoint::NotebookEvent;
use cellblock_proto::id::{NotebookId, TenantId};
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};
use tokio::time::Instant;

use crate::anchor::Anchor;
use crate::audit::Audit;
use crate::drain::Draining;
use crate::host::System;
use crate::interpreter::Search;
use crate::launches::Launches;
use crate::metrics::Metrics;
use crate::notebook::Message;
use crate::places::Places;
use crate::prepare::Caches;
use crate::quota::Means;
use crate::runners::Runners;
use crate::runtime_dir::RuntimeDir;
use crate::slots::Slots;
use crate::tenants::{Held, Tenants};
use crate::vitals::Vitals;
use crate::warm::Warm;
use crate::workspace::Settings;

/// The daemon, as its tasks see it.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// Whether it ends with its workers.
    pub(crate) private: bool,
    /// Whether the notebooks' files go with it.
    pub(crate) ephemeral: bool,
    /// Where notebooks' files are.
    pub(crate) state: PathBuf,
    /// The Python that profiles run when they name none.
    pub(crate) python: PathBuf,
    /// The operator's profiles.
    pub(crate) profiles: Option<PathBuf>,
    /// Who is served, and what each may use.
    pub(crate) tenants: Tenants,
    /// Clients that are connected.
    pub(crate) places: Places,
    /// Where we live.
    pub(crate) runtime: RuntimeDir,
    /// Our own Python and native code, in a folder named by their content.
    pub(crate) payload: PathBuf,
    /// Where caches of interpreters are kept.
    pub(crate) cache: PathBuf,
    /// How the size of workspaces can be held.
    pub(crate) means: Means,
    /// Who starts shims.
    pub(crate) anchor: Anchor,
    /// Host ids in use.
    pub(crate) slots: Slots,
    /// Who may start a worker.
    pub(crate) launches: Launches,
    /// Who may run a cell.
    pub(crate) runners: Runners,
    /// Caches of interpreters.
    pub(crate) caches: Caches,
    /// Zygotes and spares.
    pub(crate) warm: Warm,
    /// Where Pythons are looked for.
    pub(crate) search: Search,
    /// What sandboxes see of the system.
    pub(crate) system: System,
    /// How many threads may be at work in workspaces.
    pub(crate) file_threads: Arc<Semaphore>,
    /// What happens, for whoever listens.
    pub(crate) events: broadcast::Sender<NotebookEvent>,
    /// A worker has nothing to do any more.
    pub(crate) idle: Notify,
    /// Open notebooks.
    pub(crate) notebooks: Notebooks,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// Who did what.
    pub(crate) audit: Audit,
    /// Since when it is up.
    pub(crate) since: Instant,
    /// Whether nothing new is begun any more.
    pub(crate) draining: Draining,
    /// Becomes true when the daemon is to end.
    pub(crate) ending: watch::Sender<bool>,
}

#[cfg(test)]
impl Daemon {
    /// Makes a notebook known that has no task: what it is told comes out here, what is seen of it goes in there.
    pub(crate) fn pretend(
        &self,
        key: &Key,
        signs: crate::vitals::Signs,
    ) -> (mpsc::Receiver<Message>, Vitals) {
        use crate::tenants::Counted;
        let (inbox, told) = mpsc::channel(4);
        let vitals = Vitals::default();
        vitals.set(signs);
        let open = Arc::new(Held::claim(&self.tenants.named(&key.tenant), Counted::Notebooks, 1));
        let entry = Entry { profile: "default".to_owned(), inbox, open, vitals: vitals.clone() };
        self.notebooks.lock().awake.insert(key.clone(), entry);
        (told, vitals)
    }
}

/// A notebook's name, and whose it is: two tenants may have one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Whose.
    pub(crate) tenant: TenantId,
    /// Its name among the tenant's.
    pub(crate) notebook: NotebookId,
}

impl Key {
    /// A notebook of ours.
    pub(crate) fn own(notebook: NotebookId) -> Self {
        Key { tenant: TenantId::operator(), notebook }
    }

    /// Its name among the tenant's.
    pub(crate) fn as_str(&self) -> &str {
        self.notebook.as_str()
    }
}

/// The name as its tenant knows it.
impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notebook.fmt(out)
    }
}

/// A notebook's task, as others reach it. The task owns everything else.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The profile it was opened with.
    pub(crate) profile: String,
    /// Its inbox.
    pub(crate) inbox: mpsc::Sender<Message>,
    /// That it is open, as its tenant has it counted.
    pub(crate) open: Arc<Held>,
    /// What can be seen of its worker.
    pub(crate) vitals: Vitals,
}

/// A notebook that is open, and for which nobody has had a wish for a while: it has no task.
#[derive(Clone, Debug)]
pub(crate) struct Sleeper {
    /// What it wakes up with; on the disk too.
    pub(crate) settings: Settings,
    /// Executions ended since it was opened.
    pub(crate) executions: u64,
    /// That it is open, as its tenant has it counted.
    pub(crate) open: Arc<Held>,
}

/// The open notebooks by name. Each is in one of the two.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// With a task.
    pub(crate) awake: BTreeMap<Key, Entry>,
    /// Without.
    pub(crate) asleep: BTreeMap<Key, Sleeper>,
    /// Whether these are all there are: those that the daemon before us has left have been looked for.
    pub(crate) is_complete: bool,
}

/// All that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notebooks(Arc<Mutex<Known>>);

impl Notebooks {
    /// Only looked at for a moment, never across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task of a notebook, if it is awake.
    pub(crate) fn get(&self, notebook: &Key) -> Option<Entry> {
        self.lock().awake.get(notebook).cloned()
    }

    /// Those that are awake.
    pub(crate) fn awake(&self) -> Vec<Entry> {
        self.lock().awake.values().cloned().collect()
    }
}
