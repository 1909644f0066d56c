//! Saved variables, as Executions and shims speak of them. When they are saved is a profile's or an Execution's to say.

pub use sandbox_profiles::Checkpointing;
use serde::{Deserialize, Serialize};

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
    /// There is none; the one before it is the newest.
    Failed {
        /// Why, one sentence.
        reason: String,
    },
}

/// A value that could not be had back from a checkpoint.
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
