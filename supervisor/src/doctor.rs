//! What this host can enforce, and why not. Honest: what this build does not use is `missing` even
//! where the kernel has it.

use std::fs;
use std::path::Path;

use cellblock_proto::anchor::CgroupTier;
use cellblock_proto::client::DoctorLine;
use sandbox_profiles::{BarrierState, ids, proc_covers};

use crate::daemon::Daemon;
use crate::doctor_kernel;
use crate::host;
use crate::interpreter;
use crate::log::chain;
use crate::quota::Means;

/// Below this a notebook with data will not get far.
const LITTLE_SPACE_BYTES: u64 = 1 << 30;

/// Examines the host; reads files and nothing else.
pub(crate) fn examine(daemon: &Daemon) -> Vec<DoctorLine> {
    let mut lines = vec![user_namespaces(), user_ids(daemon), proc(daemon)];
    lines.extend(cgroup(daemon));
    lines.extend([landlock(), overlay(), devices()]);
    lines.extend(doctor_kernel::examine());
    lines.extend([python(daemon), storage(&daemon.state, &daemon.means), anchor(daemon)]);
    lines
}

pub(crate) fn line(
    name: &str,
    state: BarrierState,
    detail: impl Into<String>,
    cure: Option<&str>,
) -> DoctorLine {
    DoctorLine { name: name.to_owned(), state, detail: detail.into(), cure: cure.map(str::to_owned) }
}

/// A number below `/proc/sys`.
pub(crate) fn knob(path: &str) -> Option<i64> {
    fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?.trim().parse().ok()
}

fn user_namespaces() -> DoctorLine {
    let name = "user namespaces";
    let missing = |detail: &str, cure| line(name, BarrierState::Missing, detail, Some(cure));
    if !Path::new("/proc/self/ns/user").exists() {
        return missing("the kernel is built without them", "use a kernel with CONFIG_USER_NS");
    }
    if knob("user/max_user_namespaces") == Some(0) {
        return missing("user.max_user_namespaces is 0", "sysctl user.max_user_namespaces=16384");
    }
    if !host::is_rootful() {
        if knob("kernel/unprivileged_userns_clone") == Some(0) {
            let cure = "sysctl kernel.unprivileged_userns_clone=1";
            return missing("ordinary users may not make them", cure);
        }
        if knob("kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
            let cure = "an AppArmor profile for cellblock-shim with `userns,`, or sysctl \
                        kernel.apparmor_restrict_unprivileged_userns=0";
            return missing("AppArmor restricts them for ordinary users", cure);
        }
    }
    line(name, BarrierState::Enforced, "available; each worker has two, nested, and can make no more", None)
}

fn user_ids(daemon: &Daemon) -> DoctorLine {
    let name = "user ids";
    match daemon.anchor.first_uid() {
        Some(first) => {
            let last = first.saturating_add(ids::RANGE - 1);
            let detail = format!("rootful: each worker has host uids of its own from {first} to {last}");
            line(name, BarrierState::Enforced, detail, None)
        }
        None => {
            let detail = "rootless: all workers share this user's uid and are kept apart by namespaces alone";
            line(name, BarrierState::Degraded, detail, Some("run cellblockd as root"))
        }
    }
}

/// A new `/proc` can be mounted in a user namespace only where the existing one is whole.
fn proc(daemon: &Daemon) -> DoctorLine {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let covered = proc_covers(&mounts);
    if covered.is_empty() {
        return line("proc", BarrierState::Enforced, "each worker sees a /proc of its own, with masks", None);
    }
    let covered = covered.join(", ");
    if daemon.anchor.first_uid().is_some() {
        let detail = format!(
            "parts of /proc are covered here ({covered}); the anchor has a whole one for the workers"
        );
        return line("proc", BarrierState::Enforced, detail, None);
    }
    let detail = format!("parts of /proc are covered here ({covered}), so a worker's own cannot be mounted");
    let cure = "run cellblockd as root, or where /proc is whole: in a container, without masked paths; in a unit, without ProtectKernelTunables=";
    line("proc", BarrierState::Missing, detail, Some(cure))
}

/// Memory, processes and processor time: by the kernel, or as well as the shim can.
fn cgroup(daemon: &Daemon) -> [DoctorLine; 3] {
    let (tier, detail) = daemon.anchor.cgroup();
    let cure = match (host::is_rootful(), daemon.anchor.is_unit()) {
        (true, true) => {
            "let Delegate=yes of the unit cellblock-workers.service reach it: systemctl revert cellblock-workers"
        }
        (true, false) => {
            "run it where cgroups can be made: systemd's Delegate=yes, or cellblockd --cgroup PATH"
        }
        (false, true) => {
            "give your user's manager the controllers memory and pids: Delegate= of user@.service (systemctl edit \
             user@.service, as root)"
        }
        (false, false) => {
            "run it in a user unit with Delegate=yes: install.sh --user and systemctl --user enable --now \
             cellblockd.socket, or systemd-run --user -p Delegate=yes cellblockd"
        }
    };
    let held = |name, by_kernel: &str, by_shim: &str| match tier {
        CgroupTier::Full | CgroupTier::Hybrid => line(name, BarrierState::Enforced, by_kernel, None),
        CgroupTier::None => line(name, BarrierState::Degraded, by_shim, Some(cure)),
    };
    let group = match tier {
        CgroupTier::Full => line("cgroup", BarrierState::Enforced, detail, None),
        CgroupTier::Hybrid => line("cgroup", BarrierState::Enforced, format!("v1 beside v2: {detail}"), None),
        CgroupTier::None => line("cgroup", BarrierState::Missing, detail, Some(cure)),
    };
    [
        group,
        held(
            "memory",
            "the kernel counts all of a sandbox's memory and ends it above the limit",
            "the shim sums what a sandbox uses every 50 ms: a fast writer overshoots",
        ),
        held(
            "processor time",
            "of all processes of a sandbox, counted by the kernel",
            "the shim sums the processes' times: short-lived ones that nobody waits for are not counted",
        ),
    ]
}

