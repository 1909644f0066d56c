#[path = "machine/doubt_tests.rs"]
mod doubt;
#[path = "machine/evicting_tests.rs"]
mod evicting;
#[path = "machine/life_tests.rs"]
mod life;

use super::executions::MAX_WAITING;
use super::*;
use crate::loss;
use crate::runners::Runners;
use cellblock_proto::client::WorkerState;
use cellblock_proto::execution::{End, NameChanges, Variables};
use proptest::prelude::*;
use std::sync::Arc;
use tokio::sync::Notify;

fn id(text: &str) -> ExecutionId {
    text.parse().unwrap()
}

fn submit(machine: &mut Machine, name: &str) -> Vec<Action> {
    let code = Payload::new(name.as_bytes().to_vec());
    machine.hears(Input::Submit { execution: id(name), options: ExecuteOptions::default(), code })
}

impl Machine {
    /// Now.
    fn hears(&mut self, input: Input) -> Vec<Action> {
        self.on(input, Instant::now())
    }

    /// When it is time.
    fn is_late(&mut self) -> Vec<Action> {
        let now = self.deadline().unwrap_or_else(Instant::now);
        self.on(Input::Time, now)
    }
}

/// A notebook with nobody beside it.
fn alone() -> Machine {
    of(&Runners::new(1))
}

fn of(runners: &Runners) -> Machine {
    Machine::new(runners.turn("t", "default", Arc::new(Notify::new())))
}

fn up() -> Machine {
    let mut machine = alone();
    machine.hears(Input::Wanted);
    machine.hears(Input::Launched { warm: false });
    machine.hears(Input::Ready);
    machine
}

fn sent(actions: &[Action]) -> Vec<(String, Option<Output>)> {
    let execute = |action: &Action| match action {
        Action::Send { command: Command::Execute { execution, notice, .. }, .. } => {
            Some((execution.to_string(), notice.clone()))
        }
        _ => None,
    };
    actions.iter().filter_map(execute).collect()
}

fn ends(actions: &[Action]) -> Vec<(String, End)> {
    let end = |action: &Action| match action {
        Action::Conclude { execution, outcome, .. } => Some((execution.to_string(), outcome.end.clone())),
        _ => None,
    };
    actions.iter().filter_map(end).collect()
}

fn finished(name: &str, end: End, added: &[&str]) -> Input {
    let info = |name: &&str| NameInfo { name: (*name).to_owned(), kind: "int".to_owned(), bytes: None };
    let mut outcome = loss::unmeasured(end, Variables::Kept);
    outcome.names = NameChanges { added: added.iter().map(info).collect(), ..NameChanges::default() };
    Input::Finished { execution: id(name), outputs: 0, outcome, payload: Payload::default() }
}

fn run(machine: &mut Machine, name: &str, added: &[&str]) {
    submit(machine, name);
    machine.hears(Input::Accepted { execution: id(name), position: 0 });
    machine.hears(Input::Started { execution: id(name) });
    machine.hears(finished(name, End::Ok, added));
}

#[test]
fn first_execution_starts_a_worker_and_all_held_ones_go_when_it_is_ready() {
    let mut machine = alone();
    assert_eq!(submit(&mut machine, "a"), [Action::Start]);
    assert_eq!(submit(&mut machine, "b"), []);
    assert_eq!(machine.state(), WorkerState::Starting);
    machine.hears(Input::Launched { warm: false });
    assert_eq!(sent(&machine.hears(Input::Ready)), [("a".to_owned(), None), ("b".to_owned(), None)]);
}

#[test]
fn failed_start_refuses_what_waited_with_its_reason() {
    let mut machine = alone();
    submit(&mut machine, "a");
    let message = "mount /proc: EPERM".to_owned();
    let actions = machine.hears(Input::StartFailed { code: ErrorCode::Sandbox, message: message.clone() });
    let refuse = Action::Refuse { execution: id("a"), code: ErrorCode::Sandbox, message };
    assert_eq!(actions, [Action::Gone { end: WorkerEnd::NotStarted }, Action::Absent, refuse]);
    assert!(!machine.knows(&id("a")), "it can be sent again");
}

