//! The disk of a sandbox, seen from outside: whether a place is full when a cell fails, and, where the
//! kernel does not bound the workspace, how much is in it.
//!
//! The places are opened before user code runs and only ever looked at. Where nothing but the watch
//! holds, the workspace is walked (`walk.rs`) and what has no name any more is looked for in the
//! sandbox's descriptors and mappings. Not seen: a file without a name that is at this moment in a
//! socket's queue alone.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use cellblock_proto::execution::{End, Limit, NoticeTopic};
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use sandbox_profiles::{Action, BarrierState, Limits, Step};

use super::below::{Below, Kind, Room};
use super::executions::Cause;
use super::processes::{Held, tree};
use super::walk::Walk;
use crate::sandbox::quota;

/// From one look at the workspace to the next while something runs.
const TICK: Duration = Duration::from_millis(250);
/// And while nothing runs.
const IDLE_TICK: Duration = Duration::from_secs(1);
/// The longest pause, however long a look has taken.
const LONGEST: Duration = Duration::from_secs(2);
/// How long one look may hold the output up; a large workspace takes several.
const SLICE: Duration = Duration::from_millis(2);
/// How long the first one may take, before the first cell runs.
const FIRST: Duration = Duration::from_millis(100);
/// Of so much less space on the disk the last look takes notice.
const NOTICED_BYTES: u64 = 1 << 20;
/// And the last one of an Execution.
const LAST: Duration = Duration::from_millis(20);
/// Of so many parts of the time one is for looking, while something runs and while nothing does.
const SHARES: [u32; 2] = [10, 50];

/// How much more than its limit a workspace may hold at the start of a worker that is to make room in
/// it. Above that not even a worker is of use: each start could add what is written between two looks.
const SLACK_BYTES: u64 = 4 << 30;

/// What the kernel says of a full place.
const REFUSALS: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// What it says where what is below has not taken what was to be written, and where it is not asked any more.
const FAILURE: &str = "Input/output error";
const CLOSED: &str = "Read-only file system";

/// The places a sandbox can fill.
#[derive(Default)]
pub struct Disk {
    places: Vec<Place>,
    /// The workspace is one of them.
    bounded: bool,
    watch: Option<Watch>,
    /// What the workspace lies on.
    below: Option<Below>,
}

struct Place {
    root: OwnedFd,
    allowed: u64,
    /// It was full already when what runs began.
    was_full: bool,
}