fn landlock() -> DoctorLine {
    let lsm = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    if !lsm.is_empty() && !lsm.trim().split(',').any(|name| name == "landlock") {
        let detail = "not among the kernel's security modules: the private root stands alone";
        return line("landlock", BarrierState::Missing, detail, Some("boot with lsm=landlock,..."));
    }
    if lsm.is_empty() {
        let detail = "whether this kernel has it cannot be read here; `cellctl status NOTEBOOK` says what its worker got";
        return line(
            "landlock",
            BarrierState::Degraded,
            detail,
            Some("mount -t securityfs none /sys/kernel/security"),
        );
    }
    let detail = "used in each worker as far as the kernel knows it; its ABI stands in a notebook's report";
    line("landlock", BarrierState::Enforced, detail, None)
}

fn overlay() -> DoctorLine {
    let systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if systems.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
        let detail = "each worker has inodes of its own over the shared system: no lock and no watch crosses";
        return line("overlay", BarrierState::Enforced, detail, None);
    }
    let detail =
        "the kernel has no overlayfs (loaded): workers can signal to each other by locks on shared files";
    line("overlay", BarrierState::Missing, detail, Some("modprobe overlay"))
}

fn devices() -> DoctorLine {
    if host::is_rootful() {
        return line(
            "devices",
            BarrierState::Enforced,
            "each worker has nodes of its own: null, zero, full, random, urandom",
            None,
        );
    }
    let detail = "workers share the host's nodes of null, zero, full, random, urandom, and so locks on them";
    line("devices", BarrierState::Degraded, detail, Some("run cellblockd as root"))
}

fn python(daemon: &Daemon) -> DoctorLine {
    match interpreter::find(&daemon.python, &daemon.search) {
        Ok(found) => {
            let detail =
                format!("{} (what is in it shows when a worker starts)", found.interpreter.program.display());
            line("python", BarrierState::Enforced, detail, None)
        }
        Err(error) => line(
            "python",
            BarrierState::Missing,
            chain(&error),
            Some("cellblockd --python PATH, or CELLBLOCK_PYTHON"),
        ),
    }
}

fn storage(state: &Path, means: &Means) -> DoctorLine {
    let name = "storage";
    let shown = state.display();
    let cure = Some("cellblockd --state-dir DIR");
    if let Err(error) = rustix::fs::access(state, rustix::fs::Access::WRITE_OK) {
        return line(name, BarrierState::Missing, format!("{shown} cannot be written: {error}"), cure);
    }
    match rustix::fs::statvfs(state) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let (held, how, better) = means.account();
            let (state, better) = match free < LITTLE_SPACE_BYTES {
                true => (BarrierState::Degraded, cure),
                false if held => (BarrierState::Enforced, better),
                false => (BarrierState::Degraded, better),
            };
            line(name, state, format!("{shown}, {} MiB free; {how}", free >> 20), better)
        }
        Err(error) => line(name, BarrierState::Missing, format!("{shown}: {error}"), cure),
    }
}

fn anchor(daemon: &Daemon) -> DoctorLine {
    let (theirs, ours) = (daemon.anchor.build(), cellblock_proto::BUILD);
    if !daemon.anchor.answers() {
        let (detail, cure) = match daemon.anchor.is_unit() {
            true => (
                "it has gone, and its workers with it; the next worker waits for another",
                Some("look at its unit, cellblock-workers.service; then restart cellblockd.service"),
            ),
            false => ("it has gone, and its workers with it; the next worker starts another", None),
        };
        return line("anchor", BarrierState::Missing, detail, cure);
    }
    if theirs == ours {
        return line("anchor", BarrierState::Enforced, format!("build {theirs}, the daemon's own"), None);
    }
    let detail =
        format!("build {theirs}, older or newer than the daemon's {ours}: new workers are of its build");
    let cure = match (daemon.anchor.is_unit(), host::is_rootful()) {
        (true, true) => {
            "systemctl stop cellblockd.socket cellblockd.service, which saves variables and interrupts cells; then \
             start cellblockd.socket"
        }
        (true, false) => {
            "systemctl --user stop cellblockd.socket cellblockd.service, which saves variables and interrupts cells; \
             then start cellblockd.socket"
        }
        (false, _) => {
            "end its notebooks (cellctl rm NOTEBOOK), stop cellblockd for a minute, then start it again"
        }
    };
    line("anchor", BarrierState::Degraded, detail, Some(cure))
}
