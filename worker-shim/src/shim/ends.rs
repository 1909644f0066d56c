//! Ends: of an Execution, of the worker.

use std::time::Instant;

use cellblock_proto::execution::{
    Death, End, ExpressionResult, Limit, NameChanges, NameInfo, Outcome, Output, Variables,
};
use cellblock_proto::shim::{EventBody, StartFailure};
use cellblock_steps::StepError;

use super::Shim;
use super::disk::Disk;
use super::executions::{Cause, Queued};
use super::memory::Memory;
use super::saver::Saver;
use crate::sandbox::InitEvent;

impl Shim {
    /// Ends what runs, and what waits behind it when it failed and says so.
    pub(super) fn finish(
        &mut self,
        said: End,
        execution_count: u32,
        names: NameChanges,
        variables: Variables,
        expressions: Vec<ExpressionResult>,
        payload: Vec<u8>,
    ) {
        self.flush_text();
        let tails = self.text.close_gap();
        tails.into_iter().for_each(|ready| self.output(ready));
        let usage = self.usage();
        let Some(mut running) = self.executions.running.take() else { return };
        if running.interrupted.is_none() {
            // Who failed has met the limit, more often than not; the exception itself is told as well. And
            // an Execution of whose processes the kernel has killed one did not do what it was asked to,
            // whether it noticed or not.
            let failed = matches!(said, End::Error { .. });
            if self.memory_hit().is_some() {
                self.notice_a_killed_save();
            }
            let cause = self.memory_hit().or_else(|| self.processes_hit().filter(|_| failed));
            running.interrupted = cause.map(|cause| (cause, Instant::now()));
        }
        if let Some((Cause::Limit(Limit::Cpu, _, reached), _)) = &mut running.interrupted {
            *reached = usage.cpu_us / 1000;
        }
        let (end, notice) = self.disk.end(running.end(said, &self.spec.limits), usage.written_bytes > 0);
        if let Some((topic, text)) = notice {
            let notice = Output::Notice { topic, text, names: Vec::new() };
            self.output((running.execution.clone(), notice, Vec::new()));
        }
        let failed = end != End::Ok;
        let transactional = failed && running.options.transactional;
        let alive = self.worker.is_some() && self.ending.is_none();
        if transactional && alive {
            // The next worker has what was saved before it.
            let reason = format!("execution {} failed and was rolled back", running.execution);
            self.ending = Some(Cause::Ended(reason));
            self.kill();
        }
        let (names, variables) = match transactional {
            true => (NameChanges::default(), Variables::RolledBack),
            false => (names, variables),
        };
        self.names.apply(&names);
        let outcome = Outcome {
            end,
            execution_count,
            wall_us: u64::try_from(running.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            queued_us: u64::try_from(running.queued.as_micros()).unwrap_or(u64::MAX),
            variables,
            names,
            expressions,
            usage,
            checkpoint: None,
            worker_ms: None,
        };
        let execution = running.execution;
        let outputs = self.executions.output_count(&execution);
        self.executions.ended += 1;
        self.newest = Some(execution.to_string());
        self.conclude(execution.clone(), running.options.checkpoint, outputs, outcome, payload);
        // Now: the next cell begins as soon as it may.
        self.save_next();
        if failed && running.options.stop_on_error {
            let reason = format!("execution {execution} failed, which it waited for");
            // Who asked for an interrupt and then for something else wants the something else.
            let asked_at = match running.interrupted {
                Some((Cause::Asked, since)) => since,
                _ => Instant::now(),
            };
            while self.executions.queue.front().is_some_and(|queued| queued.since <= asked_at) {
                if let Some(queued) = self.executions.queue.pop_front() {
                    self.cancelled(queued, &reason);
                }
            }
        }
    }

    pub(super) fn cancelled(&mut self, queued: Queued, reason: &str) {
        let outcome = Outcome {
            end: End::Cancelled { reason: reason.to_owned() },
            execution_count: 0,
            wall_us: 0,
            queued_us: u64::try_from(queued.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            variables: Variables::Kept,
            names: NameChanges::default(),
            expressions: Vec::new(),
            usage: Default::default(),
            checkpoint: None,
            worker_ms: None,
        };
        let execution = queued.execution;
        let outputs = self.executions.output_count(&execution);
        self.executions.ended += 1;
        self.outbox.push(EventBody::Finished { execution, outputs, outcome }, Vec::new());
    }

    pub(super) fn hear_init(&mut self) {
        let Some(sandbox) = &self.sandbox else { return };
        match sandbox.next_event() {
            Some(InitEvent::Lacks { missing }) => self.worker_lacks(missing),
            Some(InitEvent::NotStarted(error)) => self.fail_to_start(error.failure()),
            Some(InitEvent::Ended { status }) => {
                let death = if status < 0 {
                    Death::Signalled { signal: -status }
                } else {
                    Death::Exited { code: status }
                };
                self.worker_died(death);
            }
            None => self.worker_ended(Death::Signalled { signal: 9 }),
            Some(_) => {}
        }
    }

    /// Said by the process that is to become the worker, so it is the plan's and nobody else's word.
    fn worker_lacks(&mut self, missing: Vec<(u32, String)>) {
        if let Some(sandbox) = &mut self.sandbox
            && let Err(error) = sandbox.note(&self.spec, missing)
        {
            self.fail_to_start(error.failure());
        }
    }

    /// What was being saved of it is saved first: the process that does it is none of the worker's.
    fn worker_died(&mut self, death: Death) {
        let saver = self.saver.as_mut().filter(|_| self.ending.is_none());
        if !saver.is_some_and(|saver| saver.outlive(&death)) {
            self.worker_ended(death);
        }
    }

    pub(super) fn worker_ended(&mut self, death: Death) {
        let death = self.saver.as_mut().and_then(Saver::outlived).unwrap_or(death);
        // While the sandbox's accounts are there.
        if self.ending.is_none() {
            self.ending = self.memory_hit();
        }
        self.usage();
        if let Some(worker) = &mut self.worker {
            // Dropping the sandbox waits for init, and with init everybody who could still write.
            self.sandbox = None;
            // A place held open keeps its mount, and the next worker from mounting it.
            (self.memory, self.disk) = (Memory::default(), Disk::default());
            worker.read_to_end(&mut self.sequencer);
        }
        let pieces = self.sequencer.take_all();
        self.handle(pieces);
        self.flush_text();
        self.worker = None;
        if self.over {
            return;
        }
        if self.is_restoring() && self.ending.is_none() {
            return self.fail_to_load(format!("the worker ended ({})", describe(&death)));
        }
        if self.ready.is_none() && self.ending.is_none() && self.is_warm() {
            let error = std::io::Error::other(format!("it ended before it was ready ({})", describe(&death)));
            return self.fail_warm(&StepError::new(&"start the worker", &error));
        }
        if self.ready.is_none() && self.ending.is_none() && death != (Death::Exited { code: 0 }) {
            let said = String::from_utf8_lossy(&self.startup_text).trim().to_owned();
            let detail = format!("Python ended before it was ready ({}): {said}", describe(&death));
            return self.fail_to_start(StartFailure::Interpreter { detail });
        }
        self.over = true;
        let death = match &self.ending {
            Some(Cause::Ended(reason)) => Death::Ended { reason: reason.clone() },
            Some(Cause::Protocol(detail)) => Death::Protocol { detail: detail.clone() },
            Some(Cause::TimedOut) => {
                Death::Ended { reason: "it did not end when its time was over".to_owned() }
            }
            Some(Cause::Asked) => Death::Ended { reason: "it did not heed the interrupt".to_owned() },
            Some(Cause::NoInput) => Death::Ended { reason: "its input() was not answered".to_owned() },
            Some(Cause::Limit(limit, allowed, reached)) => Death::Ended {
                reason: format!("it reached its limit of {limit:?} ({reached} of {allowed})").to_lowercase(),
            },
            None => death,
        };
        self.give_up_saving();
        let lost: Vec<NameInfo> = std::mem::take(&mut self.names).iter().cloned().collect();
        if let Some(running) = &mut self.executions.running {
            if let Some(cause @ Cause::Limit(..)) = &self.ending {
                running.interrupted = Some((cause.clone(), Instant::now()));
            }
            let said = match &self.ending {
                Some(Cause::Asked) => End::Interrupted,
                _ => End::WorkerDied(death.clone()),
            };
            let names = lost.iter().map(|name| name.name.clone()).collect();
            self.finish(said, 0, NameChanges::default(), Variables::Lost { names }, Vec::new(), Vec::new());
        }
        while let Some(Queued { execution, options, code, .. }) = self.executions.queue.pop_front() {
            self.outbox.push(EventBody::Returned { execution, options }, code);
        }
        self.outbox.push(EventBody::WorkerEnded { death, lost }, Vec::new());
    }
}

fn describe(death: &Death) -> String {
    match death {
        Death::Exited { code } => format!("exit code {code}"),
        Death::Signalled { signal } => format!("signal {signal}"),
        other => format!("{other:?}"),
    }
}
