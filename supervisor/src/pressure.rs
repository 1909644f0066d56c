//! How short of memory the machine is: by what the kernel says of tasks that wait for it (PSI), where it does, and by
//! what is available.

/// From when on it is short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Available memory below this part of all, in percent; 0 for never.
    pub(crate) available_percent: u64,
    /// Tasks wait for memory for more than this part of the last ten seconds, in percent; 0 for never.
    pub(crate) stalled_percent: u64,
}

/// Why memory is short, if it is.
pub(crate) fn pressure(limits: &Limits) -> Option<String> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    // Not there in every kernel and container.
    let stalls = std::fs::read_to_string("/proc/pressure/memory").unwrap_or_default();
    judge(limits, &meminfo, &stalls)
}

fn judge(limits: &Limits, meminfo: &str, stalls: &str) -> Option<String> {
    let total = kilobytes(meminfo, "MemTotal:").filter(|total| *total > 0);
    let percent = total.zip(kilobytes(meminfo, "MemAvailable:")).map(|(total, free)| free * 100 / total);
    if let Some(percent) = percent.filter(|percent| *percent < limits.available_percent) {
        return Some(format!("{percent} % of the machine's memory is available"));
    }
    let stalled = stalled_percent(stalls).filter(|_| limits.stalled_percent > 0)?;
    let is_over = stalled >= limits.stalled_percent as f64;
    is_over.then(|| format!("tasks have waited for memory {stalled:.0} % of the last ten seconds"))
}

fn kilobytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
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
}
