//! What the interpreter wants done around a fork.

use std::ffi::{CStr, c_void};

use crate::sys::Errno;

/// They are the host program's, and found when needed, so
/// that the library can be loaded elsewhere too.
pub(crate) struct Interpreter {
    pub(crate) before: extern "C" fn(),
    pub(crate) in_parent: extern "C" fn(),
    pub(crate) in_child: extern "C" fn(),
}

impl Interpreter {
    pub(crate) fn find() -> Result<Self, Errno> {
        let find = |name: &CStr| -> Result<*mut c_void, Errno> {
            // SAFETY: a lookup by a valid name in what is loaded.
            let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            if found.is_null() { Err(Errno(libc::ENOSYS)) } else { Ok(found) }
        };
        // SAFETY: all three are functions without arguments or result (Python/C API, "Operating System
        // Utilities"), in every CPython since 3.7.
        unsafe {
            let function = |found: *mut c_void| std::mem::transmute::<*mut c_void, extern "C" fn()>(found);
            Ok(Interpreter {
                before: function(find(c"PyOS_BeforeFork")?),
                in_parent: function(find(c"PyOS_AfterFork_Parent")?),
                in_child: function(find(c"PyOS_AfterFork_Child")?),
            })
        }
    }
}
