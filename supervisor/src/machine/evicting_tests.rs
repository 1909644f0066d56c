//! Workers that are to make room.

use std::time::Duration;

use cellblock_proto::execution::{Checkpoint, NotRestored};

use super::*;

const GENTLY: Evict = Evict { saves: true, with_losses: false, firmly: false };

fn evict(machine: &mut Machine, rule: Evict) -> Vec<Action> {
    machine.hears(Input::Evict { reason: "room".to_owned(), rule })
}

fn saved(machine: &mut Machine, checkpoint: Checkpoint) -> Vec<Action> {
    let mut actions = machine.hears(Input::SavedNow { checkpoint, own: true, all: true });
    actions.retain(|action| *action != Action::Settled { up_to: None });
    actions
}

fn whole() -> Checkpoint {
    Checkpoint::Saved { id: 1, written_bytes: 0, pause_us: 0 }
}

fn partial() -> Checkpoint {
    let left_out = vec![NotRestored { path: "lk".into(), kind: "lock".into(), reason: "a lock".into() }];
    Checkpoint::Partial { id: 1, written_bytes: 0, pause_us: 0, left_out, left_out_count: 1 }
}

fn end() -> Action {
    Action::End { reason: "room".to_owned() }
}

fn stays(actions: &[Action]) -> Option<&str> {
    actions.iter().find_map(|action| match action {
        Action::Stays { reason } => Some(reason.as_str()),
        _ => None,
    })
}

/// Runs one that is saved in the background, or must not be.
fn ran(machine: &mut Machine, name: &str, checkpoint: Option<Checkpoint>) {
    submit(machine, name);
    machine.hears(Input::Accepted { execution: id(name), position: 0 });
    machine.hears(Input::Started { execution: id(name) });
    let Input::Finished { execution, outputs, mut outcome, payload } = finished(name, End::Ok, &["x"]) else {
        unreachable!()
    };
    outcome.checkpoint = checkpoint;
    outcome.execution_count = 1;
    machine.hears(Input::Finished { execution, outputs, outcome, payload });
}

#[test]
fn idle_worker_is_saved_then_ended_and_comes_back_when_it_is_wanted() {
    let mut machine = up();
    ran(&mut machine, "a", Some(whole()));
    assert!(machine.is_idle() && machine.is_saved_whole());
    assert_eq!(evict(&mut machine, GENTLY), [Action::Save]);
    assert!(!machine.leaves_saved_whole());
    assert_eq!(saved(&mut machine, whole()), [end()]);
    assert!(machine.leaves_saved_whole());
    assert_eq!(submit(&mut machine, "b"), [], "held until the old worker is gone");
    let death = Death::Ended { reason: "room".to_owned() };
    let actions = machine.hears(Input::WorkerEnded { death, lost: Vec::new() });
    let gone = Action::Gone { end: WorkerEnd::Evicted { reason: "room".to_owned() } };
    assert_eq!(actions, [gone, Action::Absent, Action::Start]);
    machine.hears(Input::Launched { warm: false });
    let later = Instant::now() + Duration::from_millis(40);
    assert_eq!(sent(&machine.on(Input::Ready, later)), [("b".to_owned(), None)], "nothing was lost");
    let actions = machine.hears(finished("b", End::Ok, &[]));
    let Some(Action::Conclude { outcome, .. }) = actions.first() else { panic!("{actions:?}") };
    assert!(outcome.worker_ms.is_some_and(|waited| waited >= 40), "{outcome:?}");
}

#[test]
fn worker_that_is_wanted_while_it_is_saved_stays() {
    let mut machine = up();
    ran(&mut machine, "a", Some(whole()));
    evict(&mut machine, GENTLY);
    let actions = submit(&mut machine, "b");
    assert!(stays(&actions).is_some());
    assert_eq!(sent(&actions).len(), 1);
    assert_eq!(saved(&mut machine, whole()), []);
    assert_eq!(stays(&evict(&mut machine, GENTLY)), Some("it has something to do"));
}

#[test]
fn worker_that_is_pinned_while_it_is_saved_stays_unless_it_must_go() {
    let mut machine = up();
    ran(&mut machine, "a", Some(whole()));
    assert_eq!(machine.hears(Input::Pinned), [], "nobody wants it gone");
    evict(&mut machine, GENTLY);
    assert_eq!(stays(&machine.hears(Input::Pinned)), Some("it was pinned"));
    assert_eq!(saved(&mut machine, whole()), []);
    assert!(machine.is_idle());
    evict(&mut machine, Evict { firmly: true, ..GENTLY });
    assert_eq!(machine.hears(Input::Pinned), []);
    assert_eq!(saved(&mut machine, whole()), [end()]);
    assert_eq!(machine.hears(Input::Pinned), [], "it is too late");
}

