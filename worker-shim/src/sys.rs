//! The system calls that no safe wrapper exists for. This is the crate's one file with `unsafe`;
//! each function is safe to call where its doc says so. Those of workspace quotas are in `sys/disk.rs`.
//!
//! Invariant: the shim and the anchor are single-threaded. `fork` and `clone` rely on it: in a
//! process with one thread no lock can be held by somebody who does not exist in the child.

#![expect(unsafe_code, reason = "this is the file that the rest of the crate keeps its unsafe in")]

pub mod disk;

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::process::Pid;

/// Which side of a fork this is.
pub enum Forked {
    /// The new process.
    Child,
    /// The old one; the child's pidfd comes along.
    Parent {
        /// Signals and waits for exactly this child.
        pidfd: OwnedFd,
        /// Its number in the caller's pid namespace.
        pid: Pid,
    },
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP` of clone3(2), which libc knows as a signed number.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// fork(2) into new namespaces (`CLONE_NEW*` flags; 0 for a plain fork), with a pidfd. `cgroup` is the
/// folder of a cgroup (v2) that the child is born into.
pub fn clone(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked, Errno> {
    let mut pidfd: RawFd = -1;
    let args = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64 | cgroup.map_or(0, |_| INTO_CGROUP),
        cgroup: cgroup.map_or(0, |folder| folder.as_raw_fd() as u64),
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM the child has a copy of everything, as after fork(2), and the
    // process is single-threaded (module invariant), so the copy is consistent. `args` and `pidfd`
    // outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match result {
        0 => Ok(Forked::Child),
        pid if pid > 0 => {
            let pid = Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)).ok_or(Errno::INVAL)?;
            // SAFETY: the kernel has put a new descriptor there, and nobody else knows its number.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pidfd, pid })
        }
        _ => Err(last_errno()),
    }
}

/// Ends the process at once: no destructor runs, no buffer is flushed. For children that share
/// nothing but a copy of the parent's state.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: always sound; it does not return.
    unsafe { libc::_exit(code) }
}

/// execve(2). Returns only when it failed.
pub fn exec(argv: &[String], environment: &[(String, String)]) -> Errno {
    let strings = |texts: &mut dyn Iterator<Item = String>| -> Result<Vec<CString>, Errno> {
        texts.map(|text| CString::new(text).map_err(|_| Errno::INVAL)).collect()
    };
    let argv = strings(&mut argv.iter().cloned());
    let environment = strings(&mut environment.iter().map(|(key, value)| format!("{key}={value}")));
    let (argv, environment) = match (argv, environment) {
        (Ok(argv), Ok(environment)) if !argv.is_empty() => (argv, environment),
        _ => return Errno::INVAL,
    };
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv_pointers, environment_pointers) = (pointers(&argv), pointers(&environment));
    // SAFETY: both arrays are null-terminated and point to strings that live until after the call.
    unsafe { libc::execve(argv_pointers[0], argv_pointers.as_ptr(), environment_pointers.as_ptr()) };
    last_errno()
}

/// Sets mount attributes (`MOUNT_ATTR_*`) on the mount that `tree` is, and on those below it when
/// `recursive`, and makes them private: a copy of a shared mount would carry what is mounted on it back
/// to where it was copied from. `idmap` is a user namespace for `MOUNT_ATTR_IDMAP`.
pub fn mount_setattr(
    tree: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    idmap: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: set | if idmap.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 },
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: idmap.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty string and `attributes` has the size that is said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Joins a new, empty session keyring. A kernel without keys has none to hide.
pub fn new_session_keyring() -> Result<(), Errno> {
    let no_name = std::ptr::null::<c_char>();
    // SAFETY: a null name asks for an anonymous keyring; nothing else is passed.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, no_name) };
    match last_errno() {
        _ if result >= 0 => Ok(()),
        Errno::NOSYS => Ok(()),
        error => Err(error),
    }
}

/// Closes every descriptor from `first` on.
///
/// The caller must not use any descriptor it still owns from there on: this is for the moment
/// before exec and for children that own nothing but what stands below `first`.
pub fn close_from(first: RawFd) -> Result<(), Errno> {
    // SAFETY: closing is no memory access; that no owner uses its descriptor again is the caller's
    // promise, kept because the callers exec or have forgotten (`forget`) all they own.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Puts `fds` at descriptors 0, 1, 2, … of this process, across exec, and closes all others.
pub fn install_files(fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    // First above all targets, so that no target overwrites a source still needed.
    let base = i32::try_from(fds.len()).map_err(|_| Errno::MFILE)?.max(16);
    let mut high = Vec::new();
    for fd in fds {
        // SAFETY: duplicates a live descriptor to a free number.
        let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, base) };
        if copy < 0 {
            return Err(last_errno());
        }
        high.push(copy);
    }
    for (target, source) in high.iter().enumerate() {
        let target = i32::try_from(target).map_err(|_| Errno::MFILE)?;
        // SAFETY: `dup2` closes `target` first; this process is about to exec and its owners of
        // low descriptors do not run again.
        if unsafe { libc::dup2(*source, target) } < 0 {
            return Err(last_errno());
        }
    }
    close_from(i32::try_from(fds.len()).map_err(|_| Errno::MFILE)?)
}

/// Blocks every signal, for good or until the process execs and resets them.
pub fn block_signals() -> Result<(), Errno> {
    set_signal_mask(true)
}

/// Unblocks every signal and gives each its default action: what a program expects at its start.
pub fn reset_signals() -> Result<(), Errno> {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is always a valid action; numbers that cannot be set (SIGKILL, the
        // threading library's own) answer with an error that means nothing here.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_signal_mask(false)
}

fn set_signal_mask(block: bool) -> Result<(), Errno> {
    // SAFETY: `set` is written by sigemptyset/sigfillset before it is read.
    let result = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        if block {
            libc::sigfillset(&raw mut set)
        } else {
            libc::sigemptyset(&raw mut set)
        };
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// A descriptor that becomes readable when a child has ended. SIGCHLD must be blocked.
pub fn child_signal_fd() -> Result<OwnedFd, Errno> {
    // SAFETY: `set` is initialised by sigemptyset; -1 asks for a new descriptor, which is ours.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(last_errno()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Takes over an inherited descriptor by number, once per number and process.
pub fn inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_GETFD only asks.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(last_errno());
    }
    // SAFETY: it is open, was passed to this process at exec, and nothing else in it knows the
    // number: callers take 0 (the supervisor's socket), 3 and 4 (the outer namespaces) once each.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Writes one u64 at the beginning of a page shared with the worker.
pub struct SharedWord {
    page: *mut u64,
}

impl SharedWord {
    /// Maps the first page of `memfd`, which must be at least a page long.
    pub fn map(memfd: BorrowedFd<'_>) -> Result<Self, Errno> {
        // SAFETY: a fresh shared mapping of a page; null lets the kernel choose where.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                memfd.as_raw_fd(),
                0,
            )
        };
        if page == libc::MAP_FAILED { Err(last_errno()) } else { Ok(SharedWord { page: page.cast() }) }
    }

    /// Stores a value; the worker may read it at any moment.
    pub fn store(&self, value: u64) {
        // SAFETY: the page is mapped and aligned for as long as `self` lives (it is sealed against
        // shrinking, so the worker cannot take it away), and is only ever accessed atomically here.
        unsafe { std::sync::atomic::AtomicU64::from_ptr(self.page) }
            .store(value, std::sync::atomic::Ordering::SeqCst);
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

/// The version of Landlock that this kernel has; 0 without any.
pub fn landlock_abi() -> u32 {
    let nothing = std::ptr::null::<u64>();
    // SAFETY: no pointer is passed; flag 1 (VERSION) only asks.
    let result = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, 1) };
    u32::try_from(result).unwrap_or(0)
}

/// A set of Landlock rules that refuses these rights where no rule allows them.
pub fn landlock_ruleset(files: u64, net: u64, scopes: u64) -> Result<OwnedFd, Errno> {
    let handled = [files, net, scopes];
    // SAFETY: `handled` has the layout of `landlock_ruleset_attr` and the size that is said. A kernel
    // with a shorter one takes it as long as what it does not know is zero.
    let result = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, handled.as_ptr(), size_of_val(&handled), 0)
    };
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just made it, and nobody else knows its number.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_errno()),
    }
}

/// Allows `access` on a file, or on a folder and all below it. A file takes the rights of files only.
pub fn landlock_allow(rules: BorrowedFd<'_>, place: BorrowedFd<'_>, access: u64) -> Result<(), Errno> {
    #[repr(C, packed)]
    struct PathBeneath {
        access: u64,
        parent: RawFd,
    }
    let rule = PathBeneath { access, parent: place.as_raw_fd() };
    // SAFETY: `rule` has the layout of `landlock_path_beneath_attr`, which rule type 1 reads.
    let result =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), 1, &raw const rule, 0) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Puts this thread, and all that comes of it, under the rules, for good.
pub fn landlock_restrict(rules: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: takes a descriptor and no pointer.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Brings the loopback of our network namespace up.
pub fn loopback_up() -> Result<(), Errno> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: all zero is a valid ifreq: a name, and a union of plain numbers.
    let mut request = unsafe { std::mem::zeroed::<libc::ifreq>() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives until after the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}
