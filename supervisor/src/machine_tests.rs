use super::*;
use cellblock_proto::execution::NameChanges;
use proptest::prelude::*;

fn id(text: &str) -> ExecutionId {
    text.parse().unwrap()
}

fn submit(machine: &mut Machine, name: &str) -> Vec<Action> {
    let code = Payload::new(name.as_bytes().to_vec());
    machine.on(Input::Submit { execution: id(name), options: ExecuteOptions::default(), code })
}

fn up() -> Machine {
    let mut machine = Machine::new();
    machine.on(Input::Wanted);
    machine.on(Input::Launched);
    machine.on(Input::Ready);
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
    machine.on(Input::Accepted { execution: id(name), position: 0 });
    machine.on(Input::Started { execution: id(name) });
    machine.on(finished(name, End::Ok, added));
}

#[test]
fn first_execution_starts_a_worker_and_all_held_ones_go_when_it_is_ready() {
    let mut machine = Machine::new();
    assert_eq!(submit(&mut machine, "a"), [Action::Start]);
    assert_eq!(submit(&mut machine, "b"), []);
    assert_eq!(machine.state(), WorkerState::Starting);
    machine.on(Input::Launched);
    assert_eq!(sent(&machine.on(Input::Ready)), [("a".to_owned(), None), ("b".to_owned(), None)]);
}

#[test]
fn failed_start_refuses_what_waited_with_its_reason() {
    let mut machine = Machine::new();
    submit(&mut machine, "a");
    let message = "mount /proc: EPERM".to_owned();
    let actions = machine.on(Input::StartFailed { code: ErrorCode::Sandbox, message: message.clone() });
    let refuse = Action::Refuse { execution: id("a"), code: ErrorCode::Sandbox, message };
    assert_eq!(actions, [Action::Gone, refuse]);
    assert!(!machine.knows(&id("a")), "it can be sent again");
}

#[test]
fn execution_after_a_death_is_told_the_names_lost_and_the_cause() {
    let mut machine = up();
    run(&mut machine, "a", &["x", "df"]);
    let lost = machine.names().cloned().collect();
    machine.on(Input::WorkerEnded { death: Death::Signalled { signal: 11 }, lost });
    assert_eq!(submit(&mut machine, "b"), [Action::Start]);
    machine.on(Input::Launched);
    let actions = machine.on(Input::Ready);
    let [(_, Some(Output::Notice { text, names, .. }))] = &sent(&actions)[..] else { panic!("{actions:?}") };
    assert_eq!(names, &["df", "x"]);
    assert!(text.contains("SIGSEGV") && text.ends_with("df, x"), "{text}");
    assert_eq!(sent(&submit(&mut machine, "c")), [("c".to_owned(), None)], "told once");
}

#[test]
fn notice_goes_to_the_next_execution_when_its_own_never_begins() {
    let mut machine = up();
    run(&mut machine, "a", &["x"]);
    machine.on(Input::ShimLost);
    submit(&mut machine, "b");
    machine.on(Input::Ready);
    machine.on(Input::Accepted { execution: id("b"), position: 0 });
    machine.on(finished("b", End::Cancelled { reason: String::new() }, &[]));
    assert!(sent(&submit(&mut machine, "c"))[0].1.is_some());
}

#[test]
fn lost_shim_ends_what_ran_and_runs_what_waited_in_a_new_worker() {
    let mut machine = up();
    for name in ["a", "b"] {
        submit(&mut machine, name);
        machine.on(Input::Accepted { execution: id(name), position: 0 });
    }
    machine.on(Input::Started { execution: id("a") });
    let actions = machine.on(Input::ShimLost);
    assert_eq!(ends(&actions), [("a".to_owned(), End::WorkerDied(Death::ShimLost))]);
    assert_eq!(actions.last(), Some(&Action::Start));
    assert_eq!(sent(&machine.on(Input::Ready))[0].0, "b");
}

#[test]
fn execution_that_takes_every_worker_down_before_it_starts_ends_too() {
    let mut machine = up();
    submit(&mut machine, "a");
    let mut last = Vec::new();
    for _ in 0..MAX_ATTEMPTS {
        last = machine.on(Input::ShimLost);
        machine.on(Input::Ready);
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
        machine.on(Input::Restart { reason: reason.clone() }),
        [Action::End { reason: reason.clone() }]
    );
    assert_eq!(submit(&mut machine, "b"), [], "held until the old worker is gone");
    let lost = machine.names().cloned().collect();
    let actions = machine.on(Input::WorkerEnded { death: Death::Ended { reason }, lost });
    assert_eq!(actions, [Action::Gone, Action::Start]);
    assert_eq!(sent(&machine.on(Input::Ready)), [("b".to_owned(), None)]);
}

