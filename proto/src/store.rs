//! Whoever starts a store process, and that process. Its standard input is a SEQPACKET socket, over which comes one
//! [`StoreOrder`] as JSON, with descriptors: the folder of checkpoints, and what else the order needs. It prints one
//! [`StoreReply`] as a line of JSON.

use serde::{Deserialize, Serialize};

use crate::checkpoint::{CheckpointContent, CheckpointInfo, Collected, Keep, NotRestored, Verified};

/// What a store process is to do. `checkpoint` is the current one when absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreOrder {
    /// Take one from a snapshot child, which has the other end of the second descriptor. What is not kept any more is
    /// removed after the reply.
    Save {
        /// Which are kept.
        keep: Keep,
        /// How long it may take, in seconds.
        seconds: u64,
    },
    /// Open one for a worker, which has the other end of the second descriptor.
    Open {
        /// Which.
        checkpoint: Option<u64>,
    },
    /// Read every byte of one, and see that what is damaged is not taken for what it was.
    Mend {
        /// Which.
        checkpoint: u64,
    },
    /// List all.
    List,
    /// Tell what is in one.
    Content {
        /// Which.
        checkpoint: Option<u64>,
    },
    /// Make one the current one.
    SetCurrent {
        /// Which.
        checkpoint: u64,
    },
    /// Read every byte.
    Verify {
        /// Of which; of all when absent.
        checkpoint: Option<u64>,
    },
    /// Remove what is not kept.
    Collect {
        /// The rule.
        keep: Keep,
    },
    /// Write one as a file into the second descriptor.
    Export {
        /// Which.
        checkpoint: Option<u64>,
        /// The notebook's name, for the file.
        notebook: String,
    },
    /// Take one over from the file in the second descriptor.
    Import {
        /// Which are kept.
        keep: Keep,
    },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreReply {
    /// To `Save`.
    Saved {
        /// Its number.
        checkpoint: u64,
        /// What it added, in bytes.
        written_bytes: u64,
        /// What is not in it; at most 100.
        left_out: Vec<NotRestored>,
        /// How many there are.
        left_out_count: u64,
    },
    /// To `Open`, before it is handed over.
    Opened {
        /// Its number.
        checkpoint: u64,
        /// After which Execution it was taken; empty for none.
        execution: String,
        /// What had to be passed over to find it.
        passed_over: Vec<String>,
    },
    /// To `Mend`.
    Mended {
        /// What was damaged.
        losses: Vec<String>,
    },
    /// To `List`.
    Listed {
        /// The newest thousand, oldest first.
        checkpoints: Vec<CheckpointInfo>,
        /// What they take, in bytes.
        used_bytes: u64,
        /// What is damaged.
        damage: Vec<String>,
    },
    /// To `Content`.
    Content(CheckpointContent),
    /// To `Verify`.
    Verified {
        /// Those that were read.
        checkpoints: Vec<Verified>,
    },
    /// To `Collect`.
    Collected(Collected),
    /// To `Import`.
    Imported {
        /// Its number.
        checkpoint: u64,
    },
    /// To `SetCurrent` and `Export`.
    Done,
    /// It came to nothing.
    Failed {
        /// Why, one sentence.
        reason: String,
    },
}
