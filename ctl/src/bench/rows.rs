//! What was measured: samples, what is said about them, the table and its JSON.
//!
//! As in `bench/figures.py`, so that both benchmarks can be held against each other.

use serde_json::{Value, json};

use crate::commands::table;

/// What a row counts, and so which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Less is better.
    Milliseconds,
    /// Millions of bytes in a second; more is better.
    MegabytesPerSecond,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Milliseconds => "ms",
            Unit::MegabytesPerSecond => "MB/s",
        }
    }

    fn more_is_better(self) -> bool {
        self == Unit::MegabytesPerSecond
    }

    /// How many times better than `theirs` `ours` is.
    fn times_better(self, ours: f64, theirs: f64) -> f64 {
        if self.more_is_better() { ours / theirs } else { theirs / ours }
    }
}

/// Who was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Cellblock,
    Peer,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Cellblock => "cellblock",
            Role::Peer => "peer",
        }
    }
}

/// One thing, measured on cellblock and on its peers in turns.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// For programs.
    id: &'static str,
    /// For people.
    name: &'static str,
    unit: Unit,
    /// Ours first, as they are shown.
    engines: Vec<Engine>,
}

#[derive(Clone, Debug)]
struct Engine {
    name: &'static str,
    role: Role,
    /// In the order in which they were measured.
    samples: Vec<f64>,
}

/// What is said about samples.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figures {
    p50: f64,
    p90: f64,
    p99: f64,
}

impl Row {
    pub(crate) fn new(id: &'static str, name: &'static str, unit: Unit) -> Self {
        Row { id, name, unit, engines: Vec::new() }
    }

    pub(crate) fn push(&mut self, name: &'static str, role: Role, value: f64) {
        if let Some(engine) = self.engines.iter_mut().find(|engine| engine.name == name) {
            engine.samples.push(value);
            return;
        }
        let peers = self.engines.iter().position(|engine| engine.role == Role::Peer);
        let place = peers.filter(|_| role == Role::Cellblock).unwrap_or(self.engines.len());
        self.engines.insert(place, Engine { name, role, samples: vec![value] });
    }

    /// Forgets what was only a warm-up.
    pub(crate) fn clear(&mut self) {
        self.engines.clear();
    }

    fn figures(&self, engine: &Engine) -> Figures {
        let rank = |share| nearest_rank(&engine.samples, share, self.unit.more_is_better());
        Figures { p50: median(&engine.samples), p90: rank(0.90), p99: rank(0.99) }
    }

    /// What ratios refer to.
    fn peer(&self) -> Option<Figures> {
        self.engines.iter().find(|engine| engine.role == Role::Peer).map(|engine| self.figures(engine))
    }

    /// Every single run, and what is said about them.
    pub(crate) fn as_json(&self) -> Value {
        let peer = self.peer();
        let engine = |engine: &Engine| {
            let ours = self.figures(engine);
            let times = |figure: fn(Figures) -> f64| {
                peer.map(|peer| rounded(self.unit.times_better(figure(ours), figure(peer))))
            };
            json!({
                "engine": engine.name,
                "role": engine.role.name(),
                "runs": engine.samples.len(),
                "p50": rounded(ours.p50),
                "p90": rounded(ours.p90),
                "p99": rounded(ours.p99),
                "times_better_p50": times(|figures| figures.p50),
                "times_better_p99": times(|figures| figures.p99),
                "samples": engine.samples.iter().map(|value| rounded(*value)).collect::<Vec<_>>(),
            })
        };
        json!({
            "row": self.id,
            "name": self.name,
            "unit": self.unit.name(),
            "more_is_better": self.unit.more_is_better(),
            "engines": self.engines.iter().map(engine).collect::<Vec<_>>(),
        })
    }

    fn lines(&self) -> Vec<[String; COLUMNS]> {
        let peer = self.peer();
        let line = |(place, engine): (usize, &Engine)| {
            let ours = self.figures(engine);
            let times = |figure: fn(Figures) -> f64| match peer {
                Some(peer) => number(self.unit.times_better(figure(ours), figure(peer))),
                None => "–".to_owned(),
            };
            [
                if place == 0 { self.name.to_owned() } else { String::new() },
                self.unit.name().to_owned(),
                engine.samples.len().to_string(),
                number(ours.p50),
                number(ours.p90),
                number(ours.p99),
                times(|figures| figures.p50),
                times(|figures| figures.p99),
                if engine.role == Role::Peer {
                    format!("{} (peer)", engine.name)
                } else {
                    engine.name.to_owned()
                },
            ]
        };
        self.engines.iter().enumerate().map(line).collect()
    }
}

