//! The processes of a sandbox as `/proc` shows them.

use std::fs;

use rustix::process::Pid;

/// The paths of what is in a folder of `/proc`; none when it has gone.
pub fn entries(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(format!("{folder}/{}", entry.file_name().to_str()?))).collect()
}

/// Init and all its descendants. One that ends meanwhile is simply not there.
pub fn tree(init: Pid) -> Vec<i32> {
    let mut found = vec![init.as_raw_pid()];
    let mut at = 0;
    while at < found.len() {
        for task in entries(&format!("/proc/{}/task", found[at])) {
            if let Ok(children) = fs::read_to_string(format!("{task}/children")) {
                found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            }
        }
        at += 1;
    }
    found
}

/// Processes and threads, init not counted.
pub fn tasks(init: Pid) -> u64 {
    let count = |pid: &i32| entries(&format!("/proc/{pid}/task")).len();
    (tree(init).iter().map(count).sum::<usize>() as u64).saturating_sub(1)
}

/// Bytes that the sandbox's processes have had written to disks' files, those that were waited for
/// included. Init's are not shown to us.
pub fn written_bytes(init: Pid) -> u64 {
    let written = |pid: i32| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok())
    };
    tree(init).into_iter().filter_map(written).sum()
}
