//! What the clock demands: the batch of text, deadlines, limits that are watched, readers that are gone.

use std::time::{Duration, Instant};

use cellblock_proto::execution::Limit;
use cellblock_proto::shim::StartFailure;

use super::executions::{Cause, Due};
use super::{Shim, memory, processes};

/// How often memory is summed while something runs and no cgroup does it: a fast allocator overshoots by
/// what it can touch in this time.
const TICK: Duration = Duration::from_millis(50);
/// And when half of the limit is in use.
const NEAR_TICK: Duration = Duration::from_millis(15);
/// And while nothing runs but what was left in the background.
const IDLE_TICK: Duration = Duration::from_millis(500);
/// The longest time without a look at memory that is not in a cgroup, while something runs.
const LONGEST: Duration = Duration::from_millis(500);
/// Between two looks at processor time when it is nearly over.
const SHORTEST: Duration = Duration::from_millis(2);
/// How long a mark may stand in one pipe alone before the other counts as redirected.
const ONE_SIDED: Duration = Duration::from_millis(20);
/// How long Python may take to be ready. Its imports come over a cold disk the first time.
const START_TIME: Duration = Duration::from_secs(60);

impl Shim {
    /// Does what the clock demands; says when to look again.
    pub(super) fn clock(&mut self, now: Instant) -> Option<Instant> {
        let mut next: Vec<Instant> = Vec::new();
        let overdue =
            |one_sided: Option<(u64, Instant)>| one_sided.filter(|(_, since)| now >= *since + ONE_SIDED);
        if let Some((mark, _)) = overdue(self.one_sided) {
            // On a busy machine it may have been us who were late: what the other pipe has got meanwhile
            // comes first.
            self.hear_worker();
            if overdue(self.one_sided).is_some_and(|(still, _)| still == mark) {
                self.one_sided = None;
                let pieces = self.sequencer.take_all();
                self.handle(pieces);
            }
        }
        next.extend(self.one_sided.map(|(_, since)| since + ONE_SIDED));
        for ready in self.text.flush_due(now) {
            self.output(ready);
        }
        next.extend(self.text.due());
        next.extend(self.execution_clock(now));
        next.extend(self.memory_clock(now));
        next.extend(self.processor_clock(now));
        next.extend(self.disk_clock(now));
        next.extend(self.retention_clock(now));
        next.extend(self.restore_clock(now));
        next.extend(self.end_clock(now));
        next.extend(self.retire_clock(now));
        if self.ready.is_none() && self.worker.is_some() {
            let end = self.started + START_TIME;
            if now >= end {
                let detail = format!("Python was not ready after {} s", START_TIME.as_secs());
                self.fail_to_start(StartFailure::Interpreter { detail });
            } else {
                next.push(end);
            }
        }
        self.alone_since = match (&self.control, self.alone_since) {
            (Some(_), _) => None,
            (None, since) => Some(since.unwrap_or(now)),
        };
        next.extend(self.alone_since.map(|since| since + Duration::from_millis(self.spec.orphan_ms)));
        next.into_iter().min()
    }

    fn execution_clock(&mut self, now: Instant) -> Option<Instant> {
        let running = self.executions.running.as_mut()?;
        let (due, next) = running.due(&self.spec.limits, now);
        match due {
            None => next,
            Some(Due::Interrupt(cause)) => {
                self.interrupt(cause, now);
                Some(now)
            }
            Some(Due::Escalate) => {
                running.escalated = true;
                if let Some(sandbox) = &self.sandbox {
                    sandbox.interrupt_all();
                }
                Some(now)
            }
            Some(Due::Kill) => {
                if self.ending.is_none() {
                    self.ending = running.interrupted.as_ref().map(|(cause, _)| cause.clone());
                    self.kill();
                }
                None
            }
        }
    }

