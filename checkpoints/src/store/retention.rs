//! Which checkpoints are kept. Only decided here; `collect` removes.

use std::collections::BTreeSet;

/// A rule about which checkpoints are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How many of the newest are kept.
    pub keep_last: usize,
    /// For how many of the last days (UTC) that have one, the newest of the day is kept.
    pub keep_daily: usize,
    /// What the kept ones may have together, in bytes: while they have more, the oldest goes.
    pub max_bytes: Option<u64>,
}

/// What the rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The checkpoint's number.
    pub id: u64,
    /// When it was taken, in milliseconds since 1970.
    pub created_ms: u64,
    /// What goes when it goes after all that are older, in bytes.
    pub bytes: u64,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Retention {
    /// The checkpoints to remove, ascending.
    ///
    /// Never the current one, `head`, and never the newest: its number is how the next one gets a number that was
    /// not given before.
    pub fn removable(&self, head: Option<u64>, candidates: &[Candidate]) -> Vec<u64> {
        let mut newest_first = candidates.to_vec();
        newest_first.sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.id));
        let always: BTreeSet<u64> =
            newest_first.first().map(|newest| newest.id).into_iter().chain(head).collect();

        let mut kept = always.clone();
        kept.extend(newest_first.iter().take(self.keep_last).map(|candidate| candidate.id));
        kept.extend(newest_of_days(&newest_first, self.keep_daily));

        if let Some(max_bytes) = self.max_bytes {
            let mut bytes: u64 = newest_first.iter().filter(|c| kept.contains(&c.id)).map(|c| c.bytes).sum();
            for oldest in newest_first.iter().rev() {
                if bytes <= max_bytes {
                    break;
                }
                if !always.contains(&oldest.id) && kept.remove(&oldest.id) {
                    bytes -= oldest.bytes;
                }
            }
        }
        newest_first.iter().rev().map(|candidate| candidate.id).filter(|id| !kept.contains(id)).collect()
    }
}

/// The newest checkpoint of each of the last `days` days that have one.
fn newest_of_days(newest_first: &[Candidate], days: usize) -> impl Iterator<Item = u64> {
    let mut by_day: Vec<_> = newest_first.iter().map(|c| (c.created_ms / DAY_MS, c.id)).collect();
    by_day.sort_unstable_by_key(|day_and_id| std::cmp::Reverse(*day_and_id));
    by_day.dedup_by_key(|(day, _)| *day);
    by_day.into_iter().take(days).map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn candidates(days_and_bytes: &[(u64, u64)]) -> Vec<Candidate> {
        let candidate = |(at, (day, bytes)): (usize, &(u64, u64))| Candidate {
            id: at as u64 + 1,
            created_ms: day * DAY_MS + at as u64,
            bytes: *bytes,
        };
        days_and_bytes.iter().enumerate().map(candidate).collect()
    }

    const NONE: Retention = Retention { keep_last: 0, keep_daily: 0, max_bytes: None };

    #[test]
    fn the_last_ones_and_one_a_day_are_kept() {
        let all = candidates(&[(1, 1), (1, 1), (2, 1), (4, 1), (4, 1), (4, 1)]);
        assert_eq!(Retention { keep_last: 2, ..NONE }.removable(None, &all), [1, 2, 3, 4]);
        assert_eq!(Retention { keep_daily: 2, ..NONE }.removable(None, &all), [1, 2, 4, 5]);
        assert_eq!(Retention { keep_daily: 9, ..NONE }.removable(None, &all), [1, 4, 5]);
    }

    #[test]
    fn above_the_bytes_the_oldest_go_but_never_the_current_one() {
        let all = candidates(&[(1, 10), (1, 10), (1, 10), (1, 10)]);
        let rule = Retention { keep_last: 9, max_bytes: Some(25), ..NONE };
        assert_eq!(rule.removable(Some(4), &all), [1, 2]);
        assert_eq!(rule.removable(Some(1), &all), [2, 3]);
        let nothing = Retention { max_bytes: Some(0), ..rule };
        assert_eq!(nothing.removable(Some(2), &all), [1, 3]);
    }

    proptest! {
        #[test]
        fn the_current_and_the_newest_stay_and_no_more_go_than_must(
            shape in vec((0u64..6, 0u64..50), 1..30),
            head in 0usize..30, keep_last in 0usize..10, keep_daily in 0usize..5,
            max_bytes in proptest::option::of(0u64..600),
        ) {
            let all = candidates(&shape);
            let head = all.get(head).map(|head| head.id);
            let rule = Retention { keep_last, keep_daily, max_bytes };
            let removed = rule.removable(head, &all);
            let newest = all.len() as u64;
            prop_assert!(removed.is_sorted() && removed.iter().all(|id| *id != newest && Some(*id) != head));

            let kept: Vec<_> = all.iter().filter(|c| !removed.contains(&c.id)).collect();
            let bytes: u64 = kept.iter().map(|c| c.bytes).sum();
            match max_bytes {
                None => {
                    prop_assert!(kept.len() >= keep_last.min(all.len()));
                    prop_assert!(kept.len() <= keep_last + keep_daily + 2);
                }
                // Too many bytes only when nothing is left that may go.
                Some(max) => prop_assert!(bytes <= max || kept.len() <= 2),
            }
            // What is kept satisfies the rule: asking again removes nothing.
            let again: Vec<_> = kept.into_iter().copied().collect();
            prop_assert_eq!(rule.removable(head, &again), Vec::<u64>::new());
        }
    }
}
