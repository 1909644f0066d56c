//! The system calls behind a worker's steps that no safe wrapper exists for; each function is safe to call
//! where its doc says so.

#![expect(unsafe_code, reason = "this is the file that the rest of the crate keeps its unsafe in")]

use std::ffi::c_char;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

/// `struct clone_args` of clone3(2), as of Linux 5.7.
#[repr(C)]
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the names are the manual's")]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// `CLONE_INTO_CGROUP` of clone3(2), which libc knows as a signed number.
pub const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Ends the process at once: no destructor runs, no buffer is flushed. For children that share
/// nothing but a copy of the parent's state.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: always sound; it does not return.
    unsafe { libc::_exit(code) }
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

/// Unblocks every signal and gives each its default action: what a program expects at its start.
pub fn reset_signals() -> Result<(), Errno> {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is always a valid action; numbers that cannot be set (SIGKILL, the
        // threading library's own) answer with an error that means nothing here.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_signal_mask(false)
}

/// Sets the signal mask to all signals, or to none.
pub fn set_signal_mask(block: bool) -> Result<(), Errno> {
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

/// What the last system call of this thread failed with.
pub fn last_errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
