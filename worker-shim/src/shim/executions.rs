//! The notebook's queue, and what runs: pure state, no I/O, `now` is an argument.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use cellblock_proto::execution::{End, ExecuteOptions, Limit, Output};
use cellblock_proto::id::ExecutionId;
use sandbox_profiles::Limits;

/// Ids remembered, so that an Execution sent again is known as such.
const REMEMBERED: usize = 10_000;

/// An Execution that waits.
pub struct Queued {
    /// Which.
    pub execution: ExecutionId,
    /// How.
    pub options: ExecuteOptions,
    /// Its output 0, when the supervisor has something to say.
    pub notice: Option<Output>,
    /// The code.
    pub code: Vec<u8>,
    /// Since when.
    pub since: Instant,
    /// Whether it may begin when it is the first.
    pub leave: bool,
}

/// Why what runs is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The clock.
    TimedOut,
    /// Somebody.
    Asked,
    /// A limit: which, what is allowed, what was reached.
    Limit(Limit, u64, u64),
    /// The worker is to end, for this reason.
    Ended(String),
    /// The worker spoke something else than the protocol.
    Protocol(String),
    /// `input()` was not answered in time.
    NoInput,
}

/// The Execution that runs.
pub struct Running {
    /// Which.
    pub execution: ExecutionId,
    /// How.
    pub options: ExecuteOptions,
    /// Its number in the shared word.
    pub run: u64,
    /// When it began.
    pub started: Instant,
    /// How long it had waited.
    pub queued: Duration,
    /// Why it is to end, and since when it has been told.
    pub interrupted: Option<(Cause, Instant)>,
    /// Whether SIGINT has gone to all processes as well.
    pub escalated: bool,
    /// Since when it waits for input.
    pub asking: Option<Instant>,
    /// How long it has waited for input before; the wall clock stood still.
    asked: Duration,
}

/// What the clock demands.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Interrupt what runs.
    Interrupt(Cause),
    /// Interrupt every process of the sandbox: perhaps it waits for one that does not know.
    Escalate,
    /// End the sandbox.
    Kill,
}

impl Running {
    fn wall(&self, limits: &Limits) -> Duration {
        let wall = self.options.wall_ms.unwrap_or(limits.wall_ms).min(limits.wall_ms);
        Duration::from_millis(wall)
    }

    /// The wall time allowed, in milliseconds.
    pub fn wall_ms(&self, limits: &Limits) -> u64 {
        self.options.wall_ms.unwrap_or(limits.wall_ms).min(limits.wall_ms)
    }

    /// Input was asked for.
    pub fn ask(&mut self, now: Instant) {
        self.asking.get_or_insert(now);
    }

    /// Input was answered. Says whether it had been asked for.
    pub fn answer(&mut self, now: Instant) -> bool {
        let Some(since) = self.asking.take() else { return false };
        self.asked += now - since;
        true
    }

    /// What is due now, and when to look again.
    pub fn due(&self, limits: &Limits, now: Instant) -> (Option<Due>, Option<Instant>) {
        if let Some((_, since)) = &self.interrupted {
            let grace = Duration::from_millis(limits.interrupt_grace_ms);
            let (half, end) = (*since + grace / 2, *since + grace);
            return match (now >= end, now >= half && !self.escalated) {
                (true, _) => (Some(Due::Kill), None),
                (false, true) => (Some(Due::Escalate), Some(end)),
                (false, false) => (None, Some(if self.escalated { end } else { half })),
            };
        }
        let (end, cause) = match self.asking {
            Some(since) => (since + Duration::from_millis(limits.input_ms), Cause::NoInput),
            None => (self.started + self.wall(limits) + self.asked, Cause::TimedOut),
        };
        if now >= end { (Some(Due::Interrupt(cause)), None) } else { (None, Some(end)) }
    }

