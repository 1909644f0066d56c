//! The worker's native half, loaded with ctypes: a mark, or a mark and a frame, written in one piece.
//!
//! Python runs signal handlers between its instructions, so whatever is done in one call here is
//! whole or not begun when a `KeyboardInterrupt` is raised. Each call has two phases:
//!
//! 1. *Wait* until pipes and socket take more. Nothing has been written; a signal ends the call
//!    with `-EINTR`, so that a cell held back by a slow reader can still be interrupted.
//! 2. *Write*, with SIGINT blocked, and count the mark. From here on the call ends whole or with an
//!    error that ends the worker.
//!
//! Besides, it keeps a SIGINT from being slept through (`nudge.rs`), and has the zygote's part: forking a
//! worker into a sandbox (`joint.rs`, `zygote.rs`). And the worker's part of checkpoints (`checkpoint/`).
//!
//! Deliberately absent: any lock or thread of its own (the worker forks), and any knowledge of what
//! a frame says.

mod aside;
mod checkpoint;
mod interpreter;
mod joint;
mod nudge;
mod sys;
mod zygote;

use std::ffi::c_int;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::OnceLock;

use sys::{Errno, SigintBlocked};

/// Both pipes, and the mark last written into them. Python holds it; see `native.py` for its twin.
#[repr(C)]
#[derive(Debug)]
pub struct Pipes {
    /// Write end of the stdout pipe.
    pub out: c_int,
    /// Write end of the stderr pipe.
    pub err: c_int,
    /// Random, one per worker.
    pub nonce: [u8; 16],
    /// Number of the last mark in both pipes; 0 before the first.
    pub number: u64,
}

/// The pipes as they were at the first mark, before any user code ran.
static BEGUN_AS: OnceLock<[Option<(u64, u64)>; 2]> = OnceLock::new();

/// Length of a mark: 16 bytes of nonce, then the number (see `cellblock_proto::worker::Mark`).
const MARK_BYTES: usize = 24;

impl Pipes {
    /// Until both pipes take a mark. `PIPE_BUF` guarantees that one is never torn.
    fn wait(&self, signals: &SigintBlocked) -> Result<(), Errno> {
        signals.wait_writable(&[self.out, self.err])
    }

    fn write_mark(&mut self, signals: &SigintBlocked) -> Result<(), Errno> {
        let mut mark = [0; MARK_BYTES];
        mark[..16].copy_from_slice(&self.nonce);
        mark[16..].copy_from_slice(&(self.number + 1).to_le_bytes());
        let pipes = [self.out, self.err];
        let begun_as = BEGUN_AS.get_or_init(|| pipes.map(sys::identity));
        for (pipe, begun_as) in pipes.into_iter().zip(begun_as) {
            // User code may have closed its stdout, or put a file of its own in its place: no mark
            // belongs there, and the shim knows that one may be missing.
            if begun_as.is_some() && sys::identity(pipe) == *begun_as {
                let _ = sys::write_all(pipe, &mark, signals);
            }
        }
        self.number += 1;
        Ok(())
    }
}

/// Writes the next mark into both pipes. Returns 0, or the negative errno; after `-EINTR` nothing
/// has been written.
///
/// # Safety
/// `pipes` points to a [`Pipes`] that nobody else touches during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellblock_write_mark(pipes: *mut Pipes) -> c_int {
    // SAFETY: the caller keeps the structure alive and its own for the call (Python: the channel's lock).
    let pipes = unsafe { &mut *pipes };
    code(SigintBlocked::during(|signals| {
        pipes.wait(signals)?;
        pipes.write_mark(signals)
    }))
}

