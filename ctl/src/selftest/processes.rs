//! Processes as the host sees them: whose they are, and who of a sandbox is left.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};

/// Between two looks at `/proc`.
const GLANCE: Duration = Duration::from_millis(5);

/// A pid namespace, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Namespace(Option<u64>);

impl Namespace {
    /// That of a process.
    pub(super) fn of(pid: i32) -> Self {
        Namespace(namespace_inode(&pid.to_string(), "pid"))
    }

    /// How many processes live in it, at the latest after `patience`, sooner when there are none.
    pub(super) fn left_after(self, patience: Duration) -> usize {
        let deadline = Instant::now() + patience;
        loop {
            let left = self.count();
            if left == 0 || Instant::now() >= deadline {
                return left;
            }
            let _ = poll(&mut [], Timespec::try_from(GLANCE).ok().as_ref());
        }
    }

    fn count(self) -> usize {
        // A namespace that we could not name is no proof of anything.
        let Some(inode) = self.0 else { return usize::MAX };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
        pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
            .filter(|pid| namespace_inode(pid, "pid") == Some(inode) && !is_zombie(pid))
            .count()
    }
}

/// The number of a process's namespace of a kind.
pub(super) fn namespace_inode(pid: &str, kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{kind}")).ok().map(|found| found.ino())
}

/// A process's parent.
pub(super) fn parent(pid: i32) -> Option<i32> {
    stat_field(&pid.to_string(), 1)?.parse().ok()
}

fn is_zombie(pid: &str) -> bool {
    stat_field(pid, 0).is_none_or(|state| state == "Z" || state == "X")
}

/// A field of `/proc/PID/stat`, counted behind the name.
fn stat_field(pid: &str, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(number)?.to_owned())
}
