//! What is known of the host before a plan is made.

use std::path::PathBuf;

/// The host, as far as a plan depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Whether the outer user namespace maps a range of ids (made by root) or the one user's own.
    pub rootful: bool,
    /// Folders of the system to show, each at its own path.
    pub system: Vec<PathBuf>,
    /// Small files of the system to copy, each to its own path.
    pub files: Vec<PathBuf>,
    /// Symbolic links of the root folder, e.g. `/bin` to `usr/bin`.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// The Python to run.
    pub interpreter: Interpreter,
    /// Our own Python and native code, unpacked by the shim's build.
    pub payload: PathBuf,
    /// Compiled modules and the font list made at set-up, when they are.
    pub cache: Option<PathBuf>,
    /// The notebook's files.
    pub workspace: Workspace,
    /// Which pair of ids the sandbox gets.
    pub slot: u32,
}

/// Where a notebook's files are, and what keeps them from becoming too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// The folder; with an image, where it would be if it were one.
    pub folder: PathBuf,
    /// How the profile's `workspace_bytes` are held; `None` for a folder of ours that has no limit.
    pub quota: Option<Quota>,
}

/// How the size of a workspace is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quota {
    /// By the file system it lies on: everything in the folder belongs to a project with a limit.
    Project {
        /// The project's id.
        id: u32,
    },
    /// By being a file system of its own, in a file of that size.
    Image {
        /// The file.
        image: PathBuf,
    },
    /// By nothing but the shim, which looks every now and then.
    Watch,
}

impl Quota {
    /// The project id of the folder with this inode number: no two folders of a disk share it, and it
    /// needs no list that could be lost. `None` when the number is no project id: 0 is everybody's,
    /// and some tools take ids for signed.
    pub fn project_id(inode: u64) -> Option<u32> {
        u32::try_from(inode).ok().filter(|id| *id != 0 && *id <= i32::MAX.cast_unsigned())
    }
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

/// The parts of `/proc` that are covered by other mounts, from the text of `/proc/self/mountinfo`.
pub fn proc_covers(mountinfo: &str) -> Vec<&str> {
    let points = mountinfo.lines().filter_map(|mount| mount.split(' ').nth(4));
    // Mounting binfmt_misc there covers an empty folder, which the kernel does not mind.
    points.filter(|point| point.starts_with("/proc/") && *point != "/proc/sys/fs/binfmt_misc").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binfmt_misc_covers_nothing_and_a_mask_does() {
        let info = "1 0 0:1 / /proc rw - proc proc rw\n2 1 0:2 / /proc/sys/fs/binfmt_misc rw - x x rw\n\
                    3 1 0:3 / /proc/acpi ro - tmpfs tmpfs ro\n";
        assert_eq!(proc_covers(info), ["/proc/acpi"]);
    }
}
