//! What this host can enforce, and why not. Honest: what this build does not use is `missing` even
//! where the kernel has it.

use std::fs;
use std::path::Path;

use cellblock_proto::client::DoctorLine;
use sandbox_profiles::{BarrierState, ids};

use crate::daemon::Daemon;
use crate::host;
use crate::interpreter;
use crate::log::chain;
use crate::quota::Means;

/// Below this a notebook with data will not get far.
const LITTLE_SPACE_BYTES: u64 = 1 << 30;

/// Examines the host; reads files and nothing else.
pub(crate) fn examine(daemon: &Daemon) -> Vec<DoctorLine> {
    vec![
        user_namespaces(),
        user_ids(daemon),
        proc(),
        io_uring(),
        memory(),
        landlock(),
        python(daemon),
        storage(&daemon.state, &daemon.means),
        anchor(daemon),
    ]
}

fn line(name: &str, state: BarrierState, detail: impl Into<String>, cure: Option<&str>) -> DoctorLine {
    DoctorLine { name: name.to_owned(), state, detail: detail.into(), cure: cure.map(str::to_owned) }
}

fn knob(path: &str) -> Option<i64> {
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
fn proc() -> DoctorLine {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let covered: Vec<&str> = mounts
        .lines()
        .filter_map(|mount| mount.split(' ').nth(4))
        // Mounting binfmt_misc there covers an empty folder, which the kernel does not mind.
        .filter(|point| point.starts_with("/proc/") && *point != "/proc/sys/fs/binfmt_misc")
        .collect();
    if covered.is_empty() {
        return line("proc", BarrierState::Enforced, "each worker sees a /proc of its own, with masks", None);
    }
    let detail = format!(
        "parts of /proc are covered here ({}), so a worker's own cannot be mounted",
        covered.join(", ")
    );
    let cure = "start cellblockd where /proc is whole: in a container, without masked paths; in a unit, without ProtectKernelTunables=";
    line("proc", BarrierState::Missing, detail, Some(cure))
}

fn io_uring() -> DoctorLine {
    let name = "io_uring";
    if matches!(knob("kernel/io_uring_disabled"), Some(2)) {
        return line(name, BarrierState::Enforced, "off for everybody on this host", None);
    }
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    // From 5.12 to about 6.13 rings are charged elsewhere than to locked memory.
    if (5, 12) <= version(&release) && version(&release) < (6, 14) {
        let detail = format!(
            "on kernel {release} it does not need locked memory, so RLIMIT_MEMLOCK=0 does not stop it"
        );
        return line(name, BarrierState::Degraded, detail, Some("sysctl kernel.io_uring_disabled=2"));
    }
    line(name, BarrierState::Enforced, "stopped by RLIMIT_MEMLOCK=0 in each worker", None)
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn memory() -> DoctorLine {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let found = if controllers.split_whitespace().any(|name| name == "memory") {
        "cgroup v2 with controllers"
    } else if groups.lines().any(|group| group.contains(":memory:")) {
        "cgroup v1 memory controller"
    } else {
        "no memory controller"
    };
    let detail =
        format!("by rlimits, and by the shim summing what the sandbox uses; {found} here, not used yet");
    line("memory", BarrierState::Degraded, detail, None)
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
    if theirs == ours {
        return line("anchor", BarrierState::Enforced, format!("build {theirs}, the daemon's own"), None);
    }
    let detail =
        format!("build {theirs}, older or newer than the daemon's {ours}: new workers are of its build");
    line("anchor", BarrierState::Degraded, detail, Some("cellctl shutdown, then end the anchor's process"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_release_is_read_as_two_numbers() {
        assert_eq!(version("6.18.0-rc1"), (6, 18));
        assert_eq!(version("5.10.0-39-amd64"), (5, 10));
        assert_eq!(version(""), (0, 0));
    }
}
