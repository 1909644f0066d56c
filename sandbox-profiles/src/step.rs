//! One step of a plan: what to do, who does it, which barrier it belongs to, why.

mod text;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Who does it.
    pub actor: Actor,
    /// The barrier it is part of.
    pub barrier: Barrier,
    /// Whether the sandbox may exist without it.
    pub need: Need,
    /// What is done.
    pub action: Action,
    /// Why, one line.
    pub reason: String,
}

/// Who executes a step. The actors follow each other in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The shim, outside.
    Shim,
    /// The sandbox's pid 1, before it has anything to reap.
    Init,
    /// The process that becomes the worker.
    Worker,
    /// The shim again, for as long as the worker lives.
    Watch,
}

/// What happens when a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// There is no sandbox without it.
    Required,
    /// The report says that it is missing.
    BestEffort,
}

/// What a sandbox is made of, as operators think of it; one line each in the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Barrier {
    /// User, pid, mount, ipc, uts and cgroup namespaces.
    Namespaces,
    /// An id that is nobody on the host.
    UserIds,
    /// A network namespace with nothing in it.
    Network,
    /// A root built from an allow-list.
    PrivateRoot,
    /// The system and the interpreter cannot be written.
    ReadOnlySystem,
    /// A handful of harmless devices.
    Devices,
    /// `/proc` shows the sandbox alone, and no kernel knobs.
    Proc,
    /// The notebook's own folder.
    Workspace,
    /// No further namespaces, so no further kernel surface.
    NamespaceQuota,
    /// A second user namespace: capabilities regained there undo nothing.
    NestedUserNamespace,
    /// Hard limits on processes, files, stack, locked memory.
    ResourceLimits,
    /// Set-uid programs give nothing.
    NoNewPrivileges,
    /// All five capability sets are empty, and stay so.
    Capabilities,
    /// No descriptor of ours leaks in.
    FileDescriptors,
    /// Memory of the whole sandbox, watched by the shim.
    Memory,
    /// A session keyring of its own: the daemon's would hold keys of the host.
    Keyring,
    /// Rules on paths, TCP, signals and abstract sockets that outlive every mount trick.
    Landlock,
    /// The kernel's own accounts of the sandbox, and its limits on them.
    Cgroup,
    /// Inodes of its own over what sandboxes share read-only: no lock and no watch crosses.
    Overlay,
    /// Bytes in the workspace.
    WorkspaceQuota,
    /// Processor time of one Execution, watched by the shim.
    Processor,
}

impl Barrier {
    /// The barrier's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Barrier::Namespaces => "namespaces",
            Barrier::UserIds => "user ids",
            Barrier::Network => "network",
            Barrier::PrivateRoot => "private root",
            Barrier::ReadOnlySystem => "read-only system",
            Barrier::Devices => "devices",
            Barrier::Proc => "proc",
            Barrier::Workspace => "workspace",
            Barrier::NamespaceQuota => "namespace quota",
            Barrier::NestedUserNamespace => "nested user namespace",
            Barrier::ResourceLimits => "resource limits",
            Barrier::NoNewPrivileges => "no new privileges",
            Barrier::Capabilities => "capabilities",
            Barrier::FileDescriptors => "file descriptors",
            Barrier::Memory => "memory",
            Barrier::Keyring => "keyring",
            Barrier::Landlock => "landlock",
            Barrier::Cgroup => "cgroup",
            Barrier::Overlay => "overlay",
            Barrier::WorkspaceQuota => "workspace quota",
            Barrier::Processor => "processor time",
        }
    }
}

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// `CLONE_NEWUSER`
    User,
    /// `CLONE_NEWPID`
    Pid,
    /// `CLONE_NEWNS`
    Mount,
    /// `CLONE_NEWNET`
    Network,
    /// `CLONE_NEWIPC`
    Ipc,
    /// `CLONE_NEWUTS`
    Uts,
    /// `CLONE_NEWCGROUP`
    Cgroup,
}

