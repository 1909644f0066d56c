//! What the sandbox really enforces, read from outside before any user code has run.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use cellblock_steps::landlock;
use rustix::process::Pid;
use sandbox_profiles::{Action, Barrier, BarrierReport, BarrierState, SandboxReport, Start, Step};

use super::disk::Disk;
use crate::cgroup::Group;
use crate::sandbox::Missing;
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

/// What a report is made of.
pub struct Facts<'a> {
    /// The plan.
    pub steps: &'a [Step],
    /// What of it failed and need not have held.
    pub missing: &'a [Missing],
    /// The worker.
    pub worker: Pid,
    /// What of the sandbox's memory is not counted, where no cgroup does it.
    pub unseen: Vec<&'static str>,
    /// The sandbox's cgroups.
    pub group: &'a Group,
    /// The workspace.
    pub disk: &'a Disk,
    /// How long it took to make the sandbox.
    pub made_in: Duration,
    /// How Python was started.
    pub start: &'a Start,
}

/// The report of a sandbox.
///
/// # Errors
/// The kernel's account of the worker differs from what must hold; the sandbox must not be used.
pub fn report(facts: &Facts<'_>) -> Result<SandboxReport, String> {
    let Facts { steps, worker, .. } = *facts;
    let status = status(worker);
    let mut lines: BTreeMap<Barrier, BarrierReport> = BTreeMap::new();
    if steps.iter().any(|step| step.action == Action::Verify) {
        verify(&status, worker)?;
        let detail = match steps.iter().any(|step| step.action == Action::LoopbackUp) {
            true => "a network namespace of its own, with nothing in it but a loopback",
            false => "a network namespace of its own, with nothing in it but a loopback that is down",
        };
        let state = BarrierState::Enforced;
        let barrier = Barrier::Network;
        lines.insert(barrier, BarrierReport { barrier, state, detail: detail.to_owned() });
    }
    for step in steps {
        lines.entry(step.barrier).or_insert_with(|| line(step, facts, &status));
    }
    Ok(SandboxReport {
        barriers: lines.into_values().collect(),
        made_us: u64::try_from(facts.made_in.as_micros()).unwrap_or(u64::MAX),
        start: facts.start.clone(),
    })
}

/// The line of a barrier, of which this is the first step.
fn line(first: &Step, facts: &Facts<'_>, status: &BTreeMap<String, String>) -> BarrierReport {
    let barrier = first.barrier;
    let mut line = BarrierReport { barrier, state: BarrierState::Enforced, detail: detail(first) };
    let planned = facts.steps.iter().filter(|step| step.barrier == barrier).count();
    let failed: Vec<&Missing> = facts.missing.iter().filter(|(step, _)| step.barrier == barrier).collect();
    let tcp = facts.steps.iter().any(|step| matches!(&step.action, Action::Restrict { tcp: true, .. }));
    let single_id =
        facts.steps.iter().any(|step| matches!(&step.action, Action::MapIds { ids } if ids.len() == 1));
    let own_nodes = facts.steps.iter().any(|step| matches!(&step.action, Action::MakeDevices { .. }));
    let degraded = |detail: String| (BarrierState::Degraded, detail);
    (line.state, line.detail) = match barrier {
        Barrier::UserIds if single_id => degraded(
            "rootless: on the host the worker is the daemon's own user, without its rights".to_owned(),
        ),
        Barrier::Devices if !own_nodes => degraded(format!(
            "{}; the host's own nodes, so that a lock on one is seen by others",
            line.detail
        )),
        Barrier::Memory => memory_line(facts),
        Barrier::WorkspaceQuota => facts.disk.account(facts.steps),
        Barrier::Processor if !facts.group.counts_processor() => degraded(
            "the sum of the processes' times, read every 50 ms: what is born and gone in between and that \
             nobody waits for is not counted"
                .to_owned(),
        ),
        Barrier::Cgroup if failed.is_empty() => (line.state, facts.group.describe()),
        Barrier::Landlock if failed.is_empty() => landlock_line(sys::landlock_abi(), tcp),
        Barrier::NoNewPrivileges => {
            let seccomp = status.get("Seccomp").map_or("?", String::as_str);
            (line.state, format!("set-uid programs give nothing (Seccomp: {seccomp}, by design)"))
        }
        _ => (line.state, line.detail),
    };
    if let Some((step, error)) = failed.first() {
        // Some of it holds, unless nothing else was planned or the rest is nothing without it.
        let all = failed.len() == planned || barrier == Barrier::Cgroup;
        line.state = if all { BarrierState::Missing } else { BarrierState::Degraded };
        line.detail = format!("{step}: {error}");
    }
    line
}

fn memory_line(facts: &Facts<'_>) -> (BarrierState, String) {
    if facts.group.bounds_memory() {
        let detail = "by its cgroup: the kernel counts all that the sandbox keeps in memory, and ends it above the limit";
        return (BarrierState::Enforced, detail.to_owned());
    }
    let mut detail =
        "the shim sums the sandbox's memory and ends the sandbox above the limit; a fast writer \
        overshoots by what it touches between two looks, 50 ms apart or more"
            .to_owned();
    if !facts.unseen.is_empty() {
        detail += &format!("; not seen on this host: {}", facts.unseen.join(", "));
    }
    (BarrierState::Degraded, detail)
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

/// The worker has applied what its kernel knows; this says what that is.
fn landlock_line(abi: u32, tcp: bool) -> (BarrierState, String) {
    let Some(rights) = landlock::rights(abi, tcp) else {
        return (BarrierState::Missing, format!("the kernel has ABI {abi}, which is of no use"));
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
        (_, Barrier::Overlay) => "the shared read-only trees have inodes of this sandbox's own",
        (_, Barrier::Processor) => "of all processes, read from the cgroup",
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

#[cfg(test)]
mod tests {
    use sandbox_profiles::{Actor, Need};

    use super::*;

    #[test]
    fn rules_that_could_not_be_applied_are_not_reported_as_held() {
        let step = Step {
            actor: Actor::Worker,
            barrier: Barrier::Landlock,
            need: Need::BestEffort,
            action: Action::Restrict { writable: Vec::new(), files: Vec::new(), tcp: false },
            reason: String::new(),
        };
        let line = |missing: &[Missing]| {
            let facts = Facts {
                steps: std::slice::from_ref(&step),
                missing,
                worker: rustix::process::getpid(),
                unseen: Vec::new(),
                group: &Group::default(),
                disk: &Disk::default(),
                made_in: Duration::ZERO,
                start: &Start::Exec,
            };
            let report = report(&facts).unwrap();
            report.barriers.into_iter().find(|line| line.barrier == Barrier::Landlock).unwrap()
        };
        assert_eq!(line(&[(step.clone(), "it broke".to_owned())]).state, BarrierState::Missing);
        let held = landlock::rights(sys::landlock_abi(), false).is_some();
        assert_eq!(line(&[]).state != BarrierState::Missing, held);
    }
}
