//! What an Execution takes of the machine, and which limit it met: differences between its beginning and
//! its end, of numbers that are the sandbox's.

use std::time::Duration;

use cellblock_proto::execution::{Limit, Usage};

use super::executions::Cause;
use super::processes::Written;
use super::{Shim, processes};

/// Numbers at the beginning, and peaks since.
#[derive(Default)]
pub struct Meter {
    pub processor_before: Duration,
    written_before: u64,
    kills_before: u64,
    refusals_before: u64,
    /// The most memory seen, in bytes.
    pub memory_peak: u64,
    /// The most processes and threads seen, where no cgroup counts them.
    pub tasks_peak: u64,
    /// As last asked for.
    last: Usage,
    /// Opened with the first Execution; a shim has one worker.
    written: Option<Written>,
}

impl Shim {
    /// To be called when an Execution begins.
    pub(super) fn begin_meter(&mut self) {
        let (Some(sandbox), Some(worker)) = (&mut self.sandbox, &self.worker) else { return };
        sandbox.group.reset_memory_peak();
        let written = self.meter.written.take().unwrap_or_else(|| Written::of(worker.pid));
        self.meter = Meter {
            processor_before: self.processor.used(sandbox),
            written_before: written.bytes(sandbox.init_pid, sandbox.group.tasks()),
            kills_before: sandbox.group.memory_kills(),
            refusals_before: sandbox.group.process_refusals(),
            memory_peak: 0,
            tasks_peak: 0,
            last: Usage::default(),
            written: Some(written),
        };
    }

    /// What the Execution that ends has taken; when its sandbox is gone, what it had taken when last asked.
    pub(super) fn usage(&mut self) -> Usage {
        let Some(sandbox) = &self.sandbox else { return self.meter.last };
        let cpu = self.processor.used(sandbox).saturating_sub(self.meter.processor_before);
        let count = |written: &Written| written.bytes(sandbox.init_pid, sandbox.group.tasks());
        let written = self.meter.written.as_ref().map_or(0, count);
        let now = match sandbox.group.most_memory() {
            Some(most) => most,
            // Summed anew only when no tick has: it costs a walk over all processes.
            None if self.meter.memory_peak == 0 => {
                self.memory.used(sandbox.init_pid, self.spec.limits.memory_bytes)
            }
            None => 0,
        };
        self.meter.memory_peak = self.meter.memory_peak.max(now);
        if !sandbox.group.bounds_processes() {
            self.meter.tasks_peak = self.meter.tasks_peak.max(processes::tasks(sandbox.init_pid));
        }
        self.meter.last = Usage {
            cpu_us: u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX),
            memory_peak_bytes: self.meter.memory_peak,
            written_bytes: written.saturating_sub(self.meter.written_before),
        };
        self.meter.last
    }

    /// Whether the kernel has killed somebody for memory since the Execution began.
    pub(super) fn memory_hit(&self) -> Option<Cause> {
        let group = &self.sandbox.as_ref()?.group;
        let killed = group.memory_kills() > self.meter.kills_before;
        let peak = || group.memory_peak().unwrap_or(self.meter.memory_peak);
        killed.then(|| Cause::Limit(Limit::Memory, self.spec.limits.memory_bytes, peak()))
    }

    /// One of the processes that the kernel has ended is none of the Execution's.
    pub(super) fn forgive_a_kill(&mut self) {
        self.meter.kills_before += 1;
    }

    /// Whether a process was refused since the Execution began.
    pub(super) fn processes_hit(&self) -> Option<Cause> {
        let group = &self.sandbox.as_ref()?.group;
        let allowed = self.spec.limits.processes;
        let limit = |reached| Cause::Limit(Limit::Processes, allowed, reached);
        if group.bounds_processes() {
            let refused = group.process_refusals() > self.meter.refusals_before;
            return refused.then(|| limit(group.processes_peak().unwrap_or(allowed)));
        }
        (self.meter.tasks_peak >= allowed).then(|| limit(self.meter.tasks_peak))
    }
}
