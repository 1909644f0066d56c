//! The system calls that no safe wrapper exists for. This is the crate's one file with `unsafe`;
//! each function is safe to call where its doc says so. Those of workspace quotas are in `sys/disk.rs`.
//!
//! Invariant: the shim and the anchor are single-threaded. `fork` and `clone` rely on it: in a
//! process with one thread no lock can be held by somebody who does not exist in the child.

#![expect(unsafe_code, reason = "this is the file that the rest of the crate keeps its unsafe in")]

pub mod disk;

use std::ffi::{CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub use cellblock_steps::sys::*;
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

/// Blocks every signal, for good or until the process execs and resets them.
pub fn block_signals() -> Result<(), Errno> {
    set_signal_mask(true)
}

/// A descriptor that becomes readable when a child has ended. SIGCHLD must be blocked.
pub fn child_signal_fd() -> Result<OwnedFd, Errno> {
    signal_fd(libc::SIGCHLD)
}

/// A descriptor that becomes readable when SIGTERM has come, which from here on does nothing else. A child has it
/// blocked too, until it resets its signals.
pub fn end_signal_fd() -> Result<OwnedFd, Errno> {
    // SAFETY: `set` is initialised by sigemptyset before it is read; the old mask is not asked for.
    let blocked = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
    };
    if blocked == 0 { signal_fd(libc::SIGTERM) } else { Err(last_errno()) }
}

fn signal_fd(signal: libc::c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: `set` is initialised by sigemptyset; -1 asks for a new descriptor, which is ours.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
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
