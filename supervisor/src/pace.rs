//! How long something that is waited for will take, as far as the past tells: the mean of what went before,
//! the newer the heavier. It is what a client that is refused as busy is told to wait.

use std::time::Duration;

use cellblock_proto::operations::Hint;

use crate::time::milliseconds;

/// What is said when nothing is known.
const UNKNOWN: Duration = Duration::from_secs(1);

/// Nobody is told to come back sooner: asking costs something too.
const LEAST: Duration = Duration::from_millis(100);

/// Nor later: a minute is long enough to look whether things have changed.
const MOST: Duration = Duration::from_secs(60);

/// The weight of the newest.
const NEWEST: f64 = 0.2;

/// How long cells take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    mean_seconds: Option<f64>,
}

impl Pace {
    /// One took so long.
    pub(crate) fn took(&mut self, time: Duration) {
        let time = time.as_secs_f64();
        self.mean_seconds = Some(self.mean_seconds.map_or(time, |mean| mean + NEWEST * (time - mean)));
    }

    /// How long until one of `at_once` ends. Of one that has run longer than usual already nothing better is known than
    /// that it will take as long again.
    pub(crate) fn until_next(&self, running_for: Option<Duration>, at_once: usize) -> Duration {
        let mean = self.mean_seconds.unwrap_or(UNKNOWN.as_secs_f64());
        let run = running_for.map_or(0.0, |time| time.as_secs_f64());
        let left = if run < mean { mean - run } else { run };
        #[expect(clippy::cast_precision_loss, reason = "as many cells as that do not run")]
        let left = left / at_once.max(1) as f64;
        Duration::from_secs_f64(left.min(MOST.as_secs_f64())).clamp(LEAST, MOST)
    }
}

/// When to try again, and how many are before whoever does.
pub(crate) fn hint(until: Duration, position: Option<u64>) -> Hint {
    let position = position.map(|position| u32::try_from(position).unwrap_or(u32::MAX));
    Hint { retry_ms: milliseconds(until), position }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_cells_are_foretold_and_a_change_is_followed() {
        let mut pace = Pace::default();
        assert_eq!(pace.until_next(None, 1), UNKNOWN);
        (0..20).for_each(|_| pace.took(Duration::from_secs(4)));
        assert_eq!(pace.until_next(None, 1), Duration::from_secs(4));
        assert_eq!(pace.until_next(None, 4), Duration::from_secs(1));
        assert_eq!(pace.until_next(Some(Duration::from_secs(3)), 1), Duration::from_secs(1));
        (0..20).for_each(|_| pace.took(Duration::from_secs(10)));
        let told = pace.until_next(None, 1).as_secs_f64();
        assert!((9.5..=10.0).contains(&told), "{told}");
    }

    #[test]
    fn one_that_runs_longer_than_usual_is_thought_to_take_as_long_again_and_all_is_bounded() {
        let mut pace = Pace::default();
        pace.took(Duration::from_millis(1));
        assert_eq!(pace.until_next(None, 1), LEAST);
        assert_eq!(pace.until_next(Some(Duration::from_secs(5)), 1), Duration::from_secs(5));
        assert_eq!(pace.until_next(Some(Duration::from_secs(1_000_000)), 1), MOST);
    }
}
