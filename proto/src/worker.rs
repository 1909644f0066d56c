//! Shim and worker: JSON frames, one per SEQPACKET message, on file descriptor 3 of the worker.
//! A payload above [`INLINE_BYTES`] lies in a sealed memfd sent along (`FLAG_MEMFD`).
//!
//! Text is not among the frames: it goes through the pipes on 1 and 2. Right after each frame, and
//! wherever else the order between the two pipes matters, the worker writes a [`Mark`] into both.

use serde::{Deserialize, Serialize};

use crate::execution::{Echo, End, ExpressionResult, NameChanges, NotRestored, Output, Task};
use crate::id::ExecutionId;
use crate::query::{Answer, Query};

/// Largest payload sent within the message, in bytes. With header and meta it must stay below the
/// default socket buffer (212,992 bytes), or the send fails with EMSGSIZE.
pub const INLINE_BYTES: usize = 64 << 10;

/// Length of a mark in bytes: below `PIPE_BUF`, so that it is never torn.
pub const MARK_BYTES: usize = 24;

/// A point in both pipes: what stands before it was written before it.
///
/// Wire form: 16 bytes of nonce, then the number, u64 little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Random, one per worker, so that text is never taken for a mark by accident.
    pub nonce: [u8; 16],
    /// Counts from 1, by one.
    pub number: u64,
}

impl Mark {
    /// The mark's wire form.
    pub fn encode(&self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..16].copy_from_slice(&self.nonce);
        bytes[16..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }
}

/// What the shim tells the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerCommand {
    /// Run the payload.
    Execute {
        /// Which.
        execution: ExecutionId,
        /// The number under which the shared word interrupts it; counts from 1.
        run: u64,
        /// As in `ExecuteOptions`.
        silent: bool,
        /// As in `ExecuteOptions`.
        store_history: bool,
        /// As in `ExecuteOptions`.
        allow_stdin: bool,
        /// As in `ExecuteOptions`.
        echo: Echo,
        /// As in `ExecuteOptions`.
        user_expressions: Vec<(String, String)>,
        /// As in `ExecuteOptions`.
        cell: Option<String>,
        /// As in `ExecuteOptions`.
        task: Task,
    },
    /// The answer to an input request.
    Input {
        /// What was typed.
        value: String,
    },
    /// A question; the frame's request id comes back with the answer.
    Query(Query),
    /// Checkpoints will be asked for: note what the process is like before the first cell.
    Checkpoints,
    /// Save the variables; a socket to the store process comes along.
    Snapshot {
        /// After which Execution; empty for none.
        execution: String,
    },
    /// Load the variables; a socket to the store process comes along.
    Restore,
}

/// What the worker tells the shim. `mark` is the number of the mark written right after the frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerEvent {
    /// Number of the mark that stands for this frame in the pipes; 0 when there is none (answers).
    pub mark: u64,
    /// What happened.
    pub body: WorkerEventBody,
}

/// What happened in the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerEventBody {
    /// The first frame.
    Ready {
        /// E.g. `CPython 3.11.7, IPython 9.18.1`.
        python: String,
        /// Lines of `/proc/self/status` that prove the sandbox, as (key, value).
        proof: Vec<(String, String)>,
    },
    /// The worker cannot work: IPython is missing, say. It exits after this.
    Unfit {
        /// Why, and the cure.
        detail: String,
    },
    /// From this mark on, text belongs to this Execution (a background task of an earlier one
    /// prints, or the foreground has the word again).
    Switch {
        /// Whose text follows.
        execution: ExecutionId,
    },
    /// An output of an Execution; its bytes are the payload.
    Output {
        /// Whose.
        execution: ExecutionId,
        /// What.
        output: Output,
    },
    /// The Execution has ended; bytes of the expressions are the payload.
    Finished {
        /// Which.
        execution: ExecutionId,
        /// `Ok`, `Error` or `Interrupted`; the shim turns the last into `TimedOut` when it was the
        /// clock that interrupted, and accepts no other end from a worker.
        end: End,
        /// `In [n]`.
        execution_count: u32,
        /// What it did to the names.
        names: NameChanges,
        /// Its expressions.
        expressions: Vec<ExpressionResult>,
    },
    /// The answer to the `Query` with the same request id.
    Answer(Answer),
    /// A `Snapshot` is under way; the store says what becomes of it.
    Snapshot {
        /// How long the worker stood still, in microseconds.
        pause_us: u64,
        /// Why nothing could be handed over.
        #[serde(default)]
        failed: Option<String>,
    },
    /// The answer to `Restore`.
    Restored {
        /// The names that are there now.
        names: NameChanges,
        /// What is not, with the reason; at most 100.
        losses: Vec<NotRestored>,
        /// Why there is nothing at all.
        failed: Option<String>,
        /// Versions that are others than when it was saved, e.g. `numpy 2.3, now 2.4`; at most 100.
        #[serde(default)]
        differences: Vec<String>,
    },
}

/// Where the shared word lies in the page on file descriptor 4: the shim writes the number of the
/// run to interrupt here (u64, little-endian), then sends SIGINT. A SIGINT for any other run than
/// the one in progress is dropped, so that a late one never hits the next cell.
pub const INTERRUPT_OFFSET: usize = 0;
