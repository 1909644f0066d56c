//! `/dev` of one sandbox: a folder in memory with nodes that are nobody else's.
//!
//! Nodes bound from the host are the host's inodes, and a lock on one (`flock`) is seen by all who have
//! it open. Only host root can make nodes; an ordinary user's sandboxes have the host's.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::sys;

/// Nodes, links, folders, and the folder itself.
const INODES: &str = "32";

/// The numbers of a node that anybody may have, by Linux's list of devices (admin-guide/devices.txt).
fn number(name: &str) -> io::Result<u64> {
    let minor = match name {
        "null" => 3,
        "zero" => 5,
        "full" => 7,
        "random" => 8,
        "urandom" => 9,
        _ => return Err(io::Error::other(format!("{name} is not among the harmless devices"))),
    };
    Ok(rustix::fs::makedev(1, minor))
}

/// Makes it, as a detached mount that is read-only but for what is written through the nodes.
pub fn make(names: &[String], links: &[(String, PathBuf)], folders: &[String]) -> io::Result<OwnedFd> {
    let tmpfs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("size", "4096"), ("nr_inodes", INODES), ("mode", "755")] {
        rustix::mount::fsconfig_set_string(&tmpfs, key, value)?;
    }
    rustix::mount::fsconfig_create(&tmpfs)?;
    let flags = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let folder = rustix::mount::fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    let everybody = Mode::from_raw_mode(0o666);
    for name in names {
        rustix::fs::mknodat(&folder, name, FileType::CharacterDevice, everybody, number(name)?)?;
        // What the umask took away.
        rustix::fs::chmodat(&folder, name, everybody, AtFlags::empty())?;
    }
    for (name, target) in links {
        rustix::fs::symlinkat(target, &folder, name)?;
    }
    for name in folders {
        match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    sys::mount_setattr(folder.as_fd(), false, libc::MOUNT_ATTR_RDONLY, None)?;
    Ok(folder)
}
