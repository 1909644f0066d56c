//! The limits of a profile, each with its unit and the values that make sense. [`LIMITS`] is the one
//! place that knows them: profiles are checked by it, and the table in `docs/profiles.md` is made of it.

use serde::{Deserialize, Serialize};

/// The limits of one notebook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory of the whole sandbox, in bytes.
    pub memory_bytes: u64,
    /// Wall time of one Execution, in milliseconds.
    pub wall_ms: u64,
    /// Processor time of one Execution, all processes together, in milliseconds.
    pub cpu_ms: u64,
    /// From the interrupt to the kill, in milliseconds.
    pub interrupt_grace_ms: u64,
    /// How long `input()` waits for an answer, in milliseconds. The wall clock stops meanwhile.
    pub input_ms: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Size of one file, in bytes.
    pub file_bytes: u64,
    /// Stack of a main thread, in bytes.
    pub stack_bytes: u64,
    /// `/tmp` and `/dev/shm`, each, in bytes.
    pub tmp_bytes: u64,
    /// Files and folders in each of them.
    pub tmp_inodes: u64,
    /// Files in the workspace, in bytes.
    pub workspace_bytes: u64,
    /// Stdout and stderr of one Execution, in bytes; beyond it the tail alone is kept.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes: 4 << 30,
            wall_ms: 10 * 60 * 1000,
            cpu_ms: 60 * 60 * 1000,
            interrupt_grace_ms: 5_000,
            input_ms: 10 * 60 * 1000,
            processes: 256,
            open_files: 1024,
            file_bytes: 4 << 30,
            stack_bytes: 8 << 20,
            tmp_bytes: 1 << 30,
            tmp_inodes: 100_000,
            workspace_bytes: 10 << 30,
            output_bytes: 256 << 20,
        }
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// Things.
    Count,
}

/// A key of `[limits]`.
#[derive(Clone, Copy, Debug)]
pub struct LimitKey {
    /// As profiles write it.
    pub key: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// Below it Python does not start, or nothing can run.
    pub least: u64,
    /// Above it nothing is bounded any more, and sums of limits could overflow.
    pub most: u64,
    /// What it bounds, for people.
    pub what: &'static str,
    /// The limit's place.
    pub field: fn(&mut Limits) -> &mut u64,
}

impl LimitKey {
    /// Its value.
    pub fn get(&self, limits: &Limits) -> u64 {
        *(self.field)(&mut limits.clone())
    }
}

/// 1 PiB: more than a machine has.
const MOST_BYTES: u64 = 1 << 50;

/// 30 days.
const MOST_MS: u64 = 30 * 24 * 3600 * 1000;

const fn bytes(
    key: &'static str,
    least: u64,
    most: u64,
    what: &'static str,
    field: fn(&mut Limits) -> &mut u64,
) -> LimitKey {
    LimitKey { key, unit: Unit::Bytes, least, most, what, field }
}

const fn ms(
    key: &'static str,
    least: u64,
    what: &'static str,
    field: fn(&mut Limits) -> &mut u64,
) -> LimitKey {
    LimitKey { key, unit: Unit::Milliseconds, least, most: MOST_MS, what, field }
}

const fn count(
    key: &'static str,
    least: u64,
    most: u64,
    what: &'static str,
    field: fn(&mut Limits) -> &mut u64,
) -> LimitKey {
    LimitKey { key, unit: Unit::Count, least, most, what, field }
}

/// All limits.
pub const LIMITS: [LimitKey; 13] = [
    bytes("memory_bytes", 64 << 20, MOST_BYTES, "memory of the whole sandbox", |l| &mut l.memory_bytes),
    ms("cpu_ms", 1, "processor time of one Execution, all processes together", |l| &mut l.cpu_ms),
    ms("wall_ms", 1, "wall time of one Execution", |l| &mut l.wall_ms),
    ms("interrupt_grace_ms", 10, "from the interrupt to the end of the sandbox", |l| {
        &mut l.interrupt_grace_ms
    }),
    ms("input_ms", 1, "how long `input()` waits; the wall clock stops meanwhile", |l| &mut l.input_ms),
    // 4,194,304 is the kernel's own PID_MAX_LIMIT.
    count("processes", 8, 1 << 22, "processes and threads", |l| &mut l.processes),
    // The kernel's default for fs.nr_open.
    count("open_files", 32, 1 << 20, "open files of one process", |l| &mut l.open_files),
    bytes("file_bytes", 1 << 20, MOST_BYTES, "size of one file", |l| &mut l.file_bytes),
    // Every thread reserves so much.
    bytes("stack_bytes", 256 << 10, 1 << 36, "stack of a main thread", |l| &mut l.stack_bytes),
    bytes("tmp_bytes", 1 << 20, MOST_BYTES, "`/tmp` and `/dev/shm`, each; it is memory", |l| {
        &mut l.tmp_bytes
    }),
    count("tmp_inodes", 64, 1 << 30, "files and folders in each of them", |l| &mut l.tmp_inodes),
    bytes("workspace_bytes", 4 << 20, MOST_BYTES, "files in the workspace", |l| &mut l.workspace_bytes),
    bytes(
        "output_bytes",
        64 << 10,
        MOST_BYTES,
        "stdout and stderr of one Execution; of more the tail alone is kept",
        |l| &mut l.output_bytes,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_field_of_its_own_and_a_default_within_its_range() {
        let mut limits = Limits::default();
        for limit in &LIMITS {
            let value = limit.get(&limits);
            assert!((limit.least..=limit.most).contains(&value), "{}: {value}", limit.key);
        }
        for (value, limit) in (1..).zip(&LIMITS) {
            *(limit.field)(&mut limits) = value;
        }
        for (value, limit) in (1..).zip(&LIMITS) {
            assert_eq!(limit.get(&limits), value, "{} shares a field", limit.key);
            assert!(format!("{limits:?}").contains(&format!("{}: {value}", limit.key)), "{limits:?}");
        }
    }

    #[test]
    fn no_sum_of_two_limits_overflows() {
        assert!(LIMITS.iter().all(|limit| limit.most <= u64::MAX / 4));
    }
}