#[test]
fn restart_during_a_start_ends_the_worker_as_soon_as_it_can_be_told() {
    let mut machine = Machine::new();
    submit(&mut machine, "a");
    let actions = machine.on(Input::Restart { reason: "restarted".to_owned() });
    assert_eq!(ends(&actions), [("a".to_owned(), End::Cancelled { reason: "restarted".to_owned() })]);
    assert_eq!(machine.on(Input::Launched), [Action::End { reason: "restarted".to_owned() }]);
    assert_eq!(machine.on(Input::Ready), []);
    assert_eq!(machine.on(Input::EndOverdue), [Action::Kill, Action::Gone]);
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

/// A shim of a few lines, and what clients saw.
#[derive(Default)]
struct World {
    sent: VecDeque<ExecutionId>,
    queue: VecDeque<ExecutionId>,
    running: Option<ExecutionId>,
    alive: bool,
    starting: bool,
    accepted: HashSet<ExecutionId>,
    ended: HashMap<ExecutionId, u32>,
}

impl World {
    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start => {
                    assert!(!self.alive && !self.starting, "two workers at once");
                    self.starting = true;
                }
                Action::Send { command: Command::Execute { execution, .. }, .. } => {
                    self.sent.push_back(execution)
                }
                Action::Accepted { execution, .. } => {
                    self.accepted.insert(execution);
                }
                Action::Conclude { execution, .. } | Action::Refuse { execution, .. } => {
                    *self.ended.entry(execution).or_default() += 1;
                }
                Action::Gone => {
                    *self = World {
                        accepted: std::mem::take(&mut self.accepted),
                        ended: std::mem::take(&mut self.ended),
                        ..World::default()
                    };
                }
                Action::Send { .. } | Action::End { .. } | Action::Kill | Action::Forget { .. } => {}
            }
        }
    }

    fn event(&mut self, choice: u8) -> Vec<Input> {
        match choice {
            0 if self.starting => {
                (self.starting, self.alive) = (false, true);
                vec![Input::Launched, Input::Ready]
            }
            1 if self.starting => {
                vec![Input::StartFailed { code: ErrorCode::Sandbox, message: "no".to_owned() }]
            }
            2 if self.alive && !self.sent.is_empty() => {
                let execution = self.sent.pop_front().unwrap();
                self.queue.push_back(execution.clone());
                vec![Input::Accepted { execution, position: 0 }]
            }
            3 if self.alive && self.running.is_none() && !self.queue.is_empty() => {
                self.running = self.queue.pop_front();
                vec![Input::Started { execution: self.running.clone().unwrap() }]
            }
            4 if self.running.is_some() => {
                let name = self.running.take().unwrap();
                vec![finished(name.as_str(), End::Ok, &["x"])]
            }
            5 if self.alive => {
                let mut inputs = Vec::new();
                if let Some(name) = self.running.take() {
                    inputs.push(finished(name.as_str(), End::WorkerDied(Death::Exited { code: 1 }), &[]));
                }
                inputs.extend(self.queue.drain(..).map(|execution| Input::Returned {
                    execution,
                    options: ExecuteOptions::default(),
                    code: Payload::default(),
                }));
                inputs.push(Input::WorkerEnded { death: Death::Exited { code: 1 }, lost: Vec::new() });
                inputs
            }
            6 if self.alive || self.starting => vec![Input::ShimLost],
            7 => vec![Input::Restart { reason: "restarted".to_owned() }],
            8 => vec![Input::EndOverdue],
            9 => vec![Input::Wanted],
            _ => Vec::new(),
        }
    }
}

proptest! {
    #[test]
    fn every_execution_ends_exactly_once(choices in proptest::collection::vec((0u8..14, 0usize..20), 0..200)) {
        let mut machine = Machine::new();
        let mut world = World::default();
        let mut submitted: Vec<ExecutionId> = Vec::new();
        for (choice, which) in choices {
            match choice {
                10..=11 => {
                    let name = format!("e{}", submitted.len());
                    let actions = submit(&mut machine, &name);
                    submitted.push(id(&name));
                    world.perform(actions);
                }
                12 => {
                    if let Some(execution) = submitted.get(which).cloned() {
                        let actions = machine.on(Input::Cancel { execution });
                        world.perform(actions);
                    }
                }
                _ => {
                    for input in world.event(choice) {
                        let actions = machine.on(input);
                        world.perform(actions);
                    }
                }
            }
        }
        // Whatever state it is in, it comes to rest: the old worker goes, new ones run everything.
        for choice in [8, 0, 6].into_iter().chain(std::iter::repeat_n([0, 2, 3, 4], 100).flatten()) {
            for input in world.event(choice) {
                let actions = machine.on(input);
                world.perform(actions);
            }
        }
        for execution in &submitted {
            prop_assert_eq!(world.ended.get(execution), Some(&1), "{} of {:?}", execution, machine);
        }
        prop_assert!(machine.running().is_none() && machine.waiting().next().is_none());
    }
}
