//! What was not saved, and went with a worker while there was nobody to see it, is told all the same, and once.

use super::*;
use cellblock_proto::execution::{Checkpoint, NoticeTopic};

/// Begun, and ended.
fn ran(name: &str, checkpoint: Option<Checkpoint>) -> Input {
    let mut outcome = loss::unmeasured(End::Ok, Variables::Kept);
    (outcome.execution_count, outcome.wall_us, outcome.checkpoint) = (1, 1, checkpoint);
    Input::Finished { execution: id(name), outputs: 0, outcome, payload: Payload::default() }
}

/// What the first cell of the next worker is told; it has what was saved after `restored`, if anything was.
fn told_by(machine: &mut Machine, restored: Option<&str>) -> Option<String> {
    submit(machine, "next");
    machine.hears(Input::Launched { warm: false });
    if let Some(execution) = restored {
        let told = crate::loss::Restoration { checkpoint: 4, ..Default::default() };
        machine.hears(Input::Restored { execution: execution.to_owned(), names: Vec::new(), told });
    }
    text(sent(&machine.hears(Input::Ready)).remove(0).1)
}

fn text(notice: Option<Output>) -> Option<String> {
    notice.map(|notice| match notice {
        Output::Notice { topic: NoticeTopic::VariablesLost, text, .. } => text,
        other => panic!("{other:?}"),
    })
}

/// Up to which one it is settled, if anything is.
fn settled(actions: &[Action]) -> Option<Option<String>> {
    actions.iter().find_map(|action| match action {
        Action::Settled { up_to } => Some(up_to.as_ref().map(ToString::to_string)),
        _ => None,
    })
}

fn after(unsaved: &[&str]) -> Machine {
    let mut machine = alone();
    machine.doubt(&unsaved.iter().map(|name| id(name)).collect::<Vec<_>>().iter().collect());
    machine
}

#[test]
fn what_the_disk_does_not_tell_as_saved_is_lost_if_the_checkpoint_is_older() {
    for (restored, wanted) in [
        (Some("c"), None),
        (
            Some("a"),
            Some(
                "variables are back from checkpoint 4; what changed since then is lost, by 2 executions, c the last of them",
            ),
        ),
        (
            Some("before"),
            Some(
                "variables are back from checkpoint 4; what changed since then is lost, by 3 executions, c the last of them",
            ),
        ),
        (
            None,
            Some(
                "the worker was lost before its variables were saved: what was changed is lost, by 3 executions, c the last of them",
            ),
        ),
    ] {
        let mut machine = after(&["a", "b", "c"]);
        assert_eq!(told_by(&mut machine, restored).as_deref(), wanted, "{restored:?}");
        machine.hears(Input::Started { execution: id("next") });
        // What it was told may be lost with it, until it has ended.
        let settled = settled(&machine.hears(ran("next", Some(Checkpoint::Pending))));
        assert_eq!(settled, wanted.map(|_| Some("c".to_owned())), "{restored:?}");
    }
    assert_eq!(told_by(&mut after(&[]), None), None);
}

#[test]
fn a_checkpoint_of_what_was_running_then_has_what_was_before_it() {
    let mut machine = after(&["a"]);
    machine.passed(&id("ran"));
    assert_eq!(told_by(&mut machine, Some("ran")), None);
    let mut machine = after(&[]);
    machine.passed(&id("ran"));
    assert_eq!(told_by(&mut machine, Some("before")), None, "its own end has told that");
    let mut machine = after(&["a"]);
    machine.passed(&id("ran"));
    assert!(
        told_by(&mut machine, Some("before")).unwrap().ends_with("by execution a"),
        "and only a's is untold"
    );
}

#[test]
fn what_an_ended_shim_repeats_counts_as_well_unless_it_says_that_it_is_saved() {
    for (is_saved, wanted) in [(false, true), (true, false)] {
        let mut machine = alone();
        machine.adopt();
        machine.hears(ran("a", Some(Checkpoint::Pending)));
        if is_saved {
            machine.hears(Input::Saved { execution: id("a"), whole: true });
        }
        machine.hears(Input::WorkerEnded { death: Death::Signalled { signal: 9 }, lost: Vec::new() });
        machine.adopted();
        let told = told_by(&mut machine, Some("before")).unwrap_or_default();
        assert_eq!(told.contains("by execution a"), wanted, "{told}");
    }
}

#[test]
fn a_worker_that_lives_says_itself_what_is_not_saved() {
    let none: Option<&str> = None;
    for (begun, restored, wanted) in [
        // The first in it was told.
        (true, none, None),
        (false, Some("b"), None),
        (false, Some("a"), Some("execution b")),
        (false, none, Some("2 executions, b the last of them")),
    ] {
        let mut machine = after(&["a", "b"]);
        machine.adopt();
        let newest = restored.map(str::to_owned);
        machine.resumed(
            &cellblock_proto::shim::ShimState { executions: 0, begun, newest, ..living(&[]) },
            Instant::now(),
        );
        machine.adopted();
        let told = text(sent(&submit(&mut machine, "next")).remove(0).1);
        assert_eq!(told.as_deref().and_then(|told| told.split_once("by ")).map(|(_, by)| by), wanted);
    }
}