#[test]
fn execution_after_a_death_is_told_the_names_lost_and_the_cause() {
    let mut machine = up();
    run(&mut machine, "a", &["x", "df"]);
    let lost = machine.names().cloned().collect();
    machine.hears(Input::WorkerEnded { death: Death::Signalled { signal: 11 }, lost });
    assert_eq!(submit(&mut machine, "b"), [Action::Start]);
    machine.hears(Input::Launched { warm: false });
    let actions = machine.hears(Input::Ready);
    let [(_, Some(Output::Notice { text, names, .. }))] = &sent(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(names, &["df", "x"]);
    assert!(text.contains("SIGSEGV") && text.ends_with("df, x"), "{text}");
    assert_eq!(sent(&submit(&mut machine, "c")), [("c".to_owned(), None)], "told once");
}

#[test]
fn notice_goes_to_the_next_execution_when_its_own_never_begins() {
    let mut machine = up();
    run(&mut machine, "a", &["x"]);
    machine.hears(Input::ShimLost);
    submit(&mut machine, "b");
    machine.hears(Input::Ready);
    machine.hears(Input::Accepted { execution: id("b"), position: 0 });
    machine.hears(finished("b", End::Cancelled { reason: String::new() }, &[]));
    assert!(sent(&submit(&mut machine, "c"))[0].1.is_some());
}

#[test]
fn lost_shim_ends_what_ran_and_runs_what_waited_in_a_new_worker() {
    let mut machine = up();
    for name in ["a", "b"] {
        submit(&mut machine, name);
        machine.hears(Input::Accepted { execution: id(name), position: 0 });
    }
    machine.hears(Input::Started { execution: id("a") });
    let actions = machine.hears(Input::ShimLost);
    assert_eq!(ends(&actions), [("a".to_owned(), End::WorkerDied(Death::ShimLost))]);
    assert_eq!(actions.last(), Some(&Action::Start));
    assert_eq!(sent(&machine.hears(Input::Ready))[0].0, "b");
}

#[test]
fn execution_that_takes_every_worker_down_before_it_starts_ends_too() {
    let mut machine = up();
    submit(&mut machine, "a");
    let mut last = Vec::new();
    for _ in 0..MAX_ATTEMPTS {
        last = machine.hears(Input::ShimLost);
        machine.hears(Input::Ready);
    }
    assert_eq!(ends(&last), [("a".to_owned(), End::WorkerDied(Death::ShimLost))]);
    assert_eq!(machine.state(), WorkerState::None);
}

#[test]
fn restart_by_a_client_loses_variables_without_a_notice() {
    let mut machine = up();
    run(&mut machine, "a", &["x"]);
    let reason = "restarted".to_owned();
    assert_eq!(
        machine.hears(Input::Restart { reason: reason.clone() }),
        [Action::Settled { up_to: None }, Action::End { reason: reason.clone() }]
    );
    assert_eq!(submit(&mut machine, "b"), [], "held until the old worker is gone");
    let lost = machine.names().cloned().collect();
    let actions = machine.hears(Input::WorkerEnded { death: Death::Ended { reason }, lost });
    let end = WorkerEnd::Ended { reason: "restarted".to_owned() };
    assert_eq!(actions, [Action::Gone { end }, Action::Absent, Action::Start]);
    assert_eq!(sent(&machine.hears(Input::Ready)), [("b".to_owned(), None)]);
}

#[test]
fn restart_during_a_start_ends_the_worker_as_soon_as_it_can_be_told() {
    let mut machine = alone();
    submit(&mut machine, "a");
    let actions = machine.hears(Input::Restart { reason: "restarted".to_owned() });
    assert_eq!(ends(&actions), [("a".to_owned(), End::Cancelled { reason: "restarted".to_owned() })]);
    assert_eq!(
        machine.hears(Input::Launched { warm: false }),
        [Action::End { reason: "restarted".to_owned() }]
    );
    assert_eq!(machine.hears(Input::Ready), []);
    assert_eq!(machine.is_late(), [Action::Kill, Action::Gone { end: WorkerEnd::Overdue }, Action::Absent]);
}

#[test]
fn ended_execution_is_remembered_and_a_thousand_later_forgotten() {
    let mut machine = up();
    run(&mut machine, "first", &[]);
    for n in 0..MAX_ENDED {
        assert!(machine.knows(&id("first")));
        run(&mut machine, &format!("e{n}"), &[]);
    }
    assert!(!machine.knows(&id("first")));
}

#[test]
fn queue_has_an_end_and_says_how_long_it_is() {
    let mut machine = up();
    for n in 0..MAX_WAITING {
        submit(&mut machine, &format!("e{n}"));
    }
    let actions = submit(&mut machine, "more");
    let [Action::Refuse { code: ErrorCode::Busy, message, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert!(message.contains("1000 executions"), "{message}");
}

fn leaves(actions: &[Action]) -> Vec<(String, &'static str)> {
    let leave = |action: &Action| match action {
        Action::Send { command: Command::Execute { execution, leave, .. }, .. } => {
            Some((execution.to_string(), if *leave { "begins" } else { "waits" }))
        }
        Action::Send { command: Command::Leave { execution }, .. } => Some((execution.to_string(), "leave")),
        _ => None,
    };
    actions.iter().filter_map(leave).collect()
}

fn up_of(runners: &Runners) -> Machine {
    let mut machine = of(runners);
    for input in [Input::Wanted, Input::Launched { warm: false }, Input::Ready] {
        machine.hears(input);
    }
    machine
}

fn begin(machine: &mut Machine, name: &str) {
    machine.hears(Input::Accepted { execution: id(name), position: 0 });
    machine.hears(Input::Started { execution: id(name) });
}

#[test]
fn first_execution_is_sent_with_leave_and_the_next_gets_it_at_the_end_of_the_first() {
    let mut machine = up();
    assert_eq!(leaves(&submit(&mut machine, "a")), [("a".to_owned(), "begins")]);
    assert_eq!(leaves(&submit(&mut machine, "b")), [("b".to_owned(), "waits")]);
    begin(&mut machine, "a");
    assert_eq!(leaves(&machine.hears(finished("a", End::Ok, &[]))), [("b".to_owned(), "leave")]);
}

#[test]
fn notebooks_take_turns_and_one_that_waits_says_so() {
    let runners = Runners::new(1);
    let (mut first, mut second) = (up_of(&runners), up_of(&runners));
    submit(&mut first, "a");
    submit(&mut first, "b");
    begin(&mut first, "a");
    assert_eq!(leaves(&submit(&mut second, "c")), [("c".to_owned(), "waits")]);
    assert_eq!(second.state(), WorkerState::Waiting);
    assert_eq!(leaves(&first.hears(finished("a", End::Ok, &[]))), [], "its next one overtook who waits");
    assert_eq!(leaves(&second.hears(Input::Leave)), [("c".to_owned(), "leave")]);
    assert_eq!(first.state(), WorkerState::Waiting);
    second.hears(finished("c", End::Ok, &[]));
    assert_eq!(leaves(&first.hears(Input::Leave)), [("b".to_owned(), "leave")]);
}

#[test]
fn leave_of_a_worker_that_is_gone_goes_to_who_waits() {
    let runners = Runners::new(1);
    let (mut first, mut second) = (up_of(&runners), up_of(&runners));
    submit(&mut first, "a");
    begin(&mut first, "a");
    submit(&mut second, "b");
    first.hears(Input::ShimLost);
    assert_eq!(leaves(&second.hears(Input::Leave)), [("b".to_owned(), "leave")]);
    drop(second);
    assert_eq!(runners.counts(), (0, 0), "a notebook that is closed took its leave along");
}

#[test]
fn interrupt_of_what_waits_for_leave_cancels_it() {
    let runners = Runners::new(1);
    let (mut first, mut second) = (up_of(&runners), up_of(&runners));
    submit(&mut first, "a");
    submit(&mut second, "b");
    assert_eq!(first.hears(Input::Interrupt), [send(Command::Interrupt)]);
    assert_eq!(second.hears(Input::Interrupt), [send(Command::Cancel { execution: id("b") })]);
}

#[test]
fn what_was_lost_is_told_even_when_the_next_worker_dies_before_it_is() {
    let restored = || Input::Restored {
        execution: String::new(),
        names: Vec::new(),
        told: crate::loss::Restoration { checkpoint: 4, ..Default::default() },
    };
    let mut machine = up();
    submit(&mut machine, "a");
    machine.hears(Input::Started { execution: id("a") });
    let Input::Finished { execution, outputs, mut outcome, payload } = finished("a", End::Ok, &["x"]) else {
        unreachable!()
    };
    outcome.wall_us = 1;
    machine.hears(Input::Finished { execution, outputs, outcome, payload });
    for _ in 0..2 {
        machine.hears(Input::ShimLost);
        machine.hears(Input::Wanted);
        machine.hears(Input::Launched { warm: false });
        machine.hears(restored());
        machine.hears(Input::Ready);
    }
    let actions = submit(&mut machine, "b");
    let told = |actions: &[Action]| {
        sent(actions).into_iter().find_map(|(_, notice)| match notice {
            Some(Output::Notice { text, .. }) => Some(text),
            _ => None,
        })
    };
    let text = told(&actions).unwrap();
    assert!(text.contains("checkpoint 4") && text.ends_with("lost, by execution a"), "{text}");
    machine.hears(Input::Started { execution: id("b") });
    machine.hears(Input::ShimLost);
    machine.hears(Input::Wanted);
    machine.hears(Input::Launched { warm: false });
    machine.hears(restored());
    machine.hears(Input::Ready);
    // Once it has been told it is not told again.
    assert!(!told(&submit(&mut machine, "c")).unwrap_or_default().contains("by execution a"));
}

#[test]
fn after_a_restart_leave_is_for_the_first_that_the_shim_has_whichever_that_is() {
    let mut machine = alone();
    machine.adopt();
    machine.on(Input::Accepted { execution: "b".parse().unwrap(), position: 1 }, Instant::now());
    let queue = vec!["a".parse().unwrap(), "b".parse().unwrap()];
    let leave = vec!["b".parse().unwrap()];
    machine.resumed(&cellblock_proto::shim::ShimState { queue, leave, ..living(&[]) }, Instant::now());
    assert_eq!(leaves(&machine.adopted()), [("a".to_owned(), "leave")]);
}

fn living(names: &[&str]) -> cellblock_proto::shim::ShimState {
    let info = |name: &&str| NameInfo { name: (*name).to_owned(), kind: "int".to_owned(), bytes: None };
    cellblock_proto::shim::ShimState {
        build: crate::build::build(),
        link: 1,
        worker: "a-2".parse().unwrap(),
        notebook: "a".parse().unwrap(),
        tenant: cellblock_proto::id::TenantId::operator(),
        profile: "default".to_owned(),
        slot: 3,
        ready: Some((7, "CPython".to_owned(), sandbox_profiles::SandboxReport::default())),
        running: None,
        queue: Vec::new(),
        leave: Vec::new(),
        names: names.iter().map(info).collect(),
        executions: 4,
        spare: false,
        unsaved: Vec::new(),
        newest: None,
        begun: false,
        unsavable: false,
    }
}

#[test]
fn what_an_ended_shim_repeats_is_no_news_where_the_next_worker_has_it_back() {
    for (has, is_told) in [(&["x", "y"][..], false), (&["y"][..], true)] {
        let mut machine = alone();
        machine.adopt();
        machine.hears(finished("old", End::Ok, &["x"]));
        let info = NameInfo { name: "x".to_owned(), kind: "int".to_owned(), bytes: None };
        machine.hears(Input::WorkerEnded { death: Death::Signalled { signal: 9 }, lost: vec![info] });
        machine.adopt();
        machine.resumed(&living(has), Instant::now());
        machine.adopted();
        let notice = sent(&submit(&mut machine, "b")).remove(0).1;
        assert_eq!(notice.is_some(), is_told, "{notice:?}");
    }
}

#[test]
fn what_an_ended_shim_repeats_is_not_told_as_lost_since_a_checkpoint() {
    let mut machine = alone();
    machine.adopt();
    machine.hears(finished("old", End::Ok, &["x"]));
    machine.hears(Input::WorkerEnded { death: Death::Signalled { signal: 9 }, lost: Vec::new() });
    machine.adopted();
    submit(&mut machine, "b");
    machine.hears(Input::Launched { warm: false });
    let told = crate::loss::Restoration { checkpoint: 4, ..Default::default() };
    machine.hears(Input::Restored { execution: "other".to_owned(), names: Vec::new(), told });
    assert_eq!(sent(&machine.hears(Input::Ready)), [("b".to_owned(), None)]);
}

#[test]
fn what_an_ended_shim_gives_back_keeps_its_order_whatever_was_told_of_it_before() {
    let mut machine = alone();
    machine.adopt();
    // Of the others an earlier daemon had heard that already.
    machine.hears(Input::Accepted { execution: id("c"), position: 2 });
    for name in ["a", "b", "c"] {
        let code = Payload::new(name.as_bytes().to_vec());
        machine.hears(Input::Returned { execution: id(name), options: ExecuteOptions::default(), code });
    }
    machine.hears(Input::WorkerEnded { death: Death::Signalled { signal: 9 }, lost: Vec::new() });
    assert_eq!(machine.adopted(), [Action::Start]);
    machine.hears(Input::Launched { warm: false });
    let names: Vec<_> = sent(&machine.hears(Input::Ready)).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b", "c"]);
}
