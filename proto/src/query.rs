//! Questions about a notebook that run no user code: what an editor asks while somebody types.
//! The code they are about is the frame's payload, UTF-8. Cursor positions count Unicode code
//! points, as Jupyter's do since protocol 5.2.

use serde::{Deserialize, Serialize};

use crate::execution::Bundle;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// What could stand at the cursor.
    Complete {
        /// Cursor position in code points.
        cursor: u32,
    },
    /// What stands at the cursor.
    Inspect {
        /// Cursor position in code points.
        cursor: u32,
        /// 0: signature and docstring; 1: source as well.
        detail: u8,
    },
    /// Whether the code is a whole statement.
    IsComplete,
    /// The notebook's last inputs; what a new worker has not seen is not among them.
    History {
        /// At most so many, the newest.
        last: u32,
    },
    /// The names in the namespace.
    Variables,
}

/// The answer to a [`Query`], variant by variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To `Complete`.
    Complete {
        /// The candidates, best first.
        matches: Vec<Match>,
        /// The text they replace begins here, in code points.
        start: u32,
        /// And ends here.
        end: u32,
    },
    /// To `Inspect`.
    Inspect {
        /// What was found, its bytes in the payload; absent when there is nothing.
        bundle: Option<Bundle>,
    },
    /// To `IsComplete`.
    IsComplete {
        /// The verdict.
        status: Completeness,
        /// How far to indent the next line when incomplete.
        indent: String,
    },
    /// To `History`: (execution count, input), oldest first.
    History {
        /// The inputs.
        inputs: Vec<(u32, String)>,
    },
    /// To `Variables`.
    Variables {
        /// The user's names, sorted. While an Execution runs, as of the last that ended, and without what only
        /// a look at the value can tell.
        variables: Vec<VariableInfo>,
    },
    /// An Execution is running; ask again when it has ended.
    Busy,
}

/// A name in the namespace, and its value in short. To tell it no user code is run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableInfo {
    /// The name.
    pub name: String,
    /// Its type as Python writes it, e.g. `pandas.DataFrame`.
    pub kind: String,
    /// Its size in bytes where that is cheap to know.
    pub bytes: Option<u64>,
    /// Rows and columns of a table, the dimensions of an array, the length of a container.
    pub shape: Option<Vec<u64>>,
    /// The value in short, in Python's notation.
    pub preview: Option<String>,
    /// The columns of a table: (name, type).
    #[serde(default)]
    pub columns: Vec<(String, String)>,
}

/// A completion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// The text.
    pub text: String,
    /// `function`, `instance`, `keyword`, …; empty when unknown.
    pub kind: String,
}

/// Whether code is a whole statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// It can be run.
    Complete,
    /// It goes on.
    Incomplete,
    /// It can never be run.
    Invalid,
    /// The worker cannot tell.
    Unknown,
}
