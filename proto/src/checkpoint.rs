//! Saved variables, as clients, Executions and shims speak of them. When they are saved is a profile's or an
//! Execution's to say.

pub use sandbox_profiles::{Checkpointing, Keep};
use serde::{Deserialize, Serialize};

use crate::execution::NameInfo;
use crate::id::{ExecutionId, NotebookId, TenantId};
use crate::notebook::WorkerState;

/// What became of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checkpoint {
    /// It is being written, or waits for one that is.
    Pending,
    /// It will be found after a crash of the machine.
    Saved {
        /// Its number within the notebook.
        id: u64,
        /// What it added to the store, in bytes.
        written_bytes: u64,
        /// How long the worker stood still for it, in microseconds.
        pause_us: u64,
    },
    /// The same, but some values could not be saved.
    Partial {
        /// Its number within the notebook.
        id: u64,
        /// What it added to the store, in bytes.
        written_bytes: u64,
        /// How long the worker stood still for it, in microseconds.
        pause_us: u64,
        /// They; at most 100.
        left_out: Vec<NotRestored>,
        /// How many there are in all.
        left_out_count: u64,
    },
    /// There is none; the one before it is the newest.
    Failed {
        /// Why, one sentence.
        reason: String,
    },
}

/// A value that is not in a checkpoint, or could not be had back from one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRestored {
    /// Where it was, as Python writes it, e.g. `d['lock']`.
    pub path: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Why.
    pub reason: String,
}

/// A kept checkpoint in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// Its number within the notebook.
    pub id: u64,
    /// The one that was current before it; it may have been removed.
    pub parent: Option<u64>,
    /// When it was taken, in milliseconds since 1970.
    pub created_ms: u64,
    /// After which Execution; empty for none.
    pub execution: String,
    /// It is what the next worker begins with.
    pub current: bool,
    /// How many names it has.
    pub names: u64,
    /// How many values could not be saved.
    pub left_out: u64,
    /// What its variables take in serialised form, in bytes.
    pub state_bytes: u64,
    /// What would be free if it and all older ones were removed, less what would be if only those were, in bytes.
    pub own_bytes: u64,
    /// The Python that took it, e.g. `3.11.7`.
    pub python: String,
    /// Where it comes from, when it was imported: notebook and number there.
    pub origin: Option<(String, u64)>,
    /// Why it cannot be had back whole; absent when nothing is known to be wrong with it.
    pub damage: Option<String>,
}

/// What a checkpoint has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointContent {
    /// The line.
    pub info: CheckpointInfo,
    /// Its names, sorted; the first 3,000.
    pub names: Vec<NameInfo>,
    /// What could not be saved; the first thousand.
    pub left_out: Vec<NotRestored>,
    /// Versions of the packages that had been imported, as (package, version).
    pub packages: Vec<(String, String)>,
}

/// What a check of a checkpoint has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Which.
    pub id: u64,
    /// Every chunk that is damaged or missing, and what is lost with it. Empty when every byte is right.
    pub losses: Vec<String>,
}

/// What a collection has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Checkpoints that the rule does not keep: they are no more.
    pub removed: Vec<u64>,
    /// How much less the store takes, in bytes.
    pub freed_bytes: u64,
    /// What it takes now, in bytes.
    pub used_bytes: u64,
    /// Chunks that were found damaged, one sentence each.
    pub damage: Vec<String>,
}

/// Something that happened in a notebook, for whoever listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotebookEvent {
    /// It is known from now on.
    Opened {
        /// Which.
        notebook: NotebookId,
        /// Whose.
        tenant: TenantId,
        /// Its profile.
        profile: String,
    },
    /// It was closed, or deleted with its files.
    Closed {
        /// Which.
        notebook: NotebookId,
        /// Whose.
        tenant: TenantId,
        /// Whether its files are gone too.
        deleted: bool,
    },
    /// Its worker does something else than before.
    Worker {
        /// Whose.
        notebook: NotebookId,
        /// Whose that is.
        tenant: TenantId,
        /// What it does now.
        state: WorkerState,
    },
    /// An Execution has begun.
    Started {
        /// Where.
        notebook: NotebookId,
        /// Whose.
        tenant: TenantId,
        /// Which.
        execution: ExecutionId,
    },
    /// An Execution has ended.
    Ended {
        /// Where.
        notebook: NotebookId,
        /// Whose.
        tenant: TenantId,
        /// Which.
        execution: ExecutionId,
        /// How, in one word as in `End`; never what the code said.
        end: String,
        /// See `Outcome::wall_us`.
        wall_us: u64,
    },
    /// Its worker was saved and ended to make room.
    Evicted {
        /// Whose.
        notebook: NotebookId,
        /// Whose that is.
        tenant: TenantId,
        /// Why, one sentence.
        reason: String,
    },
    /// Its worker is back with its variables.
    Returned {
        /// Whose.
        notebook: NotebookId,
        /// Whose that is.
        tenant: TenantId,
        /// How long that took, in milliseconds.
        took_ms: u64,
    },
    /// What became of a checkpoint whose Outcome said `Pending`.
    Checkpoint {
        /// Whose.
        notebook: NotebookId,
        /// Whose that is.
        tenant: TenantId,
        /// After which Execution it was taken.
        execution: ExecutionId,
        /// It.
        checkpoint: Checkpoint,
    },
    /// The listener was behind, and this many events are lost to it.
    Missed {
        /// How many.
        count: u64,
    },
}

impl NotebookEvent {
    /// Whose notebook it is about, and which; `None` for what is about none.
    pub fn whose(&self) -> Option<(&TenantId, &NotebookId)> {
        match self {
            NotebookEvent::Opened { notebook, tenant, .. }
            | NotebookEvent::Closed { notebook, tenant, .. }
            | NotebookEvent::Worker { notebook, tenant, .. }
            | NotebookEvent::Started { notebook, tenant, .. }
            | NotebookEvent::Ended { notebook, tenant, .. }
            | NotebookEvent::Evicted { notebook, tenant, .. }
            | NotebookEvent::Returned { notebook, tenant, .. }
            | NotebookEvent::Checkpoint { notebook, tenant, .. } => Some((tenant, notebook)),
            NotebookEvent::Missed { .. } => None,
        }
    }
}
