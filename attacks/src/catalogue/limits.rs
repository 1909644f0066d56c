//! Taking more than the profile grants: processes, memory, disk, descriptors, time.

use super::{Attack, CGROUP, Control, LIMITS, MEMORY, PROCESSOR, ROOT, ROW, WORKSPACE_QUOTA, probe};
use crate::{Kind, Residual};

pub(super) static ROWS: [Attack; 15] = [
    Attack {
        number: 1,
        title: "fork bomb",
        probe: probe!("01_fork_bomb.py"),
        contained: &["fork=EAGAIN", "end=ok"],
        open: &["fork=done"],
        let_through: &[&[LIMITS, CGROUP]],
        stopped_by: "process limits: of the nested user namespace, and of the cgroup",
        ..ROW
    },
    Attack {
        number: 2,
        title: "processes that ignore SIGTERM and start anew whoever ends",
        probe: probe!("02_unkillable_swarm.py"),
        restarts: true,
        contained: &["after_sigterm=alive", "left=0"],
        open: &["after_sigterm=alive"],
        stopped_by: "the pid namespace: with init everybody ends; there is no sandbox without one",
        ..ROW
    },
    Attack {
        number: 3,
        title: "bytearray bomb",
        probe: probe!("03_memory_bomb.py"),
        ends_worker: true,
        contained: &["end=limit_memory", "reserve=MemoryError"],
        open: &["reserve=done", "touch=done"],
        let_through: &[&[LIMITS], &[MEMORY, CGROUP]],
        stopped_by: "RLIMIT_DATA for one request, the watch over memory and the cgroup for the sum",
        ..ROW
    },
    Attack {
        number: 4,
        title: "memory that no process maps: memfd, pipes",
        probe: probe!("04_memory_nobody_maps.py"),
        ends_worker: true,
        contained: &["end=limit_memory"],
        open: &["pipes=done", "memfd=done"],
        let_through: &[&[MEMORY, CGROUP]],
        stopped_by: "the watch over memory, and the cgroup",
        residual: Some(Residual {
            when: &["report_cgroup=none|missing"],
            why: "without a memory controller, what pipes and socket buffers hold is bounded by the number of files alone",
        }),
        ..ROW
    },
    Attack {
        number: 5,
        title: "many children, none of them too large",
        probe: probe!("05_many_children.py"),
        ends_worker: true,
        contained: &["end=limit_memory"],
        open: &["children=done"],
        let_through: &[&[MEMORY, CGROUP]],
        stopped_by: "the watch over memory, and the cgroup",
        residual: Some(Residual {
            when: &["report_cgroup=none|missing"],
            why: "without a memory controller a fast writer overshoots by what it touches between two looks",
        }),
        ..ROW
    },
    Attack {
        number: 6,
        title: "filling /tmp, /dev/shm and the workspace",
        probe: probe!("06_fill_disks.py"),
        // What it leaves in its workspace goes with the notebook.
        kind: Kind::Deletion,
        ends_worker: true,
        contained: &["tmp=ENOSPC", "shm=ENOSPC", "workspace=ENOSPC|EDQUOT", "deleted=yes"],
        contained_rootless: Some(&["tmp=ENOSPC", "shm=ENOSPC", "end=limit_disk", "deleted=yes"]),
        open: &["tmp=done", "shm=done", "workspace=done"],
        let_through: &[&[ROOT], &[WORKSPACE_QUOTA]],
        stopped_by: "the sizes of the private root's tmpfs, the workspace's quota",
        ..ROW
    },
    Attack {
        number: 7,
        title: "inode exhaustion",
        probe: probe!("07_inodes.py"),
        contained: &["inodes=ENOSPC"],
        open: &["inodes=done"],
        let_through: &[&[ROOT]],
        stopped_by: "the inode limits of the private root's tmpfs",
        ..ROW
    },
    Attack {
        number: 8,
        title: "sparse file of 1 TiB",
        probe: probe!("08_sparse_file.py"),
        contained: &["truncate=EFBIG", "end=ok"],
        open: &["truncate=done"],
        let_through: &[&[LIMITS]],
        stopped_by: "RLIMIT_FSIZE",
        ..ROW
    },
    Attack {
        number: 9,
        title: "descriptor exhaustion",
        probe: probe!("09_descriptors.py"),
        contained: &["files=EMFILE", "end=ok"],
        open: &["files=done"],
        let_through: &[&[LIMITS]],
        stopped_by: "RLIMIT_NOFILE",
        ..ROW
    },
    Attack {
        number: 10,
        title: "flood of queued signals",
        probe: probe!("10_signal_queue.py"),
        contained: &["queue=EAGAIN", "end=ok"],
        open: &["queue=done"],
        let_through: &[&[LIMITS]],
        stopped_by: "RLIMIT_SIGPENDING",
        ..ROW
    },
    Attack {
        number: 11,
        title: "thread bomb",
        probe: probe!("11_threads.py"),
        contained: &["threads=RuntimeError", "end=ok"],
        open: &["threads=done"],
        let_through: &[&[LIMITS, CGROUP]],
        stopped_by: "process limits: of the nested user namespace, and of the cgroup",
        ..ROW
    },
    Attack {
        number: 12,
        title: "processor time, in several processes",
        probe: probe!("12_processor_time.py"),
        ends_worker: true,
        contained: &["end=limit_cpu"],
        open: &["spun=done"],
        let_through: &[&[PROCESSOR]],
        stopped_by: "the shim's measure of one Execution's processor time",
        ..ROW
    },
    Attack {
        number: 13,
        title: "loop in C that holds the interpreter's lock, SIGINT blocked",
        probe: probe!("13_deaf_loop.py"),
        wall_ms: Some(500),
        ends_worker: true,
        contained: &["end=timed_out", "left=0", "prompt=yes"],
        open: &["sigint=waits", "loop=done"],
        stopped_by: "the shim's clock: interrupt, grace, SIGKILL of the sandbox; it asks nothing of Python",
        ..ROW
    },
    Attack {
        number: 14,
        title: "stopped processes at the end",
        probe: probe!("14_stopped.py"),
        wall_ms: Some(500),
        ends_worker: true,
        contained: &["end=timed_out", "left=0", "prompt=yes"],
        open: &["after_sigterm=stopped"],
        stopped_by: "the shim's clock, and SIGKILL, which stopped processes heed",
        ..ROW
    },
    Attack {
        number: 15,
        title: "wait that no SIGINT ends",
        probe: probe!("15_uninterruptible.py"),
        wall_ms: Some(500),
        ends_worker: true,
        contained: &["end=timed_out", "left=0", "prompt=yes"],
        control: Control::Same,
        open: &["vfork=waited"],
        stopped_by: "SIGKILL of init through its pidfd; nobody waits for an end without a bound",
        ..ROW
    },
];
