//! An overlay over each read-only tree: the same files, behind inodes that are this sandbox's own.
//!
//! Without it, all sandboxes and the host share the inodes of `/usr`: a lock that one takes on
//! `/usr/bin/env` another one sees, and so does a watch. An overlay that has no upper layer is
//! read-only and costs an inode per file that is looked at.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

/// A mount that is to be covered, and what is in it now.
struct Place {
    path: PathBuf,
    tree: OwnedFd,
}

/// Covers each of these mounts and each that lies below one. `empty` is the second layer that an
/// overlay without an upper one must have.
pub fn cover(targets: &[PathBuf], empty: PathBuf) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut places = Vec::new();
    for path in below(&mounts, targets) {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let tree = rustix::fs::open(&path, flags, Mode::empty())?;
        // All are opened before the first is covered: what lies below one is hidden from then on.
        places.push(Place { path, tree });
    }
    for Place { path, tree } in &places {
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode);
        if kind != rustix::fs::FileType::Directory {
            // A file of its own: there is no overlay of a file, so it is bound again over what covers it.
            let source = format!("/proc/self/fd/{}", tree.as_raw_fd());
            rustix::mount::mount_bind(source, path)?;
            continue;
        }
        let layers = format!("lowerdir=/proc/self/fd/{}:{},userxattr", tree.as_raw_fd(), empty.display());
        let options = std::ffi::CString::new(layers)?;
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("overlay", path, "overlay", flags, Some(options.as_c_str()))?;
    }
    Ok(())
}

/// The mount points at or below the targets, those above first.
fn below(mountinfo: &str, targets: &[PathBuf]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(unescape))
        .filter(|point| targets.iter().any(|target| point.starts_with(target)))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// mountinfo writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.filter(|_| bytes[at] == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    Path::new(&std::ffi::OsString::from_vec(plain)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_target_are_found_once_and_parents_first() {
        let info = "1 0 8:1 / / rw - ext4 a rw\n2 1 8:1 /u /tmp/usr ro - ext4 a rw\n\
                    3 2 8:2 / /tmp/usr/my\\040data ro - ext4 b rw\n4 1 8:1 /u /tmp/usrlocal ro - ext4 a rw\n\
                    5 2 8:3 / /tmp/usr ro - ext4 c rw\n";
        let found = below(info, &["/tmp/usr".into()]);
        assert_eq!(found, [PathBuf::from("/tmp/usr"), PathBuf::from("/tmp/usr/my data")]);
    }
}
