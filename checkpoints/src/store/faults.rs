//! Tests let the store's file operations fail: all of them go through [`admit`].

use std::cell::RefCell;
use std::io;

use super::folder::Step;

/// What becomes of the operation that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The disk is full; half of what was to be written was. Later operations work again.
    Full,
    /// The writer dies before it; nothing happens any more.
    Crash,
    /// The writer dies in the middle of it: half of the bytes are written.
    Torn,
}

/// What this thread's operations meet.
#[derive(Default)]
struct Plan {
    fault: Option<(usize, Fault)>,
    dead: bool,
    log: Vec<(Step, String)>,
}

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
}

/// Runs `act`, in which the operation of number `at` (from 0) fails; returns what it returns, and every operation
/// that was tried.
pub(crate) fn with<T>(fault: Option<(usize, Fault)>, act: impl FnOnce() -> T) -> (T, Vec<(Step, String)>) {
    PLAN.set(Plan { fault, ..Plan::default() });
    let result = act();
    (result, PLAN.take().log)
}

/// How many of `bytes` bytes the operation may write, and whether it succeeds after that.
pub(crate) fn admit(step: Step, file: &str, bytes: usize) -> (usize, io::Result<()>) {
    PLAN.with_borrow_mut(|plan| {
        let number = plan.log.len();
        plan.log.push((step, file.to_owned()));
        if plan.dead {
            return (0, Err(io::Error::other("the writer is dead")));
        }
        match plan.fault {
            Some((at, Fault::Full)) if at == number => (bytes / 2, Err(io::ErrorKind::StorageFull.into())),
            Some((at, fault)) if at == number => {
                plan.dead = true;
                (
                    if fault == Fault::Torn { bytes / 2 } else { 0 },
                    Err(io::Error::other("the writer dies here")),
                )
            }
            _ => (bytes, Ok(())),
        }
    })
}
