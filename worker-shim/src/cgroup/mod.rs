//! Cgroups, in whichever version this host lets us have them.
//!
//! The anchor makes one [`Tree`] and in it a folder for each sandbox ([`Tree::group`]); the shim takes
//! those folders as descriptors, writes the limits while it still has rights on the host, and keeps
//! the files open that it reads and writes later ([`Group`]).
//!
//! Nothing of the host's own groups is changed: we make folders below, and remove them. Only a group
//! that was given to us (`Delegate=` of systemd, or by the command line) is arranged as we need it.

mod group;
mod place;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use cellblock_proto::anchor::CgroupTier;
use cellblock_proto::id::WorkerId;
use rustix::event::Timespec;
use rustix::fs::{Mode, OFlags};

pub use self::group::{Folder, Group, Kind};
use self::place::{Hierarchy, Host};

/// The controllers that we use. Processor time is counted by every group of v2, without one.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// Where the anchor and its shims are themselves: no group of v2 has both processes and groups below
/// it that have controllers.
const OWN: &str = "anchor";

/// How long what dies in a sandbox's group may keep us from ending, when we end.
const LAST_TRIES: u32 = 1_000;
const BETWEEN_TRIES: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// How often what anchors before us have left is looked for, as long as nothing else wakes us 20 ms apart.
const STALE_TRIES: u32 = 100;

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// What can be had.
    Auto,
    /// None.
    Nothing,
    /// This group of v2, as a path below where it is mounted; it is ours.
    Below(PathBuf),
}

/// One of our folders, by what it is for.
struct Branch {
    kind: Kind,
    /// Ours.
    folder: PathBuf,
    /// It was there before us and is only cleared.
    given: bool,
    /// Sandboxes enter it after their birth, because we are not below it ourselves.
    late: bool,
}

/// The anchor's folders, one per hierarchy.
pub struct Tree {
    branches: Vec<Branch>,
    /// Where we were in v2 before.
    origin: Option<PathBuf>,
    /// What could be had, and why no more, for people.
    pub detail: String,
    leaving: Vec<PathBuf>,
    /// Where anchors before us may have left something, and how often more it is looked for.
    stale: Vec<PathBuf>,
    stale_tries: u32,
}

impl Tree {
    /// Makes them. There is always a tree, perhaps without a branch; `detail` says why. `owner` is the
    /// host id of the shims, who must be able to give birth into groups of v2.
    pub fn make(wanted: &Wanted, owner: Option<u32>) -> Tree {
        let mut tree = Tree {
            branches: Vec::new(),
            origin: None,
            detail: String::new(),
            leaving: Vec::new(),
            stale: Vec::new(),
            stale_tries: STALE_TRIES,
        };
        if *wanted == Wanted::Nothing {
            tree.detail = "none wanted (--cgroup none)".to_owned();
            return tree;
        }
        let host = match Host::read() {
            Ok(host) => host,
            Err(error) => {
                tree.detail = format!("failed to read this host's groups: {error}");
                return tree;
            }
        };
        let mut words = Vec::new();
        match tree.unified(&host, wanted, owner) {
            Ok(Kind::Full) => {
                tree.detail = "v2 with controllers".to_owned();
                return tree;
            }
            Ok(_) => words.push("v2 without controllers".to_owned()),
            Err(error) => words.push(format!("no v2: {error}")),
        }
        if let Wanted::Auto = wanted {
            for (kind, controller) in [(Kind::Memory, "memory"), (Kind::Processes, "pids")] {
                match tree.legacy(&host, kind, controller) {
                    Ok(()) => words.push(format!("v1 {controller}")),
                    Err(error) => words.push(format!("no {controller}: {error}")),
                }
            }
        }
        tree.detail = words.join(", ");
        tree
    }

    /// How much of cgroups there is.
    pub fn tier(&self) -> CgroupTier {
        let has = |kind| self.branches.iter().any(|branch| branch.kind == kind);
        if has(Kind::Full) {
            CgroupTier::Full
        } else if has(Kind::Memory) {
            CgroupTier::Hybrid
        } else {
            CgroupTier::None
        }
    }

    /// What each sandbox gets, in the order of its descriptors, as on a shim's command line.
    pub fn arguments(&self) -> impl Iterator<Item = String> {
        self.branches.iter().map(|branch| group::argument(branch.kind, branch.late))
    }

    fn unified(&mut self, host: &Host, wanted: &Wanted, owner: Option<u32>) -> io::Result<Kind> {
        let unified = host.unified.as_ref().ok_or_else(|| io::Error::other("it is not mounted"))?;
        let given = match wanted {
            Wanted::Below(path) => Some(unified.mount.join(path.strip_prefix("/").unwrap_or(path))),
            _ => unified.is_given().then(|| unified.own.clone()),
        };
        let folder = match &given {
            Some(given) => given.clone(),
            None if rustix::process::geteuid().is_root() => {
                // Directly below the top: a group with processes in it, as ours may be, gives its
                // controllers to nobody.
                let folder = unified.mount.join(place::name());
                fs::create_dir(&folder)?;
                folder
            }
            None => return Err(io::Error::other("no group was given to this user (systemd: Delegate=yes)")),
        };
        match &given {
            // Before there is one of ours.
            Some(given) => self.leaving.extend(place::stale_in_given(given, &given.join(OWN))),
            None => self.stale.extend(folder.parent().map(Path::to_owned)),
        }
        // What leaves the group of a unit of systemd is not ended with the unit any more, so then we stay.
        let late = given.is_none() && unified.is_of_a_unit();
        let arranged =
            if late { give_controllers(&folder) } else { arrange(&folder, given.is_some(), owner) };
        if arranged.is_err() && given.is_none() {
            let _ = fs::remove_dir(folder.join(OWN));
            let _ = fs::remove_dir(&folder);
        }
        let kind = arranged?;
        self.origin = Some(unified.own.clone()).filter(|_| given.is_none() && !late);
        self.branches.push(Branch { kind, folder, given: given.is_some(), late });
        Ok(kind)
    }