    /// Memory, where no cgroup bounds it; and the peaks that no cgroup keeps.
    fn memory_clock(&mut self, now: Instant) -> Option<Instant> {
        let sandbox = self.sandbox.as_ref()?;
        let running = self.executions.running.is_some();
        let group = &sandbox.group;
        if group.bounds_memory() && !running {
            return None;
        }
        if now >= self.memory_at {
            let began = memory::spent();
            let limit = self.spec.limits.memory_bytes;
            let used = match group.most_memory() {
                Some(most) => most,
                None => self.memory.used(sandbox.init_pid, limit),
            };
            self.meter.memory_peak = self.meter.memory_peak.max(used);
            if !group.bounds_processes() {
                self.meter.tasks_peak = self.meter.tasks_peak.max(processes::tasks(sandbox.init_pid));
            }
            let waiting =
                self.executions.running.as_ref().is_some_and(|running| running.interrupted.is_none());
            let looks = waiting && self.ending.is_none();
            if looks && self.memory_hit().is_some() {
                self.notice_a_killed_save();
            }
            let hit = self.memory_hit().filter(|_| looks);
            let group = &self.sandbox.as_ref()?.group;
            let is_over =
                self.watches_memory && !group.bounds_memory() && used > limit && self.ending.is_none();
            if is_over && !self.make_room() {
                self.ending = Some(Cause::Limit(Limit::Memory, limit, used));
                self.kill();
            }
            let tick = match running {
                true if used > limit / 2 => NEAR_TICK,
                true => TICK,
                false => IDLE_TICK,
            };
            // However many processes there are to look at, most of our time is for the output; but nobody
            // gets away for long by having many. Nor by a busy machine: while we waited for a processor, whoever
            // is looked at may have had one.
            let pause = ((memory::spent() - began) * 9).max(now.elapsed()).min(LONGEST);
            self.memory_at = Instant::now() + tick.max(pause);
            // The kernel has ended one of its processes, for which it may wait for ever.
            if let Some(cause) = hit {
                self.interrupt(cause, now);
            }
        }
        Some(self.memory_at)
    }

    /// Processor time of what runs.
    fn processor_clock(&mut self, now: Instant) -> Option<Instant> {
        let (sandbox, running) = (self.sandbox.as_ref()?, self.executions.running.as_ref()?);
        if !self.watches_processor || running.interrupted.is_some() {
            return None;
        }
        if now >= self.processor_at {
            let limit_ms = self.spec.limits.cpu_ms;
            let used = self.processor.used(sandbox).saturating_sub(self.meter.processor_before);
            let left = (Duration::from_millis(limit_ms)).saturating_sub(used);
            if left.is_zero() {
                let used_ms = u64::try_from(used.as_millis()).unwrap_or(u64::MAX);
                self.interrupt(Cause::Limit(Limit::Cpu, limit_ms, used_ms), now);
                return Some(now);
            }
            // It cannot be over before all processors have worked on nothing else for so long.
            let soonest = left / self.processor.parallel();
            self.processor_at =
                now + soonest.max(if sandbox.group.counts_processor() { SHORTEST } else { TICK });
        }
        Some(self.processor_at)
    }

    fn disk_clock(&mut self, now: Instant) -> Option<Instant> {
        let init = self.sandbox.as_ref()?.init_pid;
        let (next, cause) = self.disk.clock(now, init, self.executions.running.is_some());
        if cause.is_some() && self.ending.is_none() {
            self.ending = cause;
            self.kill();
        }
        next
    }

    /// A last look at a workspace that is only watched, when the Execution that ends has written; the
    /// sandbox ends when there is too much in it.
    pub(super) fn has_overfilled_its_disk(&mut self) -> bool {
        let Some(init) = self.sandbox.as_ref().map(|sandbox| sandbox.init_pid) else { return false };
        if self.ending.is_some() || !self.disk.is_watched() {
            return false;
        }
        let written = self.usage().written_bytes > 0;
        self.ending = self.disk.last_look(Instant::now(), init, written);
        if self.ending.is_some() {
            self.kill();
        }
        self.ending.is_some()
    }

    /// First the writer waits; only when nobody has taken anything for the grace does it go on, with
    /// head and tail kept.
    fn retention_clock(&mut self, now: Instant) -> Option<Instant> {
        if !self.is_full() {
            self.full_since = None;
            if std::mem::take(&mut self.nobody_reads) {
                let ready = self.text.close_gap();
                ready.into_iter().for_each(|ready| self.output(ready));
            }
            return None;
        }
        let grace = Duration::from_millis(self.spec.retain_grace_ms);
        let end = *self.full_since.get_or_insert(now) + grace;
        if now >= end {
            self.nobody_reads = true;
            return None;
        }
        Some(end)
    }
}