impl Namespace {
    /// Its file in `/proc/PID/ns`.
    pub fn file(self) -> &'static str {
        match self {
            Namespace::User => "user",
            Namespace::Pid => "pid",
            Namespace::Mount => "mnt",
            Namespace::Network => "net",
            Namespace::Ipc => "ipc",
            Namespace::Uts => "uts",
            Namespace::Cgroup => "cgroup",
        }
    }
}

/// A resource of setrlimit(2); hard and soft limit are set alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Size of a core file.
    Core,
    /// Private writable memory of one process.
    Data,
    /// Size of one file.
    FileSize,
    /// Locked memory.
    LockedMemory,
    /// Bytes in POSIX message queues.
    MessageQueues,
    /// Open files.
    OpenFiles,
    /// Processes and threads of the worker's user.
    Processes,
    /// Queued signals.
    PendingSignals,
    /// Stack of the main thread.
    Stack,
    /// Real-time priority.
    RealTimePriority,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Take a detached copy of a tree of the host while its path can still be walked.
    OpenTree {
        /// On the host.
        source: PathBuf,
        /// In the sandbox.
        target: PathBuf,
        /// May be written.
        writable: bool,
        /// Device nodes in it work.
        devices: bool,
        /// Show the host owner's files as the worker's.
        idmap: bool,
    },
    /// Put the workspace's folder into a project of the disk, with a limit. Only a new or empty folder
    /// is put into one: what lies in a folder already keeps its own.
    LimitWorkspace {
        /// On the host.
        folder: PathBuf,
        /// The project.
        project: u32,
        /// Its limit.
        bytes: u64,
        /// Its limit in files and folders.
        inodes: u64,
    },
    /// Mount a file as a file system, detached, by a loop device that goes with its last mount.
    MountImage {
        /// The file.
        image: PathBuf,
        /// In the sandbox.
        target: PathBuf,
        /// How much it is to hold.
        bytes: u64,
        /// Show the owner's files as the worker's.
        idmap: bool,
    },
    /// Join the outer user namespace Z; from here on the shim has no rights on the host.
    EnterOuter,
    /// Make the sandbox's namespaces in one call, with init in them.
    Clone {
        /// Which.
        namespaces: Vec<Namespace>,
    },
    /// Say which ids exist in the sandbox: (inside, in Z).
    MapIds {
        /// The same for users and groups.
        ids: Vec<(u32, u32)>,
    },
    /// Become root of the sandbox's user namespace, without groups, in a session of its own.
    BecomeInit,
    /// Begin with an empty session keyring of its own.
    NewKeyring,
    /// Name the machine.
    Hostname {
        /// The name.
        name: String,
    },
    /// Keep mounts from travelling in or out.
    PrivateMounts,
    /// An empty root in memory.
    MountRoot {
        /// Its size.
        bytes: u64,
        /// Its inodes.
        inodes: u64,
    },
    /// A symbolic link.
    Symlink {
        /// The link.
        path: PathBuf,
        /// What it says.
        target: PathBuf,
    },
    /// A small file.
    WriteFile {
        /// Where.
        path: PathBuf,
        /// What.
        content: String,
    },
    /// Put the tree taken for this target in its place.
    Attach {
        /// In the sandbox.
        target: PathBuf,
    },
    /// A folder to mount on later.
    MountPoint {
        /// Where.
        path: PathBuf,
    },
    /// Memory as a disk, bounded in bytes and inodes.
    MountTmpfs {
        /// Where.
        target: PathBuf,
        /// Its size.
        bytes: u64,
        /// Its inodes.
        inodes: u64,
        /// Its mode.
        mode: u32,
        /// Programs on it can be executed.
        executable: bool,
    },
    /// A `/proc` of the sandbox's own pid namespace.
    MountProc,
    /// Set a kernel knob that belongs to the sandbox's namespaces.
    Sysctl {
        /// With slashes, below `/proc/sys`.
        key: String,
        /// The value.
        value: String,
    },
    /// Make a path read-only by binding it over itself.
    Freeze {
        /// Where; skipped when the kernel does not have it.
        path: PathBuf,
    },
    /// Cover a file with `/dev/null`, a folder with nothing.
    Mask {
        /// Where; skipped when the kernel does not have it.
        path: PathBuf,
    },
    /// Make the new root the root and let go of the old.
    Pivot,
    /// Make a mount read-only.
    ReadOnly {
        /// Where.
        path: PathBuf,
    },
    /// Become the worker's user in the sandbox's user namespace.
    BecomeWorker {
        /// Its uid and gid there.
        id: u32,
    },
    /// A user namespace inside the user namespace, with one id.
    NestUserNamespace {
        /// The id inside.
        inside: u32,
        /// The id outside.
        outside: u32,
    },
    /// Bound a resource.
    Limit {
        /// Which.
        resource: Resource,
        /// To what, in the resource's own unit.
        value: u64,
    },
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// Empty ambient, bounding, effective, permitted and inheritable sets and lock the securebits.
    DropCapabilities,
    /// Keep CAP_SYS_ADMIN alone of all capabilities: what it takes to fork into a sandbox.
    KeepAdmin,
    /// Have the kernel end this process with its parent.
    EndWithParent,
    /// Close everything but the worker's own descriptors.
    CloseFiles,
    /// Go where the work is.
    ChangeDirectory {
        /// Where.
        path: PathBuf,
    },
    /// Sum the memory of the sandbox's processes and end it above the limit.
    WatchMemory {
        /// The limit.
        bytes: u64,
    },
    /// Sum the files of the workspace and end the sandbox above the limit.
    WatchWorkspace {
        /// The limit.
        bytes: u64,
    },
    /// Landlock: read and execute everywhere, write only below `writable`. Where the kernel has
    /// none that is of use, it fails.
    Restrict {
        /// May be written, without making devices.
        writable: Vec<PathBuf>,
        /// Existing files that may be written.
        files: Vec<PathBuf>,
        /// TCP may be used.
        tcp: bool,
    },
    /// Try what must be refused: mounting, a namespace, a capability, a packet socket.
    Prove,
    /// A group of its own in the kernel's accounts, with its limits; in whichever of cgroup v2 and v1
    /// this host lets us make one.
    Cgroup {
        /// Memory, what is kept in memory as files included.
        memory_bytes: u64,
        /// Processes and threads, init included.
        processes: u64,
    },
    /// Init enters those groups that nobody could be born into.
    JoinCgroup,
    /// From here on, the group is what the sandbox sees as the root of all groups.
    NewCgroupNamespace,
    /// Read a small file of the host, so that the sandbox has its own copy.
    TakeFile {
        /// On the host, and in the sandbox.
        path: PathBuf,
    },
    /// Write the copy that was taken.
    PutFile {
        /// As in `TakeFile`.
        path: PathBuf,
    },
    /// Device nodes made for this sandbox alone, in a folder in memory.
    MakeDevices {
        /// The folder in the sandbox.
        target: PathBuf,
        /// The nodes' names: harmless ones, which every Linux has.
        names: Vec<String>,
        /// Links beside them: name and target.
        links: Vec<(String, PathBuf)>,
        /// Folders beside them, to mount on.
        folders: Vec<String>,
    },
    /// An overlay over each of these folders, which has nothing of its own but the inodes.
    Overlay {
        /// In the sandbox.
        targets: Vec<PathBuf>,
    },
    /// Read the processor time of the sandbox, and interrupt what takes more.
    WatchProcessor {
        /// The limit of one Execution, in milliseconds.
        limit_ms: u64,
    },
    /// Bring the sandbox's own loopback up.
    LoopbackUp,
    /// Compare the kernel's own account of the worker with what must hold.
    Verify,
}
