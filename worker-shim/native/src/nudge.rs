//! A SIGINT that is never slept through.
//!
//! CPython's handler only sets a flag. A signal that arrives after the interpreter last looked at
//! the flag and before the system call of `time.sleep(60)` begins is seen sixty seconds later
//! (1 of 400 interrupts sent just when a cell starts to sleep). So after each SIGINT a timer sends
//! the main thread another, which ends a system call but says nothing new, until Python's handler
//! has run.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use crate::sys::Errno;

/// Between nudges.
const NUDGE_NS: i64 = 20_000_000;

/// What Python had installed: its C handler.
static PYTHON_HANDLER: AtomicUsize = AtomicUsize::new(0);
/// The timer, once made; timers do not survive a fork, handles do.
static TIMER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
static HAS_TIMER: AtomicBool = AtomicBool::new(false);

/// Puts ours before the SIGINT handler that Python has just installed. Main thread only.
pub(crate) fn install() -> Result<(), Errno> {
    if !HAS_TIMER.load(Ordering::Relaxed) {
        make_timer()?;
    }
    let mut current = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null `act` only reads; sigaction fills `current` or fails.
    let mut action = unsafe {
        if libc::sigaction(libc::SIGINT, ptr::null(), current.as_mut_ptr()) != 0 {
            return Err(Errno::last());
        }
        current.assume_init()
    };
    let ours = on_sigint as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) as usize;
    let special = [ours, libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction);
    if special || action.sa_flags & libc::SA_SIGINFO != 0 {
        return Ok(());
    }
    PYTHON_HANDLER.store(action.sa_sigaction, Ordering::Relaxed);
    action.sa_sigaction = ours;
    action.sa_flags |= libc::SA_SIGINFO;
    // SAFETY: `action` is Python's own with our handler, which has SA_SIGINFO's signature.
    match unsafe { libc::sigaction(libc::SIGINT, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(Errno::last()),
    }
}

/// Python's handler has run: no more nudges.
pub(crate) fn seen() {
    set_timer(0);
}

/// In a forked child: the timer was the parent's.
pub(crate) fn forget() {
    HAS_TIMER.store(false, Ordering::Relaxed);
}

fn make_timer() -> Result<(), Errno> {
    // SAFETY: an all-zero sigevent is valid; the thread is this one, which lives as long as the process.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_THREAD_ID;
    event.sigev_signo = libc::SIGINT;
    // SAFETY: gettid has no arguments.
    event.sigev_notify_thread_id = unsafe { libc::gettid() };
    let mut timer = ptr::null_mut();
    // SAFETY: both pointers are valid for the call.
    if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) } != 0 {
        return Err(Errno::last());
    }
    TIMER.store(timer, Ordering::Relaxed);
    HAS_TIMER.store(true, Ordering::Relaxed);
    Ok(())
}

extern "C" fn on_sigint(signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel gives a valid siginfo to an SA_SIGINFO handler.
    if unsafe { (*info).si_code } == libc::SI_TIMER {
        return;
    }
    // SAFETY: errno is this thread's; a handler must leave it as it was.
    let errno = unsafe { *libc::__errno_location() };
    let python = PYTHON_HANDLER.load(Ordering::Relaxed);
    if python != 0 {
        // SAFETY: `install` stored a handler without SA_SIGINFO: a function of one int.
        let python = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(python) };
        python(signal);
    }
    set_timer(NUDGE_NS);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

/// Every `interval_ns` from now on; 0 stops. Only calls that are allowed in a signal handler.
fn set_timer(interval_ns: i64) {
    if !HAS_TIMER.load(Ordering::Relaxed) {
        return;
    }
    let every = libc::timespec { tv_sec: 0, tv_nsec: interval_ns };
    let times = libc::itimerspec { it_interval: every, it_value: every };
    // SAFETY: the timer is ours and never deleted; a null old value is allowed.
    unsafe { libc::timer_settime(TIMER.load(Ordering::Relaxed), 0, &times, ptr::null_mut()) };
}
