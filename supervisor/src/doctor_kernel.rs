//! Parts of the kernel that stay in reach of every process, with no filter of system calls before them:
//! what of each this host leaves open, and the knob that closes it.

use std::fs;

use cellblock_proto::client::DoctorLine;
use sandbox_profiles::BarrierState;

use crate::doctor::{knob, line};

/// A line for each.
pub(crate) fn examine() -> Vec<DoctorLine> {
    vec![io_uring(), bpf(), perf(), userfaultfd(), core_dumps(), kernel_log(), vsock(), dnotify()]
}

/// A knob that must be at least so much; `None` where the kernel has no such knob, and so no such part.
fn at_least(name: &str, path: &str, least: i64, closed: &str, open: &str) -> DoctorLine {
    match knob(path) {
        None => line(name, BarrierState::Enforced, "this kernel does not have it", None),
        Some(value) if value >= least => line(name, BarrierState::Enforced, closed, None),
        Some(value) => {
            let setting = path.replace('/', ".");
            let cure = format!("sysctl {setting}={least}");
            line(name, BarrierState::Degraded, format!("{open} ({setting} is {value})"), Some(&cure))
        }
    }
}

fn bpf() -> DoctorLine {
    at_least(
        "bpf",
        "kernel/unprivileged_bpf_disabled",
        1,
        "refused to ordinary users, and so to workers",
        "ordinary users may load programs into the kernel, and so may workers",
    )
}

fn perf() -> DoctorLine {
    at_least(
        "perf events",
        "kernel/perf_event_paranoid",
        2,
        "workers may measure no more than themselves",
        "workers may measure the kernel and other processes",
    )
}

fn userfaultfd() -> DoctorLine {
    match knob("vm/unprivileged_userfaultfd") {
        Some(1) => {
            let detail = "workers may handle faults of the kernel, which helps exploits";
            line("userfaultfd", BarrierState::Degraded, detail, Some("sysctl vm.unprivileged_userfaultfd=0"))
        }
        _ => line("userfaultfd", BarrierState::Enforced, "for faults of a worker's own code only", None),
    }
}

fn core_dumps() -> DoctorLine {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    let detail = if pattern.starts_with('|') {
        "this host pipes them to a program; RLIMIT_CORE=1 in each worker keeps it from being started"
    } else {
        "none is written: RLIMIT_CORE=1 in each worker"
    };
    line("core dumps", BarrierState::Enforced, detail, None)
}

fn kernel_log() -> DoctorLine {
    at_least(
        "kernel log",
        "kernel/dmesg_restrict",
        1,
        "refused to workers",
        "workers may read the kernel's messages, addresses among them",
    )
}

fn vsock() -> DoctorLine {
    let sockets = fs::read_to_string("/proc/net/protocols").unwrap_or_default();
    if !sockets.lines().any(|line| line.starts_with("AF_VSOCK")) {
        return line("vsock", BarrierState::Enforced, "this kernel has none (loaded)", None);
    }
    if knob("net/vsock/child_ns_mode").is_some() {
        let detail = "network namespaces can hold it apart on this kernel";
        return line("vsock", BarrierState::Degraded, detail, Some("sysctl net.vsock.child_ns_mode=local"));
    }
    let detail = "a network namespace does not split it: a worker can open one, and talk to the hypervisor of this machine";
    let cure = "keep the module away: echo 'install vsock /bin/false' > /etc/modprobe.d/vsock.conf, where it is a module";
    line("vsock", BarrierState::Degraded, detail, Some(cure))
}

fn dnotify() -> DoctorLine {
    match knob("fs/dir-notify-enable") {
        Some(1) => {
            let detail = "works in each worker; behind overlays it tells only of the worker's own doings";
            line("dnotify", BarrierState::Enforced, detail, None)
        }
        _ => line("dnotify", BarrierState::Enforced, "off on this host", None),
    }
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