const COLUMNS: usize = 9;
const HEAD: [&str; COLUMNS] = ["WHAT", "UNIT", "RUNS", "P50", "P90", "P99", "× P50", "× P99", "ENGINE"];
/// Those that hold numbers, which stand below each other by their last digit.
const NUMBERS: std::ops::Range<usize> = 2..8;

/// For people: a line for each engine.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().flat_map(Row::lines));
    for column in NUMBERS {
        let width = lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        for line in &mut lines {
            line[column] = format!("{:>width$}", line[column]);
        }
    }
    table(&lines.into_iter().map(Vec::from).collect::<Vec<_>>())
}

/// Half of the runs were better.
fn median(samples: &[f64]) -> f64 {
    let sorted = sorted(samples, false);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// What this share of the runs reached or bettered: always a value that was measured, and of fewer than
/// 100 runs p99 is the worst one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a share of a number of runs is a small number above 0"
)]
fn nearest_rank(samples: &[f64], share: f64, more_is_better: bool) -> f64 {
    sorted(samples, more_is_better)[(share * samples.len() as f64).ceil() as usize - 1]
}

fn sorted(samples: &[f64], descending: bool) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    if descending {
        sorted.reverse();
    }
    sorted
}

/// As many places as say something.
fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// For JSON: a tenth of a microsecond is more than the clock can tell apart.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks_and_the_median_is_the_middle() {
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(median(&hundred), 50.5);
        assert_eq!(nearest_rank(&hundred, 0.90, false), 90.0);
        assert_eq!(nearest_rank(&hundred, 0.99, false), 99.0);
        // Where more is better the worst ones lie at the low end.
        assert_eq!(nearest_rank(&hundred, 0.90, true), 11.0);
        assert_eq!(nearest_rank(&hundred, 0.99, true), 2.0);
        let few = [3.0, 1.0, 2.0];
        assert_eq!((median(&few), nearest_rank(&few, 0.99, false)), (2.0, 3.0));
        assert_eq!((median(&[7.0]), nearest_rank(&[7.0], 0.90, true)), (7.0, 7.0));
    }

    #[test]
    fn ratios_say_how_many_times_better_whichever_way_is_better() {
        assert_eq!(Unit::Milliseconds.times_better(5.0, 20.0), 4.0);
        assert_eq!(Unit::MegabytesPerSecond.times_better(50.0, 200.0), 0.25);
    }

    /// Ours comes after its first peer, as it does in a round that goes the other way about.
    fn rows() -> [Row; 3] {
        let mut start = Row::new("start", "new notebook → first 1+1", Unit::Milliseconds);
        start.push("python", Role::Peer, 20.0);
        start.push("cellblock, spare", Role::Cellblock, 8.0);
        start.push("bwrap + python", Role::Peer, 30.0);
        start.push("cellblock, spare", Role::Cellblock, 12.0);
        start.push("python", Role::Peer, 24.0);
        let mut trip = Row::new("round_trip", "1+1 round trip", Unit::Milliseconds);
        trip.push("cellblock", Role::Cellblock, 0.4567);
        let mut stdout = Row::new("stdout", "stdout, lines of 80 bytes", Unit::MegabytesPerSecond);
        stdout.push("cellblock", Role::Cellblock, 150.0);
        stdout.push("python into a pipe", Role::Peer, 200.0);
        [start, trip, stdout]
    }

    #[test]
    fn the_table_has_a_line_for_each_engine_and_ours_come_first() {
        insta::assert_snapshot!(text(&rows()));
    }

    #[test]
    fn json_has_the_ratios_to_the_first_peer_and_every_run() {
        let [start, trip, _] = rows().map(|row| row.as_json());
        assert_eq!(
            start["engines"][0],
            json!({
                "engine": "cellblock, spare", "role": "cellblock", "runs": 2,
                "p50": 10.0, "p90": 12.0, "p99": 12.0,
                "times_better_p50": 2.2, "times_better_p99": 2.0, "samples": [8.0, 12.0],
            })
        );
        let names: Vec<_> = start["engines"].as_array().unwrap().iter().map(|e| &e["engine"]).collect();
        assert_eq!(names, ["cellblock, spare", "python", "bwrap + python"]);
        assert_eq!((&start["unit"], &start["more_is_better"]), (&json!("ms"), &json!(false)));
        assert_eq!(trip["engines"][0]["times_better_p50"], Value::Null);
    }
}
