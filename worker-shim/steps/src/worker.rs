//! The steps of a worker, from the process that init or a zygote has made to the one that runs user code.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::mount::MountFlags;
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{DumpableBehavior, Gid, Resource as SystemResource, Rlimit, Signal, Uid};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags};
use sandbox_profiles::{Action, Resource, Step};

use crate::landlock;

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
        Action::KeepAdmin => keep_admin(),
        Action::EndWithParent => Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?),
        Action::CloseFiles => Ok(()), // `install_files` did, before the first of these steps.
        Action::ChangeDirectory { path } => Ok(rustix::process::chdir(path)?),
        Action::Restrict { writable, files, tcp } => landlock::restrict(writable, files, *tcp),
        Action::Prove => prove(),
        _ => Err(io::Error::other("not a step of the worker")),
    }
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

/// Of a user namespace's root: exec gives him what the bounding set has left.
fn keep_admin() -> io::Result<()> {
    bound_capabilities(CapabilitySet::SYS_ADMIN)
}

fn bound_capabilities(kept: CapabilitySet) -> io::Result<()> {
    // Bits the kernel does not know answer EINVAL, which ends the list.
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn drop_capabilities() -> io::Result<()> {
    bound_capabilities(CapabilitySet::empty())?;
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
