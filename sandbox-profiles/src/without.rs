//! A plan with barriers left out: how tests find out which barrier stops which attack.
//!
//! What remains is a working sandbox that is weaker by exactly what was named, so some drops change a
//! step instead of leaving it away: each says why at its place. Not there in release builds, and no
//! profile can ask for it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::step::{Action, Actor, Barrier, Namespace, Need, Step};

/// What is left out of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Omit {
    /// All that a barrier consists of. [`LOAD_BEARING`] ones cannot be.
    Barrier(Barrier),
    /// One namespace of those that a sandbox can be made without.
    Namespace(Namespace),
}

/// Barriers without which there is no sandbox to attack, and why.
pub const LOAD_BEARING: [(Barrier, &str); 3] = [
    (
        Barrier::Namespaces,
        "user, pid and mount namespace carry everything else; ipc, uts and cgroup are dropped one by one",
    ),
    (Barrier::Workspace, "it is what the notebook may write, not what it may not"),
    (
        Barrier::FileDescriptors,
        "descriptors are put in place and all others closed in one call, and each of ours closes at exec besides",
    ),
];

/// Folders of the host that show when the root is no allow-list any more.
const HOST_FOLDERS: [&str; 3] = ["/etc", "/var", "/run"];

/// The limit that a sandbox keeps without its resource limits: none that the daemon does not have.
const NO_LIMIT: u64 = 0;

/// The plan without these. Whatever is left out, the proof and the verification go too: they would
/// refuse the sandbox.
pub fn without(steps: Vec<Step>, omitted: &[Omit]) -> Vec<Step> {
    if omitted.is_empty() {
        return steps;
    }
    let mut steps = steps;
    steps.retain(|step| !matches!(step.action, Action::Prove | Action::Verify));
    for omit in omitted {
        match omit {
            Omit::Namespace(namespace) => drop_namespace(&mut steps, *namespace),
            Omit::Barrier(Barrier::Network) => {
                drop_namespace(&mut steps, Namespace::Network);
                steps.retain(|step| step.action != Action::LoopbackUp);
            }
            Omit::Barrier(Barrier::UserIds) => drop_user_ids(&mut steps),
            Omit::Barrier(Barrier::PrivateRoot) => open_root(&mut steps),
            Omit::Barrier(Barrier::ReadOnlySystem) => make_writable(&mut steps),
            Omit::Barrier(Barrier::Devices) => show_devices(&mut steps),
            // Without a /proc no Python starts; what goes is what makes it harmless.
            Omit::Barrier(Barrier::Proc) => {
                steps.retain(|step| !matches!(step.action, Action::Freeze { .. } | Action::Mask { .. }))
            }
            Omit::Barrier(Barrier::Capabilities) => keep_capabilities(&mut steps),
            Omit::Barrier(barrier) if LOAD_BEARING.iter().any(|(bearing, _)| bearing == barrier) => {}
            Omit::Barrier(barrier) => steps.retain(|step| step.barrier != *barrier),
        }
    }
    // After the others, because these depend on what they have left.
    if omitted.contains(&Omit::Barrier(Barrier::NestedUserNamespace)) {
        keep_bounding_set(&mut steps);
    }
    if omitted.contains(&Omit::Barrier(Barrier::NoNewPrivileges)) {
        restrict_while_capable(&mut steps);
    }
    steps
}

fn drop_namespace(steps: &mut Vec<Step>, dropped: Namespace) {
    for step in steps.iter_mut() {
        if let Action::Clone { namespaces } = &mut step.action {
            namespaces.retain(|namespace| *namespace != dropped);
        }
    }
    // What would act on the host's own now.
    steps.retain(|step| match (&step.action, dropped) {
        (Action::Hostname { .. }, Namespace::Uts) => false,
        (Action::NewCgroupNamespace, Namespace::Cgroup) => false,
        (Action::Sysctl { key, .. }, Namespace::Ipc) => {
            !key.starts_with("kernel/") && !key.starts_with("fs/")
        }
        _ => true,
    });
}

/// Init and worker share one id of the host, as they do rootless.
fn drop_user_ids(steps: &mut Vec<Step>) {
    let mut become_worker = false;
    steps.retain(|step| {
        let is = matches!(step.action, Action::BecomeWorker { .. });
        become_worker |= is;
        !is
    });
    for step in steps.iter_mut().filter(|_| become_worker) {
        match &mut step.action {
            // The worker's, because the workspace is shown as that one's.
            Action::MapIds { ids } => *ids = ids.iter().skip(1).map(|(_, outer)| (0, *outer)).collect(),
            Action::NestUserNamespace { outside, .. } => *outside = 0,
            _ => {}
        }
    }
}

/// An allow-list that allows the host's folders too, and memory as a disk without bounds.
fn open_root(steps: &mut Vec<Step>) {
    steps.retain(|step| match &step.action {
        Action::WriteFile { path, .. }
        | Action::Symlink { path, .. }
        | Action::TakeFile { path }
        | Action::PutFile { path } => !path.starts_with("/etc"),
        _ => true,
    });
    for step in steps.iter_mut() {
        if let Action::MountTmpfs { bytes, inodes, .. } = &mut step.action {
            (*bytes, *inodes) = (NO_LIMIT, NO_LIMIT);
        }
    }
    for folder in HOST_FOLDERS {
        show(steps, folder.into(), false, |action| matches!(action, Action::MountTmpfs { .. }));
    }
}

