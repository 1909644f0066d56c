//! What operators see: the daemon, its tenants, all notebooks; and what a client is told that has to wait.

use serde::{Deserialize, Serialize};

use crate::id::TenantId;
use crate::notebook::NotebookInfo;

/// When to try again what was refused as `busy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// In how many milliseconds.
    pub retry_ms: u64,
    /// How many would be before it, where there is a line.
    #[serde(default)]
    pub position: Option<u32>,
}

/// The daemon and all its notebooks at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The daemon.
    pub daemon: DaemonInfo,
    /// The notebooks of all tenants, sorted by tenant and name. Of very many those that have a worker, or something that
    /// waits for one, before others; `DaemonInfo::notebooks` says how many there are.
    pub notebooks: Vec<NotebookInfo>,
}

/// The daemon in figures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// Its build.
    pub build: String,
    /// Its process id.
    pub pid: u32,
    /// How long it has been up, in milliseconds.
    pub uptime_ms: u64,
    /// Whether it is being drained.
    pub draining: bool,
    /// Workers that live, and how many may; 0 for no cap.
    pub workers: u32,
    /// See `workers`.
    pub max_workers: u32,
    /// Cells that run, and how many may.
    pub running: u32,
    /// See `running`.
    pub max_running: u32,
    /// Notebooks that wait for leave to run.
    pub waiting: u32,
    /// Open notebooks.
    #[serde(default)]
    pub notebooks: u32,
    /// Connections.
    pub connections: u32,
    /// Memory of the daemon itself, resident, in bytes.
    pub memory_bytes: u64,
    /// Memory that the machine has available, in bytes.
    pub available_bytes: u64,
    /// Processor time that all workers have taken so far, in milliseconds, where that is known.
    #[serde(default)]
    pub cpu_ms: Option<u64>,
}

/// A tenant in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantInfo {
    /// Its name.
    pub tenant: TenantId,
    /// The users who are it; empty for whoever else the socket's group lets in.
    pub uids: Vec<u32>,
    /// Whether they are operators.
    pub operator: bool,
    /// What it uses.
    pub uses: TenantLimits,
    /// What it may use; 0 for no cap of its own.
    pub limits: TenantLimits,
}

/// What a tenant uses, or may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantLimits {
    /// Cells that run at once.
    pub running: u32,
    /// Workers that live.
    pub workers: u32,
    /// Open notebooks.
    pub notebooks: u32,
    /// Executions that wait.
    pub queued: u32,
    /// Connections.
    pub connections: u32,
    /// Bytes held in memory for its clients.
    pub buffered_bytes: u64,
}
