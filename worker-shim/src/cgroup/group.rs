//! The groups of one sandbox, as its shim holds them: files opened while it had rights on the host.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// The longest of the files read here is `cpu.stat`, some hundred bytes.
const READ_BYTES: usize = 4096;

/// What a folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// v2, with memory and processes.
    Full,
    /// v2 without controllers: births, kills, processor time.
    Core,
    /// Memory, v1.
    Memory,
    /// Processes, v1.
    Processes,
}

impl Kind {
    /// As on a shim's command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Full => "full",
            Kind::Core => "core",
            Kind::Memory => "memory",
            Kind::Processes => "pids",
        }
    }
}

/// A folder of one sandbox.
pub struct Folder {
    /// What it is for.
    pub kind: Kind,
    /// Init enters it after its birth.
    pub late: bool,
    /// It.
    pub descriptor: OwnedFd,
}

/// What a folder is, as on a shim's command line.
pub fn argument(kind: Kind, late: bool) -> String {
    let when = if late { "late-" } else { "" };
    format!("{when}{}", kind.name())
}

impl Folder {
    /// From the command line; `None` when it is not one of ours.
    pub fn parse(argument: &str, descriptor: OwnedFd) -> Option<Folder> {
        let (late, name) = argument.strip_prefix("late-").map_or((false, argument), |name| (true, name));
        let all = [Kind::Full, Kind::Core, Kind::Memory, Kind::Processes];
        let kind = all.into_iter().find(|kind| kind.name() == name)?;
        Some(Folder { kind, late, descriptor })
    }
}

/// The groups, opened.
#[derive(Default)]
pub struct Group {
    /// v2: whom init is born into.
    birth: Option<OwnedFd>,
    /// Where init enters those that it is not born into.
    join: Vec<File>,
    /// Memory or processes are in v1.
    legacy: bool,
    kill: Option<File>,
    processor: Option<File>,
    memory: Option<Memory>,
    processes: Option<Processes>,
}

struct Memory {
    now: File,
    /// The most there has been; writing to it begins anew, where the kernel knows how.
    peak: Option<File>,
    resets: bool,
    /// Where kills are counted, as `oom_kill N`.
    kills: File,
}

struct Processes {
    now: Option<File>,
    peak: Option<File>,
    /// `max N`: how often somebody was refused.
    refusals: Option<File>,
}

impl Group {
    /// Opens what is needed of each folder and sets the limits. Needs rights on the folders.
    ///
    /// # Errors
    /// There is no folder, or one of the files cannot be opened or written.
    pub fn open(folders: &[Folder], memory_bytes: u64, processes: u64) -> io::Result<Group> {
        let mut group = Group::default();
        for Folder { kind, late, descriptor } in folders {
            let place = Place(descriptor.as_fd());
            match kind {
                Kind::Full | Kind::Core => {
                    if *late {
                        group.join.push(place.open("cgroup.procs", OFlags::WRONLY)?);
                    } else {
                        group.birth = Some(descriptor.try_clone()?);
                    }
                    group.kill = place.open("cgroup.kill", OFlags::WRONLY).ok();
                    group.processor = place.open("cpu.stat", OFlags::RDONLY).ok();
                }
                Kind::Memory | Kind::Processes => {
                    // Not `cgroup.procs`: for one thread that enters by itself the kernel need not stop
                    // the world.
                    group.join.push(place.open("tasks", OFlags::WRONLY)?);
                    group.legacy = true;
                }
            }
            match kind {
                Kind::Full => {
                    place.write("memory.max", memory_bytes)?;
                    // A host without swap has no such file, and nothing to bound.
                    let _ = place.write("memory.swap.max", 0);
                    group.memory = Some(place.memory("memory.current", "memory.peak", "memory.events")?);
                }
                Kind::Memory => {
                    place.write("memory.limit_in_bytes", memory_bytes)?;
                    let _ = place.write("memory.memsw.limit_in_bytes", memory_bytes);
                    let peak = "memory.max_usage_in_bytes";
                    group.memory = Some(place.memory("memory.usage_in_bytes", peak, "memory.oom_control")?);
                }
                Kind::Core | Kind::Processes => {}
            }
            if matches!(kind, Kind::Full | Kind::Processes) {
                place.write("pids.max", processes)?;
                group.processes = Some(Processes {
                    now: place.open("pids.current", OFlags::RDONLY).ok(),
                    peak: place.open("pids.peak", OFlags::RDONLY).ok(),
                    refusals: place.open("pids.events", OFlags::RDONLY).ok(),
                });
            }
        }
        if folders.is_empty() {
            return Err(io::Error::other("there are none to be had here, see `cellctl doctor`"));
        }
        Ok(group)
    }

