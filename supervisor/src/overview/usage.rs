//! What a worker takes of the machine at this moment, for whoever looks: read from outside, by its process id.
//!
//! Where its sandbox has a cgroup, the kernel's own account: two small files. Else the sum over its processes,
//! in which pages that they share count for each: more than it really takes, and cheap. The shim's account, by which
//! limits are held, is exact and costs page walks; nobody pays those for a list.

use std::fs;
use std::path::Path;

use rustix::param::{clock_ticks_per_second, page_size};

use crate::stat::{
    CHILDREN_SYSTEM_TICKS, CHILDREN_USER_TICKS, PARENT, RESIDENT_PAGES, SYSTEM_TICKS, Stat, USER_TICKS,
};

/// Processes of one worker that are looked at.
const MOST: usize = 512;

/// Memory in bytes and processor time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) memory_bytes: u64,
    pub(super) cpu_ms: u64,
}

/// What the worker with this process id takes, its children and pid 1 of its sandbox included; `None` when it has
/// gone.
pub(super) fn of(worker: u32) -> Option<Usage> {
    let init = parent(worker)?;
    let groups = fs::read_to_string(format!("/proc/{worker}/cgroup")).ok()?;
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let (mut memory_bytes, mut cpu_ms) = (None, None);
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        // A sandbox without a group of its own is in somebody else's.
        if ours.lines().any(|own| own == line) || path.contains("..") {
            continue;
        }
        let path = path.trim_start_matches('/');
        match controllers {
            "" => {
                for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
                    let group = Path::new(mount).join(path);
                    memory_bytes = memory_bytes.or(number(&group.join("memory.current")));
                    cpu_ms = cpu_ms.or(usage_usec(&group.join("cpu.stat")));
                }
            }
            "memory" => {
                memory_bytes =
                    number(&Path::new("/sys/fs/cgroup/memory").join(path).join("memory.usage_in_bytes"))
            }
            _ => {}
        }
    }
    if let (Some(memory_bytes), Some(cpu_ms)) = (memory_bytes, cpu_ms) {
        return Some(Usage { memory_bytes, cpu_ms });
    }
    let summed = processes(init);
    Some(Usage {
        memory_bytes: memory_bytes.unwrap_or(summed.memory_bytes),
        cpu_ms: cpu_ms.unwrap_or(summed.cpu_ms),
    })
}

/// The sum over a process and its descendants.
fn processes(root: u32) -> Usage {
    let mut sum = Usage::default();
    let (mut pids, mut at) = (vec![root], 0);
    while let Some(pid) = pids.get(at).copied() {
        at += 1;
        let Some((memory_bytes, cpu_ms)) = process(pid) else { continue };
        sum.memory_bytes += memory_bytes;
        sum.cpu_ms += cpu_ms;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let room = MOST.saturating_sub(pids.len());
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()).take(room));
        }
    }
    sum
}

/// Resident memory in bytes, and processor time in milliseconds with that of children that were waited for.
fn process(pid: u32) -> Option<(u64, u64)> {
    let stat = Stat::read(&pid.to_string())?;
    let times = [USER_TICKS, SYSTEM_TICKS, CHILDREN_USER_TICKS, CHILDREN_SYSTEM_TICKS];
    let ticks: u64 = times.into_iter().filter_map(|field| stat.number(field)).sum();
    let pages = stat.number(RESIDENT_PAGES).unwrap_or(0);
    Some((pages * page_size() as u64, ticks * 1000 / clock_ticks_per_second().max(1)))
}

fn parent(pid: u32) -> Option<u32> {
    Stat::read(&pid.to_string())?.text(PARENT)?.parse().ok()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn usage_usec(path: &Path) -> Option<u64> {
    let stat = fs::read_to_string(path).ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(line.trim().parse::<u64>().ok()? / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_something_and_one_that_is_gone_nothing() {
        let own = of(std::process::id()).unwrap();
        assert!(own.memory_bytes > 1 << 20, "{own:?}");
        let (memory_bytes, _) = process(std::process::id()).unwrap();
        assert!(memory_bytes > 1 << 20 && processes(std::process::id()).memory_bytes >= memory_bytes / 2);
        assert_eq!(of(u32::MAX), None);
    }
}
