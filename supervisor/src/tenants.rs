//! Which tenant a client is, and what it may use. A tenant is a user, or some, who own notebooks together; a client
//! is whoever the kernel says is at the other end of its socket (SO_PEERCRED).
//!
//! Root and the daemon's own user are always operators, and the tenant `operator`, unless a file of tenants
//! (`--tenants`) names them. Users of `--allow-uid`, and with `--serve-group` all whom the socket's mode lets connect, are
//! each a tenant of their own, `uid-N`. The file can make one tenant of several users, make operators of others, and
//! set caps. It is read when the daemon starts.
//!
//! What is deliberately absent: names of users and groups. A number is what the kernel tells, and no file that others write
//! has a say in who that is.

mod file;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use cellblock_proto::checkpoint::NotebookEvent;
use cellblock_proto::id::{NotebookId, TenantId};
use cellblock_proto::operations::{TenantInfo, TenantLimits};
use sandbox_profiles::{Fault, Faults};
use tokio::sync::{Semaphore, broadcast};

use self::uses::Uses;
pub(crate) use self::uses::{Counted, Held, Met};
use crate::daemon::Daemon;
use crate::{checkpoints, files, places, profiles};

/// A page or two of text; more is a mistake.
const MAX_BYTES: u64 = 1 << 20;

/// What each tenant may use that is no operator, where nothing is said. Workers have no cap of their own: they are
/// shared out fairly. So are cells, of which one tenant may have three quarters.
const DEFAULTS: TenantLimits = TenantLimits {
    running: 0,
    workers: 0,
    notebooks: 1_000,
    queued: 10_000,
    connections: 128,
    buffered_bytes: 256 << 20,
};

/// What all may use together, where nothing is said.
const TOTAL: TenantLimits = TenantLimits {
    running: 0,
    workers: 0,
    notebooks: 0,
    queued: 100_000,
    connections: places::MAX,
    buffered_bytes: 1 << 30,
};

/// Why there are no tenants.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TenantsError {
    #[error("failed to read the file of tenants {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{}", Faults { whose: &path.display().to_string(), faults })]
    Bad { path: PathBuf, faults: Vec<Fault> },
}

/// All tenants.
#[derive(Debug)]
pub(crate) struct Tenants {
    by_uid: BTreeMap<u32, TenantId>,
    known: Mutex<BTreeMap<TenantId, Arc<Tenant>>>,
    defaults: TenantLimits,
    default_profiles: Option<Vec<String>>,
    allowed: BTreeSet<u32>,
    serves_all: bool,
    total: Arc<Total>,
}

/// What all tenants use together, and may.
#[derive(Debug)]
struct Total {
    limits: TenantLimits,
    uses: Uses,
}

/// One tenant.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// Its name.
    pub(crate) id: TenantId,
    /// Who it is.
    pub(crate) uids: BTreeSet<u32>,
    /// Whether those may do what concerns all.
    pub(crate) operator: bool,
    /// What it may use.
    pub(crate) limits: TenantLimits,
    /// How many threads may be at work in its notebooks' folders.
    pub(crate) file_threads: Arc<Semaphore>,
    /// What happens in its notebooks; there from the first listener on.
    events: OnceLock<broadcast::Sender<NotebookEvent>>,
    profiles: Option<Vec<String>>,
    uses: Uses,
    total: Arc<Total>,
}

/// Who is served besides operators and those whom the file names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served {
    /// These users.
    pub(crate) uids: Vec<u32>,
    /// All who can connect.
    pub(crate) all: bool,
}

impl Tenants {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or says what makes no sense.
    pub(crate) fn open(path: Option<&Path>, served: &Served) -> Result<Self, TenantsError> {
        let own = rustix::process::geteuid().as_raw();
        let said = match path {
            None => file::Said::default(),
            Some(path) => {
                let failed = |source| TenantsError::Read { path: path.to_owned(), source };
                let text = crate::profiles::read_text(path, MAX_BYTES).map_err(failed)?;
                file::read(&text, own)
                    .map_err(|faults| TenantsError::Bad { path: path.to_owned(), faults })?
            }
        };
        Ok(Tenants::of_file(said, served, own))
    }

