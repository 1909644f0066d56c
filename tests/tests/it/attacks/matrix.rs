//! Each barrier left out of the plan, and each least set of barriers that lets an attack through:
//! exactly the attacks that the catalogue names must succeed then, and no other.
//!
//! Every set is tried with every attack that a cell carries out by itself within moments, and with the
//! slow ones that it is named for. The table is printed.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cellblock_attacks::{ATTACKS, Attack, Kind};
use cellblock_tests::setup::{Setup, Who};
use cellctl::selftest::{Outcome, Verdict};
use sandbox_profiles::{Barrier, BarrierState, LOAD_BEARING, Omit, omittable};

use super::{daemon, range};

/// Rows that take seconds when they get through, or by themselves: tried where they are named only.
const SLOW: [u8; 11] = [2, 3, 4, 5, 12, 13, 14, 15, 43, 67, 68];

/// Rows that no step dropped lets through: what stops them stands in the catalogue and is not shown here.
const PROVE_NOTHING: [u8; 37] = [
    2, 13, 14, 15, 17, 19, 20, 22, 24, 25, 35, 36, 37, 40, 51, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65,
    66, 67, 68, 69, 70, 71, 72, 73, 74, 76, 77,
];

/// In how many tests the work is split, because one must not take minutes.
const PARTS: usize = 8;

fn first_eighth(setup: Setup) {
    matrix(setup, 0);
}

fn second_eighth(setup: Setup) {
    matrix(setup, 1);
}

fn third_eighth(setup: Setup) {
    matrix(setup, 2);
}

fn fourth_eighth(setup: Setup) {
    matrix(setup, 3);
}

fn fifth_eighth(setup: Setup) {
    matrix(setup, 4);
}

fn sixth_eighth(setup: Setup) {
    matrix(setup, 5);
}

fn seventh_eighth(setup: Setup) {
    matrix(setup, 6);
}

fn eighth_eighth(setup: Setup) {
    matrix(setup, 7);
}

cellblock_tests::as_root_and_user!(
    first_eighth,
    second_eighth,
    third_eighth,
    fourth_eighth,
    fifth_eighth,
    sixth_eighth,
    seventh_eighth,
    eighth_eighth,
);

#[test]
fn every_row_is_let_through_by_something_or_says_what_else_stops_it() {
    let proves_nothing: Vec<_> = ATTACKS.iter().filter(|attack| attack.let_through.is_empty()).collect();
    let numbers: Vec<u8> = proves_nothing.iter().map(|attack| attack.number).collect();
    assert_eq!(numbers, PROVE_NOTHING, "rows that no step dropped lets through");
    let mut table = String::from("rows that no step dropped lets through:\n");
    for attack in proves_nothing {
        let _ = writeln!(table, "{:>2} {}: {}", attack.number, attack.title, attack.stopped_by);
    }
    for (barrier, why) in LOAD_BEARING {
        let _ = writeln!(table, "{} cannot be dropped: {why}", barrier.name());
    }
    eprintln!("{table}");
}

/// Every barrier alone, and every least set of several.
fn sets(rootful: bool) -> BTreeSet<Vec<Omit>> {
    let alone = omittable().into_iter().map(|omit| vec![omit]);
    let named = ATTACKS.iter().flat_map(|attack| attack.let_through(rootful)).map(|set| {
        let mut set = set.to_vec();
        set.sort();
        set
    });
    alone.chain(named).collect()
}

fn matrix(setup: Setup, part: usize) {
    let rootful = setup.who == Who::Root;
    let absent = absent(&setup);
    let names: Vec<String> = absent.iter().map(Omit::to_string).collect();
    let (mut table, mut wrong) = (format!("not on this host: {}\n", names.join(", ")), String::new());
    for set in sets(rootful).into_iter().skip(part).step_by(PARTS) {
        let names: Vec<String> = set.iter().map(Omit::to_string).collect();
        let names = names.join(",");
        let (through, unexpected) = try_without(&setup, &set, &names, &absent);
        let _ = writeln!(table, "{names:<60} | {through:?}");
        wrong += &unexpected;
    }
    eprintln!("{table}");
    assert!(wrong.is_empty(), "\n{table}\n{wrong}");
}

/// The attacks that get through, and what is not as expected.
fn try_without(setup: &Setup, set: &[Omit], names: &str, absent: &[Omit]) -> (Vec<u8>, String) {
    let (mut through, mut wrong) = (Vec::new(), String::new());
    let rootful = setup.who == Who::Root;
    let daemon = daemon(setup.clone().without(names));
    let mut range = range(&daemon);
    // What this host does not give is as good as dropped.
    let lacking: Vec<Omit> = set.iter().chain(absent).copied().collect();
    for attack in ATTACKS.iter().copied().filter(|attack| is_tried(attack, set, rootful)) {
        let expected = attack.succeeds_without(&lacking, rootful);
        let outcome = match range.attack(attack) {
            Ok(outcome) => outcome,
            Err(fault) => {
                let _ = writeln!(wrong, "{names}: {} {}: {}", attack.number, attack.title, fault.report());
                break;
            }
        };
        let is_open = outcome.verdict == Verdict::NotContained;
        // A sandbox that does not work without a barrier lets nothing through: a probe must have shown it.
        let succeeded = is_open && (!expected || is_shown(&outcome));
        if succeeded {
            through.push(attack.number);
        }
        if succeeded != expected {
            let what = if succeeded { "got through" } else { "was stopped" };
            let (number, title) = (attack.number, attack.title);
            let _ = writeln!(
                wrong,
                "{names}: {number} {title} {what}: {:?}; saw {}",
                outcome.wrong, outcome.seen
            );
        }
    }
    (through, wrong)
}

/// Whether a probe ran and could tell, in a sandbox that works but for what was dropped.
fn is_shown(outcome: &Outcome) -> bool {
    let is_sound = |wrong: &String| !wrong.starts_with("no cell") && !wrong.starts_with("the neighbour");
    let seen = outcome.seen.to_string();
    let told = |fact: &str| !fact.starts_with("report_") && fact != "end=ok";
    outcome.wrong.iter().all(is_sound)
        && seen.split("; ").all(|fact| !fact.starts_with("end=error_"))
        && seen.split("; ").any(told)
}

/// Barriers that depend on the host and that an ordinary sandbox here does not have.
fn absent(setup: &Setup) -> Vec<Omit> {
    let daemon = daemon(setup.clone());
    let mut notebook = daemon.notebook("a");
    notebook.run("1").ok();
    let report = notebook.status().report.unwrap();
    let holds = |barrier: &Barrier| {
        let mut lines = report.barriers.iter().filter(|line| line.barrier == *barrier);
        lines.any(|line| line.state != BarrierState::Missing)
    };
    let depend = [Barrier::Cgroup, Barrier::Overlay, Barrier::Processor, Barrier::WorkspaceQuota];
    depend.into_iter().filter(|barrier| !holds(barrier)).map(Omit::Barrier).collect()
}

fn is_tried(attack: &Attack, set: &[Omit], rootful: bool) -> bool {
    let by_itself = attack.kind == Kind::Cell || !attack.let_through.is_empty();
    if !by_itself || !attack.variants.is_empty() {
        return false;
    }
    attack.succeeds_without(set, rootful) || !SLOW.contains(&attack.number)
}
