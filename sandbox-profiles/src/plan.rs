//! The plan: everything that makes a sandbox, in order. The order is the security; each
//! constraint that is not obvious is said in the step's reason and held by a test below.

use std::path::{Path, PathBuf};

use crate::checkpoints::Checkpointing;
use crate::ids;
use crate::profile::Network;
use crate::step::{Action, Actor, Barrier, Namespace, Need, Resource, Step};
use crate::{Host, Profile, Quota};

/// `PATH` in the sandbox, behind the interpreter's own folder.
pub const PATH_IN_SANDBOX: &str = "/usr/local/bin:/usr/bin:/bin";

/// Where a worker sees its notebook's files.
const WORKSPACE: &str = "/workspace";

/// A file for each so many bytes of a project, and some on top: more than any honest notebook has.
const PROJECT_BYTES_PER_INODE: u64 = 4096;
const PROJECT_LEAST_INODES: u64 = 16 << 10;

/// The root holds directories, links and a few small files: mount points, in effect.
const ROOT_BYTES: u64 = 4 << 20;
const ROOT_INODES: u64 = 1024;

/// Namespaces nobody in the sandbox may make. User namespaces are set apart: one more is ours.
const EXHAUSTED: [&str; 9] = [
    "max_mnt_namespaces",
    "max_net_namespaces",
    "max_pid_namespaces",
    "max_ipc_namespaces",
    "max_uts_namespaces",
    "max_cgroup_namespaces",
    "max_time_namespaces",
    "max_inotify_instances",
    "max_fanotify_groups",
];

/// What may be left of System V and POSIX ipc; bytes in segments are the memory watch's. The first two
/// numbers of `sem` are semaphores in one set and in all.
const OBJECTS: [(&str, &str); 4] = [
    ("user/max_inotify_watches", "0"),
    ("kernel/msgmni", "16"),
    ("kernel/sem", "32 1024 32 16"),
    ("fs/mqueue/queues_max", "0"),
];

/// Parts of `/proc` that act on the whole machine.
const FROZEN: [&str; 5] = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];

/// Parts of `/proc` that tell of the whole machine.
const MASKED: [&str; 13] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/latency_stats",
    "/proc/interrupts",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/kallsyms",
    "/proc/acpi",
    "/proc/scsi",
    "/proc/asound",
];

const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Names in `/dev` that are links into `/proc`.
const DEVICE_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

const HARMLESS: &str = "programs expect them, and they give nothing away";

/// Programs that look a user or host up find one, and only one.
const PASSWD: &str =
    "root:x:0:0:root:/:/usr/sbin/nologin\nnotebook:x:1000:1000:notebook:/workspace:/bin/sh\n";
const GROUP: &str = "root:x:0:\nnotebook:x:1000:\n";
const HOSTS: &str = "127.0.0.1 localhost notebook\n::1 localhost\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files\n";

/// Turns a profile into the ordered steps of its sandbox on this host.
pub fn plan(profile: &Profile, host: &Host) -> Vec<Step> {
    let mut steps = Steps(Vec::new());
    let trees = trees(profile, host);
    shim_steps(&mut steps, profile, host, &trees);
    init_steps(&mut steps, profile, host, &trees);
    worker_steps(&mut steps, profile, host);
    watch_steps(&mut steps, profile, host);
    for step in &mut steps.0 {
        if let Some(need) = profile.barriers.get(&step.barrier) {
            step.need = *need;
        }
    }
    steps.0
}

/// The barriers that a profile requires and of which a plan has no step, because the host cannot give
/// them: with such a plan there must be no sandbox.
pub fn unplanned(profile: &Profile, steps: &[Step]) -> Vec<Barrier> {
    let required = profile.barriers.iter().filter(|(_, need)| **need == Need::Required);
    let is_missing = |barrier: &Barrier| {
        // What every sandbox has is in every plan, or, like the empty network, no step of its own.
        !barrier.is_load_bearing() && !steps.iter().any(|step| step.barrier == *barrier)
    };
    required.map(|(barrier, _)| *barrier).filter(is_missing).collect()
}