/// The host's whole `/dev`. The sandbox's own `/dev/shm` goes on top, or its files would be the host's.
fn show_devices(steps: &mut Vec<Step>) {
    steps.retain(|step| step.barrier != Barrier::Devices);
    show(steps, "/dev".into(), true, |action| matches!(action, Action::MountTmpfs { .. }));
}

fn show(steps: &mut Vec<Step>, folder: PathBuf, devices: bool, before: fn(&Action) -> bool) {
    let step = |actor, action| Step {
        actor,
        barrier: Barrier::PrivateRoot,
        need: Need::Required,
        action,
        reason: "left open by a test".to_owned(),
    };
    let (source, target) = (folder.clone(), folder.clone());
    let open = Action::OpenTree { source, target, writable: false, devices, idmap: false };
    let tree = steps.iter().position(|step| matches!(step.action, Action::OpenTree { .. })).unwrap_or(0);
    steps.insert(tree, step(Actor::Shim, open));
    let place = steps.iter().position(|step| before(&step.action)).unwrap_or(steps.len());
    steps.insert(place, step(Actor::Init, Action::Attach { target: folder }));
}

fn make_writable(steps: &mut [Step]) {
    for step in steps.iter_mut().filter(|step| step.barrier == Barrier::ReadOnlySystem) {
        if let Action::OpenTree { writable, .. } = &mut step.action {
            *writable = true;
        }
    }
}

/// All capabilities of the innermost user namespace. The worker is its root there, because exec would
/// take them from anybody else, whatever the plan says.
fn keep_capabilities(steps: &mut Vec<Step>) {
    steps.retain(|step| step.action != Action::DropCapabilities);
    for step in steps.iter_mut() {
        if let Action::NestUserNamespace { inside, .. } = &mut step.action {
            *inside = 0;
        }
    }
}

/// In the outer user namespace the change of user takes the capabilities, and with them the right to
/// empty the bounding set and to lock the securebits.
fn keep_bounding_set(steps: &mut Vec<Step>) {
    if steps.iter().any(|step| matches!(step.action, Action::BecomeWorker { .. })) {
        steps.retain(|step| step.action != Action::DropCapabilities);
    }
}

/// Without no_new_privs Landlock asks for a capability, so it comes before they go.
fn restrict_while_capable(steps: &mut Vec<Step>) {
    let find = |wanted: fn(&Action) -> bool| steps.iter().position(|step| wanted(&step.action));
    let drop = find(|action| *action == Action::DropCapabilities);
    let restrict = find(|action| matches!(action, Action::Restrict { .. }));
    if let (Some(drop), Some(restrict)) = (drop, restrict)
        && drop < restrict
    {
        let step = steps.remove(restrict);
        steps.insert(drop, step);
    }
}

/// Every barrier by the name that [`Omit`] is written with.
const NAMES: [(&str, Barrier); 21] = [
    ("namespaces", Barrier::Namespaces),
    ("user_ids", Barrier::UserIds),
    ("network", Barrier::Network),
    ("private_root", Barrier::PrivateRoot),
    ("read_only_system", Barrier::ReadOnlySystem),
    ("devices", Barrier::Devices),
    ("proc", Barrier::Proc),
    ("workspace", Barrier::Workspace),
    ("namespace_quota", Barrier::NamespaceQuota),
    ("nested_user_namespace", Barrier::NestedUserNamespace),
    ("resource_limits", Barrier::ResourceLimits),
    ("no_new_privileges", Barrier::NoNewPrivileges),
    ("capabilities", Barrier::Capabilities),
    ("file_descriptors", Barrier::FileDescriptors),
    ("memory", Barrier::Memory),
    ("keyring", Barrier::Keyring),
    ("landlock", Barrier::Landlock),
    ("cgroup", Barrier::Cgroup),
    ("overlay", Barrier::Overlay),
    ("workspace_quota", Barrier::WorkspaceQuota),
    ("processor", Barrier::Processor),
];

/// Namespaces that a sandbox can be made without. The network's is the barrier `network`.
const NAMESPACES: [(&str, Namespace); 3] = [
    ("namespaces.ipc", Namespace::Ipc),
    ("namespaces.uts", Namespace::Uts),
    ("namespaces.cgroup", Namespace::Cgroup),
];

impl fmt::Display for Omit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Omit::Barrier(barrier) => NAMES.iter().find(|(_, known)| known == barrier).map(|(name, _)| name),
            Omit::Namespace(namespace) => {
                NAMESPACES.iter().find(|(_, known)| known == namespace).map(|(name, _)| name)
            }
        };
        out.write_str(name.copied().unwrap_or("?"))
    }
}

impl FromStr for Omit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let barrier =
            NAMES.iter().find(|(name, _)| *name == text).map(|(_, barrier)| Omit::Barrier(*barrier));
        let namespace =
            NAMESPACES.iter().find(|(name, _)| *name == text).map(|(_, kind)| Omit::Namespace(*kind));
        barrier.or(namespace).ok_or_else(|| format!("{text:?} is no barrier that can be left out"))
    }
}

/// Everything that can be left out.
pub fn omittable() -> Vec<Omit> {
    let barriers = NAMES.iter().map(|(_, barrier)| *barrier);
    let droppable = barriers.filter(|barrier| LOAD_BEARING.iter().all(|(bearing, _)| bearing != barrier));
    droppable.map(Omit::Barrier).chain(NAMESPACES.iter().map(|(_, kind)| Omit::Namespace(*kind))).collect()
}

#[cfg(test)]
#[path = "without_tests.rs"]
mod tests;
