//! The worker's own channel, output, processes and end; the ends of shim and daemon.

use super::{Attack, CAPABILITIES, Control, NESTED, NO_NEW_PRIVILEGES, ROW, probe};
use crate::Kind;

pub(super) static ROWS: [Attack; 14] = [
    Attack {
        number: 61,
        title: "frames that are none, too large, cut off, out of state",
        probe: probe!("61_hostile_frames.py"),
        variants: &["huge", "huge_payload", "short", "cut_off", "garbage", "version", "kind", "state"],
        ends_worker: true,
        contained: &[
            "huge.end=died_protocol",
            "huge_payload.end=died_protocol",
            "short.end=died_protocol",
            "cut_off.end=died_protocol",
            "garbage.end=died_protocol",
            "version.end=died_protocol",
            "kind.end=died_protocol",
            "state.end=died_protocol",
        ],
        control: Control::Honest,
        open: &["end=ok", "sent=done"],
        stopped_by: "lengths are checked before anything is allocated, and frames against the state",
        ..ROW
    },
    Attack {
        number: 62,
        title: "a few bytes that claim 2^60 elements",
        probe: probe!("62_length_bomb.py"),
        variants: &["bincode", "json"],
        ends_worker: true,
        contained: &["bincode.end=died_protocol", "json.end=died_protocol"],
        control: Control::Honest,
        open: &["end=ok", "sent=done"],
        stopped_by: "the codec's limit on bytes, and types that are bounded",
        ..ROW
    },
    Attack {
        number: 63,
        title: "silence: a worker without a channel, a client with half a frame",
        probe: probe!("63_silence.py"),
        kind: Kind::HalfFrame,
        wall_ms: Some(600),
        ends_worker: true,
        contained: &["end=timed_out|died_*", "prompt=yes", "half_frame=held_nobody_up"],
        open: &["reader=waits"],
        stopped_by: "nobody waits for a worker or a client without a bound",
        ..ROW
    },
    Attack {
        number: 64,
        title: "output without end",
        probe: probe!("64_output_flood.py"),
        contained: &["end=ok", "truncated=yes", "wrote=done"],
        open: &["truncated=no", "wrote=done"],
        stopped_by: "the shim's cap on output, with head and tail kept and the gap marked",
        ..ROW
    },
    Attack {
        number: 65,
        title: "forged results: another's, twice, as text",
        probe: probe!("65_forged_results.py"),
        variants: &["another", "twice"],
        ends_worker: true,
        contained: &["another.end=died_protocol", "twice.end=ok|died_protocol"],
        control: Control::Honest,
        open: &["end=ok", "sent=done"],
        stopped_by: "the shim knows what runs; what it was not asked for ends the worker",
        ..ROW
    },
    Attack {
        number: 66,
        title: "descriptors for the shim",
        probe: probe!("66_descriptors_for_the_shim.py"),
        ends_worker: true,
        contained: &["end=died_protocol"],
        open: &["naive_files=more"],
        stopped_by: "whoever sends what the shim did not ask for is ended at the first message",
        ..ROW
    },
    Attack {
        number: 67,
        title: "rewriting the code that runs cells",
        probe: probe!("67_patched_runner.py"),
        wall_ms: Some(1_000),
        ends_worker: true,
        contained: &["end=*", "left=0"],
        open: &["patched=yes"],
        stopped_by: "the process is the boundary, not Python: nothing that protects runs in it",
        ..ROW
    },
    Attack {
        number: 68,
        title: "a process that has left session and parent",
        probe: probe!("68_daemon.py"),
        restarts: true,
        contained: &["daemon=lives", "left=0"],
        open: &["daemon=lives"],
        stopped_by: "the pid namespace: with init everybody ends; there is no sandbox without one",
        ..ROW
    },
    Attack {
        number: 69,
        title: "a process that keeps standard output open",
        probe: probe!("69_open_stdout.py"),
        contained: &["end=ok", "prompt=yes"],
        open: &["prompt=no"],
        stopped_by: "a cell ends by its own frame, not by the end of a pipe",
        ..ROW
    },
    Attack {
        number: 70,
        title: "exit, crash, endless recursion in C, kill, another program in its place",
        probe: probe!("70_sudden_end.py"),
        variants: &["exit", "crash", "overflow", "kill", "become"],
        ends_worker: true,
        contained: &[
            "exit.end=died_exit_3",
            "crash.end=died_signal_11",
            "overflow.end=died_signal_11",
            "kill.end=died_signal_9",
            "become.end=died_exit_1",
        ],
        open: &[
            "exit.end=exit_3",
            "crash.end=signal_11",
            "overflow.end=signal_11",
            "kill.end=signal_9",
            "become.end=exit_1",
        ],
        stopped_by: "init reports the worker's end, and the next cell gets a new one",
        ..ROW
    },
    Attack {
        number: 71,
        title: "the machine's clock, storms of timers",
        probe: probe!("71_clocks.py"),
        contained: &["adjust=EPERM", "storm=done", "end=ok"],
        control: Control::Root,
        open: &["adjust=EINVAL"],
        stopped_by: "the kernel: it asks for CAP_SYS_TIME of the machine's own user namespace",
        ..ROW
    },
    Attack {
        number: 72,
        title: "the daemon killed in the middle of a cell",
        probe: probe!("72_survivor.py"),
        kind: Kind::SupervisorKilled,
        contained: &["end=ok", "through=done"],
        open: &["end=exit_0"],
        stopped_by: "shims outlive the daemon, and the next one takes them back",
        ..ROW
    },
    Attack {
        number: 73,
        title: "the shim killed in the middle of a cell",
        probe: probe!("72_survivor.py"),
        kind: Kind::ShimKilled,
        ends_worker: true,
        contained: &["end=died_shim", "left=0"],
        open: &["end=exit_0"],
        stopped_by: "init ends when the shim's socket closes, and with init everybody",
        ..ROW
    },
    Attack {
        number: 75,
        title: "the kernel's account: no filter, no privileges, no groups",
        probe: probe!("75_status.py"),
        contained: &["seccomp=0", "no_new_privs=1", "capabilities=none", "groups=none", "uid=nobody"],
        contained_rootless: Some(&["seccomp=0", "no_new_privs=1", "capabilities=none", "uid=nobody"]),
        open: &["no_new_privs=0", "capabilities=*CapBnd"],
        // In the outer of the two user namespaces the worker keeps a bounding set, or is root: rootless.
        let_through: &[&[NO_NEW_PRIVILEGES], &[CAPABILITIES], &[NESTED]],
        stopped_by: "capabilities, no_new_privs, user ids; and no seccomp filter is there, by design",
        ..ROW
    },
];
