//! The processes of a sandbox as `/proc` shows them.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Instant;

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

/// What the sandbox's processes have had written to disks' files.
#[derive(Default)]
pub struct Written {
    /// The worker's account and its numbers: most sandboxes have nobody else, and these stay open.
    worker: Option<(File, File)>,
}

impl Written {
    /// For a sandbox with this worker.
    pub fn of(worker: Pid) -> Self {
        let open = |name: &str| File::open(format!("/proc/{}/{name}", worker.as_raw_pid()));
        Written { worker: open("io").and_then(|io| Ok((io, open("stat")?))).ok() }
    }

    /// Bytes so far, of those that were waited for too. `tasks` are the sandbox's processes and threads, init
    /// included, where somebody counts them: only when they are more than the worker's is each looked for.
    pub fn bytes(&self, init: Pid, tasks: Option<u64>) -> u64 {
        let alone = || {
            let (io, stat) = self.worker.as_ref()?;
            (tasks? == threads(&read_again(stat)?)? + 1).then_some(())?;
            written(&read_again(io)?)
        };
        let each = |pid: i32| written(&fs::read_to_string(format!("/proc/{pid}/io")).ok()?);
        // Init's are not shown to us.
        alone().unwrap_or_else(|| tree(init).into_iter().filter_map(each).sum())
    }
}

/// Of a file of `/proc` that has been read before.
fn read_again(file: &File) -> Option<String> {
    let mut bytes = [0; 1024];
    let count = file.read_at(&mut bytes, 0).ok()?;
    Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

fn written(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok())
}

fn threads(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything; the 18th field behind it.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(17)?.parse().ok()
}

/// Files that the descriptors of a sandbox hold, looked at as far as there is time, and on from there the
/// next time: a sandbox may have millions of descriptors, and the shim has one thread.
#[derive(Default)]
pub struct Held {
    tasks: Vec<String>,
    descriptors: Vec<String>,
    /// By inode: bytes, of this round so far.
    found: BTreeMap<u64, u64>,
    /// The same of the last whole round.
    whole: BTreeMap<u64, u64>,
}

impl Held {
    /// Bytes by inode of those files that `counts` says count. What is held by nobody any more may be
    /// among them until the round is over.
    pub fn look(
        &mut self,
        pids: &[i32],
        until: Instant,
        counts: impl Fn(&Metadata) -> bool,
    ) -> BTreeMap<u64, u64> {
        if self.tasks.is_empty() && self.descriptors.is_empty() {
            // Threads may have tables of their own.
            self.tasks = pids.iter().flat_map(|pid| entries(&format!("/proc/{pid}/task"))).collect();
        }
        // Something is done at each look, however late it is.
        let mut moved = false;
        loop {
            while let Some(descriptor) = self.descriptors.pop() {
                if let Ok(file) = fs::metadata(descriptor)
                    && counts(&file)
                {
                    self.found.insert(file.ino(), file.blocks() * 512);
                }
                moved = true;
                if Instant::now() >= until {
                    break;
                }
            }
            let in_time = Instant::now() < until || !moved;
            match if in_time { self.tasks.pop() } else { None } {
                Some(task) => self.descriptors = entries(&format!("{task}/fd")),
                None if in_time => {
                    self.whole = std::mem::take(&mut self.found);
                    return self.whole.clone();
                }
                None => {
                    let mut known = self.whole.clone();
                    known.extend(&self.found);
                    return known;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_written_is_read_from_the_worker_alone_while_it_is_alone() {
        let own = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        let here = read_again(&File::open("/proc/self/stat").unwrap()).unwrap();
        let tasks = threads(&here).unwrap();
        assert_eq!(tasks, entries("/proc/self/task").len() as u64);
        // Its own account, which a child that writes is not in before it was waited for.
        let temp = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let writes = format!("head -c 1000000 /dev/zero > {} && exec sleep 60", temp.path().display());
        let mut child = Command::new("sh").args(["-c", &writes]).stdout(Stdio::null()).spawn().unwrap();
        let ours = Written::of(own);
        let all = |tasks| ours.bytes(own, tasks);
        let until = Instant::now() + Duration::from_secs(20);
        let (mut alone, mut everybody) = (0, 0);
        // One look is not enough: what a process has written is nowhere between its end and the wait for it.
        while everybody < alone + 1_000_000 && Instant::now() < until {
            std::thread::yield_now();
            (alone, everybody) = (all(Some(tasks + 1)), all(Some(tasks + 2)));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(everybody >= alone + 1_000_000, "{everybody} of all, {alone} of one");
    }

    #[test]
    fn a_round_without_time_goes_on_until_it_is_whole() {
        let temp = tempfile::tempdir().unwrap();
        let files: Vec<File> =
            (0..50).map(|number| File::create(temp.path().join(number.to_string())).unwrap()).collect();
        let wanted: Vec<u64> = files.iter().map(|file| file.metadata().unwrap().ino()).collect();
        let own = [std::process::id().cast_signed()];
        let counts = |file: &Metadata| wanted.contains(&file.ino());
        let mut held = Held::default();
        let now = Instant::now();
        let first = held.look(&own, now, counts);
        assert!(first.len() < 50, "it took the time it was not given");
        let mut looks = 1;
        while held.look(&own, now, counts).len() < 50 {
            looks += 1;
            assert!(looks < 100_000, "it never becomes whole");
        }
        assert_eq!(held.look(&own, now + Duration::from_secs(60), counts).len(), 50);
        drop(files);
        held.look(&own, now + Duration::from_secs(60), counts);
        assert_eq!(held.look(&own, now + Duration::from_secs(60), counts).len(), 0, "nobody holds them");
    }
}
