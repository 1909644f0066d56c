//! What the sandbox really enforces, read from outside before any user code has run.

use std::collections::BTreeMap;
use std::fs;

use rustix::process::Pid;
use sandbox_profiles::{Action, Barrier, BarrierReport, BarrierState, SandboxReport, Step};

use super::disk::Disk;
use crate::sandbox::{Missing, landlock};
use crate::sys;

/// What `/proc/PID/status` must say of a worker: the kernel's own account.
const PROOF: [(&str, &str); 6] = [
    ("NoNewPrivs", "1"),
    ("CapInh", "0000000000000000"),
    ("CapPrm", "0000000000000000"),
    ("CapEff", "0000000000000000"),
    ("CapBnd", "0000000000000000"),
    ("CapAmb", "0000000000000000"),
];

/// The report of a sandbox whose worker is `worker`, of whose memory `unseen` is not counted.
///
/// # Errors
/// The kernel's account of the worker differs from what must hold; the sandbox must not be used.
pub fn report(
    steps: &[Step],
    missing: &[Missing],
    worker: Pid,
    unseen: &[&str],
    disk: &Disk,
) -> Result<SandboxReport, String> {
    let status = status(worker);
    if steps.iter().any(|step| step.action == Action::Verify) {
        verify(&status, worker)?;
    }
    let mut lines: BTreeMap<Barrier, BarrierReport> = BTreeMap::new();
    lines.insert(
        Barrier::Network,
        BarrierReport {
            barrier: Barrier::Network,
            state: BarrierState::Enforced,
            detail: "a network namespace of its own, with nothing in it but a loopback that is down"
                .to_owned(),
        },
    );
    for step in steps {
        let line = lines.entry(step.barrier).or_insert_with(|| BarrierReport {
            barrier: step.barrier,
            state: BarrierState::Enforced,
            detail: detail(step),
        });
        if let Some((_, error)) = missing.iter().find(|(failed, _)| failed == step) {
            line.state = BarrierState::Degraded;
            line.detail = format!("{step}: {error}");
        }
    }
    let maps_one_id = |step: &Step| matches!(&step.action, Action::MapIds { ids } if ids.len() == 1);
    if let Some(ids) = lines.get_mut(&Barrier::UserIds).filter(|_| steps.iter().any(maps_one_id)) {
        ids.state = BarrierState::Degraded;
        ids.detail =
            "rootless: on the host the worker is the daemon's own user, without its rights".to_owned();
    }
    if let Some(memory) = lines.get_mut(&Barrier::Memory) {
        memory.state = BarrierState::Degraded;
        memory.detail += "; no cgroup is used, so a fast writer overshoots by what it touches between two looks, 50 ms apart or more";
        if !unseen.is_empty() {
            memory.detail += &format!("; not seen on this host: {}", unseen.join(", "));
        }
    }
    if let Some(line) = lines.get_mut(&Barrier::WorkspaceQuota) {
        (line.state, line.detail) = disk.account(steps);
    }
    let tcp = steps.iter().any(|step| matches!(&step.action, Action::Restrict { tcp: true, .. }));
    if let Some(line) = lines.get_mut(&Barrier::Landlock) {
        (line.state, line.detail) = landlock_line(sys::landlock_abi(), tcp);
    }
    let seccomp = status.get("Seccomp").map_or("?", String::as_str);
    if let Some(line) = lines.get_mut(&Barrier::NoNewPrivileges) {
        line.detail = format!("set-uid programs give nothing (Seccomp: {seccomp}, by design)");
    }
    Ok(SandboxReport { barriers: lines.into_values().collect() })
}

/// Compares the kernel's account of the worker with what must hold of every one.
fn verify(status: &BTreeMap<String, String>, worker: Pid) -> Result<(), String> {
    for (key, wanted) in PROOF {
        let found = status.get(key).map_or("nothing", String::as_str);
        if found != wanted {
            return Err(format!("{key} of the worker is {found}, it must be {wanted}"));
        }
    }
    let own = fs::read_link("/proc/self/ns/pid").ok();
    if fs::read_link(format!("/proc/{}/ns/pid", worker.as_raw_pid())).ok() == own {
        return Err("the worker is in the host's pid namespace".to_owned());
    }
    let interfaces = interfaces(worker);
    if interfaces != ["lo"] {
        return Err(format!("the worker sees the network interfaces {interfaces:?}, it must see lo alone"));
    }
    Ok(())
}

/// The worker has applied what its kernel knows, or has not been started; this says what that is.
fn landlock_line(abi: u32, tcp: bool) -> (BarrierState, String) {
    let Some(rights) = landlock::rights(abi, tcp) else {
        let detail = format!("the kernel has ABI {abi}, at least 2 is of use: the private root stands alone");
        return (BarrierState::Missing, detail);
    };
    let mut detail =
        format!("ABI {abi}: writes only in /workspace, /tmp, /dev/shm, devices and /proc; no device made");
    let mut state = BarrierState::Enforced;
    for (has, text) in [(rights.net != 0 || tcp, "TCP"), (rights.scopes != 0, "signals and abstract sockets")]
    {
        if !has {
            state = BarrierState::Degraded;
            detail += &format!("; {text} not restricted by this ABI");
        } else if text != "TCP" || !tcp {
            detail += &format!("; {text} held in");
        }
    }
    (state, detail)
}

fn detail(step: &Step) -> String {
    let text = match (&step.action, step.barrier) {
        (Action::Clone { namespaces }, _) => {
            return format!("{} new ones, owned by one another", namespaces.len());
        }
        (_, Barrier::UserIds) => "the worker is nobody on the host",
        (_, Barrier::PrivateRoot) => "built from an allow-list, in memory",
        (_, Barrier::ReadOnlySystem) => "the system and the interpreter, read-only, no set-uid",
        (_, Barrier::Devices) => "null, zero, full, random, urandom",
        (_, Barrier::Proc) => "of the sandbox alone; kernel knobs frozen, the machine's secrets masked",
        (_, Barrier::Workspace) => "the notebook's own folder at /workspace",
        (_, Barrier::NamespaceQuota) => "no further namespace and no inotify can be made",
        (_, Barrier::NestedUserNamespace) => "proven: a further user namespace is refused",
        (_, Barrier::ResourceLimits) => "hard limits on processes, files, stack, memory of one process",
        (_, Barrier::Capabilities) => "all five sets empty, securebits locked",
        (_, Barrier::FileDescriptors) => "/dev/null, two pipes, the frame channel, the interrupt word",
        (_, Barrier::Keyring) => "a new, empty one",
        (_, Barrier::Memory) => "the shim sums the sandbox's memory and ends the sandbox above the limit",
        _ => step.reason.as_str(),
    };
    text.to_owned()
}

fn interfaces(pid: Pid) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{}/net/dev", pid.as_raw_pid())).unwrap_or_default();
    // Two lines of headings, then a line per interface.
    text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

fn status(pid: Pid) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_pid())).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}