struct Steps(Vec<Step>);

impl Steps {
    fn push(&mut self, actor: Actor, barrier: Barrier, need: Need, action: Action, reason: &str) {
        self.0.push(Step { actor, barrier, need, action, reason: reason.to_owned() });
    }

    fn require(&mut self, actor: Actor, barrier: Barrier, action: Action, reason: &str) {
        self.push(actor, barrier, Need::Required, action, reason);
    }
}

/// A tree on its way in.
struct Planned {
    barrier: Barrier,
    action: Action,
    target: PathBuf,
    reason: &'static str,
}

fn trees(profile: &Profile, host: &Host) -> Vec<Planned> {
    let tree = |barrier, source: &Path, target: &Path, reason| Planned {
        barrier,
        target: target.to_owned(),
        action: Action::OpenTree {
            source: source.to_owned(),
            target: target.to_owned(),
            writable: barrier == Barrier::Workspace,
            devices: barrier == Barrier::Devices,
            idmap: barrier == Barrier::Workspace && host.rootful,
        },
        reason,
    };
    let read_only = Barrier::ReadOnlySystem;
    let mut trees = Vec::new();
    for path in &host.system {
        trees.push(tree(read_only, path, path, "programs and libraries, nothing that is anyone's own"));
    }
    for Tree { source, target } in host.interpreter.trees.iter().map(Tree::from) {
        trees.push(tree(
            read_only,
            source,
            target,
            "the interpreter, also where the worker could not walk to it",
        ));
    }
    for mount in &profile.mounts {
        let target = mount.target.as_ref().unwrap_or(&mount.source);
        trees.push(tree(read_only, &mount.source, target, "asked for by the profile"));
    }
    trees.push(tree(read_only, &host.payload, Path::new("/cellblock"), "our own code in the worker"));
    if let Some(cache) = &host.cache {
        trees.push(tree(
            read_only,
            cache,
            Path::new("/cellblock/cache"),
            "what would cost seconds to make each time",
        ));
    }
    // Only root can make nodes; an ordinary user shares the host's, and with them what a lock on one tells.
    for device in DEVICES.iter().filter(|_| !host.rootful).map(Path::new) {
        trees.push(tree(Barrier::Devices, device, device, HARMLESS));
    }
    let only = "the only place of the host that can be written";
    let mut workspace = tree(Barrier::Workspace, &host.workspace.folder, Path::new(WORKSPACE), only);
    if let Some(Quota::Image { image }) = &host.workspace.quota {
        workspace.action = Action::MountImage {
            image: image.clone(),
            target: workspace.target.clone(),
            bytes: profile.limits.workspace_bytes,
            idmap: host.rootful,
        };
    }
    trees.push(workspace);
    trees
}

struct Tree<'a> {
    source: &'a Path,
    target: &'a Path,
}

impl<'a> From<&'a crate::Tree> for Tree<'a> {
    fn from(tree: &'a crate::Tree) -> Self {
        Tree { source: &tree.source, target: &tree.target }
    }
}

