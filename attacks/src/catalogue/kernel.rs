//! What makes sandboxes, and other system calls that reach far into the kernel.

use super::{
    Attack, CAPABILITIES, Control, DEVICES, IPC, KEYRING, LANDLOCK, LIMITS, NESTED, NO_NEW_PRIVILEGES, QUOTA,
    ROW, USER_IDS, probe,
};
use crate::{Before, Residual};

pub(super) static ROWS: [Attack; 15] = [
    Attack {
        number: 27,
        restarts: true,
        title: "mount, umount, fsopen, open_tree, pivot_root, chroot",
        probe: probe!("27_mount.py"),
        contained: &[
            "mount=EPERM",
            "remount=EPERM",
            "umount=EPERM",
            "fsopen=EPERM",
            "open_tree=EPERM",
            "pivot_root=EPERM",
            "chroot=EPERM",
        ],
        control: Control::Own(&[]),
        open: &["mount=done", "fsopen=done", "open_tree=done", "chroot=done"],
        let_through: &[&[CAPABILITIES]],
        stopped_by: "no capability, mounts that belong to an outer user namespace, Landlock",
        ..ROW
    },
    Attack {
        number: 28,
        title: "a user namespace of its own",
        probe: probe!("28_user_namespace.py"),
        contained: &["unshare=ENOSPC"],
        open: &["unshare=done"],
        let_through: &[&[QUOTA], &[NESTED]],
        stopped_by: "a quota of one, which the worker's own nested user namespace uses up",
        ..ROW
    },
    Attack {
        number: 29,
        title: "each other namespace, setns",
        probe: probe!("29_other_namespaces.py"),
        contained: &[
            "mount=EPERM|ENOSPC",
            "net=EPERM|ENOSPC",
            "pid=EPERM|ENOSPC",
            "ipc=EPERM|ENOSPC",
            "uts=EPERM|ENOSPC",
            "cgroup=EPERM|ENOSPC",
            "time=EPERM|ENOSPC",
            "setns=EACCES|EPERM",
            "setns_own=EPERM",
        ],
        control: Control::Own(&["--uts"]),
        open: &[
            "mount=done",
            "net=done",
            "pid=done",
            "ipc=done",
            "uts=done",
            "cgroup=done",
            "setns=done",
            "setns_own=done",
        ],
        let_through: &[&[CAPABILITIES, QUOTA], &[CAPABILITIES, NESTED, USER_IDS]],
        let_through_rootless: Some(&[&[CAPABILITIES, QUOTA], &[CAPABILITIES, NESTED]]),
        stopped_by: "no capability, and quotas of 0",
        ..ROW
    },
    Attack {
        number: 30,
        title: "set-uid programs",
        probe: probe!("30_set_uid.py"),
        contained: &["no_new_privs=1", "gain=no|no_program"],
        open: &["no_new_privs=0", "gain=yes"],
        let_through: &[&[NO_NEW_PRIVILEGES]],
        stopped_by: "no_new_privs; besides, every mount is nosuid and root of the machine is nobody in here",
        ..ROW
    },
    Attack {
        number: 31,
        title: "file capabilities",
        probe: probe!("31_file_capabilities.py"),
        contained: &["xattr=EPERM"],
        control: Control::Own(&[]),
        open: &["xattr=done"],
        let_through: &[&[CAPABILITIES]],
        stopped_by: "no CAP_SETFCAP",
        ..ROW
    },
    Attack {
        number: 32,
        title: "device nodes",
        probe: probe!("32_device_nodes.py"),
        contained: &[
            "tmp_char=EACCES|EPERM",
            "tmp_block=EACCES|EPERM",
            "tmp_whiteout=EACCES",
            "here_char=EACCES|EPERM",
            "here_block=EACCES|EPERM",
            "here_whiteout=EACCES",
        ],
        open: &["tmp_whiteout=done"],
        let_through: &[&[LANDLOCK]],
        stopped_by: "Landlock; for real devices also the kernel (no CAP_MKNOD of the machine) and nodev",
        ..ROW
    },
    Attack {
        number: 33,
        title: "devices of the machine",
        probe: probe!("33_devices.py"),
        contained: &["found=none"],
        open: &["found=!none"],
        let_through: &[&[DEVICES]],
        stopped_by: "a /dev with five devices",
        ..ROW
    },
    Attack {
        number: 34,
        title: "init_module, kexec_load, reboot, acct, swapon",
        probe: probe!("34_machine.py"),
        contained: &[
            "init_module=EPERM|ENOSYS",
            "kexec=EPERM|ENOSYS",
            "reboot=EPERM",
            "acct=EPERM|ENOSYS",
            "swapon=EPERM|ENOSYS",
        ],
        control: Control::Own(&[]),
        open: &["reboot=EINVAL"],
        let_through: &[&[CAPABILITIES, NESTED, USER_IDS]],
        let_through_rootless: Some(&[&[CAPABILITIES, NESTED]]),
        stopped_by: "no capability; all but reboot ask for one of the machine's own user namespace",
        ..ROW
    },
    Attack {
        number: 35,
        title: "bpf",
        probe: probe!("35_bpf.py"),
        contained: &["map=EPERM"],
        control: Control::Root,
        open: &["map=done"],
        stopped_by: "the kernel's setting kernel.unprivileged_bpf_disabled",
        ..ROW
    },
    Attack {
        number: 36,
        title: "perf_event_open",
        probe: probe!("36_perf.py"),
        contained: &["kernel=EACCES|EPERM", "processor=EACCES|EPERM"],
        control: Control::Root,
        open: &["kernel=done", "processor=done"],
        stopped_by: "the kernel's setting kernel.perf_event_paranoid, from 2 on",
        residual: Some(Residual {
            when: &["own=done"],
            why: "at kernel.perf_event_paranoid=2 a process may measure itself; 3 takes that away where the kernel knows it",
        }),
        ..ROW
    },
    Attack {
        number: 37,
        title: "userfaultfd",
        probe: probe!("37_userfaultfd.py"),
        contained: &["kernel_faults=EPERM|ENOSYS"],
        control: Control::Root,
        open: &["kernel_faults=done"],
        stopped_by: "the kernel's setting vm.unprivileged_userfaultfd=0",
        residual: Some(Residual {
            when: &["own_faults=done"],
            why: "for faults of user mode anybody may have one; it delays nobody but its owner",
        }),
        ..ROW
    },
    Attack {
        number: 38,
        title: "io_uring",
        probe: probe!("38_io_uring.py"),
        contained: &[
            "one=ENOMEM|EPERM|ENOSYS",
            "many=ENOMEM|EPERM|ENOSYS",
            "own_memory=ENOMEM|EPERM|ENOSYS|EFAULT|EINVAL",
        ],
        open: &["one=done"],
        let_through: &[&[LIMITS]],
        stopped_by: "RLIMIT_MEMLOCK=0; on kernels 5.12 to 6.13 only the setting kernel.io_uring_disabled=2",
        ..ROW
    },
    Attack {
        number: 39,
        title: "keys of a neighbour",
        probe: probe!("39_keys.py"),
        before: Some((Before::Neighbour, probe!("39_keys.before.py"))),
        contained: &["search=ENOKEY|ENOSYS"],
        open: &["search=done"],
        let_through: &[&[KEYRING]],
        stopped_by: "a session keyring of its own",
        ..ROW
    },
    Attack {
        number: 40,
        title: "programs in memory, memfd_secret",
        probe: probe!("40_memory_as_program.py"),
        contained: &["end=ok"],
        open: &["memfd=done"],
        stopped_by: "nothing, and nothing is gained by it: running code is what is granted",
        residual: Some(Residual { when: &[], why: "programs that were never a file can be run" }),
        ..ROW
    },
    Attack {
        number: 41,
        title: "ipc objects that a neighbour has left",
        probe: probe!("41_ipc_left_behind.py"),
        before: Some((Before::Neighbour, probe!("41_ipc_left_behind.before.py"))),
        contained: &[
            "segment=ENOENT",
            "queue=ENOENT",
            "semaphores=ENOENT",
            "posix=EMFILE|ENOSPC|EPERM|EACCES|ENOSYS",
        ],
        open: &["segment=done", "queue=done", "semaphores=done", "posix=done"],
        let_through: &[&[IPC], &[LIMITS, LANDLOCK]],
        stopped_by: "an ipc namespace of its own; limits of 0 on POSIX message queues",
        ..ROW
    },
];
