//! The joint: forks this process once, into another pid namespace, as a child of that namespace's init.
//!
//! A worker must be a child of its sandbox's own init, or neither its exit status nor its end can be relied
//! on. A plain fork(2) after setns(2) makes it ours. So an *intermediate* is born into the namespace, forks
//! the worker and ends, and init inherits it. The intermediate shares our memory (`CLONE_VM`), so the page
//! tables are copied once, and our descriptors (`CLONE_FILES`), so that the pidfd it opens is ours; we sleep
//! until it has ended (`CLONE_VFORK`).
//!
//! The worker is a copy of the intermediate, on the intermediate's little stack. Its copy of our own stack is
//! as we left it, so it goes back there: to it, [`cellblock_joint`] returns a second time, as fork(2) would.
//! That is what the assembly is for. No Rust frame is left twice in one process.

use std::arch::global_asm;
use std::ffi::{c_int, c_long, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

use cellblock_steps::sys::{CloneArgs, INTO_CGROUP};
use rustix::io::Errno;

/// The intermediate's stack: fork(3) with its handlers takes a few KiB.
const STACK_BYTES: usize = 256 << 10;

/// What the intermediate is given and leaves behind, in our memory.
#[repr(C)]
struct Shared {
    /// Of [`cellblock_joint`], for the worker: callee-saved registers lie on the stack it points to.
    stack_pointer: usize,
    /// The worker's number in its own pid namespace; the negative errno when there is none.
    worker: AtomicI32,
    /// The worker's pidfd, or the negative errno.
    pidfd: AtomicI32,
}

unsafe extern "C" {
    /// clone3(2) with `args`, which has a stack of its own: the child calls `intermediate(shared)` on it,
    /// which must not return. Returns the child's pid or the negative errno; and 0 in whichever process is
    /// later led back by [`cellblock_joint_return`].
    fn cellblock_joint(
        args: *const CloneArgs,
        size: usize,
        shared: *mut Shared,
        intermediate: extern "C" fn(*mut Shared) -> !,
    ) -> c_long;

    /// Leaves this stack and returns 0 from the [`cellblock_joint`] that `stack_pointer` was kept by.
    fn cellblock_joint_return(stack_pointer: usize) -> !;
}

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".hidden cellblock_joint",
    ".hidden cellblock_joint_return",
    ".globl cellblock_joint",
    ".type cellblock_joint, @function",
    "cellblock_joint:",
    "    push rbx",
    "    push rbp",
    "    push r12",
    "    push r13",
    "    push r14",
    "    push r15",
    "    mov [rdx], rsp",
    // In registers of the child's own.
    "    mov r12, rdx",
    "    mov r13, rcx",
    "    mov eax, 435", // clone3
    "    syscall",
    "    test rax, rax",
    "    jz 2f",
    "1:",
    "    pop r15",
    "    pop r14",
    "    pop r13",
    "    pop r12",
    "    pop rbp",
    "    pop rbx",
    "    ret",
    "2:",
    "    xor ebp, ebp",
    "    mov rdi, r12",
    "    and rsp, -16",
    "    call r13",
    "    ud2",
    ".globl cellblock_joint_return",
    ".type cellblock_joint_return, @function",
    "cellblock_joint_return:",
    "    mov rsp, rdi",
    "    xor eax, eax",
    "    jmp 1b",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".hidden cellblock_joint",
    ".hidden cellblock_joint_return",
    ".globl cellblock_joint",
    ".type cellblock_joint, @function",
    "cellblock_joint:",
    "    stp x29, x30, [sp, #-160]!",
    "    stp x19, x20, [sp, #16]",
    "    stp x21, x22, [sp, #32]",
    "    stp x23, x24, [sp, #48]",
    "    stp x25, x26, [sp, #64]",
    "    stp x27, x28, [sp, #80]",
    "    stp d8, d9, [sp, #96]",
    "    stp d10, d11, [sp, #112]",
    "    stp d12, d13, [sp, #128]",
    "    stp d14, d15, [sp, #144]",
    "    mov x9, sp",
    "    str x9, [x2]",
    "    mov x19, x2",
    "    mov x20, x3",
    "    mov x8, #435", // clone3
    "    svc #0",
    "    cbz x0, 2f",
    "1:",
    "    ldp x19, x20, [sp, #16]",
    "    ldp x21, x22, [sp, #32]",
    "    ldp x23, x24, [sp, #48]",
    "    ldp x25, x26, [sp, #64]",
    "    ldp x27, x28, [sp, #80]",
    "    ldp d8, d9, [sp, #96]",
    "    ldp d10, d11, [sp, #112]",
    "    ldp d12, d13, [sp, #128]",
    "    ldp d14, d15, [sp, #144]",
    "    ldp x29, x30, [sp], #160",
    "    ret",
    "2:",
    "    mov x29, xzr",
    "    mov x0, x19",
    "    blr x20",
    "    brk #1",
    ".globl cellblock_joint_return",
    ".type cellblock_joint_return, @function",
    "cellblock_joint_return:",
    "    mov sp, x0",
    "    mov x0, xzr",
    "    b 1b",
);

