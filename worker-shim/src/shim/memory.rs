//! The memory of a sandbox, summed from outside: the tier for hosts where no cgroup does it.
//!
//! Counted are the processes' own and shared memory, memfds held by any thread's descriptors, the
//! sandbox's tmpfs, and SysV segments. Not seen: pipes, socket buffers, and a memfd that is at this
//! moment in a socket's queue and mapped by nobody.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::process::Pid;
use rustix::thread::LinkNameSpaceType;
use rustix::time::{ClockId, clock_gettime};

use super::processes::{Held, entries, tree};

/// The places in a sandbox that are memory.
const TMPFS: [&str; 2] = ["tmp", "dev/shm"];

/// What of a sandbox's memory no process needs to map.
#[derive(Default)]
pub struct Memory {
    /// The sandbox's own tmpfs.
    tmpfs: Vec<OwnedFd>,
    /// We are in the sandbox's ipc namespace, so its SysV segments are listed to us.
    sysv: bool,
    /// The device of all memory that has an inode and no name.
    device: Option<u64>,
    /// Memfds.
    held: Held,
}

/// How long one look may be at descriptors.
const SLICE: Duration = Duration::from_millis(5);
/// How much of our own processor time it may take to be exact: on a busy machine the wall's says nothing.
const EXACT: Duration = Duration::from_millis(400);

/// This thread's processor time so far.
pub(super) fn spent() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

impl Memory {
    /// To be called before `worker` has run any user code: its paths are still what we made.
    pub fn of(worker: Pid) -> Self {
        let process = format!("/proc/{}", worker.as_raw_pid());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |path: &&str| rustix::fs::open(format!("{process}/root/{path}"), flags, Mode::empty());
        // We own nothing in an ipc namespace, so which one we are in changes only what we are shown.
        let sysv = fs::File::open(format!("{process}/ns/ipc")).is_ok_and(|ipc| {
            rustix::thread::move_into_link_name_space(
                ipc.as_fd(),
                Some(LinkNameSpaceType::InterProcessCommunication),
            )
            .is_ok()
        });
        let memfd = rustix::fs::memfd_create("device", MemfdFlags::CLOEXEC);
        let device = memfd.and_then(|memfd| rustix::fs::fstat(&memfd)).ok().map(|stat| stat.st_dev);
        let tmpfs = TMPFS.iter().filter_map(|path| open(path).ok()).collect();
        Memory { tmpfs, sysv, device, held: Held::default() }
    }

