//! Steps in words, as `profile explain` and errors print them.

use std::fmt;

use super::{Action, Resource, Step};

impl fmt::Display for Step {
    /// The step as `profile explain` and errors print it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.action.fmt(out)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::OpenTree { source, target, writable, idmap, .. } => {
                let access = if *writable { "writable" } else { "read-only" };
                let owner = if *idmap { ", owned by the worker" } else { "" };
                if source == target {
                    write!(out, "take {} ({access}{owner})", source.display())
                } else {
                    write!(out, "take {} as {} ({access}{owner})", source.display(), target.display())
                }
            }
            Action::LimitWorkspace { folder, project, bytes, inodes } => {
                let folder = folder.display();
                write!(out, "limit {folder}, as project {project}, to {bytes} bytes and {inodes} inodes")
            }
            Action::MountImage { image, target, bytes, idmap } => {
                let owner = if *idmap { ", owned by the worker" } else { "" };
                let (image, target) = (image.display(), target.display());
                write!(out, "mount {image} as {target}, {bytes} bytes (writable{owner})")
            }
            Action::EnterOuter => write!(out, "enter the outer user namespace"),
            Action::Clone { namespaces } => write!(out, "clone into {} new namespaces", namespaces.len()),
            Action::MapIds { ids } => {
                write!(out, "map ids")?;
                ids.iter().try_for_each(|(inside, outer)| write!(out, " {inside}={outer}"))
            }
            Action::BecomeInit => write!(out, "become init: no groups, own session"),
            Action::NewKeyring => write!(out, "join a new, empty session keyring"),
            Action::Hostname { name } => write!(out, "set the host name to {name}"),
            Action::PrivateMounts => write!(out, "make all mounts private"),
            Action::MountRoot { bytes, inodes } => {
                write!(out, "mount an empty root of {bytes} bytes, {inodes} inodes")
            }
            Action::Symlink { path, target } => {
                write!(out, "link {} to {}", path.display(), target.display())
            }
            Action::WriteFile { path, .. } => write!(out, "write {}", path.display()),
            Action::Attach { target } => write!(out, "attach {}", target.display()),
            Action::MountTmpfs { target, bytes, inodes, .. } => {
                write!(out, "mount {} in memory, {bytes} bytes, {inodes} inodes", target.display())
            }
            Action::MountProc => write!(out, "mount /proc"),
            Action::Sysctl { key, value } => write!(out, "set {} to {value}", key.replace('/', ".")),
            Action::Freeze { path } => write!(out, "make {} read-only", path.display()),
            Action::Mask { path } => write!(out, "mask {}", path.display()),
            Action::Pivot => write!(out, "pivot into the new root and drop the old"),
            Action::ReadOnly { path } => write!(out, "remount {} read-only", path.display()),
            Action::BecomeWorker { id } => write!(out, "become user {id}"),
            Action::NestUserNamespace { inside, outside } => {
                write!(out, "nest a user namespace, {inside}={outside}")
            }
            Action::Limit { resource, value } => write!(out, "limit {} to {value}", resource.name()),
            Action::NoNewPrivileges => write!(out, "set no_new_privs"),
            Action::DropCapabilities => write!(out, "empty all capability sets and lock the securebits"),
            Action::MountPoint { path } => write!(out, "make {} to mount on", path.display()),
            Action::KeepAdmin => write!(out, "keep CAP_SYS_ADMIN alone"),
            Action::EndWithParent => write!(out, "end with the parent"),
            Action::CloseFiles => write!(out, "close all other descriptors"),
            Action::ChangeDirectory { path } => write!(out, "go to {}", path.display()),
            Action::WatchMemory { bytes } => write!(out, "watch memory, at most {bytes} bytes"),
            Action::WatchWorkspace { bytes } => write!(out, "watch the workspace, at most {bytes} bytes"),
            Action::Restrict { tcp, .. } => {
                write!(out, "restrict by landlock{}", if *tcp { "" } else { ", no TCP" })
            }
            Action::Prove => {
                write!(out, "prove that mounts, namespaces, packet sockets and capabilities are refused")
            }
            Action::Cgroup { memory_bytes, processes } => {
                write!(out, "make a cgroup of at most {memory_bytes} bytes, {processes} processes")
            }
            Action::JoinCgroup => write!(out, "enter the cgroup"),
            Action::NewCgroupNamespace => write!(out, "make the cgroup the root of all that is seen"),
            Action::TakeFile { path } => write!(out, "read {}", path.display()),
            Action::PutFile { path } => write!(out, "write a copy of {}", path.display()),
            Action::MakeDevices { target, names, .. } => {
                write!(out, "make {} with {}", target.display(), names.join(", "))
            }
            Action::Overlay { targets } => {
                write!(out, "cover with an overlay")?;
                targets.iter().try_for_each(|target| write!(out, " {}", target.display()))
            }
            Action::WatchProcessor { limit_ms } => {
                write!(out, "watch processor time, at most {limit_ms} ms an execution")
            }
            Action::LoopbackUp => write!(out, "bring the loopback up"),
            Action::Verify => write!(out, "compare the kernel's account of the worker with this plan"),
        }
    }
}

impl Resource {
    /// The name in setrlimit(2).
    pub fn name(self) -> &'static str {
        match self {
            Resource::Core => "RLIMIT_CORE",
            Resource::Data => "RLIMIT_DATA",
            Resource::FileSize => "RLIMIT_FSIZE",
            Resource::LockedMemory => "RLIMIT_MEMLOCK",
            Resource::MessageQueues => "RLIMIT_MSGQUEUE",
            Resource::OpenFiles => "RLIMIT_NOFILE",
            Resource::Processes => "RLIMIT_NPROC",
            Resource::PendingSignals => "RLIMIT_SIGPENDING",
            Resource::Stack => "RLIMIT_STACK",
            Resource::RealTimePriority => "RLIMIT_RTPRIO",
        }
    }
}