impl Disk {
    /// To be called before `worker` has run any user code: its paths are still what we made. `disk` is a folder on
    /// the disk that the workspace lies on, where the workspace itself does not tell of it.
    pub fn of(worker: Pid, steps: &[Step], limits: &Limits, disk: Option<OwnedFd>) -> Self {
        let open = |path: &str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::open(format!("/proc/{}/root/{path}", worker.as_raw_pid()), flags, Mode::empty())
        };
        let bounded = steps
            .iter()
            .any(|step| matches!(step.action, Action::MountImage { .. } | Action::LimitWorkspace { .. }));
        let mut places = vec![("tmp", limits.tmp_bytes), ("dev/shm", limits.tmp_bytes)];
        if bounded {
            places.insert(0, ("workspace", limits.workspace_bytes));
        }
        let place = |(path, allowed)| Some(Place { root: open(path).ok()?, allowed, was_full: false });
        let watched = steps.iter().find_map(|step| match step.action {
            Action::WatchWorkspace { bytes } => Some(bytes),
            _ => None,
        });
        let watch = watched.and_then(|limit| Watch::new(open("workspace").ok()?, limit));
        let is_image = steps.iter().any(|step| matches!(step.action, Action::MountImage { .. }));
        let kind = match is_image {
            true => Kind::image(worker, open("workspace").ok()),
            false => Kind::Folder,
        };
        let disk = if watched.is_some() { open("workspace").ok() } else { disk };
        let below = disk.map(|disk| Below::new(disk, kind));
        Disk { places: places.into_iter().filter_map(place).collect(), bounded, watch, below }
    }

    /// How the workspace's size is held, for the report.
    pub fn account(&self, steps: &[Step]) -> (BarrierState, String) {
        for step in steps {
            match &step.action {
                Action::LimitWorkspace { project, bytes, .. } => {
                    return (BarrierState::Enforced, format!("project {project} of its disk, {bytes} bytes"));
                }
                Action::MountImage { bytes, .. } => return self.account_of_image(*bytes),
                _ => {}
            }
        }
        let watched = format!(
            "watched by the shim, which ends the sandbox above the limit; a fast writer overshoots by what it \
             writes between two looks, {} ms apart or more in a workspace of many files; the next worker may \
             remove files and add none",
            TICK.as_millis()
        );
        match self.watch {
            Some(_) => (BarrierState::Degraded, watched),
            None => (BarrierState::Missing, "the workspace could not be opened to be watched".to_owned()),
        }
    }

    fn account_of_image(&self, asked: u64) -> (BarrierState, String) {
        let room = self.places.first().filter(|_| self.bounded);
        let Some(room) = room.and_then(|place| quota::usable(place.root.as_fd()).ok()) else {
            return (BarrierState::Enforced, format!("a file system of its own, {asked} bytes"));
        };
        let detail = format!("a file system of its own with room for {room} bytes");
        // Beyond what ext4 was given for itself and did not take.
        if room > asked.saturating_add(asked / 8).saturating_add(4 << 20) {
            let more =
                format!("{detail}; the profile's {asked} were more when it was made, and it does not shrink");
            return (BarrierState::Degraded, more);
        }
        if room < asked {
            let less = format!("{detail}, less than the profile's {asked}: it could not be made larger");
            return (BarrierState::Degraded, less);
        }
        (BarrierState::Enforced, detail)
    }

    /// An Execution begins.
    pub fn begin(&mut self, now: Instant) {
        if let Some(watch) = &mut self.watch {
            watch.at = watch.at.min(now + TICK);
        }
        if let Some(watch) = &mut self.watch {
            watch.free_before = free(&watch.root);
        }
        for place in &mut self.places {
            place.was_full = place.look().is_some_and(|room| room.is_full());
        }
        if let Some(below) = &mut self.below {
            below.begin();
        }
    }

    /// The end of an Execution, when it may have failed because a place is full, and what is to be said of it. A place
    /// that became so while it ran is reason enough; one that was full before must be what the error speaks of.
    pub fn end(&mut self, end: End, has_written: bool) -> (End, Option<(NoticeTopic, String)>) {
        let End::Error { value, .. } = &end else {
            let notice = self.below.as_ref().filter(|_| has_written).and_then(Below::unwritten);
            return (end, notice);
        };
        let says = |texts: &[&str]| texts.iter().any(|text| value.contains(text));
        let refused = says(&REFUSALS);
        // Whoever cannot write at all has not met a limit.
        let closed =
            self.below.as_ref().filter(|_| refused || says(&[FAILURE, CLOSED])).and_then(Below::closed);
        if closed.is_some() {
            return (end, closed);
        }
        match self.full(refused) {
            Some(Full::Place(allowed, reached)) => {
                (End::LimitHit { limit: Limit::Disk, allowed, reached }, None)
            }
            Some(Full::Machine(room)) => {
                let notice = self.below.as_ref().map(|below| below.refusal(room));
                (end, notice)
            }
            None => {
                let notice = self.below.as_ref().filter(|_| says(&[FAILURE])).and_then(Below::failure);
                (end, notice)
            }
        }
    }

    /// What is full. When the kernel has `refused` to write, the place that comes nearest: what did not fit is often
    /// removed again by whoever tried. But a workspace that has more room of its own than the machine's disk has left
    /// cannot have been filled.
    fn full(&self, refused: bool) -> Option<Full> {
        let seen: Vec<(&Place, Room)> =
            self.places.iter().filter_map(|place| Some((place, place.look()?))).collect();
        let found = seen.iter().find(|(place, room)| room.is_full() && (refused || !place.was_full));
        if let Some((place, room)) = found {
            return Some(Full::Place(place.allowed, room.used));
        }
        if !refused {
            return None;
        }
        let below = self.below.as_ref();
        if let Some(room) = below.and_then(Below::was_or_is_full) {
            return Some(Full::Machine(room));
        }
        if !self.bounded {
            return None;
        }
        let share = |(_, (place, room)): &(usize, &(&Place, Room))| {
            room.used.saturating_mul(1 << 10) / place.allowed.max(1)
        };
        // The last of equals is taken, and that is to be the first place.
        let (at, (place, room)) = seen.iter().enumerate().rev().max_by_key(share)?;
        match below.and_then(Below::room).filter(|below| at == 0 && below.left < room.left) {
            Some(below) => Some(Full::Machine(below)),
            None => Some(Full::Place(place.allowed, place.allowed)),
        }
    }

    /// Looks at the workspace when it is time to; says when to come again, and what was reached when
    /// that is too much.
    pub fn clock(&mut self, now: Instant, init: Pid, running: bool) -> (Option<Instant>, Option<Cause>) {
        let Some(watch) = &mut self.watch else { return (None, None) };
        if now < watch.at {
            return (Some(watch.at), None);
        }
        let cause = watch.look(now, init, running);
        (Some(watch.at), cause)
    }
}