    /// The end of this Execution, from what the worker says of it and what we did to it.
    pub fn end(&self, said: End, limits: &Limits) -> End {
        match (&said, self.interrupted.as_ref().map(|(cause, _)| cause)) {
            // The clock was over, whatever the code made of the interrupt.
            (_, Some(Cause::TimedOut)) => End::TimedOut { limit_ms: self.wall_ms(limits) },
            (_, Some(Cause::NoInput)) => End::TimedOut { limit_ms: limits.input_ms },
            (_, Some(Cause::Limit(limit, allowed, reached))) => {
                End::LimitHit { limit: *limit, allowed: *allowed, reached: *reached }
            }
            _ => said,
        }
    }
}

/// What has been put out of an Execution.
#[derive(Default)]
struct Told {
    outputs: u64,
    bytes: u64,
}

/// All Executions of one worker.
#[derive(Default)]
pub struct Executions {
    /// Those that wait, in order.
    pub queue: VecDeque<Queued>,
    /// The one that runs.
    pub running: Option<Running>,
    /// Executions ended.
    pub ended: u64,
    /// Of every Execution remembered: a task that one has left behind goes on to print.
    told: HashMap<ExecutionId, Told>,
    order: VecDeque<ExecutionId>,
    runs: u64,
}

impl Executions {
    /// Queues an Execution. `None` when its id has been seen before, else how many are before it.
    pub fn add(&mut self, queued: Queued) -> Option<usize> {
        if self.told.contains_key(&queued.execution) {
            return None;
        }
        self.told.insert(queued.execution.clone(), Told::default());
        self.order.push_back(queued.execution.clone());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.told.remove(&oldest);
        }
        let before = self.queue.len() + usize::from(self.running.is_some());
        self.queue.push_back(queued);
        Some(before)
    }

    /// Gives leave to one that waits.
    pub fn give_leave(&mut self, execution: &ExecutionId) {
        if let Some(queued) = self.queue.iter_mut().find(|queued| queued.execution == *execution) {
            queued.leave = true;
        }
    }

    /// Begins the first that waits, when nothing runs and it has leave. One without it holds up those
    /// behind it: their order is what the user has asked for.
    pub fn begin(&mut self, now: Instant) -> Option<(Queued, u64)> {
        if self.running.is_some() || !self.queue.front()?.leave {
            return None;
        }
        let queued = self.queue.pop_front()?;
        self.runs += 1;
        self.running = Some(Running {
            execution: queued.execution.clone(),
            options: queued.options.clone(),
            run: self.runs,
            started: now,
            queued: now - queued.since,
            interrupted: None,
            escalated: false,
            asking: None,
            asked: Duration::ZERO,
        });
        Some((queued, self.runs))
    }

    /// Whether an Execution runs or waits.
    pub fn is_live(&self, execution: &ExecutionId) -> bool {
        let running = self.running.as_ref().map(|running| &running.execution);
        running == Some(execution) || self.waits(execution)
    }

    /// Whether an Execution waits: it cannot have outputs yet.
    pub fn waits(&self, execution: &ExecutionId) -> bool {
        self.queue.iter().any(|queued| queued.execution == *execution)
    }

    /// Those that wait and have leave, in order.
    pub fn with_leave(&self) -> Vec<ExecutionId> {
        self.queue.iter().filter(|queued| queued.leave).map(|queued| queued.execution.clone()).collect()
    }

    /// Takes an Execution out of the queue.
    pub fn remove(&mut self, execution: &ExecutionId) -> Option<Queued> {
        let at = self.queue.iter().position(|queued| queued.execution == *execution)?;
        self.queue.remove(at)
    }

    /// The number of the next output of an Execution; `None` when it is not known here.
    pub fn next_output(&mut self, execution: &ExecutionId) -> Option<u64> {
        let told = self.told.get_mut(execution)?;
        told.outputs += 1;
        Some(told.outputs - 1)
    }

    /// How many outputs an Execution has had.
    pub fn output_count(&self, execution: &ExecutionId) -> u64 {
        self.told.get(execution).map_or(0, |told| told.outputs)
    }

    /// Bytes of output of an Execution so far.
    pub fn output_bytes(&self, execution: &ExecutionId) -> u64 {
        self.told.get(execution).map_or(0, |told| told.bytes)
    }

    /// Counts bytes of output; returns how many there are now. Of one that is not known here, all there
    /// can be: its output goes nowhere.
    pub fn count_bytes(&mut self, execution: &ExecutionId, bytes: u64) -> u64 {
        let Some(told) = self.told.get_mut(execution) else { return u64::MAX };
        told.bytes = told.bytes.saturating_add(bytes);
        told.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(name: &str, now: Instant) -> Queued {
        Queued {
            execution: name.parse().expect("a legal id"),
            options: ExecuteOptions { wall_ms: Some(100), ..ExecuteOptions::default() },
            notice: None,
            code: Vec::new(),
            since: now,
            leave: true,
        }
    }

    fn running(now: Instant) -> Running {
        let mut executions = Executions::default();
        executions.add(queued("a", now));
        executions.begin(now);
        executions.running.expect("begun")
    }

    #[test]
    fn id_seen_before_is_not_queued_again() {
        let now = Instant::now();
        let mut executions = Executions::default();
        assert_eq!(executions.add(queued("a", now)), Some(0));
        assert_eq!(executions.add(queued("b", now)), Some(1));
        assert_eq!(executions.add(queued("a", now)), None);
        executions.begin(now);
        executions.running = None;
        assert_eq!(executions.add(queued("a", now)), None);
    }

    #[test]
    fn execution_without_leave_waits_and_holds_up_those_behind_it() {
        let now = Instant::now();
        let mut executions = Executions::default();
        executions.add(Queued { leave: false, ..queued("a", now) });
        executions.add(queued("b", now));
        assert!(executions.begin(now).is_none());
        executions.give_leave(&"c".parse().expect("a legal id"));
        assert!(executions.begin(now).is_none(), "leave for one that does not wait is nobody's");
        executions.give_leave(&"a".parse().expect("a legal id"));
        assert_eq!(executions.begin(now).map(|(queued, _)| queued.execution.to_string()), Some("a".into()));
        executions.running = None;
        assert_eq!(executions.begin(now).map(|(queued, _)| queued.execution.to_string()), Some("b".into()));
    }

    #[test]
    fn deadline_goes_interrupt_escalate_kill() {
        let (now, limits, ms) = (Instant::now(), Limits::default(), Duration::from_millis);
        let mut running = running(now);
        assert_eq!(running.due(&limits, now), (None, Some(now + ms(100))));
        let end = now + ms(100);
        assert_eq!(running.due(&limits, end).0, Some(Due::Interrupt(Cause::TimedOut)));
        running.interrupted = Some((Cause::TimedOut, end));
        let grace = ms(limits.interrupt_grace_ms);
        assert_eq!(running.due(&limits, end).0, None);
        assert_eq!(running.due(&limits, end + grace / 2).0, Some(Due::Escalate));
        running.escalated = true;
        assert_eq!(running.due(&limits, end + grace / 2), (None, Some(end + grace)));
        assert_eq!(running.due(&limits, end + grace).0, Some(Due::Kill));
    }

    #[test]
    fn wall_clock_stands_still_while_input_is_awaited() {
        let (now, limits, ms) = (Instant::now(), Limits::default(), Duration::from_millis);
        let mut running = running(now);
        running.ask(now + ms(50));
        assert_eq!(running.due(&limits, now + ms(1000)).0, None);
        assert!(running.answer(now + ms(1050)));
        assert!(!running.answer(now + ms(1050)));
        assert_eq!(running.due(&limits, now + ms(1060)), (None, Some(now + ms(1100))));
        assert_eq!(running.due(&limits, now + ms(1100)).0, Some(Due::Interrupt(Cause::TimedOut)));
    }

    #[test]
    fn end_after_the_clock_is_timed_out_whatever_the_code_made_of_it() {
        let (now, limits) = (Instant::now(), Limits::default());
        let mut running = running(now);
        assert_eq!(running.end(End::Ok, &limits), End::Ok);
        running.interrupted = Some((Cause::TimedOut, now));
        assert_eq!(running.end(End::Ok, &limits), End::TimedOut { limit_ms: 100 });
        running.interrupted = Some((Cause::Asked, now));
        assert_eq!(running.end(End::Interrupted, &limits), End::Interrupted);
    }
}
