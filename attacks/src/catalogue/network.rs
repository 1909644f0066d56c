//! Sockets, locks and signals that cross from one sandbox to another, the terminal, the kernel's log.
//!
//! Rows 44 to 49 make a socket only after the probe has seen an empty network namespace.

use super::{
    Attack, CAPABILITIES, Control, LANDLOCK, LIMITS, NESTED, NETWORK, OVERLAY, QUOTA, ROOT, ROW, USER_IDS,
    probe,
};
use crate::{Before, Residual};

pub(super) static ROWS: [Attack; 12] = [
    Attack {
        number: 42,
        title: "abstract socket of the host",
        probe: probe!("42_abstract_socket.py"),
        contained: &["connect=ECONNREFUSED|EPERM"],
        open: &["connect=done"],
        let_through: &[&[NETWORK, LANDLOCK]],
        stopped_by: "the network namespace, and Landlock's scope",
        ..ROW
    },
    Attack {
        number: 43,
        title: "Unix sockets in sight",
        probe: probe!("43_sockets_in_sight.py"),
        contained: &["sockets=none", "walk=whole"],
        open: &["sockets=/*"],
        let_through: &[&[ROOT]],
        stopped_by: "a root built from an allow-list",
        ..ROW
    },
    Attack {
        number: 44,
        title: "what listens on the host's loopback",
        probe: probe!("44_loopback.py"),
        contained: &["connect=EACCES|ENETUNREACH|EPERM", "bind=EACCES|EADDRNOTAVAIL|done"],
        open: &["connect=done", "bind=done"],
        let_through: &[&[NETWORK]],
        stopped_by: "an empty network namespace; Landlock's TCP rules",
        ..ROW
    },
    Attack {
        number: 45,
        title: "egress: metadata, TCP, UDP",
        probe: probe!("45_egress.py"),
        contained: &["metadata=EACCES|ENETUNREACH", "tcp=EACCES|ENETUNREACH", "udp=ENETUNREACH"],
        open: &["metadata=done", "tcp=done", "udp=done"],
        let_through: &[&[NETWORK]],
        stopped_by: "an empty network namespace; for TCP Landlock too",
        ..ROW
    },
    Attack {
        number: 46,
        title: "packet, raw, ping and XDP sockets",
        probe: probe!("46_raw_sockets.py"),
        contained: &[
            "packet=EPERM|EACCES|EAFNOSUPPORT",
            "raw=EPERM|EACCES",
            "ping=EPERM|EACCES",
            "xdp=EPERM|EACCES|EAFNOSUPPORT",
        ],
        control: Control::Own(&["--net"]),
        open: &["packet=done", "raw=done"],
        let_through: &[&[NETWORK], &[CAPABILITIES, NESTED, USER_IDS]],
        let_through_rootless: Some(&[&[NETWORK], &[CAPABILITIES, NESTED]]),
        stopped_by: "no CAP_NET_RAW in the user namespace that owns the network",
        ..ROW
    },
    Attack {
        number: 47,
        title: "netlink",
        probe: probe!("47_netlink.py"),
        contained: &["links=lo"],
        open: &["links=!lo"],
        let_through: &[&[NETWORK]],
        stopped_by: "an empty network namespace: its tables are all there is to ask for",
        residual: Some(Residual {
            when: &["route=done"],
            why: "the kernel's parsers of netlink messages can be reached; they tell of this sandbox alone",
        }),
        ..ROW
    },
    Attack {
        number: 48,
        title: "vsock",
        probe: probe!("48_vsock.py"),
        contained: &["vsock=done|EAFNOSUPPORT|EPERM|EACCES|ENODEV"],
        open: &["vsock=done"],
        let_through: &[&[NETWORK]],
        stopped_by: "nothing where the kernel has it: network namespaces do not split it before Linux 7.0",
        residual: Some(Residual {
            when: &["vsock=done"],
            why: "a socket to the hypervisor can be made; keep the module from loading (modprobe.d: install vsock /bin/false)",
        }),
        ..ROW
    },
    Attack {
        number: 49,
        title: "rare socket families",
        probe: probe!("49_rare_families.py"),
        contained: &["families=*"],
        open: &["families=!none"],
        let_through: &[&[NETWORK]],
        stopped_by: "nothing where the kernel has them; most ask for a capability, or are not there",
        residual: Some(Residual {
            when: &["families=!none"],
            why: "sockets of rare families can be made; keep their modules from loading (modprobe.d)",
        }),
        ..ROW
    },
    Attack {
        number: 50,
        title: "a neighbour's lock, a watch on shared folders",
        probe: probe!("50_shared_inodes.py"),
        before: Some((Before::Neighbour, probe!("50_shared_inodes.before.py"))),
        contained: &["flock=done", "inotify=EMFILE|ENOSPC"],
        open: &["flock=EAGAIN", "inotify=done"],
        let_through: &[&[OVERLAY], &[QUOTA, LIMITS]],
        stopped_by: "inodes of its own over what is shared; quotas of 0 on inotify",
        ..ROW
    },
    Attack {
        number: 51,
        title: "typing into the terminal",
        probe: probe!("51_terminal.py"),
        contained: &["tty=ENOENT|ENXIO|EACCES", "type=ENOTTY|EACCES|EPERM"],
        open: &["tty=done"],
        stopped_by: "a session of its own without a terminal, /dev/null as standard input, no tty device",
        ..ROW
    },
    Attack {
        number: 52,
        title: "core dump into the host's handler",
        probe: probe!("52_core_dump.py"),
        contained: &["signal=11", "core=none"],
        open: &["signal=11", "core=dumped"],
        let_through: &[&[LIMITS]],
        stopped_by: "RLIMIT_CORE=1",
        ..ROW
    },
    Attack {
        number: 53,
        title: "the kernel's log",
        probe: probe!("53_kernel_log.py"),
        contained: &["kmsg=ENOENT"],
        control: Control::Root,
        open: &["syslog=done", "kmsg=done"],
        let_through: &[&[super::DEVICES]],
        stopped_by: "no /dev/kmsg; for syslog(2) the kernel's setting kernel.dmesg_restrict=1",
        residual: Some(Residual {
            when: &["syslog=done"],
            why: "kernel.dmesg_restrict is 0 here, so anybody may read the log: sysctl kernel.dmesg_restrict=1",
        }),
        ..ROW
    },
];