impl Disk {
    /// Whether the workspace is watched, as nothing else holds it.
    pub fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Looks once more, as far as that is quick: who is done between two looks is not to have got away.
    pub fn last_look(&mut self, now: Instant, init: Pid, written: bool) -> Option<Cause> {
        let watch = self.watch.as_mut()?;
        // What is reserved is not written. That others take from the disk too only makes us look once more.
        if !written && free(&watch.root).saturating_add(NOTICED_BYTES) >= watch.free_before {
            return None;
        }
        let named = Walk::new(&watch.root)?.go_on(&watch.root, now + LAST, watch.allowed)?;
        let used = named.saturating_add(watch.nameless.look(init, watch.device));
        (used > watch.allowed).then_some(Cause::Limit(Limit::Disk, watch.limit, used))
    }
}

impl Place {
    fn look(&self) -> Option<Room> {
        Room::of(&self.root)
    }
}

/// What is full: a place, with what is allowed and what was reached, or the machine's disk.
enum Full {
    Place(u64, u64),
    Machine(Room),
}

/// The workspace's bytes, summed again and again.
struct Watch {
    root: OwnedFd,
    device: u64,
    limit: u64,
    /// What is allowed: the limit, or the least there has been when there was more at the start, so
    /// that a full workspace can be tidied up but does not grow.
    allowed: u64,
    walk: Walk,
    begun: Instant,
    at: Instant,
    /// Free on its disk when the Execution began, in bytes.
    free_before: u64,
    /// Files that have no name any more.
    nameless: Nameless,
}

/// Bytes that are free on the disk of a folder.
fn free(folder: &OwnedFd) -> u64 {
    rustix::fs::fstatvfs(folder).map_or(0, |disk| disk.f_bfree.saturating_mul(disk.f_frsize))
}

impl Watch {
    fn new(root: OwnedFd, limit: u64) -> Option<Self> {
        let device = rustix::fs::fstat(&root).ok()?.st_dev;
        let now = Instant::now();
        let mut walk = Walk::new(&root)?;
        let mut allowed = limit;
        // Nobody has made anything without a name yet.
        if let Some(found) = walk.go_on(&root, now + FIRST, u64::MAX)
            && found <= limit.saturating_mul(2).max(limit.saturating_add(SLACK_BYTES))
        {
            allowed = allowed.max(found);
        }
        let walk = Walk::new(&root)?;
        Some(Watch {
            root,
            device,
            limit,
            allowed,
            walk,
            begun: now,
            at: now,
            free_before: 0,
            nameless: Nameless::default(),
        })
    }

    fn look(&mut self, now: Instant, init: Pid, running: bool) -> Option<Cause> {
        let named = self.walk.go_on(&self.root, now + SLICE, self.allowed);
        let used = named.map(|named| named.saturating_add(self.nameless.look(init, self.device)));
        let (tick, share) = if running { (TICK, SHARES[0]) } else { (IDLE_TICK, SHARES[1]) };
        self.at = now + (now.elapsed() * (share - 1)).min(LONGEST);
        let used = used?;
        self.at = self.at.max(self.begun + tick);
        self.begun = self.at;
        self.walk = Walk::new(&self.root)?;
        if used > self.allowed {
            return Some(Cause::Limit(Limit::Disk, self.limit, used));
        }
        self.allowed = self.limit.max(used);
        None
    }
}