    fn of_file(said: file::Said, served: &Served, own: u32) -> Self {
        let file::Said { total, defaults, default_profiles, tenants } = said;
        let total = Arc::new(Total { limits: total.over(TOTAL), uses: Uses::default() });
        let defaults = defaults.over(DEFAULTS);
        let mut by_uid: BTreeMap<u32, TenantId> = [0, own].map(|uid| (uid, TenantId::operator())).into();
        let mut known = BTreeMap::new();
        for (id, file::Named { uids, operator, limits, profiles }) in tenants {
            by_uid.extend(uids.iter().map(|uid| (*uid, id.clone())));
            let limits = limits.over(if operator { TenantLimits::default() } else { defaults });
            let profiles = profiles.or_else(|| default_profiles.clone().filter(|_| !operator));
            let (uses, total) = (Uses::default(), Arc::clone(&total));
            let (file_threads, events) = (threads(), OnceLock::new());
            let tenant = Tenant {
                id: id.clone(),
                uids,
                operator,
                limits,
                file_threads,
                events,
                profiles,
                uses,
                total,
            };
            known.insert(id, Arc::new(tenant));
        }
        let allowed = served.uids.iter().copied().collect();
        let (known, serves_all) = (Mutex::new(known), served.all);
        let tenants = Tenants { by_uid, known, defaults, default_profiles, allowed, serves_all, total };
        tenants.named(&TenantId::operator());
        tenants
    }

    /// The tenant that a user is; `None` when he is not served.
    pub(crate) fn of(&self, uid: u32) -> Option<Arc<Tenant>> {
        match self.by_uid.get(&uid) {
            Some(id) => Some(self.named(id)),
            None if self.serves_all || self.allowed.contains(&uid) => {
                Some(self.named(&TenantId::of_user(uid)))
            }
            None => None,
        }
    }

    /// The tenant of that name. One that nobody has named is as those are that nothing is said of: an operator may act
    /// as it, and the notebooks on disk may be of a tenant that is in the file no more.
    pub(crate) fn named(&self, id: &TenantId) -> Arc<Tenant> {
        let mut known = self.lock();
        if let Some(tenant) = known.get(id) {
            return Arc::clone(tenant);
        }
        let operator = *id == TenantId::operator();
        let users = self.by_uid.iter().filter(|(_, tenant)| *tenant == id).map(|(uid, _)| *uid);
        let own = id.as_str().strip_prefix("uid-").and_then(|number| number.parse().ok());
        let own = own.filter(|uid| TenantId::of_user(*uid) == *id && !self.by_uid.contains_key(uid));
        let tenant = Arc::new(Tenant {
            id: id.clone(),
            uids: users.chain(own).collect(),
            operator,
            limits: if operator { TenantLimits::default() } else { self.defaults },
            profiles: self.default_profiles.clone().filter(|_| !operator),
            file_threads: threads(),
            events: OnceLock::new(),
            uses: Uses::default(),
            total: Arc::clone(&self.total),
        });
        known.insert(id.clone(), Arc::clone(&tenant));
        tenant
    }

    /// All that are named or have been seen, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Tenant>> {
        self.lock().values().cloned().collect()
    }

    /// The caps over all.
    pub(crate) fn total(&self) -> TenantLimits {
        self.total.limits
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TenantId, Arc<Tenant>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn threads() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(files::MAX_THREADS_OF_TENANT))
}

impl Total {
    fn most(&self, kind: Counted) -> u64 {
        most(&self.limits, kind)
    }
}

fn most(limits: &TenantLimits, kind: Counted) -> u64 {
    match kind {
        Counted::Notebooks => limits.notebooks.into(),
        Counted::Queued => limits.queued.into(),
        Counted::Buffered => limits.buffered_bytes,
    }
}

impl Tenant {
    fn most(&self, kind: Counted) -> u64 {
        most(&self.limits, kind)
    }

    /// Whether its notebooks may have that profile.
    pub(crate) fn may_have(&self, profile: &str) -> bool {
        self.profiles.as_ref().is_none_or(|names| names.iter().any(|name| name == profile))
    }

    /// Why a notebook cannot be opened with that profile, as its client is told; `None` when it can.
    pub(crate) fn forbids(&self, profile: &str) -> Option<String> {
        let allowed = self.profiles.as_deref().filter(|_| !self.may_have(profile))?.join(", ");
        let tenant = self.id.as_str();
        Some(format!(
            "tenant {tenant:?} may not have profile {profile:?}: it may have {allowed} (`profiles` in the file of tenants)"
        ))
    }

