//! The shim's own steps: what needs rights on the host, then the clone.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use cellblock_proto::shim::StartSpec;
use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::DumpableBehavior;
use sandbox_profiles::{Action, Namespace, Step, ids};

use super::{Hand, Making, Sandbox, devices, quota};
use crate::cgroup::Group;
use crate::init;
use crate::outer::{self, Outer};
use crate::sys::{self, Forked};

/// A file that is copied has at most so many bytes; the root that it goes to has few more.
const COPY_BYTES: u64 = 1 << 20;

/// Executes one step of the shim.
pub fn execute(step: &Step, spec: &StartSpec, making: &mut Making<'_>) -> io::Result<()> {
    let outer = making.outer;
    match &step.action {
        Action::Cgroup { memory_bytes, processes } => {
            making.taken.group = Some(Group::open(making.groups, *memory_bytes, *processes)?);
            Ok(())
        }
        Action::TakeFile { path } => {
            let mut content = Vec::new();
            File::open(path)?.take(COPY_BYTES + 1).read_to_end(&mut content)?;
            if content.len() as u64 > COPY_BYTES {
                return Err(io::Error::other(format!("it has more than {COPY_BYTES} bytes")));
            }
            making.taken.files.insert(path.clone(), content);
            Ok(())
        }
        Action::MakeDevices { target, names, links, folders } => {
            let folder = devices::make(names, links, folders)?;
            making.taken.trees.insert(target.clone(), folder);
            Ok(())
        }
        Action::OpenTree { source, target, writable, devices, idmap } => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            let tree = rustix::mount::open_tree(CWD, source, flags)?;
            let mut set = libc::MOUNT_ATTR_NOSUID;
            if !devices {
                set |= libc::MOUNT_ATTR_NODEV;
            }
            // A device node is written through whatever its mount says.
            if !writable {
                set |= libc::MOUNT_ATTR_RDONLY;
            }
            sys::mount_setattr(tree.as_fd(), true, set, None)?;
            if *idmap {
                let init = outer.first_host_uid.unwrap_or_default() + ids::init_in_outer(spec.slot);
                show_as_workers(tree.as_fd(), spec, outer, init)?;
            }
            making.taken.trees.insert(target.clone(), tree);
            Ok(())
        }
        Action::LimitWorkspace { folder, project, bytes, inodes } => {
            quota::limit_folder(folder, *project, *bytes, *inodes)?;
            making.disk = quota::beside(folder);
            Ok(())
        }
        Action::MountImage { image, target, idmap, .. } => {
            making.disk = quota::beside(image);
            let tree = quota::mount_image(image)?;
            if *idmap {
                // The supervisor reaches an image through this mount alone, and as root can make files
                // only where there is a root.
                show_as_workers(tree.as_fd(), spec, outer, 0)?;
            }
            making.taken.trees.insert(target.clone(), tree);
            Ok(())
        }
        Action::EnterOuter => {
            // As root a workspace can be taken only before this, by an ordinary user only after it.
            let (before, after) = (outer.first_host_uid.is_some(), outer.first_host_uid.is_none());
            if spec.spare && before {
                making.hand = Some(Hand::fork(spec, outer)?);
            }
            outer::enter(outer)?;
            outer::end_with_parent()?;
            if spec.spare && after {
                making.hand = Some(Hand::fork(spec, outer)?);
            }
            // Changing ids made us non-dumpable, and then nobody may write our child's id maps.
            Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?)
        }
        Action::Clone { namespaces } => {
            let flags = namespaces.iter().fold(0, |flags, namespace| flags | flag(*namespace));
            let (ours, inits) = rustix::net::socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?;
            let birth = making.taken.group.as_ref().and_then(Group::birth);
            match sys::clone(flags, birth)? {
                Forked::Child => {
                    drop((ours, making.disk.take()));
                    init::run(spec, std::mem::take(&mut making.taken), inits)
                }
                Forked::Parent { pidfd, pid } => {
                    drop(inits);
                    making.sandbox = Some(Sandbox {
                        init: pidfd,
                        init_pid: pid,
                        channel: ours,
                        missing: Vec::new(),
                        group: making.taken.group.take().unwrap_or_default(),
                        disk: None,
                        hand: None,
                    });
                    Ok(())
                }
            }
        }
        Action::MapIds { ids } => {
            let sandbox =
                making.sandbox.as_ref().ok_or_else(|| io::Error::other("ids mapped before the clone"))?;
            let map: String = ids.iter().map(|(inside, outside)| format!("{inside} {outside} 1\n")).collect();
            outer::write_maps(sandbox.init_pid, &map, &map, false)
        }
        _ => Err(io::Error::other("not a step of the shim")),
    }
}

/// On disk the worker's files belong to the shims' id, never to root: a set-uid file that a cell makes
/// must not be root's for whoever copies it elsewhere. What root has put there is shown as `roots`: to be
/// read, and to be removed by the folder's owner.
fn show_as_workers(tree: BorrowedFd<'_>, spec: &StartSpec, outer: &Outer, roots: u32) -> io::Result<()> {
    let first = outer.first_host_uid.ok_or_else(|| io::Error::other("idmap without a range"))?;
    let names = outer::idmap(&[(0, roots), (first, first + ids::worker_in_outer(spec.slot))])?;
    Ok(sys::mount_setattr(tree, false, 0, Some(names.as_fd()))?)
}

fn flag(namespace: Namespace) -> u64 {
    let flag = match namespace {
        Namespace::User => libc::CLONE_NEWUSER,
        Namespace::Pid => libc::CLONE_NEWPID,
        Namespace::Mount => libc::CLONE_NEWNS,
        Namespace::Network => libc::CLONE_NEWNET,
        Namespace::Ipc => libc::CLONE_NEWIPC,
        Namespace::Uts => libc::CLONE_NEWUTS,
        Namespace::Cgroup => libc::CLONE_NEWCGROUP,
    };
    u64::from(flag.cast_unsigned())
}