fn shim_steps(steps: &mut Steps, profile: &Profile, host: &Host, trees: &[Planned]) {
    let shim = Actor::Shim;
    let cgroup = Action::Cgroup { memory_bytes: profile.limits.memory_bytes, processes: processes(profile) };
    let sum = "the kernel's own account of all processes together, which nobody inside can escape";
    steps.push(shim, Barrier::Cgroup, Need::BestEffort, cgroup, sum);
    if let Some(Quota::Project { id }) = host.workspace.quota {
        let bytes = profile.limits.workspace_bytes;
        let inodes = PROJECT_LEAST_INODES.saturating_add(bytes / PROJECT_BYTES_PER_INODE);
        let folder = host.workspace.folder.clone();
        let limit = Action::LimitWorkspace { folder, project: id, bytes, inodes };
        let disk = "the disk itself refuses what is beyond it, whoever writes and however fast";
        steps.require(shim, Barrier::WorkspaceQuota, limit, disk);
    }
    let enter = "a shim is never root of the host while a worker lives";
    // As root the trees are taken first, with rights that end at the next step. An ordinary user
    // has no right to take any before he is root of Z, in the mount namespace that Z owns.
    if !host.rootful {
        steps.require(shim, Barrier::UserIds, Action::EnterOuter, enter);
    }
    for tree in trees {
        match &tree.action {
            image @ Action::MountImage { .. } => {
                let own = "a file system of its own is full when it is full, whoever writes and however fast";
                steps.require(shim, Barrier::WorkspaceQuota, image.clone(), own);
            }
            action => steps.require(shim, tree.barrier, action.clone(), tree.reason),
        }
    }
    for path in &host.files {
        let take = Action::TakeFile { path: path.clone() };
        steps.require(shim, Barrier::ReadOnlySystem, take, "a copy is nobody else's, not even its locks");
    }
    if host.rootful {
        let name = |path: &str| path.trim_start_matches("/dev/").to_owned();
        let make = Action::MakeDevices {
            target: "/dev".into(),
            names: DEVICES.map(name).to_vec(),
            links: DEVICE_LINKS.map(|(path, target)| (name(path), target.into())).to_vec(),
            folders: vec!["shm".to_owned()],
        };
        steps.require(shim, Barrier::Devices, make, HARMLESS);
    }
    if host.rootful {
        steps.require(shim, Barrier::UserIds, Action::EnterOuter, enter);
    }
    use Namespace::*;
    steps.require(
        shim,
        Barrier::Namespaces,
        Action::Clone { namespaces: vec![User, Pid, Mount, Network, Ipc, Uts] },
        "one call, so that the new user namespace owns all the others",
    );
    let ids = if host.rootful {
        vec![(0, ids::init_in_outer(host.slot)), (ids::WORKER, ids::worker_in_outer(host.slot))]
    } else {
        vec![(0, 0)]
    };
    steps.require(shim, Barrier::UserIds, Action::MapIds { ids }, "ids that are nobody's on the host");
}

