//! When variables are saved, by what, and which of the checkpoints are kept: the table `[checkpoints]`.

use serde::{Deserialize, Serialize};

/// What a profile says of checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointPolicy {
    /// When variables are saved, where an Execution does not say.
    pub when: Checkpointing,
    /// By what they are serialised.
    pub serializer: Serializer,
    /// How long one checkpoint may take, in seconds.
    pub seconds: u64,
    /// Which are kept.
    pub keep: Keep,
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        CheckpointPolicy {
            when: Checkpointing::None,
            serializer: Serializer::Cellblock,
            seconds: 120,
            keep: Keep::default(),
        }
    }
}

/// When the variables are saved after an Execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Checkpointing {
    /// Not at all.
    #[default]
    None,
    /// While the next ones run; the Outcome says `Pending`.
    Background,
    /// Before the Outcome, which says how it went.
    Wait,
}

/// What turns variables into bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serializer {
    /// One graph, arrays beside it.
    #[default]
    Cellblock,
    /// dill alone: slower and larger, with what only it can do.
    Dill,
}

impl Serializer {
    /// As profiles write it.
    pub fn key(self) -> &'static str {
        match self {
            Serializer::Cellblock => "cellblock",
            Serializer::Dill => "dill",
        }
    }
}

/// Which checkpoints are kept. The current one and the newest are in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// How many of the newest.
    pub last: u32,
    /// Of how many of the last days (UTC) that have one, the newest of the day.
    pub daily: u32,
    /// What they may take together, in bytes: while they take more, the oldest goes. A checkpoint that would make it
    /// twice as much fails.
    pub max_bytes: u64,
}

impl Default for Keep {
    fn default() -> Self {
        Keep { last: 20, daily: 7, max_bytes: 16 << 30 }
    }
}

/// What one file says of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CheckpointLayer {
    pub(crate) when: Option<Checkpointing>,
    pub(crate) serializer: Option<Serializer>,
    pub(crate) seconds: Option<u64>,
    pub(crate) keep_last: Option<u64>,
    pub(crate) keep_daily: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
}

/// The keys of `[checkpoints]`.
pub(crate) const CHECKPOINT_KEYS: [&str; 6] =
    ["when", "serializer", "seconds", "keep_last", "keep_daily", "max_bytes"];

impl CheckpointPolicy {
    pub(crate) fn apply(&mut self, layer: CheckpointLayer) {
        let narrow = |number: Option<u64>| number.and_then(|number| u32::try_from(number).ok());
        self.when = layer.when.unwrap_or(self.when);
        self.serializer = layer.serializer.unwrap_or(self.serializer);
        self.seconds = layer.seconds.unwrap_or(self.seconds);
        self.keep.last = narrow(layer.keep_last).unwrap_or(self.keep.last);
        self.keep.daily = narrow(layer.keep_daily).unwrap_or(self.keep.daily);
        self.keep.max_bytes = layer.max_bytes.unwrap_or(self.keep.max_bytes);
    }
}
