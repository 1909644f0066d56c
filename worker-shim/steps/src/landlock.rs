//! Landlock, by what the kernel's version of it (its ABI) knows.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::sys;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// Bind and connect.
const TCP: u64 = 0b11;
/// Abstract Unix sockets and signals.
const SCOPES: u64 = 0b11;

/// The first ABI that can allow a rename between folders; before it, every one is refused, which
/// breaks more programs than the rules hold back.
const USEFUL: u32 = 2;

/// What an ABI restricts.
pub struct Rights {
    /// Of `LANDLOCK_ACCESS_FS_*`.
    pub files: u64,
    /// Of `LANDLOCK_ACCESS_NET_*`.
    pub net: u64,
    /// Of `LANDLOCK_SCOPE_*`.
    pub scopes: u64,
}

/// What this kernel restricts; `None` where it has no Landlock of use.
pub fn rights(abi: u32, tcp: bool) -> Option<Rights> {
    if abi < USEFUL {
        return None;
    }
    // Rights are numbered in the order they came: 14 with ABI 2, then truncate, then ioctl.
    let known = if abi >= 5 {
        16
    } else if abi >= 3 {
        15
    } else {
        14
    };
    Some(Rights {
        files: (1 << known) - 1,
        net: if abi >= 4 && !tcp { TCP } else { 0 },
        scopes: if abi >= 6 { SCOPES } else { 0 },
    })
}

/// Restricts this thread and what it becomes. Needs no_new_privs.
///
/// # Errors
/// Also where the kernel has nothing of use: whether that is the end is the profile's to say.
pub fn restrict(writable: &[PathBuf], files: &[PathBuf], tcp: bool) -> io::Result<()> {
    let abi = sys::landlock_abi();
    let rights = rights(abi, tcp).ok_or_else(|| {
        io::Error::other(format!("the kernel has ABI {abi} of it, at least {USEFUL} is of use"))
    })?;
    let rules = sys::landlock_ruleset(rights.files, rights.net, rights.scopes)?;
    let allow = |path: &Path, access: u64| -> io::Result<()> {
        let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(sys::landlock_allow(rules.as_fd(), place.as_fd(), access & rights.files)?)
    };
    allow(Path::new("/"), READ_FILE | READ_DIR | EXECUTE)?;
    for path in writable {
        allow(path, !(MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV))?;
    }
    for path in files {
        allow(path, READ_FILE | WRITE_FILE | TRUNCATE)?;
    }
    Ok(sys::landlock_restrict(rules.as_fd())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_asked_for_nothing_it_does_not_know() {
        assert!(rights(0, false).is_none() && rights(1, false).is_none());
        let two = rights(2, false).unwrap();
        assert_eq!((two.files & (TRUNCATE | IOCTL_DEV), two.net, two.scopes), (0, 0, 0));
        let seven = rights(7, true).unwrap();
        assert_eq!((seven.files & IOCTL_DEV, seven.net, seven.scopes), (IOCTL_DEV, 0, SCOPES));
    }
}