/// Sends header, meta and payload as one message and then, when `pipes` is not null, the next mark
/// into both pipes: the frame's place in the text. With `use_memfd` the payload goes into a sealed
/// memfd that is sent along. Returns 0, or the negative errno; after `-EINTR` nothing has been written.
///
/// # Safety
/// `message` and `payload` are readable for their lengths; `pipes` is null or as for
/// [`cellblock_write_mark`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellblock_send_frame(
    socket: c_int,
    message: *const u8,
    message_bytes: usize,
    payload: *const u8,
    payload_bytes: usize,
    use_memfd: c_int,
    pipes: *mut Pipes,
) -> c_int {
    // SAFETY: the caller vouches for both ranges.
    let (message, payload) = unsafe { (slice(message, message_bytes), slice(payload, payload_bytes)) };
    // SAFETY: as for `cellblock_write_mark`; null is "no mark".
    let pipes = unsafe { pipes.as_mut() };
    code(SigintBlocked::during(|signals| {
        let memfd = if use_memfd != 0 { Some(sys::sealed_memfd(payload)?) } else { None };
        let inline = if memfd.is_some() { &[][..] } else { payload };
        signals.wait_writable(&[socket])?;
        if let Some(pipes) = &pipes {
            pipes.wait(signals)?;
        }
        // The frame first: whoever has read mark k from a pipe and then empties the socket has all
        // frames up to k, and need not guess whether one is still to come for this mark.
        sys::send(socket, message, inline, memfd.as_ref().map(OwnedFd::as_raw_fd), signals)?;
        pipes.map_or(Ok(()), |pipes| pipes.write_mark(signals))
    }))
}

/// Puts the handler that nudges before Python's SIGINT handler; after every `signal.signal` again.
/// Returns 0, or the negative errno. Main thread only.
#[unsafe(no_mangle)]
pub extern "C" fn cellblock_nudge_install() -> c_int {
    code(nudge::install())
}

/// Says that Python's SIGINT handler has run.
#[unsafe(no_mangle)]
pub extern "C" fn cellblock_nudge_seen() {
    nudge::seen();
}

/// Forks this process aside (see `aside.rs`). Returns 0 in the new process, 1 in the old one, which has its pidfd in
/// `pidfd` then, or the negative errno. With the interpreter's lock held.
///
/// # Safety
/// `pidfd` points to an int that nobody else touches during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellblock_fork_aside(pidfd: *mut c_int) -> c_int {
    match aside::fork() {
        Ok(None) => 0,
        Ok(Some(new)) => {
            // SAFETY: the caller vouches for it.
            unsafe { *pidfd = new.into_raw_fd() };
            1
        }
        Err(Errno(errno)) => -errno,
    }
}

/// Says that this process is a forked child.
#[unsafe(no_mangle)]
pub extern "C" fn cellblock_nudge_forget() {
    nudge::forget();
}

/// In a zygote: takes requests on `listener` and forks workers. Returns in each of them, sealed but for
/// its last steps, the descriptor for [`cellblock_seal`], with `nonce` (16 bytes) filled and `spare` set to whether
/// nobody waits for it yet; in the zygote only when it cannot go on, the negative errno. The interpreter's lock must be held.
///
/// # Safety
/// `nonce` can be written for 16 bytes, `spare` for one integer, and the process has one thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cellblock_zygote_serve(listener: c_int, nonce: *mut u8, spare: *mut c_int) -> c_int {
    match zygote::serve(listener) {
        Ok(worker) => {
            // SAFETY: the caller vouches for both ranges.
            unsafe {
                std::ptr::copy_nonoverlapping(worker.nonce.as_ptr(), nonce, worker.nonce.len());
                *spare = c_int::from(worker.spare);
            }
            worker.channel
        }
        Err(Errno(number)) => -number,
    }
}

/// In a forked worker: waits until the sandbox is a notebook's, and takes the steps that are left. Returns 0;
/// on failure the process ends. The interpreter's lock must be held.
#[unsafe(no_mangle)]
pub extern "C" fn cellblock_seal(channel: c_int) -> c_int {
    zygote::seal(channel);
    0
}

/// # Safety
/// `start` is readable for `length` bytes, or `length` is 0.
unsafe fn slice<'a>(start: *const u8, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the caller vouches for the range; the lifetime ends with the exported call.
    unsafe { std::slice::from_raw_parts(start, length) }
}

fn code(result: Result<(), Errno>) -> c_int {
    match result {
        Ok(()) => 0,
        Err(Errno(number)) => -number,
    }
}
