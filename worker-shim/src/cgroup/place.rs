//! Where this host's groups are mounted, and where in them we are.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

/// How our folders begin; process id and its start time follow, so that one whose maker has gone is
/// known as such.
const PREFIX: &str = "cellblock-";

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its top, as far as we see.
    pub mount: PathBuf,
    /// Our own group.
    pub own: PathBuf,
}

/// All hierarchies of this host.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Of v2.
    pub unified: Option<Hierarchy>,
    /// Of v1, by controller.
    pub legacy: BTreeMap<String, Hierarchy>,
}

impl Host {
    /// Reads them.
    pub fn read() -> io::Result<Host> {
        Ok(parse(&fs::read_to_string("/proc/self/mountinfo")?, &fs::read_to_string("/proc/self/cgroup")?))
    }
}

impl Hierarchy {
    /// Whether systemd ends whoever is in our own group, and knows of nobody else.
    pub fn is_of_a_unit(&self) -> bool {
        let is_unit = |name: &str| name.ends_with(".service") || name.ends_with(".scope");
        self.own.components().any(|part| part.as_os_str().to_str().is_some_and(is_unit))
    }

    /// Whether our own group is ours to arrange: systemd marks what it delegates, and what an ordinary
    /// user may write has been given to him.
    pub fn is_given(&self) -> bool {
        let writable = rustix::fs::access(self.own.join("cgroup.subtree_control"), Access::WRITE_OK).is_ok()
            && rustix::fs::access(self.own.join("cgroup.procs"), Access::WRITE_OK).is_ok();
        let mut value = [0; 8];
        let marked = ["trusted.delegate", "user.delegate"].iter().any(|name| {
            rustix::fs::getxattr(&self.own, *name, &mut value).is_ok_and(|count| value[..count] == *b"1")
        });
        writable && (marked || !rustix::process::geteuid().is_root())
    }
}

/// From mountinfo and the process's own list.
fn parse(mounts: &str, groups: &str) -> Host {
    let own = |wanted: &dyn Fn(&str, &str) -> bool| -> Option<PathBuf> {
        groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            wanted(number, controllers).then(|| PathBuf::from(path))
        })
    };
    let mut host = Host::default();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let ([_, _, _, root, mount, ..], [kind, _, options, ..]) = (left.as_slice(), right.as_slice()) else {
            continue;
        };
        let place = |own: PathBuf| {
            let below = own.strip_prefix(root).unwrap_or(Path::new("")).to_owned();
            Hierarchy { mount: PathBuf::from(mount), own: Path::new(mount).join(below) }
        };
        match *kind {
            "cgroup2" if host.unified.is_none() => {
                host.unified = own(&|number, _| number == "0").map(place);
            }
            "cgroup" => {
                for controller in options.split(',') {
                    let found = own(&|_, controllers| controllers.split(',').any(|one| one == controller));
                    if let Some(found) = found {
                        host.legacy.entry(controller.to_owned()).or_insert_with(|| place(found));
                    }
                }
            }
            _ => {}
        }
    }
    host
}

/// A name that is ours as long as we live.
pub fn name() -> String {
    let pid = rustix::process::getpid().as_raw_pid();
    format!("{PREFIX}{pid}-{}", began(pid).unwrap_or_default())
}

/// When a process that lives began, in ticks since the start of the machine.
fn began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the start time is the 20th field behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    // Of one that has ended and is not reaped, only the number is left.
    let state = fields.next().filter(|state| !matches!(*state, "Z" | "X"));
    state.and_then(|_| fields.nth(18)?.parse().ok())
}

