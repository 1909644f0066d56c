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
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{DumpableBehavior, Gid, Resource as SystemResource, Rlimit, Uid};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags};
use sandbox_profiles::{Action, Resource, Step};

use super::{Taken, landlock, overlay};
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

/// Executes one step of the worker. What is left after the last is exec.
pub fn worker_step(step: &Step) -> io::Result<()> {
    match &step.action {
        Action::BecomeWorker { id } => {
            rustix::thread::set_thread_groups(&[])?;
            let (uid, gid) = (Uid::from_raw(*id), Gid::from_raw(*id));
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
        }
        Action::NestUserNamespace { inside, outside } => nest(*inside, *outside),
        Action::Limit { resource, value } => {
            // Hard as soft; where the hard limit is already lower, that is the limit.
            let resource = system_resource(*resource);
            let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
            let value = Some((*value).min(most));
            Ok(rustix::process::setrlimit(resource, Rlimit { current: value, maximum: value })?)
        }
        Action::NoNewPrivileges => Ok(rustix::thread::set_no_new_privs(true)?),
        Action::DropCapabilities => drop_capabilities(),
        Action::CloseFiles => Ok(()), // `install_files` did, before the first of these steps.
        Action::ChangeDirectory { path } => Ok(rustix::process::chdir(path)?),
        Action::Restrict { writable, files, tcp } => landlock::restrict(writable, files, *tcp),
        Action::Prove => prove(),
        _ => Err(io::Error::other("not a step of the worker")),
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

fn nest(inside: u32, outside: u32) -> io::Result<()> {
    // The maps below are owned by whoever may look at us.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    #[expect(deprecated, reason = "this process has one thread, for which unshare is sound")]
    rustix::thread::unshare(UnshareFlags::NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    let map = format!("{inside} {outside} 1\n");
    fs::write("/proc/self/gid_map", &map)?;
    fs::write("/proc/self/uid_map", &map)
}

fn drop_capabilities() -> io::Result<()> {
    // Bits the kernel does not know answer EINVAL, which ends the list.
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    use CapabilitiesSecureBits as Bits;
    rustix::thread::set_capabilities_secure_bits(
        Bits::NO_ROOT
            | Bits::NO_ROOT_LOCKED
            | Bits::NO_SETUID_FIXUP
            | Bits::NO_SETUID_FIXUP_LOCKED
            | Bits::KEEP_CAPS_LOCKED
            | Bits::NO_CAP_AMBIENT_RAISE
            | Bits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Tries, as the worker will be, what must be refused. Whatever succeeds here ends with this process.
fn prove() -> io::Result<()> {
    let held = |what: &str| Err(io::Error::other(format!("{what}, and it must not be")));
    let sets = rustix::thread::capabilities(None)?;
    if !(sets.effective | sets.permitted | sets.inheritable).is_empty() {
        return held("a capability is held");
    }
    #[expect(deprecated, reason = "this process has one thread, for which unshare is sound")]
    if rustix::thread::unshare(UnshareFlags::NEWUSER).is_ok() {
        return held("a user namespace can be made");
    }
    if rustix::mount::mount("none", "/tmp", "tmpfs", MountFlags::empty(), None).is_ok() {
        return held("something can be mounted");
    }
    if rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None).is_ok() {
        return held("a packet socket can be opened");
    }
    Ok(())
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

fn system_resource(resource: Resource) -> SystemResource {
    match resource {
        Resource::Core => SystemResource::Core,
        Resource::Data => SystemResource::Data,
        Resource::FileSize => SystemResource::Fsize,
        Resource::LockedMemory => SystemResource::Memlock,
        Resource::MessageQueues => SystemResource::Msgqueue,
        Resource::OpenFiles => SystemResource::Nofile,
        Resource::Processes => SystemResource::Nproc,
        Resource::PendingSignals => SystemResource::Sigpending,
        Resource::Stack => SystemResource::Stack,
        Resource::RealTimePriority => SystemResource::Rtprio,
    }
}
