//! One run of code: how it is asked for, what it puts out, how it ends. These types are the same
//! on all three hops.

use serde::{Deserialize, Serialize};

pub use crate::checkpoint::{Checkpoint, Checkpointing, Keep, NotRestored};
use crate::id::ExecutionId;
pub use crate::options::{Echo, ExecuteOptions, OnDisconnect, Task, ValueFormat};

/// A range of the frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub offset: u32,
    /// Length in bytes.
    pub length: u32,
}

impl Span {
    /// The bytes, or `None` when the span lies outside the payload (its sender is hostile).
    pub fn of<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        let start = self.offset as usize;
        payload.get(start..start.checked_add(self.length as usize)?)
    }
}

/// One representation of an output: JSON mime types as JSON text, `image/*` as raw bytes (never
/// base64), everything else as UTF-8 text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The mime type.
    pub mime: String,
    /// Where it lies in the payload.
    pub span: Span,
}

/// A mime bundle: several representations of one thing, side by side in one payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The representations, in the order in which the worker made them.
    pub parts: Vec<Part>,
    /// Jupyter's `metadata` object as JSON text, when there is any.
    #[serde(default)]
    pub metadata: Option<Span>,
}

/// Which stream text was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamName {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// A piece of result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Text as it was written; the payload is the bytes. A character may be cut in two between
    /// frames only when the program itself did so.
    Stream {
        /// Which stream.
        name: StreamName,
    },
    /// Something displayed.
    Display {
        /// What.
        bundle: Bundle,
        /// Jupyter's `transient.display_id`.
        #[serde(default)]
        display_id: Option<String>,
        /// Replaces what was displayed under `display_id` instead of adding to it.
        #[serde(default)]
        update: bool,
    },
    /// The value of the last expression.
    Result {
        /// What.
        bundle: Bundle,
        /// The number in `Out[n]`.
        execution_count: u32,
    },
    /// The exception that ended the code.
    Error(ErrorReport),
    /// Jupyter's `clear_output`.
    ClearOutput {
        /// Clear only when the next output arrives.
        wait: bool,
    },
    /// The code called `input()`; answer with `Input`.
    InputRequest {
        /// What to show.
        prompt: String,
        /// Do not echo what is typed.
        password: bool,
    },
    /// Output that was dropped: the profile's cap was reached, or nobody read for too long.
    Truncated {
        /// Which stream; absent when whole frames (displays, errors) were dropped as well.
        stream: Option<StreamName>,
        /// How many bytes are missing here.
        dropped_bytes: u64,
        /// Which bound was reached, with its size.
        reason: String,
    },
    /// Something cellblock has to say, e.g. that the worker was replaced; one sentence for people.
    Notice {
        /// What it is about.
        topic: NoticeTopic,
        /// The sentence.
        text: String,
        /// The names concerned, e.g. the variables lost.
        names: Vec<String>,
    },
}

/// What a [`Output::Notice`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeTopic {
    /// The previous worker ended and its variables with it.
    VariablesLost,
    /// The worker could not produce an output as asked and gave something lesser.
    Degraded,
    /// The machine's disk is full, which is no limit of the notebook's.
    DiskFull,
    /// The workspace cannot be written to any more by this worker: its disk did not take what was written.
    WorkspaceClosed,
}

/// An exception, structured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// The exception's class, e.g. `ValueError`.
    pub name: String,
    /// `str(exception)`.
    pub value: String,
    /// The traceback as IPython shows it, a string per block, with ANSI colours.
    pub traceback: Vec<String>,
    /// The stack from the cell inwards.
    #[serde(default)]
    pub frames: Vec<ErrorFrame>,
    /// `__cause__` and `__context__`, nearest first.
    #[serde(default)]
    pub causes: Vec<Cause>,
}

/// One line of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorFrame {
    /// The Execution whose code this line is in; absent for a file.
    pub execution: Option<String>,
    /// File name as Python knows it.
    pub file: String,
    /// Line number from 1; the cell's own when `execution` is set.
    pub line: u32,
    /// The function's name.
    pub function: String,
    /// The source line, when it could be found.
    pub code: Option<String>,
}

/// An exception behind the exception.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The exception's class.
    pub name: String,
    /// `str(exception)`.
    pub value: String,
    /// Raised `from` (true), or while handling (false).
    pub explicit: bool,
    /// Its own stack.
    pub frames: Vec<ErrorFrame>,
}