/// Files without a name that a sandbox holds by descriptors or mappings, looked at as far as there is
/// time, and on from there the next time.
#[derive(Default)]
struct Nameless {
    held: Held,
    /// Whose mappings are still to be read in this round.
    pids: Vec<i32>,
    /// By inode: where the last mapping ends, of this round so far.
    mapped: BTreeMap<u64, u64>,
    /// The same of the last whole round.
    whole: BTreeMap<u64, u64>,
}

impl Nameless {
    /// Bytes of those on `device`.
    fn look(&mut self, init: Pid, device: u64) -> u64 {
        let pids = tree(init);
        let counts = |file: &fs::Metadata| file.dev() == device && file.nlink() == 0;
        let files = self.held.look(&pids, Instant::now() + SLICE, counts);
        let mut mapped = self.mappings(pids, Instant::now() + SLICE, device);
        // How much of a mapping has been written is not told; all of it can be.
        mapped.retain(|inode, _| !files.contains_key(inode));
        files.values().chain(mapped.values()).fold(0, |sum: u64, bytes| sum.saturating_add(*bytes))
    }

    fn mappings(&mut self, pids: Vec<i32>, until: Instant, device: u64) -> BTreeMap<u64, u64> {
        if self.pids.is_empty() {
            self.pids = pids;
        }
        while let Some(pid) = self.pids.pop() {
            let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
            for (inode, end) in
                String::from_utf8_lossy(&maps).lines().filter_map(|line| deleted(line, device))
            {
                let most = self.mapped.entry(inode).or_default();
                *most = end.max(*most);
            }
            if Instant::now() >= until && !self.pids.is_empty() {
                let mut known = self.whole.clone();
                known.extend(&self.mapped);
                return known;
            }
        }
        self.whole = std::mem::take(&mut self.mapped);
        self.whole.clone()
    }
}

/// The inode of a removed file that a line of `/proc/PID/maps` maps, and where in it the mapping ends.
fn deleted(line: &str, device: u64) -> Option<(u64, u64)> {
    let line = line.strip_suffix(" (deleted)")?;
    let mut words = line.split_ascii_whitespace();
    let hexadecimal = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = words.next()?.split_once('-')?;
    let _access = words.next()?;
    let offset = hexadecimal(words.next()?)?;
    let (major, minor) = words.next()?.split_once(':')?;
    let (major, minor) = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let inode = words.next()?.parse().ok()?;
    let length = hexadecimal(end)?.checked_sub(hexadecimal(start)?)?;
    (rustix::fs::makedev(major, minor) == device).then_some((inode, offset.saturating_add(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapping_of_a_removed_file_is_known_by_its_device_and_counted_to_its_end() {
        let device = rustix::fs::makedev(0xfe, 1);
        let line = "7f00-9f00 rw-s 00001000 fe:01 42                         /workspace/a b (deleted)";
        assert_eq!(deleted(line, device), Some((42, 0x3000)));
        assert_eq!(deleted(line.trim_end_matches(" (deleted)"), device), None);
        assert_eq!(deleted(line, device + 1), None);
        for garbage in
            ["(deleted)", " (deleted)", "x-y rw 0 fe:01 1 (deleted)", "9-1 rw 0 fe:01 1 a (deleted)"]
        {
            assert_eq!(deleted(garbage, device), None, "{garbage}");
        }
    }

    #[test]
    fn unlinked_file_counts_while_it_is_open_and_no_longer() {
        let temp = tempfile::tempfile_in(std::env::temp_dir()).unwrap();
        let device = temp.metadata().unwrap().dev();
        let own = Pid::from_raw(std::process::id().cast_signed()).unwrap();
        let before = Nameless::default().look(own, device);
        rustix::io::write(&temp, &[1; 300_000]).unwrap();
        assert!(Nameless::default().look(own, device) >= before + 300_000);
        drop(temp);
        assert!(Nameless::default().look(own, device) <= before);
    }
}