#[test]
fn one_that_is_to_go_again_waits_for_the_answer_that_the_first_time_has_asked_for() {
    let mut machine = up();
    ran(&mut machine, "a", Some(whole()));
    assert_eq!(evict(&mut machine, GENTLY), [Action::Save]);
    assert!(stays(&submit(&mut machine, "b")).is_some());
    machine.hears(Input::Started { execution: id("b") });
    machine.hears(finished("b", End::Ok, &["y"]));
    assert_eq!(evict(&mut machine, GENTLY), [], "what was saved then has not what has run since");
    assert_eq!(
        machine.hears(Input::SavedNow { checkpoint: whole(), own: false, all: true }),
        [Action::Settled { up_to: None }],
        "a client's"
    );
    assert_eq!(saved(&mut machine, whole()), [Action::Save]);
    assert_eq!(saved(&mut machine, whole()), [end()]);
}

#[test]
fn worker_that_must_go_ends_what_it_has_and_what_comes_waits_for_the_next() {
    let firmly = Evict { firmly: true, ..GENTLY };
    let mut machine = up();
    submit(&mut machine, "a");
    assert_eq!(evict(&mut machine, firmly), []);
    assert_eq!(submit(&mut machine, "b"), []);
    machine.hears(Input::Accepted { execution: id("a"), position: 0 });
    machine.hears(Input::Started { execution: id("a") });
    let actions = machine.hears(finished("a", End::Ok, &["x"]));
    assert_eq!(actions.last(), Some(&Action::Save));
    assert_eq!(saved(&mut machine, partial()), [end()]);
}

#[test]
fn worker_stays_when_something_of_it_cannot_be_saved_unless_its_profile_says_otherwise() {
    let mut machine = up();
    ran(&mut machine, "a", Some(partial()));
    assert!(machine.would_lose());
    evict(&mut machine, GENTLY);
    assert_eq!(stays(&saved(&mut machine, partial())), Some("variables cannot be saved: lk"));
    let with_losses = Evict { with_losses: true, ..GENTLY };
    evict(&mut machine, with_losses);
    assert_eq!(saved(&mut machine, partial()), [end()]);
    assert!(!machine.leaves_saved_whole(), "`lk` goes with it");

    let mut machine = up();
    ran(&mut machine, "a", Some(whole()));
    evict(&mut machine, with_losses);
    let failed = saved(&mut machine, Checkpoint::Failed { reason: "the disk is full".to_owned() });
    assert_eq!(stays(&failed), Some("it could not be saved: the disk is full"));
}

/// Which names the next Execution is told as lost.
fn told_next(machine: &mut Machine, name: &str) -> Vec<String> {
    submit(machine, name);
    machine.hears(Input::Launched { warm: false });
    let told = sent(&machine.hears(Input::Ready));
    let [(_, Some(Output::Notice { names, .. }))] = &told[..] else { panic!("{told:?}") };
    names.clone()
}

#[test]
fn what_went_with_one_that_had_to_be_killed_in_the_end_is_told_too() {
    let mut machine = up();
    ran(&mut machine, "a", None);
    assert_eq!(evict(&mut machine, Evict { with_losses: true, ..GENTLY }), [end()]);
    let late = machine.deadline().unwrap();
    let actions = machine.on(Input::Time, late);
    assert_eq!(actions, [Action::Kill, Action::Gone { end: WorkerEnd::Overdue }, Action::Absent]);
    assert!(machine.is_evicted());
    assert_eq!(told_next(&mut machine, "b"), ["x"]);
}

#[test]
fn what_must_not_be_saved_is_not_saved_for_an_eviction() {
    let mut machine = up();
    ran(&mut machine, "a", Some(whole()));
    ran(&mut machine, "b", None);
    assert!(machine.would_lose() && !machine.is_saved_whole());
    assert!(stays(&evict(&mut machine, GENTLY)).is_some());
    assert_eq!(evict(&mut machine, Evict { with_losses: true, ..GENTLY }), [end()]);
    let death = Death::Ended { reason: "room".to_owned() };
    machine.hears(Input::WorkerEnded { death, lost: Vec::new() });
    assert_eq!(told_next(&mut machine, "c"), ["x"], "it is told what went");
    // One that asks for it is saved with all there is.
    let mut machine = up();
    ran(&mut machine, "a", None);
    ran(&mut machine, "b", Some(whole()));
    assert!(!machine.would_lose() && machine.is_saved_whole());
}

#[test]
fn eviction_waits_for_what_is_being_saved() {
    let mut machine = up();
    ran(&mut machine, "a", Some(Checkpoint::Pending));
    assert!(machine.is_saving());
    assert_eq!(evict(&mut machine, GENTLY), []);
    let saved = Input::Saved { execution: id("a"), whole: true };
    assert_eq!(machine.hears(saved), [Action::Save]);
}
