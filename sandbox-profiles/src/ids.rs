//! Which ids a sandbox has, on both sides of its user namespaces.
//!
//! The outer user namespace Z maps [`RANGE`] host uids when rootful (never host uid 0: processes
//! of host root are exempt from `RLIMIT_NPROC`), and the one user's own uid when rootless. Each
//! live worker takes a slot, and with it two ids of Z that no other worker shares, because key
//! quotas, pipe buffers and inode ownership are accounted per host uid.

/// How many host uids Z maps when rootful.
pub const RANGE: u32 = 65536;

/// The first host uid of the range when the operator names none. High, to stay clear of real
/// users and of the ranges in `/etc/subuid`.
pub const DEFAULT_FIRST_HOST_UID: u32 = 0x7000_0000;

/// The uid and gid of the worker as it sees itself, in every sandbox.
pub const WORKER: u32 = 1000;

/// How many sandboxes can live at once in one Z: id 0 is the shims', each slot takes two.
pub const SLOTS: u32 = (RANGE - 1) / 2;

/// The id in Z of the sandbox's init.
pub fn init_in_outer(slot: u32) -> u32 {
    1 + 2 * slot
}

/// The id in Z of the worker.
pub fn worker_in_outer(slot: u32) -> u32 {
    2 + 2 * slot
}