#[test]
fn who_wants_no_variables_any_more_is_told_of_none() {
    let mut machine = after(&["a"]);
    let actions = machine.hears(Input::Restart { reason: "restart".to_owned() });
    assert_eq!(settled(&actions), Some(None));
    assert_eq!(told_by(&mut machine, None), None);
}

#[test]
fn a_notice_of_something_else_takes_nothing_back() {
    let mut machine = up();
    submit(&mut machine, "a");
    machine.hears(ran("a", Some(Checkpoint::Pending)));
    machine.hears(Input::NotSaved { execution: id("a"), reason: "no space".to_owned() });
    assert!(sent(&submit(&mut machine, "b")).remove(0).1.is_some());
    machine.hears(Input::Started { execution: id("b") });
    assert_eq!(settled(&machine.hears(ran("b", None))), None);
}

#[test]
fn what_is_closed_before_anybody_was_told_is_told_when_it_is_opened_again() {
    let close = || Input::Close { reason: "closed".to_owned() };
    let mut machine = after(&["a"]);
    assert_eq!(settled(&machine.hears(close())), None);
    let mut machine = up();
    submit(&mut machine, "a");
    machine.hears(ran("a", None));
    assert_eq!(settled(&machine.hears(close())), Some(None), "who closes it has seen it");
}

#[test]
fn what_ends_while_the_worker_is_told_to_end_is_given_up_too() {
    let mut machine = up();
    submit(&mut machine, "a");
    machine.hears(Input::Started { execution: id("a") });
    machine.hears(Input::Restart { reason: "restart".to_owned() });
    machine.hears(ran("a", None));
    let death = Death::Ended { reason: "restart".to_owned() };
    let actions = machine.hears(Input::WorkerEnded { death, lost: Vec::new() });
    assert_eq!(settled(&actions), Some(Some("a".to_owned())));
}

#[test]
fn a_checkpoint_for_a_client_says_nothing_of_what_has_ended_meanwhile() {
    for (all, wanted) in [(true, None), (false, Some("execution a"))] {
        let mut machine = up();
        submit(&mut machine, "a");
        machine.hears(ran("a", None));
        let checkpoint = Checkpoint::Saved { id: 4, written_bytes: 0, pause_us: 0 };
        machine.hears(Input::SavedNow { checkpoint, own: false, all });
        machine.hears(Input::ShimLost);
        let told = told_by(&mut machine, Some("before")).unwrap_or_default();
        assert_eq!(told.split_once("lost, by ").map(|(_, by)| by), wanted, "{told}");
    }
}

#[test]
fn what_a_worker_tells_of_itself_while_it_is_taken_over_is_told_on() {
    for (losses, begun) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut machine = after(if losses { &[] } else { &["a"] });
        machine.adopt();
        let path = "d['lock']".to_owned();
        let loss =
            cellblock_proto::execution::NotRestored { path, kind: "lock".into(), reason: "a lock".into() };
        let left_out = if losses { vec![loss] } else { Vec::new() };
        let told = crate::loss::Restoration { checkpoint: 4, losses: left_out, ..Default::default() };
        machine.hears(Input::Restored { execution: "before".to_owned(), names: Vec::new(), told });
        machine.hears(Input::Ready);
        let state = cellblock_proto::shim::ShimState { executions: 0, begun, ..living(&[]) };
        machine.resumed(&state, Instant::now());
        machine.adopted();
        assert_eq!(machine.untold().last().is_some(), !begun && !losses);
        let told = text(sent(&submit(&mut machine, "next")).remove(0).1);
        // "a" has ended in it, or before it; the first in it was told already.
        assert_eq!(told.is_some(), !begun, "{told:?}");
    }
}

#[test]
fn what_a_worker_without_variables_has_done_is_no_loss_when_it_is_evicted() {
    let mut machine = up();
    submit(&mut machine, "a");
    machine.hears(ran("a", None));
    let rule = Evict { saves: true, with_losses: false, firmly: false };
    assert_eq!(machine.hears(Input::Evict { reason: "room".to_owned(), rule }).len(), 1);
    let death = Death::Ended { reason: "room".to_owned() };
    let actions = machine.hears(Input::WorkerEnded { death, lost: Vec::new() });
    assert_eq!(settled(&actions), Some(Some("a".to_owned())));
    assert_eq!(told_by(&mut machine, Some("before")), None);
}

#[test]
fn a_checkpoint_that_is_finished_after_its_workers_end_is_no_loss() {
    let mut machine = up();
    submit(&mut machine, "a");
    machine.hears(ran("a", Some(Checkpoint::Pending)));
    machine.hears(Input::WorkerEnded { death: Death::Exited { code: 7 }, lost: Vec::new() });
    machine.hears(Input::Saved { execution: id("a"), whole: true });
    assert_eq!(told_by(&mut machine, Some("a")), None);
}
