//! A fork that is no child of ours: user code that waits for any of its children (`os.wait`) must not meet one that it
//! has not made. As with a worker (see `joint.rs`) an intermediate makes it and ends, and the sandbox's init inherits it.

use std::os::fd::OwnedFd;

use crate::interpreter::Interpreter;
use crate::joint::{Joint, Side};
use crate::sys::Errno;

/// Forks. `None` in the new process, its pidfd in the old one. With the interpreter's lock held.
pub(crate) fn fork() -> Result<Option<OwnedFd>, Errno> {
    let from = |error: rustix::io::Errno| Errno(error.raw_os_error());
    let interpreter = Interpreter::find()?;
    let mut joint = Joint::new().map_err(from)?;
    (interpreter.before)();
    match joint.fork(None) {
        Ok(Side::Worker) => {
            (interpreter.in_child)();
            Ok(None)
        }
        Ok(Side::Zygote { pidfd, .. }) => {
            (interpreter.in_parent)();
            Ok(Some(pidfd))
        }
        Err(error) => {
            (interpreter.in_parent)();
            Err(from(error))
        }
    }
}
