//! The outer user namespace Z: made once by the anchor, joined by every shim.
//!
//! As root, Z maps a range of host ids that nobody uses, and the shim has no right on the host once
//! it is in there. As an ordinary user, Z maps the user's own id, and comes with a mount namespace,
//! because only root of a user namespace that owns the mount namespace may copy trees of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::{Pid, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use sandbox_profiles::{ids, proc_covers};

use crate::sys::{self, Forked};

/// Z, as descriptors that outlive whoever made it.
pub struct Outer {
    /// The user namespace.
    pub user: OwnedFd,
    /// The mount namespace that Z owns; rootless only.
    pub mount: Option<OwnedFd>,
    /// The host uid that is 0 in Z; rootful only.
    pub first_host_uid: Option<u32>,
}

/// Makes Z. `first_host_uid` is where its range begins when we are root.
pub fn make(first_host_uid: u32) -> io::Result<Outer> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let rootful = uid == 0;
    let (uids, gids, flags) = if rootful {
        let range = format!("0 {first_host_uid} {}\n", ids::RANGE);
        (range.clone(), range, UnshareFlags::NEWUSER)
    } else {
        (format!("0 {uid} 1\n"), format!("0 {gid} 1\n"), UnshareFlags::NEWUSER | UnshareFlags::NEWNS)
    };
    let holder = Holder::start(flags)?;
    holder.map(&uids, &gids, !rootful)?;
    let user = File::open(format!("/proc/{}/ns/user", holder.pid.as_raw_pid()))?.into();
    let mount = if rootful {
        None
    } else {
        Some(File::open(format!("/proc/{}/ns/mnt", holder.pid.as_raw_pid()))?.into())
    };
    Ok(Outer { user, mount, first_host_uid: rootful.then_some(first_host_uid) })
}

/// A user namespace that shows files of one host id as those of another, for each pair: what an
/// idmapped mount of a workspace needs. Needs host rights.
pub fn idmap(pairs: &[(u32, u32)]) -> io::Result<OwnedFd> {
    let holder = Holder::start(UnshareFlags::NEWUSER)?;
    let map: String = pairs.iter().map(|(on_disk, shown)| format!("{on_disk} {shown} 1\n")).collect();
    holder.map(&map, &map, false)?;
    Ok(File::open(format!("/proc/{}/ns/user", holder.pid.as_raw_pid()))?.into())
}

/// A new `/proc` can be mounted in a user namespace only where a whole one is to be seen. Where parts of
/// it are covered (in a container, behind systemd's `ProtectKernelTunables=`), root mounts a whole one
/// over it, in a mount namespace of our own that our shims inherit. An ordinary user cannot.
pub fn see_whole_proc() -> io::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    if !rustix::process::geteuid().is_root() || proc_covers(&mounts).is_empty() {
        return Ok(());
    }
    #[expect(deprecated, reason = "the anchor has one thread, for which unshare is sound")]
    rustix::thread::unshare(UnshareFlags::NEWNS)?;
    // What the host mounts later is to be seen here; what is mounted here is nobody else's.
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(rustix::mount::mount("proc", "/proc", "proc", flags, None)?)
}

/// Has the kernel end us with our parent, the anchor: without it nobody would know of us, and our ids and
/// our workspace would be given to somebody else. To be said again after each change of ids, which clears
/// it. Both have one thread, so the end of the thread that the kernel goes by is the end of the process.
pub fn end_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before that was said.
    match rustix::process::getppid() {
        Some(parent) if parent != Pid::INIT => Ok(()),
        _ => Err(io::Error::other("the anchor has gone")),
    }
}

/// Joins Z and becomes its root.
pub fn enter(outer: &Outer) -> Result<(), Errno> {
    rustix::thread::move_into_link_name_space(outer.user.as_fd(), Some(LinkNameSpaceType::User))?;
    if let Some(mount) = &outer.mount {
        rustix::thread::move_into_link_name_space(mount.as_fd(), Some(LinkNameSpaceType::Mount))?;
    } else {
        // Groups of host root must not come along. An ordinary user cannot drop his own.
        rustix::thread::set_thread_groups(&[])?;
    }
    let (root_uid, root_gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_thread_res_gid(root_gid, root_gid, root_gid)?;
    rustix::thread::set_thread_res_uid(root_uid, root_uid, root_uid)
}

/// A child that waits in a new namespace until it has been looked at.
struct Holder {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Holder {
    fn start(flags: UnshareFlags) -> io::Result<Self> {
        let (mut ready, mut say) = io::pipe()?;
        match sys::clone(0, None)? {
            Forked::Child => {
                drop(ready);
                // PDEATHSIG is not needed: the child waits for nothing but our signal, and we are
                // single-threaded between here and `drop`.
                #[expect(deprecated, reason = "the child has one thread, for which unshare is sound")]
                let answer = rustix::thread::unshare(flags);
                let code = answer.err().map_or(0, Errno::raw_os_error);
                let said = say.write_all(&code.to_le_bytes());
                drop(say);
                if said.is_err() || code != 0 {
                    sys::exit_now(1);
                }
                loop {
                    let _ = rustix::event::poll(&mut [], None);
                }
            }
            Forked::Parent { pidfd, pid } => {
                drop(say);
                let holder = Holder { pid, pidfd };
                let mut code = [0; 4];
                ready.read_exact(&mut code)?;
                match i32::from_le_bytes(code) {
                    0 => Ok(holder),
                    code => Err(io::Error::from_raw_os_error(code)),
                }
            }
        }
    }

    fn map(&self, uids: &str, gids: &str, deny_setgroups: bool) -> io::Result<()> {
        write_maps(self.pid, uids, gids, deny_setgroups)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.pid), rustix::process::WaitOptions::empty());
    }
}

/// Writes the id maps of a process's user namespace. An ordinary user must first give up setgroups.
pub fn write_maps(pid: Pid, uids: &str, gids: &str, deny_setgroups: bool) -> io::Result<()> {
    let write = |name: &str, text: &str| -> io::Result<()> {
        let path = format!("/proc/{}/{name}", pid.as_raw_pid());
        let mut file = File::options().write(true).open(&path)?;
        // One write call: the kernel takes a map whole or not at all.
        file.write_all(text.as_bytes())
    };
    if deny_setgroups {
        write("setgroups", "deny")?;
    }
    write("gid_map", gids)?;
    write("uid_map", uids)
}