fn init_steps(steps: &mut Steps, profile: &Profile, host: &Host, trees: &[Planned]) {
    let init = Actor::Init;
    let root = Barrier::PrivateRoot;
    let born = "cgroup v1 knows no birth into a group";
    steps.push(init, Barrier::Cgroup, Need::BestEffort, Action::JoinCgroup, born);
    let groups = "after it is in its group, which is its view's root";
    steps.require(init, Barrier::Namespaces, Action::NewCgroupNamespace, groups);
    steps.require(init, Barrier::UserIds, Action::BecomeInit, "no group and no terminal comes along");
    let keys = "a session keyring is inherited: the daemon's would open the host's keys to every notebook";
    steps.require(init, Barrier::Keyring, Action::NewKeyring, keys);
    let hostname = Action::Hostname { name: "notebook".to_owned() };
    steps.require(init, Barrier::Namespaces, hostname, "the host's own name is nobody's business");
    steps.require(init, root, Action::PrivateMounts, "what is mounted here stays here");
    let empty = Action::MountRoot { bytes: ROOT_BYTES, inodes: ROOT_INODES };
    steps.require(init, root, empty, "an allow-list begins with nothing");
    for (path, target) in &host.links {
        let link = Action::Symlink { path: path.clone(), target: target.clone() };
        steps.require(init, root, link, "as the host has it");
    }
    for (path, content) in [
        ("/etc/passwd", PASSWD),
        ("/etc/group", GROUP),
        ("/etc/hosts", HOSTS),
        ("/etc/nsswitch.conf", NSSWITCH),
    ] {
        let file = Action::WriteFile { path: path.into(), content: content.to_owned() };
        steps.require(init, root, file, "one user, one host");
    }
    for path in &host.files {
        let put = Action::PutFile { path: path.clone() };
        steps.require(init, Barrier::ReadOnlySystem, put, "programs and libraries look at it");
    }
    if host.rootful {
        let attach = Action::Attach { target: "/dev".into() };
        steps.require(init, Barrier::Devices, attach, "before what is mounted in it");
    }
    // Before the trees: an interpreter may live below /tmp, and must not be covered.
    for (target, executable) in [("/tmp", true), ("/dev/shm", false)] {
        let tmpfs = Action::MountTmpfs {
            target: target.into(),
            bytes: profile.limits.tmp_bytes,
            inodes: profile.limits.tmp_inodes,
            mode: 0o1777,
            executable,
        };
        steps.require(init, root, tmpfs, "bounded in inodes too: a million empty files cost no bytes");
    }
    for tree in trees {
        let attach = Action::Attach { target: tree.target.clone() };
        steps.require(init, tree.barrier, attach, tree.reason);
    }
    let targets = covered(trees);
    let overlay = Action::Overlay { targets };
    let locks = "what is shared read-only would carry locks and watches from one sandbox to the next";
    steps.push(init, Barrier::Overlay, Need::BestEffort, overlay, locks);
    for (path, target) in DEVICE_LINKS.iter().filter(|_| !host.rootful) {
        let link = Action::Symlink { path: path.into(), target: target.into() };
        steps.require(init, Barrier::Devices, link, "programs expect it");
    }
    let own = "possible only inside the new pid namespace";
    steps.require(init, Barrier::Proc, Action::MountProc, own);
    // Knobs before they are frozen; one user namespace is left over for the worker's own.
    let knob =
        |name: &str, value: &str| Action::Sysctl { key: format!("user/{name}"), value: value.to_owned() };
    let nested = "one more user namespace, which the worker's own uses up";
    steps.require(init, Barrier::NamespaceQuota, knob("max_user_namespaces", "1"), nested);
    for name in EXHAUSTED {
        let surface = "takes away the kernel code that only a new namespace reaches";
        steps.push(init, Barrier::NamespaceQuota, Need::BestEffort, knob(name, "0"), surface);
    }
    for (key, value) in OBJECTS {
        let knob = Action::Sysctl { key: key.to_owned(), value: value.to_owned() };
        let kernel = "objects of the kernel that hold memory and belong to no process";
        steps.push(init, Barrier::ResourceLimits, Need::BestEffort, knob, kernel);
    }
    for path in FROZEN {
        let freeze = Action::Freeze { path: path.into() };
        steps.require(init, Barrier::Proc, freeze, "acts on the whole machine");
    }
    for path in MASKED {
        let mask = Action::Mask { path: path.into() };
        steps.require(init, Barrier::Proc, mask, "tells of the whole machine");
    }
    steps.require(init, root, Action::Pivot, "after the masks, so that there is no moment without them");
    let seal = Action::ReadOnly { path: "/".into() };
    steps.require(init, root, seal, "nothing is added to the root any more");
    if profile.network == Network::Loopback {
        let own = "the namespace's own, so that only processes of this notebook meet there";
        steps.require(init, Barrier::Network, Action::LoopbackUp, own);
    }
}

/// Read-only folders that no other of them lies above.
/// Processes and threads that there may be: the one that saves variables while the next cell runs is not the cell's.
fn processes(profile: &Profile) -> u64 {
    let saves = profile.checkpoints.when != Checkpointing::None;
    profile.limits.processes.saturating_add(u64::from(saves))
}

fn covered(trees: &[Planned]) -> Vec<PathBuf> {
    trees
        .iter()
        .filter(|tree| tree.barrier == Barrier::ReadOnlySystem)
        .map(|tree| tree.target.clone())
        .collect()
}

