//! A notebook, as clients see it.

use sandbox_profiles::SandboxReport;
use serde::{Deserialize, Serialize};

use crate::execution::NameInfo;
use crate::id::{ExecutionId, NotebookId, TenantId};

/// A notebook in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotebookInfo {
    /// Its name.
    pub notebook: NotebookId,
    /// Its profile.
    pub profile: String,
    /// What its worker is doing.
    pub state: WorkerState,
    /// Executions waiting.
    pub queued: u32,
    /// Executions ended since it was opened.
    pub executions: u64,
    /// Whose it is.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// Its worker is not evicted.
    #[serde(default)]
    pub pinned: bool,
    /// Its worker was evicted, and comes back with the next request.
    #[serde(default)]
    pub evicted: bool,
    /// How long it has had nothing to do, in milliseconds; absent while it has.
    #[serde(default)]
    pub idle_ms: Option<u64>,
    /// What its worker takes of memory, in bytes, where that is known.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Whether all variables there are were in the last checkpoint; `false` too where there is none.
    #[serde(default)]
    pub saved_whole: bool,
    /// How long the Execution that runs has been running, in milliseconds; absent while none does.
    #[serde(default)]
    pub running_ms: Option<u64>,
    /// Processor time that its worker has taken, in milliseconds, where that is known.
    #[serde(default)]
    pub cpu_ms: Option<u64>,
}

/// What a notebook's worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// There is none; the next Execution starts one.
    None,
    /// Being started.
    Starting,
    /// Waiting for work.
    Idle,
    /// Running an Execution.
    Busy,
    /// Being ended.
    Ending,
    /// It is up, and an Execution waits for leave to run: as many cells run as may.
    Waiting,
}

/// A notebook in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NotebookStatus {
    /// The line.
    pub info: NotebookInfo,
    /// What runs.
    pub running: Option<ExecutionId>,
    /// What waits, in order.
    pub queue: Vec<ExecutionId>,
    /// The names known, as of the last Execution that ended.
    pub names: Vec<NameInfo>,
    /// The worker's process id as the host sees it.
    pub worker_pid: Option<u32>,
    /// The interpreter in use, e.g. `CPython 3.11.7, IPython 9.18.1`.
    pub python: Option<String>,
    /// What the sandbox enforces.
    pub report: Option<SandboxReport>,
}
