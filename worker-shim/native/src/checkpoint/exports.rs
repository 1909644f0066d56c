//! What `checkpoint_native.py` calls. The interpreter's lock is not needed.
//!
//! Each call returns 0, or -1 with the reason in a [`Reason`].

use std::ffi::c_int;
use std::fmt::Display;
use std::os::fd::BorrowedFd;

use super::extents::{self, Region, Run};
use super::offering::{self, Saved, Snapshot};
use super::{denormalise, normalise};

/// Why a call failed: UTF-8, with a zero behind it; a longer text is cut.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Reason {
    text: [u8; 4096],
}

/// Bytes that Python owns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    start: *const u8,
    length: usize,
}

/// Bytes that this library owns, until [`cellblock_checkpoint_free`].
#[repr(C)]
#[derive(Debug)]
pub(super) struct Owned {
    start: *mut u8,
    length: usize,
    capacity: usize,
}

/// A [`Snapshot`].
#[repr(C)]
#[derive(Debug)]
pub(super) struct GivenSnapshot {
    socket: c_int,
    forked: c_int,
    stream: Span,
    names: Span,
    buffers: *const Span,
    buffer_count: usize,
}

/// A [`Region`].
#[repr(C)]
#[derive(Debug)]
pub(super) struct GivenRegion {
    start: *mut u8,
    length: usize,
    mappable: c_int,
    runs: *const Run,
    run_count: usize,
}

/// Gives the normalised form of a pickle.
///
/// # Safety
/// `pickle` is readable for its length; `normalised` and `reason` can be written.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn cellblock_checkpoint_normalise(
    pickle: Span,
    normalised: *mut Owned,
    reason: *mut Reason,
) -> c_int {
    // SAFETY: as the caller says.
    let bytes = unsafe { items(pickle.start, pickle.length) };
    // SAFETY: the same.
    unsafe { finish(normalise::normalise(bytes).map(|done| Owned::from(done.bytes)), normalised, reason) }
}

/// Gives the pickle of a normalised form.
///
/// # Safety
/// `normalised` is readable for its length; `pickle` and `reason` can be written.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn cellblock_checkpoint_denormalise(
    normalised: Span,
    pickle: *mut Owned,
    reason: *mut Reason,
) -> c_int {
    // SAFETY: as the caller says.
    let bytes = unsafe { items(normalised.start, normalised.length) };
    // SAFETY: the same.
    unsafe { finish(denormalise::denormalise(bytes).map(Owned::from), pickle, reason) }
}

/// Frees what one of the two calls above gave.
///
/// # Safety
/// `owned` is as it was given, and nobody uses its bytes any more.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn cellblock_checkpoint_free(owned: Owned) {
    // SAFETY: the parts are those of the vector that `Owned::from` took apart.
    drop(unsafe { Vec::from_raw_parts(owned.start, owned.length, owned.capacity) });
}

/// Hands a snapshot to the store, and waits until it is published.
///
/// # Safety
/// All of `snapshot` is readable. If it is said to be `forked`, then nobody reads stream and buffers afterwards.
/// The socket is open; `saved` and `reason` can be written.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn cellblock_checkpoint_save(
    snapshot: *const GivenSnapshot,
    saved: *mut Saved,
    reason: *mut Reason,
) -> c_int {
    // SAFETY: as the caller says, for this and all that it points to.
    let result = unsafe {
        let given = &*snapshot;
        let buffers = items(given.buffers, given.buffer_count);
        offering::save(&Snapshot {
            socket: BorrowedFd::borrow_raw(given.socket),
            forked: given.forked != 0,
            stream: items(given.stream.start, given.stream.length),
            buffers: buffers.iter().map(|span| items(span.start, span.length)).collect(),
            names: items(given.names.start, given.names.length),
        })
    };
    // SAFETY: as the caller says.
    unsafe { finish(result, saved, reason) }
}

/// Fills regions with the buffers that lie in `packs`.
///
/// # Safety
/// The descriptors are open. Each region can be written for its length, nobody looks at it meanwhile, and no two
/// overlap; its runs are readable. `reason` can be written.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn cellblock_checkpoint_fill(
    packs: *const c_int,
    pack_count: usize,
    regions: *const GivenRegion,
    region_count: usize,
    reason: *mut Reason,
) -> c_int {
    // SAFETY: as the caller says.
    let result = unsafe {
        let packs: Vec<_> =
            items(packs, pack_count).iter().map(|pack| BorrowedFd::borrow_raw(*pack)).collect();
        let regions: Vec<_> = items(regions, region_count).iter().map(|given| given.region()).collect();
        extents::fill(&packs, &regions)
    };
    // SAFETY: the same; nothing but a reason is left behind.
    unsafe { finish(result, &mut (), reason) }
}

impl GivenRegion {
    /// # Safety
    /// The runs are readable.
    unsafe fn region(&self) -> Region<'_> {
        // SAFETY: as the caller says.
        let runs = unsafe { items(self.runs, self.run_count) };
        Region { start: self.start, length: self.length, mappable: self.mappable != 0, runs }
    }
}

impl From<Vec<u8>> for Owned {
    fn from(bytes: Vec<u8>) -> Self {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Owned { start: bytes.as_mut_ptr(), length: bytes.len(), capacity: bytes.capacity() }
    }
}

/// # Safety
/// `start` is readable for `count` items, or `count` is 0.
unsafe fn items<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: the caller vouches for the range; the lifetime ends with the exported call.
    unsafe { std::slice::from_raw_parts(start, count) }
}

/// Leaves the value, or why there is none.
///
/// # Safety
/// `value` and `reason` can be written.
unsafe fn finish<T, E: Display>(result: Result<T, E>, value: *mut T, reason: *mut Reason) -> c_int {
    match result {
        Ok(done) => {
            // SAFETY: as the caller says. What was there needs no drop.
            unsafe { value.write(done) };
            0
        }
        Err(error) => {
            let text = error.to_string();
            let mut reason_text = [0; size_of::<Reason>()];
            let length = text.floor_char_boundary(reason_text.len() - 1);
            reason_text[..length].copy_from_slice(&text.as_bytes()[..length]);
            // SAFETY: as the caller says.
            unsafe { reason.write(Reason { text: reason_text }) };
            -1
        }
    }
}
