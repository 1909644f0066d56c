//! How short of memory the machine is, and the cgroups that bound all workers together: by what the kernel says of tasks
//! that wait for it (PSI), where it does, and by what is available.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// Where groups of version 2 are.
const GROUPS: &str = "/sys/fs/cgroup";

/// From when on it is short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Available memory below this part of all, in percent; 0 for never.
    pub(crate) available_percent: u64,
    /// Tasks wait for memory for more than this part of the last ten seconds, in percent; 0 for never.
    pub(crate) stalled_percent: u64,
}

/// Why memory is short, if it is, for a process that is in the same unit, or container, as all workers.
pub(crate) fn pressure(limits: &Limits, beside: Option<i32>) -> Option<String> {
    let meminfo = read_to_string("/proc/meminfo").unwrap_or_default();
    // Not there in every kernel and container.
    let stalls = read_to_string("/proc/pressure/memory").unwrap_or_default();
    judge(limits, &meminfo, &stalls).or_else(|| bounded(limits, &group_of(beside?)?, Path::new(GROUPS)))
}

/// The group that a process is in, if it is one of version 2.
fn group_of(pid: i32) -> Option<PathBuf> {
    let groups = read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(GROUPS).join(path))
}

/// Whether a group, or one that it is in, has a bound and little left of it: `MemoryMax=` of a unit or slice, a container.
fn bounded(limits: &Limits, group: &Path, top: &Path) -> Option<String> {
    group.ancestors().take_while(|group| group.starts_with(top)).find_map(|group| {
        let read = |name| read_to_string(group.join(name)).unwrap_or_default();
        let number = |name| read(name).trim().parse::<u64>().ok();
        let most = number("memory.max").filter(|most| *most > 0)?;
        let statistics = read("memory.stat");
        let cached = |name| figure(&statistics, name).unwrap_or(0);
        // The kernel gives back what is cached of files before anybody is ended.
        let used =
            number("memory.current")?.saturating_sub(cached("inactive_file ") + cached("active_file "));
        let percent = most.saturating_sub(used).saturating_mul(100) / most;
        let name = group.file_name().unwrap_or_default().to_string_lossy();
        (percent < limits.available_percent)
            .then(|| format!("{percent} % of the memory that {name} may take is available"))
    })
}

/// How much of the machine's memory is available.
pub(crate) fn available_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    figure(&meminfo, "MemAvailable:").unwrap_or(0) << 10
}

fn judge(limits: &Limits, meminfo: &str, stalls: &str) -> Option<String> {
    let total = figure(meminfo, "MemTotal:").filter(|total| *total > 0);
    let percent = total.zip(figure(meminfo, "MemAvailable:")).map(|(total, free)| free * 100 / total);
    if let Some(percent) = percent.filter(|percent| *percent < limits.available_percent) {
        return Some(format!("{percent} % of the machine's memory is available"));
    }
    let stalled = stalled_percent(stalls).filter(|_| limits.stalled_percent > 0)?;
    let is_over = stalled >= limits.stalled_percent as f64;
    is_over.then(|| format!("tasks have waited for memory {stalled:.0} % of the last ten seconds"))
}

fn figure(lines: &str, name: &str) -> Option<u64> {
    let line = lines.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// `some avg10=…`: the part of the time in which some task waited.
fn stalled_percent(stalls: &str) -> Option<f64> {
    let some = stalls.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split_ascii_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { available_percent: 5, stalled_percent: 20 };

    fn told(available: u64, stalls: &str) -> Option<String> {
        judge(&LIMITS, &format!("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\n"), stalls)
    }

    #[test]
    fn memory_is_short_when_little_is_available_or_tasks_wait_for_it() {
        let calm =
            "some avg10=19.99 avg60=90.00 avg300=0.00 total=1\nfull avg10=99.00 avg60=0 avg300=0 total=0\n";
        let stalled = "some avg10=20.50 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(told(50, calm), None);
        assert!(told(49, calm).unwrap().starts_with("4 % of"));
        assert!(told(900, stalled).unwrap().contains("20 % of the last"));
        // A kernel without PSI, a container without meminfo.
        assert_eq!(told(900, ""), None);
        assert_eq!(judge(&LIMITS, "", ""), None);
        let off = Limits { available_percent: 0, stalled_percent: 0 };
        assert_eq!(judge(&off, "MemTotal: 1000 kB\nMemAvailable: 0 kB\n", stalled), None);
    }

    #[test]
    fn a_group_above_the_workers_that_is_nearly_full_counts_and_what_is_cached_of_files_does_not() {
        let temp = tempfile::tempdir().unwrap();
        let slice = temp.path().join("system.slice");
        let workers = slice.join("cellblock-workers.service");
        std::fs::create_dir_all(&workers).unwrap();
        let write = |name: &str, text: &str| std::fs::write(slice.join(name), text).unwrap();
        let told = || bounded(&LIMITS, &workers, temp.path());
        assert_eq!(told(), None);
        std::fs::write(workers.join("memory.max"), "max\n").unwrap();
        write("memory.max", "1000\n");
        write("memory.current", "1000\n");
        write("memory.stat", "anon 900\nfile 50\ninactive_file 30\nactive_file 20\n");
        assert_eq!(told(), None);
        write("memory.current", "1001\n");
        assert_eq!(told().unwrap(), "4 % of the memory that system.slice may take is available");
        let off = Limits { available_percent: 0, stalled_percent: 0 };
        assert_eq!(bounded(&off, &workers, temp.path()), None);
    }

    #[test]
    fn group_of_a_process_is_found_below_the_mount() {
        let found = group_of(std::process::id().cast_signed());
        assert!(found.is_none_or(|group| group.starts_with(GROUPS)));
        assert_eq!(group_of(0), None);
    }
}
