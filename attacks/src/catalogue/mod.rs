//! The rows, in files by what they go for. Numbers are those that reports and issues cite.

mod host;
mod kernel;
mod limits;
mod network;
mod processes;
mod worker;

use sandbox_profiles::{Barrier, Namespace, Omit};

use crate::{Attack, Control, Kind, Probe};

/// All of them, by number.
pub static ATTACKS: [&Attack; 77] = {
    let mut all = [&limits::ROWS[0]; 77];
    let parts: [&[Attack]; 6] =
        [&limits::ROWS, &processes::ROWS, &kernel::ROWS, &network::ROWS, &host::ROWS, &worker::ROWS];
    let (mut part, mut at) = (0, 0);
    while part < parts.len() {
        while at < parts[part].len() {
            let attack = &parts[part][at];
            all[attack.number as usize - 1] = attack;
            at += 1;
        }
        (part, at) = (part + 1, 0);
    }
    all
};

/// One of them.
pub fn find(number: u8) -> Option<&'static Attack> {
    ATTACKS.iter().copied().find(|attack| attack.number == number)
}

/// A probe by its file's name.
macro_rules! probe {
    ($file:literal) => {
        crate::Probe { file: $file, source: include_str!(concat!("../../probes/", $file)) }
    };
}
use probe;

/// What rows are made from.
const ROW: Attack = Attack {
    number: 0,
    title: "",
    probe: Probe { file: "", source: "" },
    before: None,
    kind: Kind::Cell,
    variants: &[],
    wall_ms: None,
    restarts: false,
    ends_worker: false,
    contained: &[],
    contained_rootless: None,
    control: Control::Same,
    open: &[],
    let_through: &[],
    let_through_rootless: None,
    stopped_by: "",
    residual: None,
};

const CAPABILITIES: Omit = Omit::Barrier(Barrier::Capabilities);
const CGROUP: Omit = Omit::Barrier(Barrier::Cgroup);
const DEVICES: Omit = Omit::Barrier(Barrier::Devices);
const IPC: Omit = Omit::Namespace(Namespace::Ipc);
const KEYRING: Omit = Omit::Barrier(Barrier::Keyring);
const LANDLOCK: Omit = Omit::Barrier(Barrier::Landlock);
const LIMITS: Omit = Omit::Barrier(Barrier::ResourceLimits);
const MEMORY: Omit = Omit::Barrier(Barrier::Memory);
const NESTED: Omit = Omit::Barrier(Barrier::NestedUserNamespace);
const NETWORK: Omit = Omit::Barrier(Barrier::Network);
const NO_NEW_PRIVILEGES: Omit = Omit::Barrier(Barrier::NoNewPrivileges);
const OVERLAY: Omit = Omit::Barrier(Barrier::Overlay);
const PROC: Omit = Omit::Barrier(Barrier::Proc);
const PROCESSOR: Omit = Omit::Barrier(Barrier::Processor);
const QUOTA: Omit = Omit::Barrier(Barrier::NamespaceQuota);
const READ_ONLY: Omit = Omit::Barrier(Barrier::ReadOnlySystem);
const ROOT: Omit = Omit::Barrier(Barrier::PrivateRoot);
const USER_IDS: Omit = Omit::Barrier(Barrier::UserIds);
const WORKSPACE_QUOTA: Omit = Omit::Barrier(Barrier::WorkspaceQuota);
