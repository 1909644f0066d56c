//! The memory of a sandbox, summed from outside: the tier for hosts where no cgroup does it.
//!
//! Not seen here: memory that no process maps (unmapped memfds, files on the sandbox's tmpfs).

use std::fs;

use rustix::process::Pid;

/// Bytes of anonymous and shared memory of init and all its descendants.
///
/// First the cheap sum, which counts pages twice that processes share after a fork; only when that
/// is above `limit` the exact one, which costs the kernel a walk over the page tables.
pub fn of_tree(init: Pid, limit: u64) -> u64 {
    let pids = tree(init.as_raw_pid());
    let cheap: u64 = pids.iter().map(|pid| status_bytes(*pid)).sum();
    if cheap <= limit { cheap } else { pids.iter().map(|pid| proportional_bytes(*pid)).sum() }
}

/// All processes of the tree. One that ends meanwhile is simply not there.
fn tree(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let tasks = fs::read_dir(format!("/proc/{}/task", found[at])).into_iter().flatten().flatten();
        for task in tasks {
            if let Ok(children) = fs::read_to_string(task.path().join("children")) {
                found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            }
        }
        at += 1;
    }
    found
}

/// `RssAnon` + `RssShmem` + `VmSwap`.
fn status_bytes(pid: i32) -> u64 {
    sum_fields(&format!("/proc/{pid}/status"), &["RssAnon:", "RssShmem:", "VmSwap:"])
}

fn proportional_bytes(pid: i32) -> u64 {
    sum_fields(&format!("/proc/{pid}/smaps_rollup"), &["Pss_Anon:", "Pss_Shmem:", "SwapPss:"])
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
