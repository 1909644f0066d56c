//! A restored worker's buffers, mapped from the packs they lie in: privately, run by run.
//!
//! A *run* is a piece of a buffer that lies in one piece in a pack. What of it fills whole pages is mapped
//! over the buffer's region, copy-on-write, and costs nothing until it is touched. The rest is read into the
//! region: a run at an odd place, the part of a page at its end, and the shortest runs where there are too
//! many.
//!
//! The regions are Python's (`mmap` objects, which know when nobody needs them any more). Each belongs to one
//! buffer, so that a write to one never shows in another, however often the store has the same bytes only once.

use std::fmt;
use std::os::fd::BorrowedFd;

use rustix::fs::fstat;
use rustix::io::{Errno, pread, retry_on_intr};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::param::page_size;

/// Most runs that are mapped. Each may leave another mapping between it and the next, and the kernel allows a
/// process 65,530 (`vm.max_map_count`), of which the user needs some.
const MAPPINGS: usize = 16_000;

/// A piece of a buffer that lies in one piece in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Run {
    /// Which pack, by its place in the list of descriptors.
    pub(super) pack: u64,
    /// Where in the pack, in bytes.
    pub(super) offset: u64,
    /// How long, in bytes.
    pub(super) length: u64,
}

/// Where a buffer is to be.
pub(super) struct Region<'a> {
    pub(super) start: *mut u8,
    pub(super) length: usize,
    /// Whether it consists of whole pages with nothing else in them.
    pub(super) mappable: bool,
    /// The buffer, in order.
    pub(super) runs: &'a [Run],
}

/// Why a buffer could not be brought into its region.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A run lies in no pack.
    Pack {
        buffer: usize,
        pack: u64,
    },
    /// A run goes past its pack's end.
    End {
        buffer: usize,
        run: Run,
        pack_bytes: u64,
    },
    /// The runs are not as long together as the buffer.
    Length {
        buffer: usize,
        bytes: usize,
    },
    System {
        doing: &'static str,
        pack: usize,
        error: Errno,
    },
}

/// Fills the regions from the packs.
///
/// # Safety
/// Each region can be written for its length, and nobody looks at it meanwhile. No two overlap.
pub(super) unsafe fn fill(packs: &[BorrowedFd<'_>], regions: &[Region<'_>]) -> Result<(), Failure> {
    let mut sizes = Vec::with_capacity(packs.len());
    for (pack, fd) in packs.iter().enumerate() {
        let status = fstat(fd).map_err(|error| Failure::System { doing: "look at", pack, error })?;
        sizes.push(u64::try_from(status.st_size).unwrap_or(0));
    }
    let mut pieces = plan(regions, &sizes, page_size())?;
    limit(&mut pieces, MAPPINGS);
    for piece in &pieces {
        // SAFETY: a piece is a part of a region; a mapped one consists of whole pages of it.
        let (doing, done) = unsafe {
            match piece.mapped {
                true => ("map", piece.map(packs[piece.pack])),
                false => ("read", piece.read(packs[piece.pack])),
            }
        };
        done.map_err(|error| Failure::System { doing, pack: piece.pack, error })?;
    }
    Ok(())
}

/// A part of a region, and where it comes from.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    start: *mut u8,
    length: usize,
    pack: usize,
    offset: u64,
    mapped: bool,
}

/// Cuts runs into pieces, and checks that each lies in its pack and in its region.
fn plan(regions: &[Region<'_>], pack_sizes: &[u64], page: usize) -> Result<Vec<Piece>, Failure> {
    let mut pieces = Vec::new();
    for (buffer, region) in regions.iter().enumerate() {
        let wrong_length = || Failure::Length { buffer, bytes: region.length };
        let mut filled = 0;
        for run in joined(region.runs) {
            let pack = usize::try_from(run.pack).unwrap_or(usize::MAX);
            let pack_bytes = *pack_sizes.get(pack).ok_or(Failure::Pack { buffer, pack: run.pack })?;
            if run.offset.checked_add(run.length).is_none_or(|end| end > pack_bytes) {
                return Err(Failure::End { buffer, run, pack_bytes });
            }
            let length = usize::try_from(run.length).map_err(|_| wrong_length())?;
            if length > region.length - filled {
                return Err(wrong_length());
            }
            let start = region.start.wrapping_add(filled);
            let aligned = start.addr().is_multiple_of(page) && run.offset.is_multiple_of(page as u64);
            let whole_pages = if region.mappable && aligned { length / page * page } else { 0 };
            for (mapped, from, to) in [(true, 0, whole_pages), (false, whole_pages, length)] {
                if from < to {
                    let (start, offset) = (start.wrapping_add(from), run.offset + from as u64);
                    pieces.push(Piece { start, length: to - from, pack, offset, mapped });
                }
            }
            filled += length;
        }
        if filled != region.length {
            return Err(wrong_length());
        }
    }
    Ok(pieces)
}

/// The runs, with those joined that follow each other in a pack too: chunks of one checkpoint mostly do.
fn joined(runs: &[Run]) -> impl Iterator<Item = Run> {
    runs.chunk_by(|run, next| {
        run.pack == next.pack && run.offset.checked_add(run.length) == Some(next.offset)
    })
    .map(|joined| Run {
        length: joined.iter().map(|run| run.length).fold(0, u64::saturating_add),
        ..joined[0]
    })
}

/// Has all but the `most` longest mapped pieces read.
fn limit(pieces: &mut [Piece], most: usize) {
    let mut mapped: Vec<_> = pieces.iter_mut().filter(|piece| piece.mapped).collect();
    mapped.sort_by_key(|piece| std::cmp::Reverse(piece.length));
    for piece in mapped.into_iter().skip(most) {
        piece.mapped = false;
    }
}

impl Piece {
    /// # Safety
    /// The piece is whole pages that can be written and that nobody looks at.
    unsafe fn map(&self, pack: BorrowedFd<'_>) -> Result<(), Errno> {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        // SAFETY: what is replaced is ours to write, as the caller says, and as long as the new mapping.
        unsafe {
            mmap(
                self.start.cast(),
                self.length,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
                pack,
                self.offset,
            )?;
        }
        Ok(())
    }

    /// # Safety
    /// The piece can be written, and nobody looks at it.
    unsafe fn read(&self, pack: BorrowedFd<'_>) -> Result<(), Errno> {
        // SAFETY: as the caller says; Python gives out memory that is initialised.
        let mut rest = unsafe { std::slice::from_raw_parts_mut(self.start, self.length) };
        let mut offset = self.offset;
        while !rest.is_empty() {
            let read = retry_on_intr(|| pread(pack, &mut *rest, offset))?;
            if read == 0 {
                // It was long enough a moment ago; packs never shrink.
                return Err(Errno::IO);
            }
            offset += read as u64;
            rest = &mut rest[read..];
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Pack { buffer, pack } => {
                write!(f, "buffer {buffer} lies in pack {pack}, which is not there")
            }
            Failure::End { buffer, run: Run { pack, offset, length }, pack_bytes } => write!(
                f,
                "buffer {buffer} takes {length} bytes at {offset} of pack {pack}, which has {pack_bytes} bytes"
            ),
            Failure::Length { buffer, bytes } => {
                write!(f, "the runs of buffer {buffer} are not its {bytes} bytes")
            }
            Failure::System { doing, pack, error } => write!(f, "failed to {doing} pack {pack}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests;