    /// Why nothing is run in a notebook that is open with that profile; `None` when it is.
    pub(crate) fn forbids_open(&self, notebook: &NotebookId, profile: &str) -> Option<String> {
        let reason = self.forbids(profile)?;
        let notebook = notebook.as_str();
        Some(format!("notebook {notebook:?}: {reason}; close it and open it with one of those"))
    }

    /// The profile of a notebook for which none is named.
    pub(crate) fn default_profile(&self) -> &str {
        let first = self.profiles.as_ref().and_then(|names| names.first());
        if self.may_have(profiles::DEFAULT) {
            profiles::DEFAULT
        } else {
            first.map_or(profiles::DEFAULT, |name| name)
        }
    }

    /// Whether there is no room for more bytes: then nothing is begun that would take some.
    ///
    /// # Errors
    /// The cap that is met.
    pub(crate) fn has_room(&self) -> Result<(), Met> {
        let kind = Counted::Buffered;
        for (uses, most, in_all) in
            [(&self.uses, self.most(kind), false), (&self.total.uses, self.total.most(kind), true)]
        {
            if most != 0 && uses.get(kind) >= most {
                return Err(Met { kind, most, in_all });
            }
        }
        Ok(())
    }

    /// Tells from now on what happens in its notebooks.
    pub(crate) fn listen(&self) -> broadcast::Receiver<NotebookEvent> {
        self.events.get_or_init(|| broadcast::Sender::new(checkpoints::EVENTS)).subscribe()
    }

    /// Who tells it, if anybody listens.
    pub(crate) fn listeners(&self) -> Option<&broadcast::Sender<NotebookEvent>> {
        self.events.get().filter(|events| events.receiver_count() > 0)
    }

    /// How much of that it uses.
    pub(crate) fn uses(&self, kind: Counted) -> u64 {
        self.uses.get(kind)
    }

    /// It in one line; what is not counted here is for the caller to fill in.
    pub(crate) fn info(&self) -> TenantInfo {
        let count = |kind| u32::try_from(self.uses.get(kind)).unwrap_or(u32::MAX);
        let uses = TenantLimits {
            notebooks: count(Counted::Notebooks),
            queued: count(Counted::Queued),
            buffered_bytes: self.uses.get(Counted::Buffered),
            ..TenantLimits::default()
        };
        let (tenant, uids) = (self.id.clone(), self.uids.iter().copied().collect());
        TenantInfo { tenant, uids, operator: self.operator, uses, limits: self.limits }
    }

    /// A cap that is met, as its client is told.
    pub(crate) fn explain(&self, met: Met) -> String {
        let Met { kind, most, in_all } = met;
        let (key, what, cure) = match kind {
            Counted::Notebooks => ("max_notebooks", "open notebooks", "close some"),
            Counted::Queued => ("max_queued", "executions that wait", "wait for some, or cancel them"),
            Counted::Buffered => {
                ("max_buffered_bytes", "bytes held for clients", "read what there is, or close notebooks")
            }
        };
        let whose = Whose(self, in_all);
        format!("{whose} {most} {what}, the most that may be ({key}): {cure}, or try again later")
    }
}

/// All that are named or have been seen, with what they use.
pub(crate) fn tenants(daemon: &Daemon) -> Vec<TenantInfo> {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let told = |tenant: &Arc<Tenant>| {
        let mut info = tenant.info();
        info.uses.running = count(daemon.runners.running_of(tenant.id.as_str()));
        info.uses.workers = count(daemon.launches.workers_of(tenant.id.as_str()));
        info.uses.connections = count(daemon.places.taken_by(&tenant.id));
        info
    };
    daemon.tenants.all().iter().map(told).collect()
}

/// Whose cap is met, as the subject of a sentence.
pub(crate) struct Whose<'a>(pub(crate) &'a Tenant, pub(crate) bool);

impl fmt::Display for Whose<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            // Not who else, and not how much is whose.
            true => out.write_str("all tenants together have"),
            false => write!(out, "tenant {:?} has", self.0.id.as_str()),
        }
    }
}

#[cfg(test)]
#[path = "tenants_tests.rs"]
mod tests;
