//! What keeps a workspace from growing without bound, as far as the kernel can: a project with a
//! limit, or a file system of its own in a file. Needs rights on the host.
//!
//! Nothing is mounted in anybody's mount namespace here: the mount is detached until init attaches it
//! inside the sandbox, and with the sandbox's last process it goes, and the loop device with it.
//!
//! One image never has two loop devices, which would be two caches of one disk and the end of both:
//! the device is made with the very open file that holds the lock, and keeps it for as long as it lives.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::shim::Room;
use crate::sys::disk;

/// How long the sandbox before this one may take to write its last files to the disk and let go.
const LET_GO: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How often a free loop device is asked for: others take them too, in between.
const ATTEMPTS: usize = 64;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The folder that a workspace lies in, to look at its disk: a path's own numbers may be its project's. Who cannot
/// have it knows less of why something was not written.
pub fn beside(workspace: &Path) -> Option<OwnedFd> {
    rustix::fs::open(workspace.parent()?, OFlags::PATH | FOLDER, Mode::empty()).ok()
}

/// Mounts an image, detached.
pub fn mount_image(image: &Path) -> io::Result<OwnedFd> {
    let mounted = try_to_mount(image);
    match &mounted {
        // To mount it, what its journal holds is written, for which the disk may have no room.
        Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
            let is_full =
                beside(image).and_then(|folder| Room::of(&folder)).is_some_and(|room| room.is_full());
            if is_full { Err(Errno::NOSPC.into()) } else { mounted }
        }
        _ => mounted,
    }
}

fn try_to_mount(image: &Path) -> io::Result<OwnedFd> {
    let file = rustix::fs::open(image, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    lock(file.as_fd())?;
    // Held until the mount holds it: with its last user it goes.
    let (number, _device) = attach(file.as_fd())?;
    let context = rustix::mount::fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(context.as_fd(), key, value);
    set("source", &format!("/dev/loop{number}"))?;
    // A disk that cannot be trusted any more is not written any more.
    set("errors", "remount-ro")?;
    for flag in [
        // What is removed in there is free on the host again.
        "discard",
        // The file is new and sparse: its tables are zero already.
        "noinit_itable",
    ] {
        rustix::mount::fsconfig_set_flag(context.as_fd(), flag)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let tree = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // Of use to fsck alone, which makes it anew.
    match rustix::fs::unlinkat(&tree, "lost+found", AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR) => Ok(tree),
        Err(error) => Err(error.into()),
    }
}

#[expect(clippy::disallowed_methods, reason = "flock(2) waits without a deadline or not at all")]
fn lock(file: BorrowedFd<'_>) -> io::Result<()> {
    let end = Instant::now() + LET_GO;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(LOOK_AGAIN),
            Err(Errno::WOULDBLOCK) => {
                let seconds = LET_GO.as_secs();
                return Err(io::Error::other(format!(
                    "another sandbox still had it mounted after {seconds} s: end the processes that use it"
                )));
            }
            other => return Ok(other?),
        }
    }
}

fn attach(file: BorrowedFd<'_>) -> io::Result<(u32, OwnedFd)> {
    let control = open_device("/dev/loop-control")?;
    for _ in 0..ATTEMPTS {
        let number = disk::loop_free(control.as_fd())?;
        let device = open_device(&format!("/dev/loop{number}"))?;
        match disk::loop_configure(device.as_fd(), file) {
            Ok(()) => return Ok((number, device)),
            Err(Errno::BUSY) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::other("no loop device was free: end what else takes them"))
}

fn open_device(path: &str) -> io::Result<OwnedFd> {
    let device = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    device.map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("{path}: {error}")))
}

/// What files can take in all: without what the file system keeps for itself.
pub fn usable(tree: BorrowedFd<'_>) -> io::Result<u64> {
    let disk = rustix::fs::fstatvfs(tree)?;
    let kept = disk.f_bfree.saturating_sub(disk.f_bavail);
    Ok(disk.f_blocks.saturating_sub(kept).saturating_mul(disk.f_frsize))
}

/// Bounds a folder as a project of its disk.
pub fn limit_folder(folder: &Path, project: u32, bytes: u64, inodes: u64) -> io::Result<()> {
    let place = rustix::fs::openat(CWD, folder, OFlags::RDONLY | FOLDER, Mode::empty())?;
    if disk::inherited_project(place.as_fd())? != Some(project) {
        if fs::read_dir(folder)?.next().is_some() {
            return Err(io::Error::other("it has files that belong to no project: move them away and back"));
        }
        disk::set_project(place.as_fd(), project)?;
    }
    Ok(disk::limit_project(place.as_fd(), project, bytes, inodes)?)
}

/// What this host can do for workspaces below `folder`, a line each: `ok`, or why not.
pub fn probe(folder: &Path) -> String {
    let word = |answer: Result<(), String>| answer.err().unwrap_or_else(|| "ok".to_owned());
    let words = [("project", word(probe_project(folder))), ("image", word(probe_loop()))];
    words.map(|(name, word)| format!("{name} {}\n", word.replace('\n', " "))).concat()
}

fn probe_project(folder: &Path) -> Result<(), String> {
    let place = File::open(folder).map_err(|error| error.to_string())?;
    match disk::project_quota_holds(place.as_fd()) {
        Ok(true) => Ok(()),
        Ok(false) => Err("the file system counts projects but enforces no limit on them".to_owned()),
        Err(Errno::NOSYS) => Err("the kernel or the file system has no quota".to_owned()),
        Err(Errno::SRCH) => Err("the file system is mounted without quota".to_owned()),
        Err(error) => Err(format!("the file system answers: {error}")),
    }?;
    // Two notebooks with one project would share one limit.
    let inode = place.metadata().map_err(|error| error.to_string())?.ino();
    match sandbox_profiles::Quota::project_id(inode) {
        Some(_) => Ok(()),
        None => Err(format!("inode {inode} is too high a number for a project")),
    }
}

fn probe_loop() -> Result<(), String> {
    let control = open_device("/dev/loop-control").map_err(|error| error.to_string())?;
    let number = disk::loop_free(control.as_fd()).map_err(|error| format!("no free loop device: {error}"))?;
    open_device(&format!("/dev/loop{number}")).map(|_| ()).map_err(|error| error.to_string())
}
