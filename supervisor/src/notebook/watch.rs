//! What is counted and told of a notebook: metrics, events, spans. It decides nothing.

use std::sync::Arc;

use cellblock_proto::checkpoint::{Checkpoint, NotebookEvent};
use cellblock_proto::client::{ErrorCode, WorkerState};
use cellblock_proto::execution::{Death, Outcome};
use cellblock_proto::id::ExecutionId;
use tokio::time::Instant;

use crate::daemon::{Daemon, Key};
use crate::loss::Restoration;
use crate::metrics::{Standing, StartKind, end_name};
use crate::tenants::Tenant;
use crate::time::milliseconds;

/// The eyes on one notebook.
#[derive(Debug)]
pub(super) struct Watch {
    daemon: Arc<Daemon>,
    key: Key,
    /// Names, as labels that cost no allocation each time.
    tenant: Arc<str>,
    /// Whose it is.
    owner: Arc<Tenant>,
    profile: Arc<str>,
    standing: Standing,
    /// Since when a worker is being started, and how.
    starting: Option<Instant>,
    kind: StartKind,
    /// Whether it had variables to load, and how that went.
    restored: Option<&'static str>,
    /// Whether the one before it was evicted.
    returns: bool,
    /// Since when it is to end.
    ending: Option<Instant>,
    /// Since when an Execution runs.
    running: Option<Instant>,
}

impl Watch {
    pub(super) fn new(daemon: &Arc<Daemon>, key: &Key, profile: &str) -> Self {
        Watch {
            daemon: Arc::clone(daemon),
            key: key.clone(),
            tenant: key.tenant.as_str().into(),
            owner: daemon.tenants.named(&key.tenant),
            profile: profile.into(),
            standing: daemon.metrics.notebook(),
            starting: None,
            kind: StartKind::Exec,
            restored: None,
            ending: None,
            running: None,
            returns: false,
        }
    }

    pub(super) fn tell(&self, event: impl FnOnce() -> NotebookEvent) {
        tell(&self.daemon, &self.owner, event);
    }

    /// The worker's state has changed, perhaps; whether it was evicted before.
    pub(super) fn state(&mut self, before: WorkerState, after: WorkerState, evicted: bool) {
        if before == after {
            return;
        }
        self.standing.set(after);
        match after {
            WorkerState::Starting => (self.starting, self.returns) = (Some(Instant::now()), evicted),
            WorkerState::Ending => self.ending = Some(Instant::now()),
            _ => {}
        }
        if after == WorkerState::None {
            (self.starting, self.restored, self.running) = (None, None, None);
            if let Some(since) = self.ending.take() {
                self.daemon.metrics.end_took(since.elapsed());
            }
        }
        // What it does while it is up, its Executions tell.
        let is_up = |state| matches!(state, WorkerState::Idle | WorkerState::Busy | WorkerState::Waiting);
        if !(is_up(before) && is_up(after)) {
            let (notebook, tenant) = (self.key.notebook.clone(), self.key.tenant.clone());
            self.tell(|| NotebookEvent::Worker { notebook, tenant, state: after });
        }
    }

    pub(super) fn launched(&mut self, kind: StartKind) {
        self.kind = kind;
    }

    pub(super) fn loaded(&mut self, told: &Restoration) {
        if told.checkpoint > 0 || told.failed.is_some() {
            let is_whole = told.losses.is_empty() && told.passed_over.is_empty();
            self.restored = Some(match (&told.failed, is_whole) {
                (Some(_), _) => "failed",
                (None, true) => "whole",
                (None, false) => "partial",
            });
        }
    }

    pub(super) fn up(&mut self) {
        let Some(since) = self.starting.take() else { return };
        let took = since.elapsed();
        self.daemon.metrics.started(self.kind, took);
        if let Some(result) = self.restored.take() {
            self.daemon.metrics.restored(result, took);
            if std::mem::take(&mut self.returns) && result != "failed" {
                let (notebook, tenant) = (self.key.notebook.clone(), self.key.tenant.clone());
                let took_ms = milliseconds(took);
                self.tell(|| NotebookEvent::Returned { notebook, tenant, took_ms });
            }
        }
    }

    pub(super) fn start_failed(&self, code: ErrorCode) {
        self.daemon.metrics.start_failed(code);
    }

    pub(super) fn died(&self, death: &Death) {
        self.daemon.metrics.worker_ended(death);
    }

    pub(super) fn checkpoint(&self, checkpoint: &Checkpoint) {
        self.daemon.metrics.checkpoint(checkpoint);
    }

    pub(super) fn started(&mut self, execution: &ExecutionId) {
        self.running = Some(Instant::now());
        let (notebook, tenant) = (self.key.notebook.clone(), self.key.tenant.clone());
        self.tell(|| NotebookEvent::Started { notebook, tenant, execution: execution.clone() });
    }

    pub(super) fn ended(&mut self, execution: &ExecutionId, outcome: &Outcome) {
        self.running = None;
        self.daemon.metrics.execution(&self.tenant, &self.profile, outcome);
        if let Some(checkpoint) = outcome.checkpoint.as_ref().filter(|state| **state != Checkpoint::Pending) {
            self.checkpoint(checkpoint);
        }
        let (notebook, tenant) = (self.key.notebook.clone(), self.key.tenant.clone());
        self.tell(|| NotebookEvent::Ended {
            notebook,
            tenant,
            execution: execution.clone(),
            end: end_name(&outcome.end).to_owned(),
            wall_us: outcome.wall_us,
        });
    }

    /// How long the Execution that runs has been running.
    pub(super) fn running_ms(&self) -> Option<u64> {
        Some(milliseconds(self.running?.elapsed()))
    }

    pub(super) fn closed(&self, deleted: bool) {
        let (notebook, tenant) = (self.key.notebook.clone(), self.key.tenant.clone());
        self.tell(|| NotebookEvent::Closed { notebook, tenant, deleted });
    }
}

/// Tells whoever listens what happens in a tenant's notebook. Nothing is made for nobody: most of the time nobody does.
pub(crate) fn tell(daemon: &Daemon, owner: &Tenant, event: impl FnOnce() -> NotebookEvent) {
    let (own, all) = (owner.listeners(), &daemon.events);
    if own.is_none() && all.receiver_count() == 0 {
        return;
    }
    let event = event();
    if let Some(own) = own {
        let _ = own.send(event.clone());
    }
    let _ = all.send(event);
}