    /// The folder that init is to be born into.
    pub fn birth(&self) -> Option<BorrowedFd<'_>> {
        self.birth.as_ref().map(AsFd::as_fd)
    }

    /// Enters the groups that one cannot be born into. For init, while it is alone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn join(&self) -> io::Result<()> {
        for file in &self.join {
            rustix::io::write(file, b"0")?;
        }
        Ok(())
    }

    /// Where one enters what one cannot be born into, by writing `0`.
    pub fn late(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.join.iter().map(AsFd::as_fd)
    }

    /// Whether the kernel holds the sandbox's memory below its limit.
    pub fn bounds_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Whether the kernel counts processes here.
    pub fn bounds_processes(&self) -> bool {
        self.processes.is_some()
    }

    /// Whether the kernel counts processor time here.
    pub fn counts_processor(&self) -> bool {
        self.processor.is_some()
    }

    /// What it is, for people.
    pub fn describe(&self) -> String {
        let version = if self.legacy { "v1 beside v2" } else { "v2" };
        let held = match (self.bounds_memory(), self.bounds_processes()) {
            (true, true) => "memory and processes are held",
            (true, false) => "memory is held",
            (false, true) => "processes are held",
            (false, false) => "nothing is held by it, time is counted",
        };
        let kill = if self.kill.is_some() { ", all end at once" } else { "" };
        format!("{version}: {held}{kill}")
    }

    /// Kills all at once; whether that was possible.
    pub fn kill(&self) -> bool {
        self.kill.as_ref().is_some_and(|kill| rustix::io::write(kill, b"1").is_ok())
    }

    /// Processor time of all that was ever in the group, in microseconds.
    pub fn processor_us(&self) -> Option<u64> {
        field(&read(self.processor.as_ref()?)?, "usage_usec")
    }

    /// Begins the peak of memory anew, where this kernel can.
    pub fn reset_memory_peak(&mut self) {
        if let Some(Memory { peak: Some(peak), resets, .. }) = &mut self.memory {
            *resets = rustix::io::pwrite(&*peak, b"0", 0).is_ok();
        }
    }

    /// The most memory there has been since the peak was begun anew, where that works.
    pub fn memory_peak(&self) -> Option<u64> {
        let memory = self.memory.as_ref()?;
        number(memory.peak.as_ref().filter(|_| memory.resets)?)
    }

    /// The same, or what there is now; `None` where the kernel does not hold it.
    pub fn most_memory(&self) -> Option<u64> {
        let memory = self.memory.as_ref()?;
        self.memory_peak().or_else(|| number(&memory.now)).or(Some(0))
    }

    /// How many processes the kernel has killed here for memory.
    pub fn memory_kills(&self) -> u64 {
        let kills = self.memory.as_ref().and_then(|memory| field(&read(&memory.kills)?, "oom_kill"));
        kills.unwrap_or(0)
    }

    /// How often a process was refused for the limit.
    pub fn process_refusals(&self) -> u64 {
        let file = self.processes.as_ref().and_then(|processes| processes.refusals.as_ref());
        file.and_then(|file| field(&read(file)?, "max")).unwrap_or(0)
    }

    /// The most processes and threads there have been.
    pub fn processes_peak(&self) -> Option<u64> {
        number(self.processes.as_ref()?.peak.as_ref()?)
    }

    /// How many processes and threads there are.
    pub fn tasks(&self) -> Option<u64> {
        number(self.processes.as_ref()?.now.as_ref()?)
    }
}

/// Where the files of a group are.
struct Place<'a>(BorrowedFd<'a>);

impl Place<'_> {
    fn open(&self, name: &str, access: OFlags) -> io::Result<File> {
        let file = rustix::fs::openat(self.0, name, access | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("{name}: {error}")))?;
        Ok(file.into())
    }

    fn write(&self, name: &str, value: u64) -> io::Result<()> {
        let file = self.open(name, OFlags::WRONLY)?;
        rustix::io::write(&file, value.to_string().as_bytes())
            .map_err(|error| io::Error::other(format!("{name} = {value}: {error}")))?;
        Ok(())
    }

    fn memory(&self, now: &str, peak: &str, kills: &str) -> io::Result<Memory> {
        Ok(Memory {
            now: self.open(now, OFlags::RDONLY)?,
            // Before 6.12 the peak of v2 can only be read.
            peak: self.open(peak, OFlags::RDWR).or_else(|_| self.open(peak, OFlags::RDONLY)).ok(),
            resets: false,
            kills: self.open(kills, OFlags::RDONLY)?,
        })
    }
}

fn read(file: &File) -> Option<String> {
    let mut bytes = [0; READ_BYTES];
    let count = rustix::io::pread(file, &mut bytes, 0).ok()?;
    Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

fn number(file: &File) -> Option<u64> {
    read(file)?.trim().parse().ok()
}

/// The number behind a name, in a file of lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_is_that_of_the_whole_name() {
        let text = "low 0\noom 3\noom_kill 2\noom_group_kill 7\nmax 5\n";
        assert_eq!(
            (field(text, "oom"), field(text, "oom_kill"), field(text, "max")),
            (Some(3), Some(2), Some(5))
        );
        assert_eq!(field(text, "high"), None);
    }

    #[test]
    fn folder_is_what_its_argument_says() {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        for (kind, late) in [(Kind::Full, false), (Kind::Core, true), (Kind::Memory, true)] {
            let folder = Folder::parse(&argument(kind, late), null()).unwrap();
            assert_eq!((folder.kind, folder.late), (kind, late));
        }
        assert!(Folder::parse("other", null()).is_none());
    }

    #[test]
    fn without_a_folder_there_is_no_group() {
        assert!(Group::open(&[], 1, 1).is_err());
    }
}
