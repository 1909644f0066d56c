//! Other processes, `/proc`, and what leaks in from whoever started the worker.

use super::{Attack, Control, LANDLOCK, PROC, ROOT, ROW, USER_IDS, probe};
use crate::Residual;

pub(super) static ROWS: [Attack; 11] = [
    Attack {
        number: 16,
        title: "signals to pid 1",
        probe: probe!("16_signal_init.py"),
        contained: &["ask=EPERM", "sigterm=EPERM", "sigkill=EPERM", "sigstop=EPERM", "end=ok"],
        control: Control::Own(&[]),
        open: &["ask=done"],
        let_through: &[&[LANDLOCK, USER_IDS]],
        let_through_rootless: Some(&[&[LANDLOCK]]),
        stopped_by: "Landlock's scope, and init's own user id; let through, the kernel keeps pid 1 alive",
        ..ROW
    },
    Attack {
        number: 17,
        title: "kill(-1, SIGKILL)",
        probe: probe!("17_kill_all.py"),
        contained: &["child=killed", "others=0", "end=ok"],
        control: Control::Own(&[]),
        open: &["child=killed", "others_killed=1"],
        stopped_by: "the pid namespace, in which nobody else is; there is no sandbox without one",
        ..ROW
    },
    Attack {
        number: 18,
        title: "limits, priority and processors of pid 1",
        probe: probe!("18_starve_init.py"),
        restarts: true,
        contained: &[
            "prlimit=EPERM",
            "affinity=EPERM",
            "priority=EPERM",
            "scheduler=EPERM",
            "ioprio=EPERM",
            "left=0",
        ],
        // One user id for init and worker: it succeeds, and init does its work with three descriptors.
        contained_rootless: Some(&["left=0", "end=ok"]),
        control: Control::Own(&[]),
        open: &["prlimit=done", "priority=done", "scheduler=done"],
        let_through: &[&[USER_IDS]],
        let_through_rootless: Some(&[]),
        stopped_by: "init's own user id; rootless it succeeds and hurts the sandbox alone, whose end needs nothing of init",
        ..ROW
    },
    Attack {
        number: 19,
        title: "ptrace, process_vm_readv, pidfd_getfd on pid 1",
        probe: probe!("19_look_into_init.py"),
        contained: &["ptrace=EPERM|EACCES", "read=EPERM", "steal=EPERM|EACCES"],
        control: Control::Own(&[]),
        open: &["ptrace=done", "read=done", "steal=done"],
        stopped_by: "init is not dumpable, has another user namespace and id, and lies outside the Landlock domain",
        ..ROW
    },
    Attack {
        number: 20,
        title: "/proc/1: environ, maps, mem, fd, root, ns",
        probe: probe!("20_proc_of_init.py"),
        contained: &[
            "environ=EACCES|EPERM",
            "maps=EACCES|EPERM",
            "mem=EACCES|EPERM",
            "fd=EACCES|EPERM",
            "root=EACCES|EPERM",
            "ns=EACCES|EPERM",
        ],
        control: Control::Own(&[]),
        open: &["environ=done", "maps=done", "mem=done", "fd=done", "root=done", "ns=done"],
        stopped_by: "init is not dumpable, has another user namespace and id, and lies outside the Landlock domain",
        ..ROW
    },
    Attack {
        number: 21,
        title: "kernel knobs: core_pattern, modprobe, sysrq, ipc",
        probe: probe!("21_kernel_knobs.py"),
        contained: &[
            "core_pattern=EROFS|EACCES",
            "modprobe=EROFS|EACCES|ENOENT",
            "sysrq=EROFS|EACCES|ENOENT",
            "msgmni=EROFS|EACCES",
        ],
        control: Control::Own(&["--ipc"]),
        open: &["msgmni=done"],
        let_through: &[&[PROC, USER_IDS]],
        let_through_rootless: Some(&[&[PROC]]),
        stopped_by: "/proc/sys and sysrq-trigger are read-only, and belong to another user id",
        ..ROW
    },
    Attack {
        number: 22,
        title: "a lower oom_score_adj",
        probe: probe!("22_oom_score.py"),
        contained: &["lower=EACCES|EPERM"],
        control: Control::Root,
        open: &["lower=done"],
        stopped_by: "the kernel: it asks for CAP_SYS_RESOURCE of the machine's own user namespace",
        ..ROW
    },
    Attack {
        number: 23,
        title: "what /proc tells of the machine",
        probe: probe!("23_tales_of_the_kernel.py"),
        contained: &[
            "kcore=empty|ENOENT",
            "kallsyms=empty|ENOENT",
            "keys=empty|ENOENT",
            "timer_list=empty|ENOENT",
            "cmdline=empty|ENOENT",
            "config.gz=empty|ENOENT",
            "interrupts=empty|ENOENT",
        ],
        open: &["cmdline=told", "kallsyms=told", "interrupts=told"],
        let_through: &[&[PROC]],
        stopped_by: "masks over /proc",
        residual: Some(Residual {
            when: &["meminfo=told"],
            why: "meminfo, cpuinfo, loadavg and version of the machine stay readable: programs ask for them",
        }),
        ..ROW
    },
    Attack {
        number: 24,
        title: "environment of whoever started it",
        probe: probe!("24_environment.py"),
        contained: &["unknown=none"],
        open: &["unknown=*CELLBLOCK_ATTACK_SECRET"],
        stopped_by: "exec with an environment built from an allow-list; no step of the plan",
        ..ROW
    },
    Attack {
        number: 25,
        title: "descriptors of whoever started it",
        probe: probe!("25_descriptors_left_open.py"),
        contained: &["unknown=none"],
        control: Control::ExtraDescriptor,
        open: &["unknown=/dev/zero*"],
        stopped_by: "all but five are closed before the first step of the worker, and close at exec besides",
        ..ROW
    },
    Attack {
        number: 26,
        title: "out through cwd, root and ..",
        probe: probe!("26_walk_out.py"),
        contained: &["top=root", "secret=ENOENT", "by_cwd=ENOENT", "by_root=ENOENT"],
        open: &["secret=done", "by_cwd=done", "by_root=done"],
        let_through: &[&[ROOT]],
        stopped_by: "a root of its own, pivoted into; the old one is gone",
        ..ROW
    },
];
