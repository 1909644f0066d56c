//! Whatever happens to several notebooks that share the leaves to run: every Execution ends, once, every worker that
//! was started ends, once and for one reason, no more cells run than may, and no timer is left.

use cellblock_proto::client::WorkerState;
use cellblock_proto::execution::Checkpoint;

use super::*;

/// A shim of a few lines, and what clients saw.
#[derive(Default)]
struct World {
    sent: VecDeque<ExecutionId>,
    queue: VecDeque<ExecutionId>,
    leave: HashSet<ExecutionId>,
    running: Option<ExecutionId>,
    cancelled: HashSet<ExecutionId>,
    alive: bool,
    starting: bool,
    warm: bool,
    saving: bool,
    started: u32,
    gone: u32,
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
                    self.started += 1;
                }
                Action::StartCold { .. } => {
                    assert!(self.warm && self.starting, "only what was warm is begun again");
                    self.warm = false;
                }
                Action::Save => {
                    assert!(self.alive && !self.saving && self.running.is_none(), "saved while it runs");
                    self.saving = true;
                }
                Action::Send { command: Command::Execute { execution, leave, .. }, .. } => {
                    if leave {
                        self.leave.insert(execution.clone());
                    }
                    self.sent.push_back(execution);
                }
                Action::Send { command: Command::Leave { execution }, .. } => {
                    self.leave.insert(execution);
                }
                Action::Send { command: Command::Cancel { execution }, .. } => {
                    self.cancelled.insert(execution);
                }
                Action::Accepted { execution, .. } => {
                    self.accepted.insert(execution);
                }
                Action::Conclude { execution, .. } | Action::Refuse { execution, .. } => {
                    *self.ended.entry(execution).or_default() += 1;
                }
                Action::Gone { .. } => {
                    *self = World {
                        accepted: std::mem::take(&mut self.accepted),
                        ended: std::mem::take(&mut self.ended),
                        started: self.started,
                        gone: self.gone + 1,
                        ..World::default()
                    };
                }
                Action::Send { .. }
                | Action::End { .. }
                | Action::Kill
                | Action::Forget { .. }
                | Action::Absent
                | Action::Settled { .. }
                | Action::Stays { .. } => {}
            }
        }
    }

    fn event(&mut self, choice: u8) -> Vec<Input> {
        match choice {
            0 if self.starting => {
                (self.starting, self.alive) = (false, true);
                let first = (!self.warm).then_some(Input::Launched { warm: false });
                first.into_iter().chain([Input::Ready]).collect()
            }
            1 if self.starting => {
                vec![Input::StartFailed { code: ErrorCode::Sandbox, message: "no".to_owned() }]
            }
            2 if self.alive && !self.sent.is_empty() => {
                let execution = self.sent.pop_front().unwrap();
                self.queue.push_back(execution.clone());
                vec![Input::Accepted { execution, position: 0 }]
            }
            3 if self.alive
                && self.running.is_none()
                && self.queue.front().is_some_and(|first| self.leave.contains(first)) =>
            {
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
            7 if self.started.is_multiple_of(2) => vec![Input::Close { reason: "closed".to_owned() }],
            7 => vec![Input::Restart { reason: "restarted".to_owned() }],
            8 => vec![Input::Time],
            17 if self.starting && !self.warm => {
                self.warm = true;
                vec![Input::Launched { warm: true }]
            }
            18 if self.starting && self.warm => vec![Input::WarmFailed { why: "no".to_owned() }],
            19 | 20 => {
                let rule = Evict { saves: true, with_losses: false, firmly: choice == 20 };
                vec![Input::Evict { reason: "room".to_owned(), rule }]
            }
            21 | 22 if self.saving => {
                self.saving = false;
                let checkpoint = match choice {
                    21 => Checkpoint::Saved { id: 1, written_bytes: 0, pause_us: 0 },
                    _ => Checkpoint::Failed { reason: "full".to_owned() },
                };
                vec![Input::SavedNow { checkpoint, own: true, all: true }]
            }
            23 => vec![Input::Pinned],
            9 => vec![Input::Wanted],
            10 => vec![Input::Interrupt],
            11 if self.alive => {
                let (cancelled, queue): (Vec<_>, Vec<_>) =
                    self.queue.drain(..).partition(|execution| self.cancelled.contains(execution));
                self.queue = queue.into();
                let end = || End::Cancelled { reason: String::new() };
                cancelled.iter().map(|execution| finished(execution.as_str(), end(), &[])).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether a cell of it runs, or can begin without another word.
    fn may_run(&self) -> bool {
        let mut has = self.queue.iter().chain(&self.sent);
        self.running.is_some() || has.any(|execution| self.leave.contains(execution))
    }
}

/// Some notebooks, each with its shim.
struct Notebooks {
    runners: Runners,
    most: usize,
    all: Vec<(Machine, World)>,
    submitted: Vec<(usize, ExecutionId)>,
}

impl Notebooks {
    fn new(count: usize, most: usize) -> Self {
        let runners = Runners::new(most);
        let all = (0..count).map(|_| (of(&runners), World::default())).collect();
        Notebooks { runners, most, all, submitted: Vec::new() }
    }

    fn on(&mut self, at: usize, inputs: Vec<Input>) {
        let (machine, world) = &mut self.all[at];
        for input in inputs {
            // Late enough for whatever there is.
            let actions = match input {
                Input::Time => machine.is_late(),
                other => machine.hears(other),
            };
            world.perform(actions);
        }
        self.check();
    }

    fn submit(&mut self, at: usize) {
        let name = format!("e{}", self.submitted.len());
        let (machine, world) = &mut self.all[at];
        world.perform(submit(machine, &name));
        self.submitted.push((at, id(&name)));
        self.check();
    }

    /// What the clock, the anchor or the shim does.
    fn happens(&mut self, at: usize, choice: u8) {
        let inputs = self.all[at].1.event(choice);
        self.on(at, inputs);
    }

    fn check(&self) {
        let running = self.all.iter().filter(|(_, world)| world.may_run()).count();
        assert!(running <= self.most, "{running} run where {} may", self.most);
        for (machine, world) in &self.all {
            let has_worker = machine.state() != WorkerState::None;
            assert_eq!(world.started, world.gone + u32::from(has_worker), "a worker ends once");
            let may_wait = matches!(machine.state(), WorkerState::Starting | WorkerState::Ending);
            assert!(may_wait || machine.deadline().is_none(), "a timer is left");
        }
    }
}

proptest! {
    #[test]
    fn every_execution_ends_exactly_once_and_no_more_run_than_may(
        choices in proptest::collection::vec((0u8..27, 0usize..3, 0usize..20), 0..300),
        most in 1usize..3,
    ) {
        let mut notebooks = Notebooks::new(3, most);
        for (choice, at, which) in choices {
            match choice {
                12 => {
                    if let Some((at, execution)) = notebooks.submitted.get(which).cloned() {
                        notebooks.on(at, vec![Input::Cancel { execution }]);
                    }
                }
                13 => notebooks.on(at, vec![Input::Leave]),
                14..17 | 24.. => notebooks.submit(at),
                _ => notebooks.happens(at, choice),
            }
        }
        // Whatever state they are in, they come to rest: the old worker goes, new ones run everything.
        for choice in [21, 8, 0, 8, 6] {
            (0..3).for_each(|at| notebooks.happens(at, choice));
        }
        for _ in 0..notebooks.submitted.len() + 10 {
            for at in 0..3 {
                notebooks.on(at, vec![Input::Leave]);
                for choice in [0, 2, 11, 3, 4, 21] {
                    notebooks.happens(at, choice);
                }
            }
        }
        for (at, execution) in &notebooks.submitted {
            let (machine, world) = &notebooks.all[*at];
            prop_assert_eq!(world.ended.get(execution), Some(&1), "{} of {:?}", execution, machine);
        }
        for (machine, _) in &notebooks.all {
            prop_assert!(machine.running().is_none() && machine.waiting().next().is_none());
        }
        prop_assert_eq!(notebooks.runners.counts(), (0, 0), "leave was lost");
    }
}