/// An output with its place: `seq` counts from 0 within its Execution, without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFrame {
    /// Whose output.
    pub execution: ExecutionId,
    /// Its place.
    pub seq: u64,
    /// What. Its bytes are the frame's payload.
    pub output: Output,
}

/// The one end of an Execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// `In [n]`; 0 when the code never began.
    pub execution_count: u32,
    /// From the first instruction to the end, in microseconds; 0 when the code never began.
    pub wall_us: u64,
    /// Time spent in the queue, in microseconds.
    pub queued_us: u64,
    /// Whether the variables survived.
    pub variables: Variables,
    /// What the code did to the names.
    pub names: NameChanges,
    /// Results of `user_expressions`, in their order.
    #[serde(default)]
    pub expressions: Vec<ExpressionResult>,
    /// What it took of the machine.
    #[serde(default)]
    pub usage: Usage,
    /// What became of the checkpoint after it; absent when none was to be taken.
    #[serde(default)]
    pub checkpoint: Option<Checkpoint>,
    /// How long it waited for a worker that had to be started or brought back with its variables, in milliseconds;
    /// absent when there was one.
    #[serde(default)]
    pub worker_ms: Option<u64>,
}

impl Outcome {
    /// Whether its code has begun: it may have changed something.
    pub fn has_begun(&self) -> bool {
        self.execution_count > 0 || self.wall_us > 0
    }
}

/// What an Execution took of the machine, all processes of the sandbox together, measured from
/// outside. All 0 when the code never began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, in microseconds.
    pub cpu_us: u64,
    /// The most memory that was in use at once while it ran, in bytes.
    pub memory_peak_bytes: u64,
    /// Bytes written to the disk's files (not to memory, pipes or sockets).
    pub written_bytes: u64,
}

/// How an Execution ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// To its last line.
    Ok,
    /// With an exception.
    Error {
        /// The exception's class.
        name: String,
        /// `str(exception)`.
        value: String,
    },
    /// The wall time was over.
    TimedOut {
        /// What was allowed, in milliseconds.
        limit_ms: u64,
    },
    /// Somebody asked for it.
    Interrupted,
    /// A limit of the profile was reached.
    LimitHit {
        /// Which.
        limit: Limit,
        /// What the profile allows, in the limit's own unit.
        allowed: u64,
        /// What was reached.
        reached: u64,
    },
    /// The worker ended under it.
    WorkerDied(Death),
    /// It never began.
    Cancelled {
        /// Why, one sentence.
        reason: String,
    },
}

/// A limit that can end an Execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Bytes of memory, the whole sandbox.
    Memory,
    /// Processor time in milliseconds.
    Cpu,
    /// Number of processes and threads.
    Processes,
    /// Bytes on disk.
    Disk,
    /// Bytes of output.
    Output,
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// It exited by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal ended it.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// The sandbox was ended: by `restart`, `close`, or because an interrupt was not heeded.
    Ended {
        /// Why, one sentence.
        reason: String,
    },
    /// The shim beside it is gone, and the sandbox with it.
    ShimLost,
    /// It spoke something that is not the protocol.
    Protocol {
        /// What was wrong.
        detail: String,
    },
}

/// What became of the variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variables {
    /// All there.
    Kept,
    /// Gone with the worker; the names that were known.
    Lost {
        /// The names, sorted.
        names: Vec<String>,
    },
    /// As they were before the code, which was transactional and failed. What could not be saved of them is told
    /// to the next Execution.
    RolledBack,
}

/// A name in the notebook's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameInfo {
    /// The name.
    pub name: String,
    /// Its type as Python writes it, e.g. `pandas.DataFrame`.
    pub kind: String,
    /// Its size in bytes where that is cheap to know.
    pub bytes: Option<u64>,
}

/// What an Execution did to the names. A change inside an object is not seen here: this is for
/// people and for naming losses, never a reason to skip saving something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameChanges {
    /// New names.
    pub added: Vec<NameInfo>,
    /// Names bound to another object.
    pub changed: Vec<NameInfo>,
    /// Names gone.
    pub removed: Vec<String>,
}

/// The result of one of `user_expressions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpressionResult {
    /// The name it was asked under.
    pub name: String,
    /// Its value, or the exception it raised.
    pub result: ExpressionValue,
}

/// Value or exception.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpressionValue {
    /// The bundle's bytes are in the payload of the frame that brings the Outcome.
    Value(Bundle),
    /// The exception.
    Error {
        /// Its class.
        name: String,
        /// `str(exception)`.
        value: String,
    },
}