/// Which side of the joint this is.
pub(crate) enum Side {
    /// The zygote; the worker has this number in its pid namespace, and this is its pidfd.
    Zygote { worker: c_int, pidfd: OwnedFd },
    /// The new worker.
    Worker,
}

/// The memory that an intermediate runs in, made once for many forks.
pub(crate) struct Joint {
    stack: *mut c_void,
    shared: Box<Shared>,
}

impl Joint {
    /// # Errors
    /// There is no memory for its stack.
    pub(crate) fn new() -> Result<Self, Errno> {
        // SAFETY: a fresh private mapping; null lets the kernel choose where.
        let stack = unsafe {
            libc::mmap(
                ptr::null_mut(),
                STACK_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if stack == libc::MAP_FAILED {
            return Err(cellblock_steps::sys::last_errno());
        }
        let none = || AtomicI32::new(-libc::ECHILD);
        Ok(Joint { stack, shared: Box::new(Shared { stack_pointer: 0, worker: none(), pidfd: none() }) })
    }

    /// Forks into the pid namespace that this process's children are born into, and into `cgroup` (v2).
    /// Everything that must be in order around a fork (the interpreter's locks) is the caller's.
    ///
    /// # Errors
    /// There is no new process.
    pub(crate) fn fork(&mut self, cgroup: Option<BorrowedFd<'_>>) -> Result<Side, Errno> {
        self.shared.worker.store(-libc::ECHILD, Ordering::Relaxed);
        self.shared.pidfd.store(-libc::ECHILD, Ordering::Relaxed);
        let shared = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES;
        let args = CloneArgs {
            flags: u64::from(shared.cast_unsigned()) | cgroup.map_or(0, |_| INTO_CGROUP),
            exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
            stack: self.stack as u64,
            stack_size: STACK_BYTES as u64,
            cgroup: cgroup.map_or(0, |folder| u64::from(folder.as_raw_fd().cast_unsigned())),
            ..CloneArgs::default()
        };
        // SAFETY: `args` asks for a child on a stack of its own, which nobody else uses, while we sleep
        // (VFORK). It runs `intermediate` alone, which touches that stack, `shared`, and what fork(3)
        // touches, and never returns. The call returns here once in this process, and once in the worker,
        // whose memory is its own.
        let pid = unsafe {
            cellblock_joint(&raw const args, size_of::<CloneArgs>(), &raw mut *self.shared, intermediate)
        };
        match pid {
            0 => Ok(Side::Worker),
            pid if pid > 0 => {
                let pid = c_int::try_from(pid).unwrap_or(-1);
                // SAFETY: our own child, and nothing is written.
                while unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) } < 0
                    && cellblock_steps::sys::last_errno() == Errno::INTR
                {}
                self.made()
            }
            error => Err(Errno::from_raw_os_error(c_int::try_from(-error).unwrap_or(libc::EIO))),
        }
    }

    fn made(&self) -> Result<Side, Errno> {
        let (worker, pidfd) =
            (self.shared.worker.load(Ordering::Relaxed), self.shared.pidfd.load(Ordering::Relaxed));
        if worker < 0 || pidfd < 0 {
            return Err(Errno::from_raw_os_error(-worker.min(pidfd)));
        }
        // SAFETY: the intermediate has opened it in our table, and told nobody else.
        Ok(Side::Zygote { worker, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
    }
}

impl Drop for Joint {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody runs on it: intermediates have ended, and a worker has left it.
        unsafe { libc::munmap(self.stack, STACK_BYTES) };
    }
}

extern "C" fn intermediate(shared: *mut Shared) -> ! {
    // SAFETY: it points into the sleeping zygote, whose memory is ours; in the worker to its own copy. The
    // fork is the library's and not the bare system call, so that the library's own state in the worker is
    // right; the process has one thread, so that what it copies is consistent.
    unsafe {
        let worker = libc::fork();
        if worker == 0 {
            cellblock_joint_return((*shared).stack_pointer);
        }
        let error = |result: c_long| {
            if result < 0 { -cellblock_steps::sys::last_errno().raw_os_error() } else { result as c_int }
        };
        (*shared).worker.store(error(c_long::from(worker)), Ordering::Relaxed);
        if worker > 0 {
            (*shared).pidfd.store(error(libc::syscall(libc::SYS_pidfd_open, worker, 0)), Ordering::Relaxed);
        }
        libc::_exit(0)
    }
}
