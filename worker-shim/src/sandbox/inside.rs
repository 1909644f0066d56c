//! The steps that init and the worker execute inside the new namespaces.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    UnmountFlags,
};
use rustix::process::{DumpableBehavior, Gid, Uid};
use rustix::thread::UnshareFlags;
use sandbox_profiles::{Action, Step};

use super::{Taken, overlay};
use crate::cgroup::Group;
use crate::sys;

/// Where the new root is built: a folder that every host has, in a mount namespace of our own.
const NEW_ROOT: &str = "/tmp";

/// The path of a sandbox's file while its root is being built.
fn at(path: &Path) -> PathBuf {
    Path::new(NEW_ROOT).join(path.strip_prefix("/").unwrap_or(path))
}

/// Executes one step of init.
pub fn init_step(step: &Step, taken: &mut Taken) -> io::Result<()> {
    match &step.action {
        Action::JoinCgroup => taken.group.as_ref().map_or(Ok(()), Group::join),
        Action::NewCgroupNamespace =>
        {
            #[expect(deprecated, reason = "init has one thread, for which unshare is sound")]
            Ok(rustix::thread::unshare(UnshareFlags::NEWCGROUP)?)
        }
        Action::BecomeInit => become_init(),
        Action::NewKeyring => Ok(sys::new_session_keyring()?),
        Action::Hostname { name } => Ok(rustix::system::sethostname(name.as_bytes())?),
        Action::PrivateMounts => {
            let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            Ok(rustix::mount::mount_change("/", flags)?)
        }
        Action::MountRoot { bytes, inodes } => {
            let root = tmpfs(*bytes, *inodes, 0o755, MountAttrFlags::MOUNT_ATTR_NODEV)?;
            attach(root.as_fd(), Path::new(NEW_ROOT))
        }
        Action::Symlink { path, target } => {
            let link = at(path);
            folder_above(&link)?;
            symlink(target, link)
        }
        Action::WriteFile { path, content } => {
            let path = at(path);
            folder_above(&path)?;
            let mut file = File::options().write(true).create_new(true).mode(0o644).open(path)?;
            file.write_all(content.as_bytes())
        }
        Action::Attach { target } => {
            let tree = taken.trees.remove(target).ok_or(Errno::NOENT)?;
            let place = at(target);
            let is_folder = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&tree)?.st_mode)
                == rustix::fs::FileType::Directory;
            mount_point(&place, is_folder)?;
            attach(tree.as_fd(), &place)
        }
        Action::MountPoint { path } => mount_point(&at(path), true),
        Action::MountTmpfs { target, bytes, inodes, mode, executable } => {
            let mut flags = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
            if !executable {
                flags |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
            }
            let place = at(target);
            mount_point(&place, true)?;
            attach(tmpfs(*bytes, *inodes, *mode, flags)?.as_fd(), &place)
        }
        Action::PutFile { path } => {
            let content = taken.files.remove(path).ok_or(Errno::NOENT)?;
            let path = at(path);
            folder_above(&path)?;
            File::options().write(true).create_new(true).mode(0o644).open(path)?.write_all(&content)
        }
        Action::Overlay { targets } => {
            overlay::cover(&targets.iter().map(|path| at(path)).collect::<Vec<_>>(), {
                let empty = at(Path::new("/proc"));
                mount_point(&empty, true)?;
                empty
            })
        }
        Action::LoopbackUp => Ok(sys::loopback_up()?),
        Action::MountProc => {
            let proc = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
            rustix::mount::fsconfig_create(&proc)?;
            let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC;
            let proc = rustix::mount::fsmount(&proc, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
            let place = at(Path::new("/proc"));
            mount_point(&place, true)?;
            attach(proc.as_fd(), &place)
        }
        Action::Sysctl { key, value } => fs::write(at(&Path::new("/proc/sys").join(key)), value),
        Action::Freeze { path } => freeze(&at(path)),
        Action::Mask { path } => mask(&at(path)),
        Action::Pivot => {
            rustix::process::chdir(NEW_ROOT)?;
            rustix::process::pivot_root(".", ".")?;
            // The old root lies over the new one now; what is on top goes.
            rustix::mount::unmount(".", UnmountFlags::DETACH)?;
            Ok(rustix::process::chdir("/")?)
        }
        Action::ReadOnly { path } => read_only(path),
        _ => Err(io::Error::other("not a step of init")),
    }
}

fn become_init() -> io::Result<()> {
    // An ordinary user's namespace denies setgroups; what he has of groups shows as nobody's.
    if fs::read_to_string("/proc/self/setgroups").is_ok_and(|answer| answer.trim() == "allow") {
        rustix::thread::set_thread_groups(&[])?;
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    rustix::process::setsid()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // After the last change of ids, which would clear it. The shim has one thread, so its end is
    // the end of the thread that this is bound to.
    Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?)
}

fn tmpfs(bytes: u64, inodes: u64, mode: u32, flags: MountAttrFlags) -> io::Result<OwnedFd> {
    let tmpfs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in
        [("size", bytes.to_string()), ("nr_inodes", inodes.to_string()), ("mode", format!("{mode:o}"))]
    {
        rustix::mount::fsconfig_set_string(&tmpfs, key, &value)?;
    }
    rustix::mount::fsconfig_create(&tmpfs)?;
    Ok(rustix::mount::fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

/// Puts a tree in its place in a finished sandbox, whose root cannot be changed any more.
pub fn attach_at(mount: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    attach(mount, target)
}

fn attach(mount: BorrowedFd<'_>, place: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", CWD, place, flags)?)
}

/// Binds a path over itself, read-only.
///
/// By mount(2), as in `mask`: open_tree and fsmount make an anonymous mount namespace, and of mount
/// namespaces there are none left when the knobs are set (ENOSPC).
fn freeze(path: &Path) -> io::Result<()> {
    match rustix::mount::mount_bind(path, path) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    }
    read_only(path)
}

fn read_only(path: &Path) -> io::Result<()> {
    let mount = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(sys::mount_setattr(mount.as_fd(), false, libc::MOUNT_ATTR_RDONLY, None)?)
}

fn mask(path: &Path) -> io::Result<()> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if metadata.is_dir() {
        let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        return Ok(rustix::mount::mount("none", path, "tmpfs", flags, c"size=4096,nr_inodes=1,mode=555")?);
    }
    let null = at(Path::new("/dev/null"));
    // A mask that is not the real /dev/null would show what an attacker put there.
    let status = rustix::fs::stat(&null)?;
    if status.st_rdev != rustix::fs::makedev(1, 3) {
        return Err(io::Error::other("/dev/null is not the null device"));
    }
    Ok(rustix::mount::mount_bind(&null, path)?)
}

fn folder_above(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(above) => fs::DirBuilder::new().recursive(true).mode(0o755).create(above),
        None => Ok(()),
    }
}

/// Makes something to mount on. Inside a tree that is already attached nothing can be made, and
/// nothing needs to be: there it exists.
fn mount_point(place: &Path, folder: bool) -> io::Result<()> {
    if fs::symlink_metadata(place).is_ok() {
        return Ok(());
    }
    folder_above(place)?;
    if folder {
        fs::DirBuilder::new().mode(0o755).create(place)
    } else {
        File::options().write(true).create_new(true).mode(0o444).open(place).map(drop)
    }
}
