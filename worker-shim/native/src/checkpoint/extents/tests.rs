use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const PAGE: usize = 4096;
const PAGE_U64: u64 = PAGE as u64;

fn run(pack: u64, offset: u64, length: u64) -> Run {
    Run { pack, offset, length }
}

/// A region that nobody will fill, at a page's beginning.
fn region(runs: &[Run], length: usize) -> Region<'_> {
    Region { start: std::ptr::without_provenance_mut(64 * PAGE), length, mappable: true, runs }
}

/// (offset in the region, length, pack, offset in it, mapped) of each piece.
fn planned(runs: &[Run], length: usize) -> Vec<(usize, usize, usize, u64, bool)> {
    let pieces = plan(&[region(runs, length)], &[1 << 30, 1 << 30], PAGE).unwrap();
    pieces
        .iter()
        .map(|piece| (piece.start.addr() - 64 * PAGE, piece.length, piece.pack, piece.offset, piece.mapped))
        .collect()
}

#[test]
fn whole_pages_are_mapped_and_the_rest_is_read() {
    let length = 3 * PAGE + 5;
    assert_eq!(
        planned(&[run(1, PAGE_U64, length as u64)], length),
        [(0, 3 * PAGE, 1, PAGE_U64, true), (3 * PAGE, 5, 1, 4 * PAGE_U64, false)]
    );
    assert_eq!(planned(&[run(0, 0, 100)], 100), [(0, 100, 0, 0, false)]);
    // At an odd place in the pack, or in the buffer.
    assert_eq!(planned(&[run(0, 16, 2 * PAGE_U64)], 2 * PAGE), [(0, 2 * PAGE, 0, 16, false)]);
    assert_eq!(
        planned(&[run(0, 0, 100), run(1, 0, PAGE_U64)], PAGE + 100),
        [(0, 100, 0, 0, false), (100, PAGE, 1, 0, false)]
    );
    assert_eq!(planned(&[], 0), []);
}

#[test]
fn runs_that_follow_each_other_are_one_mapping() {
    let chunk = 64 * PAGE_U64;
    let runs: Vec<_> = (0..4).map(|index| run(0, index * chunk, chunk)).collect();
    assert_eq!(planned(&runs, 4 * chunk as usize), [(0, 4 * chunk as usize, 0, 0, true)]);
    let other_pack = [run(0, 0, chunk), run(1, chunk, chunk)];
    assert_eq!(planned(&other_pack, 2 * chunk as usize).len(), 2);
}

#[test]
fn what_lies_outside_of_pack_or_buffer_is_refused() {
    let sizes = [10 * PAGE_U64];
    let refused = |runs: &[Run], length| plan(&[region(runs, length)], &sizes, PAGE).unwrap_err().to_string();
    assert_eq!(refused(&[run(1, 0, 5)], 5), "buffer 0 lies in pack 1, which is not there");
    assert_eq!(
        refused(&[run(u64::MAX, 0, 5)], 5),
        format!("buffer 0 lies in pack {}, which is not there", u64::MAX)
    );
    assert_eq!(
        refused(&[run(0, 9 * PAGE_U64, PAGE_U64 + 1)], PAGE + 1),
        "buffer 0 takes 4097 bytes at 36864 of pack 0, which has 40960 bytes"
    );
    for (offset, length) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
        assert!(refused(&[run(0, offset, length)], 5).contains("which has 40960 bytes"));
    }
    // Joined, their length would overflow.
    assert!(refused(&[run(0, 0, 1 << 63), run(0, 1 << 63, 1 << 63)], 5).contains("which has 40960 bytes"));
    for length in [4, 6] {
        assert_eq!(
            refused(&[run(0, 0, 5)], length),
            format!("the runs of buffer 0 are not its {length} bytes")
        );
    }
}