    /// What of this host's sandboxes cannot be counted, for the report.
    pub fn unseen(&self) -> Vec<&'static str> {
        let parts = [
            (self.device.is_some(), "memfds"),
            (self.tmpfs.len() == TMPFS.len(), "/tmp and /dev/shm"),
            (self.sysv, "SysV segments"),
        ];
        parts.into_iter().filter(|(seen, _)| !seen).map(|(_, name)| name).collect()
    }

    /// Bytes of memory of init, all its descendants, and what they keep without mapping it.
    ///
    /// First the cheap sum, which counts pages twice that processes share or map from a file; only
    /// when that is above `limit` the exact one, which costs the kernel a walk over the page tables.
    pub fn used(&mut self, init: Pid, limit: u64) -> u64 {
        let began = Instant::now();
        let pids = tree(init);
        let device = self.device;
        let counts = |file: &fs::Metadata| Some(file.dev()) == device;
        let files = self.held.look(&pids, began + SLICE, counts);
        let kept = files.values().sum::<u64>() + self.tmpfs_bytes() + self.sysv_bytes();
        let cheap: u64 = pids.iter().map(|pid| status_bytes(*pid)).sum();
        if cheap + kept <= limit {
            return cheap + kept;
        }
        // Processes that share pages and end while we read them one by one make the sum too large, and
        // so does a page that is unmapped between two files: what is true is so at a second look.
        let until = spent() + EXACT;
        self.exact(&pids, &files, until).min(self.exact(&tree(init), &files, until))
    }

    /// As long as there is processor time for it, each process's own share; then what is cheap to know, which is more. Who
    /// has so many processes that it matters is ended a little early rather than not at all.
    fn exact(&self, pids: &[i32], files: &BTreeMap<u64, u64>, until: Duration) -> u64 {
        let share = |pid: &i32| {
            if spent() < until { self.proportional_bytes(*pid, files) } else { status_bytes(*pid) }
        };
        let kept = files.values().sum::<u64>() + self.tmpfs_bytes() + self.sysv_bytes();
        kept + pids.iter().map(share).sum::<u64>()
    }

    fn tmpfs_bytes(&self) -> u64 {
        let used = |place: &OwnedFd| {
            let stat = rustix::fs::fstatvfs(place).ok()?;
            Some(stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize)
        };
        self.tmpfs.iter().filter_map(used).sum()
    }

    fn sysv_bytes(&self) -> u64 {
        if !self.sysv {
            return 0;
        }
        let text = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
        // The last two columns: bytes in memory, bytes in swap.
        let row = |line: &str| -> u64 {
            line.split_ascii_whitespace().rev().take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
        };
        text.lines().skip(1).map(row).sum()
    }

    /// The process's share of what it maps, without what has been counted already.
    fn proportional_bytes(&self, pid: i32, files: &BTreeMap<u64, u64>) -> u64 {
        let task = living_task(pid);
        let all = sum_fields(&format!("{task}/smaps_rollup"), &["Pss_Anon:", "Pss_Shmem:", "SwapPss:"]);
        // A tmpfs file that is mapped has its pages in the tmpfs's sum too.
        let places: Vec<u64> =
            self.tmpfs.iter().filter_map(|fd| Some(rustix::fs::fstat(fd).ok()?.st_dev)).collect();
        // Which mappings there are is cheap to know; how many pages each has is a second walk over all of them.
        let maps = fs::read_to_string(format!("{task}/maps")).unwrap_or_default();
        if !maps.lines().any(|line| is_counted(line, self.device, &places, files)) {
            return all;
        }
        let text = fs::read_to_string(format!("{task}/smaps")).unwrap_or_default();
        let (mut counted, mut inside) = (0, false);
        for line in text.lines() {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            if !first.ends_with(':') {
                inside = is_counted(line, self.device, &places, files);
            } else if inside && first == "Pss:" {
                let kb = rest.split_ascii_whitespace().next().and_then(|kb| kb.parse::<u64>().ok());
                counted += kb.unwrap_or(0) * 1024;
            }
        }
        all.saturating_sub(counted)
    }
}

/// Whether a line of maps, or of smaps, is the head of a mapping whose file has been counted.
fn is_counted(head: &str, memfds: Option<u64>, places: &[u64], files: &BTreeMap<u64, u64>) -> bool {
    let words: Vec<&str> = head.split_ascii_whitespace().collect();
    // Private mappings hold pages of their own; how many of the file's is not said.
    let [_, access, _, device, inode, name @ ..] = words.as_slice() else { return false };
    let number = |text: &str| u32::from_str_radix(text, 16).ok();
    let device = device
        .split_once(':')
        .and_then(|(major, minor)| Some(rustix::fs::makedev(number(major)?, number(minor)?)));
    if !access.ends_with('s') || device.is_none() {
        return false;
    }
    if device == memfds {
        let segment = name.first().is_some_and(|name| name.starts_with("/SYSV"));
        return segment || inode.parse().is_ok_and(|inode: u64| files.contains_key(&inode));
    }
    device.is_some_and(|device| places.contains(&device))
}

/// A thread that still has the process's memory: the first one may have ended and left it to others.
fn living_task(pid: i32) -> String {
    let lives = |task: &String| {
        fs::read_to_string(format!("{task}/status")).is_ok_and(|text| text.contains("\nVmSize:"))
    };
    entries(&format!("/proc/{pid}/task")).into_iter().find(lives).unwrap_or_else(|| format!("/proc/{pid}"))
}

/// `RssAnon` + `RssShmem` + `VmSwap`.
fn status_bytes(pid: i32) -> u64 {
    sum_fields(&format!("{}/status", living_task(pid)), &["RssAnon:", "RssShmem:", "VmSwap:"])
}

/// Sums fields given in kB.
fn sum_fields(path: &str, fields: &[&str]) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let values = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let field = words.next()?;
        fields.contains(&field).then(|| words.next()?.parse::<u64>().ok()).flatten()
    });
    values.sum::<u64>() * 1024
}