fn worker_steps(steps: &mut Steps, profile: &Profile, host: &Host) {
    let worker = Actor::Worker;
    let limits = &profile.limits;
    let outside = if host.rootful { ids::WORKER } else { 0 };
    if host.rootful {
        let become_worker = Action::BecomeWorker { id: ids::WORKER };
        steps.require(
            worker,
            Barrier::UserIds,
            become_worker,
            "another id than init's, so it cannot touch init",
        );
    }
    let nest = Action::NestUserNamespace { inside: ids::WORKER, outside };
    let undo = "the mounts belong to the outer one: even full capabilities in here undo no mask";
    steps.require(worker, Barrier::NestedUserNamespace, nest, undo);
    use Resource::*;
    for (resource, value, reason) in [
        (Core, 1, "1, not 0: a core handler behind a pipe would run as host root with 0"),
        (LockedMemory, 0, "io_uring needs locked memory"),
        (MessageQueues, 0, "memory that no other limit counts"),
        (PendingSignals, 64, "memory that no other limit counts"),
        (RealTimePriority, 0, "nobody starves the host"),
        (OpenFiles, limits.open_files, "of the profile"),
        (FileSize, limits.file_bytes, "of the profile"),
        (Stack, limits.stack_bytes, "of the profile"),
        (
            Data,
            limits.memory_bytes.saturating_add(limits.memory_bytes / 4).saturating_add(512 << 20),
            "an absurd request is a MemoryError at once; the shim's watch ends what grows",
        ),
        (Processes, processes(profile), "counted in the nested user namespace, so it is this sandbox's own"),
    ] {
        steps.require(worker, Barrier::ResourceLimits, Action::Limit { resource, value }, reason);
    }
    let setuid = "before the capabilities go, and needed by Landlock later";
    steps.require(worker, Barrier::NoNewPrivileges, Action::NoNewPrivileges, setuid);
    let drop = "a new user namespace fills them again, so it comes after it";
    steps.require(worker, Barrier::Capabilities, Action::DropCapabilities, drop);
    let close = "what stays is /dev/null, two pipes, the frame channel and the interrupt word";
    steps.require(worker, Barrier::FileDescriptors, Action::CloseFiles, close);
    let workspace = Action::ChangeDirectory { path: "/workspace".into() };
    steps.require(worker, Barrier::Workspace, workspace, "relative paths of the notebook are its own");
    let restrict = Action::Restrict {
        writable: ["/workspace", "/tmp", "/dev/shm"].map(PathBuf::from).to_vec(),
        // Of /proc, what is a process's own; the rest is frozen or belongs to nobody in here.
        files: DEVICES.iter().copied().chain(["/proc"]).map(PathBuf::from).collect(),
        tcp: profile.network != Network::None,
    };
    let last = "after all that opens or mounts; in the worker alone, so that signals to init are refused too";
    // A kernel may have none; the private root holds alone then, and the report says so.
    steps.push(worker, Barrier::Landlock, Need::BestEffort, restrict, last);
    let proof = "a barrier that was asked for and does not hold ends the start, not the host";
    steps.require(worker, Barrier::Capabilities, Action::Prove, proof);
}

fn watch_steps(steps: &mut Steps, profile: &Profile, host: &Host) {
    let watch = Actor::Watch;
    let verify = "from outside, before the first cell: what the sandbox says of itself proves nothing";
    steps.require(watch, Barrier::Capabilities, Action::Verify, verify);
    let memory = Action::WatchMemory { bytes: profile.limits.memory_bytes };
    let sum = "limits of one process do not bound the sum";
    steps.push(watch, Barrier::Memory, Need::BestEffort, memory, sum);
    let processor = Action::WatchProcessor { limit_ms: profile.limits.cpu_ms };
    let age = "of one Execution: RLIMIT_CPU counts a process's whole life, and a notebook would die of age";
    steps.push(watch, Barrier::Processor, Need::Required, processor, age);
    if host.workspace.quota == Some(Quota::Watch) {
        let files = Action::WatchWorkspace { bytes: profile.limits.workspace_bytes };
        let share = "the disk is shared with everybody, and nothing else bounds this share of it";
        steps.push(watch, Barrier::WorkspaceQuota, Need::BestEffort, files, share);
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
