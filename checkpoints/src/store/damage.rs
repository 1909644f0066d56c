//! What is wrong with a store, in words.

use std::error::Error;
use std::fmt;

/// A file of the store that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file, relative to the folder.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

impl Damage {
    /// Of `file`, because of `error`.
    pub(crate) fn new(file: impl Into<String>, error: &dyn Error) -> Self {
        Damage { file: file.into(), what: chain(error) }
    }
}

/// `error` and what is behind it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        words = format!("{words}: {error}");
        source = error.source();
    }
    words
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.file, self.what)
    }
}
