//! The pages of what a snapshot child saves, given back once it is saved.
//!
//! As long as the child has a page too, the notebook's next write to it makes a copy. So it is dropped early,
//! which is nothing but forgetting: the child will not look at it again, and to the notebook's process
//! nothing happens.

use rustix::mm::{Advice, madvise};
use rustix::param::page_size;

/// Which of these ranges share no byte with another: two buffers may be views of one array, and the second must
/// not find that the first was dropped.
pub(super) fn alone(ranges: &[&[u8]]) -> Vec<bool> {
    let mut order: Vec<_> = (0..ranges.len()).filter(|index| !ranges[*index].is_empty()).collect();
    order.sort_unstable_by_key(|index| ranges[*index].as_ptr());
    let mut alone = vec![true; ranges.len()];
    // The range that reaches furthest of those that begin before.
    let mut furthest = None;
    for index in order {
        let range = ranges[index].as_ptr_range();
        match furthest {
            Some((before, end)) if end > range.start => {
                (alone[before], alone[index]) = (false, false);
                if range.end > end {
                    furthest = Some((index, range.end));
                }
            }
            _ => furthest = Some((index, range.end)),
        }
    }
    alone
}

/// Drops the whole pages inside of `bytes`, without a word where that cannot be (pages that are locked or of
/// a device).
///
/// # Safety
/// Nobody in this process reads `bytes` again.
pub(super) unsafe fn drop_pages(bytes: &[u8]) {
    let page = page_size();
    let skipped = bytes.as_ptr().align_offset(page);
    let whole = bytes.len().saturating_sub(skipped) / page * page;
    if whole > 0 {
        let start = bytes.as_ptr().wrapping_add(skipped).cast_mut();
        // SAFETY: the pages are mapped, and nothing else lies in them. Private ones will be zeros or, mapped
        // from a file, its content; shared ones keep theirs. The caller says that nobody looks.
        let _ = unsafe { madvise(start.cast(), whole, Advice::LinuxDontNeed) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_share_bytes_are_not_alone() {
        let memory = [0u8; 100];
        let ranges = [&memory[50..60], &memory[0..40], &memory[10..20], &memory[39..45], &memory[60..70]];
        assert_eq!(alone(&ranges), [true, false, false, false, true]);
        assert_eq!(alone(&[&memory[5..5], &memory[0..10], &memory[10..20]]), [true, true, true]);
        assert_eq!(alone(&[&memory[..], &memory[..]]), [false, false]);
    }

    #[test]
    fn only_whole_pages_are_dropped() {
        let page = page_size();
        let mut memory = vec![1u8; 4 * page];
        let start = memory.as_ptr().align_offset(page);
        // From within one page to within the one after the next.
        let dropped = start + page - 1..start + 2 * page + 1;
        // SAFETY: the pages dropped are read again, on purpose: private and anonymous, they are zeros.
        unsafe { drop_pages(std::hint::black_box(&memory[dropped])) };
        let zeros = std::hint::black_box(&mut memory).iter().filter(|byte| **byte == 0).count();
        assert_eq!(zeros, page);
        assert!(memory[start + page..start + 2 * page].iter().all(|byte| *byte == 0));
    }
}