    fn legacy(&mut self, host: &Host, kind: Kind, controller: &str) -> io::Result<()> {
        let Some(Hierarchy { own, .. }) = host.legacy.get(controller) else {
            return Err(io::Error::other("the kernel has no such controller here"));
        };
        self.stale.push(own.clone());
        let folder = own.join(place::name());
        fs::create_dir(&folder)?;
        self.branches.push(Branch { kind, folder, given: false, late: true });
        Ok(())
    }

    /// Makes a sandbox's folders, and opens them.
    pub fn group(&mut self, worker: &WorkerId, owner: Option<u32>) -> io::Result<Vec<OwnedFd>> {
        let made: io::Result<Vec<OwnedFd>> = self
            .branches
            .iter()
            .map(|branch| {
                let folder = branch.folder.join(worker.as_str());
                fs::create_dir(&folder)?;
                if !branch.late {
                    chown(folder.join("cgroup.procs"), owner, owner)?;
                }
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                Ok(rustix::fs::open(&folder, flags, Mode::empty())?)
            })
            .collect();
        if made.is_err() {
            self.remove(worker);
        }
        made
    }

    /// Removes a sandbox's folders; those with something dying in them by and by ([`Tree::tidy`]).
    pub fn remove(&mut self, worker: &WorkerId) {
        for branch in &self.branches {
            let folder = branch.folder.join(worker.as_str());
            // Of a shim that was killed, the sandbox is on its way out; this is the shorter one.
            let _ = fs::write(folder.join("cgroup.kill"), "1");
            self.leaving.push(folder);
        }
        self.tidy();
    }

    /// Waits, for a bounded time, until all that was removed is gone, and with it who was in there.
    pub fn settle(&mut self) {
        for _ in 0..LAST_TRIES {
            if !self.remove_leaving() {
                break;
            }
            let _ = rustix::event::poll(&mut [], Some(&BETWEEN_TRIES));
        }
    }

    /// Tries again what could not be removed; says whether something is left.
    pub fn tidy(&mut self) -> bool {
        let left = self.remove_leaving();
        self.remove_stale() || left
    }

    fn remove_leaving(&mut self) -> bool {
        self.leaving.retain(|folder| match fs::remove_dir(folder) {
            Ok(()) => false,
            Err(error) => error.kind() == io::ErrorKind::ResourceBusy,
        });
        !self.leaving.is_empty()
    }

    /// What anchors before us have left, who may be dying still, as may what they held.
    fn remove_stale(&mut self) -> bool {
        if self.stale_tries == 0 {
            return false;
        }
        self.stale_tries -= 1;
        for folder in self.stale.iter().flat_map(|parent| place::stale(parent)) {
            if fs::remove_dir(&folder).is_ok() {
                eprintln!("anchor: removed {}, left by an anchor that has gone", folder.display());
            }
        }
        self.stale_tries > 0
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some(origin) = &self.origin {
            // A group that one is in cannot be removed.
            let _ = fs::write(origin.join("cgroup.procs"), "0");
        }
        let (leaving, branches) = (&mut self.leaving, &self.branches);
        leaving.extend(branches.iter().filter(|branch| !branch.given).flat_map(|branch| {
            // The folder after those in it.
            [branch.folder.join(OWN), branch.folder.clone()]
        }));
        self.settle();
    }
}

/// Goes into a leaf, with whoever else is in a group that was given to us, so that all below the group
/// can have its controllers.
fn arrange(folder: &Path, given: bool, owner: Option<u32>) -> io::Result<Kind> {
    let leaf = folder.join(OWN);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(leaf.join("cgroup.procs"), "0")?;
    if given {
        // One by one: the kernel takes no list. Who has ended meanwhile need not move.
        for pid in fs::read_to_string(folder.join("cgroup.procs"))?.lines() {
            let _ = fs::write(leaf.join("cgroup.procs"), pid);
        }
    }
    // Births from our leaf into the groups beside it need the right on what is above both.
    chown(folder.join("cgroup.procs"), owner, owner)?;
    give_controllers(folder)
}

/// Gives the controllers there are to the groups below.
fn give_controllers(folder: &Path) -> io::Result<Kind> {
    let there = fs::read_to_string(folder.join("cgroup.controllers"))?;
    let has = |text: &str| CONTROLLERS.iter().all(|name| text.split_whitespace().any(|word| word == *name));
    if !has(&there) {
        return Ok(Kind::Core);
    }
    let all: String = CONTROLLERS.iter().map(|name| format!("+{name} ")).collect();
    fs::write(folder.join("cgroup.subtree_control"), all.trim_end())?;
    Ok(Kind::Full)
}
