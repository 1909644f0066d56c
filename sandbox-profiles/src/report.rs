//! What was really enforced: asked for is one thing, got is another.

use serde::{Deserialize, Serialize};

use crate::step::Barrier;

/// Whether a barrier holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BarrierState {
    /// As planned.
    Enforced,
    /// By a weaker means; the detail says which.
    Degraded,
    /// Not at all.
    Missing,
}

/// One barrier of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierReport {
    /// Which.
    pub barrier: Barrier,
    /// Whether it holds.
    pub state: BarrierState,
    /// By what, or why not.
    pub detail: String,
}

/// What one sandbox enforces, a line per barrier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxReport {
    /// The barriers, in the order of the plan.
    pub barriers: Vec<BarrierReport>,
    /// How long it took to make, without the start of Python, in microseconds.
    #[serde(default)]
    pub made_us: u64,
    /// How its Python came to be.
    #[serde(default)]
    pub start: Start,
}

/// How a worker's Python came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// A fresh interpreter, as its profile says.
    #[default]
    Exec,
    /// Forked from a zygote.
    Zygote,
    /// A fresh interpreter, although its profile asks for a zygote.
    Fallback {
        /// Why; one sentence.
        why: String,
    },
}
