//! How an Execution is asked for.

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpointing;
#[cfg(doc)]
use crate::execution::{End, Outcome};

/// How code is to be run. The code itself is the frame's payload, UTF-8.
///
/// The first four flags mean what they mean in Jupyter's `execute_request`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecuteOptions {
    /// Run without counting, without history, without display of the last expression.
    #[serde(default)]
    pub silent: bool,
    /// Keep the code in `In` and its value in `Out`.
    #[serde(default = "yes")]
    pub store_history: bool,
    /// When this Execution fails, those queued behind it end as `cancelled`.
    #[serde(default = "yes")]
    pub stop_on_error: bool,
    /// Whether `input()` may ask; without it, it raises `StdinNotImplementedError` at once.
    #[serde(default)]
    pub allow_stdin: bool,
    /// Whether the value of the last expression is displayed.
    #[serde(default)]
    pub echo: Echo,
    /// Expressions evaluated after the code: (name, expression). Their results come in
    /// [`Outcome::expressions`].
    #[serde(default)]
    pub user_expressions: Vec<(String, String)>,
    /// Wall time allowed in milliseconds; the profile's when absent, never more than the profile's.
    #[serde(default)]
    pub wall_ms: Option<u64>,
    /// What the code calls itself in tracebacks, e.g. a notebook's cell id; display only.
    #[serde(default)]
    pub cell: Option<String>,
    /// What is done with the payload.
    #[serde(default)]
    pub task: Task,
    /// Whether the variables are saved afterwards; as the profile says when absent.
    #[serde(default)]
    pub checkpoint: Option<Checkpointing>,
    /// When the code fails, the variables are as they were before it: a new worker loads them from a checkpoint,
    /// which is taken first where what there is has not been saved.
    #[serde(default)]
    pub transactional: bool,
    /// What becomes of it when the connection it came over ends before it does, and nobody else reads it.
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
}

/// What becomes of an Execution whose client has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// It goes on; what it puts out is kept for whoever attaches.
    #[default]
    Continue,
    /// It is interrupted, or cancelled when it waits.
    Interrupt,
}

fn yes() -> bool {
    true
}

impl Default for ExecuteOptions {
    fn default() -> Self {
        ExecuteOptions {
            silent: false,
            store_history: true,
            stop_on_error: true,
            allow_stdin: false,
            echo: Echo::LastExpression,
            user_expressions: Vec::new(),
            wall_ms: None,
            cell: None,
            task: Task::Code,
            checkpoint: None,
            transactional: false,
            on_disconnect: OnDisconnect::Continue,
        }
    }
}

/// What an Execution does with its payload. Each waits in the queue, is bounded and ends like any other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Runs it as code, UTF-8.
    #[default]
    Code,
    /// Runs it as code, or does something else, as a plug-in of the worker's says.
    Plugin {
        /// Which plug-in.
        name: String,
        /// What it is told: a JSON object as text.
        arguments: String,
    },
    /// Binds a name to the value that the payload is.
    Put {
        /// A Python identifier.
        name: String,
        /// How the payload is written.
        format: ValueFormat,
    },
    /// Displays the value of a name in one part of the format's mime type. There is no payload.
    ///
    /// What cannot be put or got ends as [`End::Error`]; its `name` is `UnknownName`, `BadName`, `BadValue`,
    /// `CannotCross`, `TooLarge` or `MissingPackage`.
    Get {
        /// A name in the namespace.
        name: String,
        /// How the value is to be written.
        format: ValueFormat,
    },
}

/// How a value is written outside the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueFormat {
    /// JSON text, `application/json`.
    Json,
    /// An Arrow IPC stream, `application/vnd.apache.arrow.stream`: tables.
    Arrow,
}

/// Whether the last expression's value is displayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Echo {
    /// As Jupyter does.
    #[default]
    LastExpression,
    /// Never.
    None,
}
