//! The system calls of workspace quotas: loop devices, project ids
//! and their limits. A part of `sys.rs`, under its rules.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::last_errno;

const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
/// The device lets go of its file when nobody uses it any more.
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `_IOR('X', 31, fsxattr)` and `_IOW('X', 32, fsxattr)`
const FS_IOC_FSGETXATTR: libc::Ioctl = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::Ioctl = 0x401c_5820;
/// What is made in a folder gets the folder's project.
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

const PRJQUOTA: u32 = 2;
const Q_SETQUOTA: u32 = 0x80_0008;
const Q_XGETQSTAT: u32 = 0x5805;
/// Limits on blocks and on inodes are given, nothing else.
const QIF_LIMITS: u32 = 1 | 4;
/// Project quota is counted, and is enforced.
const FS_QUOTA_PDQ: u16 = 1 << 4 | 1 << 5;

/// `struct loop_info64`
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct fsxattr`
#[repr(C)]
#[derive(Default)]
struct FileAttributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct if_dqblk`
#[repr(C)]
#[derive(Default)]
struct QuotaLimits {
    hard_kib: u64,
    soft_kib: u64,
    used_bytes: u64,
    hard_inodes: u64,
    soft_inodes: u64,
    used_inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// The number of a loop device that nobody uses at this moment, from `/dev/loop-control`.
pub fn loop_free(control: BorrowedFd<'_>) -> Result<u32, Errno> {
    // SAFETY: takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    u32::try_from(number).map_err(|_| last_errno())
}

/// Makes a free loop device show a file, until the device's last user is gone. The device keeps the
/// open file that `file` is, with its locks.
pub fn loop_configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<(), Errno> {
    let fd = u32::try_from(file.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let info = LoopInfo {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: LO_FLAGS_AUTOCLEAR,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let config = LoopConfig { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: `config` has the layout of `loop_config`, which the call only reads.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// The project of a folder, when what is made in it gets the same.
pub fn inherited_project(folder: BorrowedFd<'_>) -> Result<Option<u32>, Errno> {
    let found = attributes(folder)?;
    Ok((found.flags & FS_XFLAG_PROJINHERIT != 0).then_some(found.project))
}

/// Puts a folder into a project, and what will be made in it.
pub fn set_project(folder: BorrowedFd<'_>, project: u32) -> Result<(), Errno> {
    let mut wanted = attributes(folder)?;
    wanted.project = project;
    wanted.flags |= FS_XFLAG_PROJINHERIT;
    // SAFETY: `wanted` has the layout of `fsxattr`, which the call only reads.
    let result = unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const wanted) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn attributes(folder: BorrowedFd<'_>) -> Result<FileAttributes, Errno> {
    let mut found = FileAttributes::default();
    // SAFETY: `found` has the layout of `fsxattr`, which the call fills.
    let result = unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut found) };
    if result == 0 { Ok(found) } else { Err(last_errno()) }
}

/// Whether the file system of `place` counts projects and refuses what is beyond their limits.
pub fn project_quota_holds(place: BorrowedFd<'_>) -> Result<bool, Errno> {
    // `struct fs_quota_stat` is shorter; its second field, 16 bits at offset 2, is the flags.
    let mut state = [0_u64; 64];
    quotactl(place, Q_XGETQSTAT, 0, (&raw mut state).cast())?;
    let bytes = state[0].to_ne_bytes();
    Ok(u16::from_ne_bytes([bytes[2], bytes[3]]) & FS_QUOTA_PDQ == FS_QUOTA_PDQ)
}

/// Bounds a project of the file system of `place`.
pub fn limit_project(place: BorrowedFd<'_>, project: u32, bytes: u64, inodes: u64) -> Result<(), Errno> {
    let mut limits = QuotaLimits {
        hard_kib: bytes.div_ceil(1024),
        hard_inodes: inodes,
        valid: QIF_LIMITS,
        ..QuotaLimits::default()
    };
    quotactl(place, Q_SETQUOTA, project, (&raw mut limits).cast())
}

/// quotactl_fd(2) on project quota. `argument` points to what `command` reads or fills.
fn quotactl(
    place: BorrowedFd<'_>,
    command: u32,
    project: u32,
    argument: *mut libc::c_void,
) -> Result<(), Errno> {
    let command = (command << 8) | PRJQUOTA;
    // SAFETY: both callers pass a structure of theirs that is at least as long as the kernel's for
    // their command, and that outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_quotactl_fd, place.as_raw_fd(), command, project, argument) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}
