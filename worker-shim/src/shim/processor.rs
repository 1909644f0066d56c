//! Processor time of a sandbox: what its cgroup says, or the sum of its processes' times.
//!
//! The sum misses what a process did that was born and gone between two looks and was waited for by
//! nobody who still lives; the report says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use super::processes::tree;
use crate::sandbox::Sandbox;

/// Microseconds in a tick of `/proc/PID/stat`: USER_HZ is 100 on every architecture that we run on.
const TICK_US: u64 = 10_000;

/// The sum, for hosts without cgroups.
#[derive(Default)]
pub struct Processor {
    /// By process and the time it began: its own ticks, when last seen.
    seen: BTreeMap<(i32, u64), u64>,
    /// Ticks of those that are gone.
    gone: u64,
    /// Processors of this machine. Not those that we may run on: who is in there may run on others.
    processors: u32,
}

/// One process, in ticks.
struct Times {
    began: u64,
    own: u64,
    /// Of children that were waited for.
    children: u64,
}

impl Processor {
    /// For a sandbox on this machine.
    pub fn new() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let lines = stat.lines().filter(|line| line.starts_with("cpu")).count();
        // The first is the sum of all.
        let processors = u32::try_from(lines.saturating_sub(1)).unwrap_or(u32::MAX);
        Processor { processors, ..Processor::default() }
    }

    /// All processor time so far.
    pub fn used(&mut self, sandbox: &Sandbox) -> Duration {
        let us = sandbox.group.processor_us().unwrap_or_else(|| {
            let mut pids = tree(sandbox.init_pid);
            // Whoever changed parents while we looked was seen below neither; counted as gone he would count twice.
            let known: BTreeSet<i32> = pids.iter().copied().collect();
            pids.extend(self.seen.keys().map(|(pid, _)| *pid).filter(|pid| !known.contains(pid)));
            let times: Vec<_> = pids
                .into_iter()
                .filter_map(|pid| Some((pid, times(pid)?)))
                .filter(|(pid, times)| known.contains(pid) || self.seen.contains_key(&(*pid, times.began)))
                .collect();
            self.sum(&times) * TICK_US
        });
        Duration::from_micros(us)
    }

    /// How many processors there are.
    pub fn parallel(&self) -> u32 {
        self.processors.max(1)
    }

    fn sum(&mut self, times: &[(i32, Times)]) -> u64 {
        let now: BTreeMap<_, _> = times.iter().map(|(pid, times)| ((*pid, times.began), times.own)).collect();
        let left = self.seen.iter().filter(|(process, _)| !now.contains_key(*process));
        self.gone += left.map(|(_, own)| own).sum::<u64>();
        let own: u64 = now.values().sum();
        self.seen = now;
        // Whoever was waited for is in his parent's account; whoever was not is in ours only.
        let waited: u64 = times.iter().map(|(_, times)| times.own + times.children).sum();
        (own + self.gone).max(waited)
    }
}

fn times(pid: i32) -> Option<Times> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let fields: Vec<u64> =
        stat.rsplit_once(')')?.1.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let [user, system, child_user, child_system] = *fields.get(11..15)? else { return None };
    Some(Times { began: *fields.get(19)?, own: user + system, children: child_user + child_system })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_that_nobody_waited_for_counts_and_one_that_was_counts_once() {
        let times = |began, own, children| Times { began, own, children };
        let mut processor = Processor::default();
        assert_eq!(processor.sum(&[(1, times(5, 1, 0)), (2, times(6, 10, 0))]), 11);
        assert_eq!(processor.sum(&[(1, times(5, 1, 0))]), 11, "gone, and waited for by nobody");
        assert_eq!(
            processor.sum(&[(1, times(5, 1, 0)), (2, times(7, 20, 0))]),
            31,
            "its number is another's now"
        );
        let mut waited = Processor::default();
        waited.sum(&[(1, times(5, 1, 0)), (2, times(6, 10, 0))]);
        assert_eq!(waited.sum(&[(1, times(5, 1, 12))]), 13);
    }

    #[test]
    fn processors_are_those_of_the_machine() {
        let ours = std::thread::available_parallelism().unwrap().get();
        assert!(Processor::new().parallel() as usize >= ours);
    }

    #[test]
    fn own_times_are_read() {
        let own = times(std::process::id().cast_signed()).unwrap();
        assert!(own.began > 0);
    }
}