/// What anchors have left that were killed: their folders below `parent`, each after those in it. To be removed as
/// folders are, which the kernel refuses while there are processes in one: whoever cannot see an anchor, because it is
/// in another pid namespace, must not take its sandboxes.
pub fn stale(parent: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'));
        let Some((pid, start)) = maker else { continue };
        let lives = pid.parse().ok().and_then(began).is_some_and(|now| start.parse() == Ok(now));
        let mut tree = folders(&entry.path());
        tree.push(entry.path());
        // Not even what is empty of who is there still.
        let has_processes = |folder: &PathBuf| {
            fs::read(folder.join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty())
        };
        if !lives && !tree.iter().any(has_processes) {
            found.append(&mut tree);
        }
    }
    found
}

/// The sandboxes' folders in a group that was given to anchors, unless one of those lives: a new sandbox's folder is
/// empty for a moment. `leaf` is where they are themselves.
pub fn stale_in_given(given: &Path, leaf: &Path) -> Vec<PathBuf> {
    if [given, leaf].into_iter().any(has_another_anchor) {
        return Vec::new();
    }
    // Whoever has given it may keep something else there: ours end as workers' names do.
    let is_ours = |path: &PathBuf| {
        let suffix = path.file_name().and_then(|name| name.to_str()?.rsplit_once('-'));
        suffix.is_some_and(|(_, end)| end.len() == 12 && end.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    folders(given).into_iter().filter(is_ours).collect()
}

fn has_another_anchor(group: &Path) -> bool {
    let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let own = rustix::process::getpid().as_raw_pid().to_string();
    let is_anchor = |pid: &str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"--anchor")
    };
    pids.lines().any(|pid| pid != own && is_anchor(pid))
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
32 23 0:28 /docker/x /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
33 23 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 23 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
35 23 0:31 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,name=systemd
";

    #[test]
    fn own_group_is_found_in_every_hierarchy_of_a_hybrid_host() {
        let host =
            parse(HYBRID, "8:pids:/docker/x/y\n4:memory:/a/b\n2:cpu,cpuacct:/\n1:name=systemd:/z\n0::/u\n");
        let own = |name: &str| host.legacy[name].own.display().to_string();
        assert_eq!(own("memory"), "/sys/fs/cgroup/memory/a/b");
        assert_eq!(own("pids"), "/sys/fs/cgroup/pids/y");
        assert_eq!(own("cpuacct"), "/sys/fs/cgroup/cpu,cpuacct/");
        let unified = host.unified.unwrap();
        assert_eq!(
            (unified.own.display().to_string(), unified.mount.display().to_string()),
            ("/sys/fs/cgroup/unified/u".to_owned(), "/sys/fs/cgroup/unified".to_owned())
        );
    }

    #[test]
    fn host_without_groups_has_none() {
        assert_eq!(parse("1 1 0:1 / / rw - ext4 /dev/sda rw\n", ""), Host::default());
    }

    #[test]
    fn our_own_name_is_not_stale_and_that_of_one_who_has_gone_is() {
        let temp = tempfile::tempdir().unwrap();
        let (own, old) = (temp.path().join(name()), temp.path().join("cellblock-1-1"));
        let other = temp.path().join("cellblock");
        for folder in [&own, &old, &other, &old.join("worker")] {
            fs::create_dir_all(folder).unwrap();
        }
        assert_eq!(stale(temp.path()), [old.join("worker"), old.clone()]);
        assert!(own.exists() && other.exists());
        // Whoever is in there may have a maker that is not seen from here.
        fs::write(old.join("worker/cgroup.procs"), "0\n").unwrap();
        assert_eq!(stale(temp.path()), Vec::<PathBuf>::new());
    }

    #[test]
    fn in_a_group_that_was_given_only_workers_folders_are_stale() {
        let temp = tempfile::tempdir().unwrap();
        for name in ["sales-0123456789ab", "anchor", "app.slice", "sales-0123", "sales-0123456789xy"] {
            fs::create_dir(temp.path().join(name)).unwrap();
        }
        assert_eq!(
            stale_in_given(temp.path(), &temp.path().join("anchor")),
            [temp.path().join("sales-0123456789ab")]
        );
    }
}
