//! What a daemon has left behind: processes, mounts, sockets, files. Everything of one daemon bears
//! the unique name of its folder somewhere: in an argument, an environment, a mount or a link.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A process that lives: its id, and when it began, so that a reused id is not mistaken for it.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Clock ticks from the start of the machine to its own.
    pub began: u64,
    /// What it calls itself.
    pub name: String,
    parent: i32,
}

/// One process is the same as long as it lives, whatever it does and whoever its parent is.
impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        (self.pid, self.began) == (other.pid, other.began)
    }
}

impl Process {
    /// Reads one; `None` when it does not live (a zombie does not).
    pub fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold some itself.
        let (start, rest) = stat.rsplit_once(')')?;
        let name = start.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let state = fields.first()?.chars().next()?;
        let process =
            Process { pid, name, parent: fields.get(1)?.parse().ok()?, began: fields.get(19)?.parse().ok()? };
        (!matches!(state, 'Z' | 'X')).then_some(process)
    }

    /// Whether it still lives.
    pub fn lives(&self) -> bool {
        Process::read(self.pid).is_some_and(|now| now.began == self.began)
    }
}

/// All processes that can be seen.
pub fn all() -> BTreeMap<i32, Process> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, Process::read(pid)?))).collect()
}

/// A process's descendants, itself not included.
pub fn descendants(root: i32) -> Vec<Process> {
    let all = all();
    let mut family = vec![root];
    let mut at = 0;
    while at < family.len() {
        let parent = family[at];
        family.extend(all.values().filter(|process| process.parent == parent).map(|process| process.pid));
        at += 1;
    }
    family[1..].iter().filter_map(|pid| all.get(pid).cloned()).collect()
}

/// Processes other than this one that bear `mark` in their arguments, environment, links or mounts;
/// and what descends from them.
pub fn processes(mark: &str) -> Vec<Process> {
    let own = std::process::id().cast_signed();
    let marked: Vec<Process> =
        all().into_values().filter(|process| process.pid != own && bears(process.pid, mark)).collect();
    let below = marked.iter().flat_map(|process| descendants(process.pid));
    let mut found: Vec<Process> = below.chain(marked.iter().cloned()).collect();
    found.sort_by_key(|process| (process.pid, process.began));
    found.dedup();
    found
}

fn bears(pid: i32, mark: &str) -> bool {
    let folder = Path::new("/proc").join(pid.to_string());
    let within = |bytes: Vec<u8>| bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
    ["cmdline", "environ", "mountinfo"].iter().any(|name| fs::read(folder.join(name)).is_ok_and(within))
        || ["cwd", "exe", "root"].iter().any(|name| {
            fs::read_link(folder.join(name))
                .is_ok_and(|path| within(path.into_os_string().into_encoded_bytes()))
        })
}

/// Mounts in our own mount namespace that bear `mark`.
pub fn mounts(mark: &str) -> Vec<String> {
    lines("/proc/self/mountinfo", mark)
}

/// Loop devices whose file bears `mark`: name and file.
pub fn loops(mark: &str) -> Vec<(String, String)> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let backing = devices.filter_map(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        Some((device.file_name().to_str()?.to_owned(), file.trim_end().to_owned()))
    });
    backing.filter(|(_, file)| file.contains(mark)).collect()
}

/// A process that sees the loop device `name` at `/workspace`.
pub fn user_of(name: &str) -> Option<i32> {
    let sees = |pid: &i32| {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        let ours = |line: &str| line.contains(" /workspace ") && line.contains(&format!(" /dev/{name} "));
        mounts.lines().any(ours)
    };
    all().into_keys().find(sees)
}

/// Unix sockets that bear `mark`.
pub fn sockets(mark: &str) -> Vec<String> {
    lines("/proc/net/unix", mark)
}

fn lines(path: &str, mark: &str) -> Vec<String> {
    let text = fs::read_to_string(path).expect("/proc is mounted");
    text.lines().filter(|line| line.contains(mark)).map(str::to_owned).collect()
}

/// Cgroups that one of these processes has made: they bear its number and when it began.
pub fn cgroups(makers: &[Process]) -> Vec<PathBuf> {
    let names: Vec<String> =
        makers.iter().map(|maker| format!("cellblock-{}-{}", maker.pid, maker.began)).collect();
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = waiting.pop() {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if names.iter().any(|name| entry.file_name().to_str() == Some(name)) {
                found.push(entry.path());
            }
            waiting.push(entry.path());
        }
    }
    found
}

/// Everything below a folder; empty when the folder is gone.
pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            found.push(entry.path().display().to_string());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
    found
}