#[test]
fn the_shortest_runs_are_read_when_there_are_too_many() {
    let lengths = [5u64, 1, 3, 1, 4];
    let runs: Vec<_> = lengths.iter().map(|pages| run(0, pages * 100 * PAGE_U64, pages * PAGE_U64)).collect();
    let mut pieces = plan(&[region(&runs, 14 * PAGE)], &[1 << 30], PAGE).unwrap();
    limit(&mut pieces, 3);
    assert_eq!(pieces.iter().map(|piece| piece.mapped).collect::<Vec<_>>(), [true, false, true, false, true]);
}

/// Two packs of some pages with known bytes.
fn packs() -> [File; 2] {
    [7u8, 11].map(|step| {
        let mut pack = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> =
            (0..40 * PAGE + 100).map(|i| (i / 64) as u8 ^ (i as u8).wrapping_mul(step)).collect();
        pack.write_all(&bytes).unwrap();
        pack
    })
}

fn bytes_of(packs: &[File], runs: &[Run]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for run in runs {
        let mut piece = vec![0; run.length as usize];
        assert_eq!(pread(&packs[run.pack as usize], &mut piece[..], run.offset).unwrap(), piece.len());
        bytes.extend(piece);
    }
    bytes
}

/// Memory of whole pages, given back at the end.
struct Memory {
    start: *mut u8,
    length: usize,
}

impl Memory {
    fn new(length: usize) -> Self {
        let length = length.next_multiple_of(PAGE).max(PAGE);
        // SAFETY: a new mapping, anywhere.
        let start = unsafe {
            let read_write = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, read_write, MapFlags::PRIVATE).unwrap()
        };
        Memory { start: start.cast(), length }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped by `new`, and borrowed as this is.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.length) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: nobody has it any more.
        unsafe { rustix::mm::munmap(self.start.cast(), self.length).unwrap() };
    }
}

/// Some pages of one of the packs, and now and then a part of one.
fn any_run() -> impl Strategy<Value = Run> {
    let odd = || prop_oneof![3 => Just(0), 1 => 0..PAGE_U64];
    (0u64..2, 0u64..20, odd(), 0u64..5, odd())
        .prop_map(|(pack, page, odd, pages, tail)| run(pack, page * PAGE_U64 + odd, pages * PAGE_U64 + tail))
}

proptest! {
    #[test]
    fn regions_have_the_bytes_of_their_runs_and_share_none(
        buffers in vec(vec(any_run(), 0..6), 1..4),
        mappable in any::<bool>(),
    ) {
        let packs = packs();
        let expected: Vec<_> = buffers.iter().map(|runs| bytes_of(&packs, runs)).collect();
        let mut memories: Vec<_> = expected.iter().map(|bytes| Memory::new(bytes.len())).collect();
        let regions: Vec<_> = buffers
            .iter()
            .zip(&expected)
            .zip(&memories)
            .map(|((runs, bytes), memory)| Region { start: memory.start, length: bytes.len(), mappable, runs })
            .collect();
        // SAFETY: the regions are this test's, and not looked at.
        unsafe { fill(&[packs[0].as_fd(), packs[1].as_fd()], &regions) }.unwrap();
        for (memory, bytes) in memories.iter_mut().zip(&expected) {
            prop_assert_eq!(&memory.bytes()[..bytes.len()], bytes);
            memory.bytes().fill(0xff);
        }
        for (runs, bytes) in buffers.iter().zip(&expected) {
            prop_assert_eq!(&bytes_of(&packs, runs), bytes);
        }
    }
}

#[test]
fn a_write_shows_in_no_other_buffer_of_the_same_run() {
    let packs = packs();
    let runs = [run(0, 0, 2 * PAGE_U64)];
    let (mut one, mut other) = (Memory::new(2 * PAGE), Memory::new(2 * PAGE));
    let regions = [&one, &other].map(|memory| Region {
        start: memory.start,
        length: 2 * PAGE,
        mappable: true,
        runs: &runs,
    });
    // SAFETY: the regions are this test's, and not looked at.
    unsafe { fill(&[packs[0].as_fd()], &regions) }.unwrap();
    let before = other.bytes().to_vec();
    one.bytes().fill(0xff);
    assert_eq!(other.bytes(), before);
}
