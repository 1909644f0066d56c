//! Lines of the lists that cellblockd gives: profiles, files, what the host can do.

use serde::{Deserialize, Serialize};

/// A profile in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileInfo {
    /// Its name.
    pub name: String,
    /// What it is for; what is wrong with it when it cannot be used.
    pub description: String,
    /// Whether a notebook can be opened with it.
    pub usable: bool,
    /// It comes with cellblock; else it is a file of the operator's.
    pub builtin: bool,
}

/// How warm a profile is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmInfo {
    /// The profile.
    pub profile: String,
    /// Whether workers can be forked.
    pub zygote: ZygoteState,
    /// Why not; empty when they can.
    pub detail: String,
    /// Workers that wait for a notebook.
    pub spares_ready: u32,
    /// How many there are to be.
    pub spares_wanted: u32,
}

/// What a profile's zygote is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZygoteState {
    /// It imports.
    Starting,
    /// It forks.
    Up,
    /// It could not be started, or has ended; it is tried again.
    Failed,
}

/// A name in a folder of a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// The name. Bytes that are no UTF-8 and control characters stand as `\xNN`, a backslash as `\\`;
    /// paths in requests are written the same way.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Size in bytes; 0 for what is no file.
    pub bytes: u64,
    /// When it was last changed, in milliseconds since 1970.
    pub modified_ms: i64,
}

/// What a name in a workspace stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link; it is never followed.
    Link,
    /// A pipe, a socket or a device; it is never opened.
    Special,
}

/// One line of `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorLine {
    /// The barrier or facility.
    pub name: String,
    /// Whether it holds.
    pub state: sandbox_profiles::BarrierState,
    /// How, or why not.
    pub detail: String,
    /// The command that mends it, when one does.
    pub cure: Option<String>,
}
