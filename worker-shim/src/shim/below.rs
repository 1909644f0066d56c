//! What a workspace lies on: the machine's disk, which may be full while the workspace has room of its own, and, of an
//! image, the file system in it, which the kernel closes for writing when the disk has not taken what belongs to it.
//!
//! Neither is a limit of the profile's. Whoever runs the machine makes room; a closed file system is written to again
//! by the next worker, which mounts it anew.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use cellblock_proto::execution::NoticeTopic;
use rustix::process::Pid;

/// Where less is left than this, a place is full: the last blocks are the file system's own.
const LEFT_BYTES: u64 = 1 << 20;
const LEFT_SHARE: u64 = 64;

/// Options by which the kernel says that it writes to a file system no more: the first up to Linux 6.14, the others since.
const CLOSED: [&str; 3] = ["ro", "emergency_ro", "shutdown"];

/// How much is in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes used.
    pub used: u64,
    /// Bytes left.
    pub left: u64,
    total: u64,
    /// There can be no further file.
    no_files: bool,
}

impl Room {
    /// Of the file system that a descriptor is on.
    pub fn of(place: &impl AsFd) -> Option<Room> {
        let disk = rustix::fs::fstatvfs(place).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Some(Room {
            used: bytes(disk.f_blocks.saturating_sub(disk.f_bfree)),
            left: bytes(disk.f_bavail),
            total: bytes(disk.f_blocks),
            no_files: disk.f_files > 0 && disk.f_ffree == 0,
        })
    }

    /// Whether nothing fits any more.
    pub fn is_full(&self) -> bool {
        self.left < LEFT_BYTES.min(self.total / LEFT_SHARE) || self.no_files
    }
}

/// What holds the workspace's files.
pub enum Kind {
    /// The disk itself.
    Folder,
    /// A file system in a file.
    Image {
        /// Whose mounts it is one of.
        worker: Pid,
        /// Its device, as there.
        device: String,
    },
}

impl Kind {
    /// An image, if that is what `workspace` is on.
    pub fn image(worker: Pid, workspace: Option<OwnedFd>) -> Kind {
        let found = workspace.and_then(|workspace| rustix::fs::fstat(workspace).ok());
        found.map_or(Kind::Folder, |found| {
            let (major, minor) = (rustix::fs::major(found.st_dev), rustix::fs::minor(found.st_dev));
            Kind::Image { worker, device: format!("{major}:{minor}") }
        })
    }
}

/// What a workspace lies on.
pub struct Below {
    disk: OwnedFd,
    kind: Kind,
    /// The disk was full when what runs began.
    was_full: bool,
}

impl Below {
    /// By a folder on the disk.
    pub fn new(disk: OwnedFd, kind: Kind) -> Below {
        Below { disk, kind, was_full: false }
    }

    /// An Execution begins.
    pub fn begin(&mut self) {
        self.was_full = self.room().is_some_and(|room| room.is_full());
    }

    /// What the disk has.
    pub fn room(&self) -> Option<Room> {
        Room::of(&self.disk)
    }

    /// What the disk has, if that is nothing, or was when what runs began.
    pub fn was_or_is_full(&self) -> Option<Room> {
        self.room().filter(|room| self.was_full || room.is_full())
    }

    /// What is said when the disk has refused to write.
    pub fn refusal(&self, room: Room) -> (NoticeTopic, String) {
        let kept = match self.kind {
            Kind::Folder => "Variables and files are kept",
            Kind::Image { .. } => "Variables are kept, and files as far as they were written",
        };
        (NoticeTopic::DiskFull, format!("{}. {kept}; {CURE}", full(room)))
    }

    /// The same when an error speaks of no want of room, as long as that is the reason.
    pub fn failure(&self) -> Option<(NoticeTopic, String)> {
        self.was_or_is_full().map(|room| self.refusal(room))
    }

    /// What is said to whoever has written and heard of no error: what is written to an image reaches the disk later.
    pub fn unwritten(&self) -> Option<(NoticeTopic, String)> {
        let room = self.room().filter(|room| matches!(self.kind, Kind::Image { .. }) && room.is_full())?;
        let text =
            format!("{}. What this execution has written to files may not be kept; {CURE}", full(room));
        Some((NoticeTopic::DiskFull, text))
    }

    /// What is said when the kernel has closed the workspace's file system for writing.
    pub fn closed(&self) -> Option<(NoticeTopic, String)> {
        let Kind::Image { worker, device } = &self.kind else { return None };
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", worker.as_raw_pid())).ok()?;
        if !mounts.lines().any(|line| is_closed(line, device)) {
            return None;
        }
        let state = match self.room() {
            Some(room) if room.is_full() => "the machine's disk is full",
            _ => "the machine's disk did not take what was written, because it was full or is damaged",
        };
        let text = format!(
            "the workspace can only be read now: {state}, and the kernel has closed its file system for writing. \
             Variables are kept, and files as far as they were written. With room on the disk, which is the operator's \
             to make, the worker is replaced by one that can write as soon as it has nothing to do and its variables \
             are saved; a restart does that at once, without the variables"
        );
        Some((NoticeTopic::WorkspaceClosed, text))
    }
}

const CURE: &str = "the operator has to make room";

fn full(room: Room) -> String {
    let what = if room.is_full() { "is full" } else { "had no room for what was written" };
    format!("the machine's disk {what}, which is no limit of this notebook: {} kB are left", room.left / 1000)
}

/// Whether a line of `/proc/PID/mountinfo` is of that device, and its file system closed for writing.
fn is_closed(line: &str, device: &str) -> bool {
    let Some((mount, system)) = line.split_once(" - ") else { return false };
    let options = system.split(' ').nth(2).unwrap_or_default();
    mount.split(' ').nth(2) == Some(device) && options.split(',').any(|option| CLOSED.contains(&option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_system_that_the_kernel_has_closed_is_known_by_its_options() {
        let line = |options: &str| {
            format!("394 27 7:221 / /workspace rw,nosuid,relatime shared:3 - ext4 /dev/loop221 {options}")
        };
        for options in ["ro,discard", "rw,discard,errors=remount-ro,emergency_ro", "rw,shutdown"] {
            assert!(is_closed(&line(options), "7:221"), "{options}");
            assert!(!is_closed(&line(options), "7:22"), "another's: {options}");
        }
        assert!(!is_closed(&line("rw,discard,noinit_itable,errors=remount-ro"), "7:221"));
        // A mount that may only be read is no closed file system.
        assert!(!is_closed("1 2 7:221 / /workspace ro - ext4 /dev/loop221 rw,errors=remount-ro", "7:221"));
        assert!(!is_closed("garbage - ", "7:221") && !is_closed("", "7:221"));
    }

    #[test]
    fn place_is_full_without_bytes_or_without_files() {
        let room = |left, no_files| Room { used: 0, left, total: 10 << 30, no_files };
        assert!(room((1 << 20) - 1, false).is_full() && room(5 << 30, true).is_full());
        assert!(!room(1 << 20, false).is_full());
        assert!(!Room { total: 256 << 10, ..room(4096, false) }.is_full(), "a small one");
    }
}
