//! What is known of the host before a plan is made.

use std::path::PathBuf;

/// The host, as far as a plan depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Whether the outer user namespace maps a range of ids (made by root) or the one user's own.
    pub rootful: bool,
    /// Folders and files of the system to show, each at its own path.
    pub system: Vec<PathBuf>,
    /// Symbolic links of the root folder, e.g. `/bin` to `usr/bin`.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// The Python to run.
    pub interpreter: Interpreter,
    /// Our own Python and native code, unpacked by the shim's build.
    pub payload: PathBuf,
    /// Compiled modules and the font list made at set-up, when they are.
    pub cache: Option<PathBuf>,
    /// The notebook's folder.
    pub workspace: PathBuf,
    /// Which pair of ids the sandbox gets.
    pub slot: u32,
}

/// A Python, found by reading files; it is never run to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The program, by the path that makes it see its environment.
    pub program: PathBuf,
    /// The folders it needs beyond the system's: its environment, its base installation.
    pub trees: Vec<Tree>,
}

/// A folder of the host and where the sandbox sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// On the host.
    pub source: PathBuf,
    /// In the sandbox.
    pub target: PathBuf,
}
