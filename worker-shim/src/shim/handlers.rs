//! What the shim does on each input: a command, a piece of the worker's output, a word of init.

use std::time::Instant;

use cellblock_proto::execution::{End, NameInfo, NoticeTopic, Output, OutputFrame, StreamName, Variables};
use cellblock_proto::frame::Frame;
use cellblock_proto::id::ExecutionId;
use cellblock_proto::query::{Answer, Query, VariableInfo};
use cellblock_proto::shim::{Command, EventBody, ShimState, StartFailure};
use cellblock_proto::worker::{WorkerCommand, WorkerEventBody};

use super::disk::Disk;
use super::executions::{Cause, Queued};
use super::memory::Memory;
use super::saver::Saver;
use super::text::{Gap, Ready};
use super::{Shim, report};
use crate::pump::{Pending, Piece};

/// What an output costs besides its payload, about.
const OUTPUT_OVERHEAD_BYTES: u64 = 256;

/// What is kept of text printed before the first Execution, in bytes: enough for a traceback.
const STARTUP_BYTES: usize = 16 << 10;

impl Shim {
    pub(super) fn command(&mut self, frame: Frame) {
        let request = frame.request;
        let command = match frame.message() {
            Ok(command) => command,
            Err(error) => return self.refuse(request, error.to_string()),
        };
        let now = Instant::now();
        match command {
            Command::Start(_) | Command::Zygote(_) => {
                self.refuse(request, "this shim has been started".to_owned());
            }
            Command::Claim(claim) => self.claim(*claim),
            Command::Resume { build, link, taken } => self.resume(request, &build, link, taken),
            Command::Retire { reason } => self.retire(reason),
            Command::Taken { seq } => {
                if self.outbox.taken(seq) {
                    self.full_since = None;
                }
            }
            Command::Execute { execution, options, notice, leave } => {
                let queued = Queued {
                    execution: execution.clone(),
                    options: *options,
                    notice,
                    code: frame.payload,
                    since: now,
                    leave,
                };
                if self.over {
                    let Queued { options, code, .. } = queued;
                    self.outbox.push(EventBody::Returned { execution, options }, code);
                } else if let Some(position) = self.executions.add(queued) {
                    let position = u32::try_from(position).unwrap_or(u32::MAX);
                    self.outbox.push(EventBody::Accepted { execution, position }, Vec::new());
                    // Now, and not when all commands are read: the next may interrupt it.
                    self.begin_next();
                } else if !self.executions.is_live(&execution) {
                    // Its Outcome has been taken: who asks again has it, or came too late.
                    self.refuse(
                        request,
                        format!("execution {execution} has ended, and its Outcome has been read"),
                    );
                }
            }
            Command::Leave { execution } => {
                self.executions.give_leave(&execution);
                self.begin_next();
            }
            Command::Interrupt => self.interrupt(Cause::Asked, now),
            Command::Cancel { execution } => self.cancel(request, &execution, now),
            Command::Input { execution, value } => self.input(request, &execution, value, now),
            Command::Query(query) => self.query(request, query, frame.payload),
            Command::End { reason } => self.end(reason),
            Command::Save => self.save_for(request),
            Command::Settled { execution } => self.outbox.settled(&execution),
        }
    }

    fn refuse(&mut self, request: u32, reason: String) {
        self.outbox.push_loose(request, EventBody::Refused { reason }, Vec::new());
    }

    pub(super) fn state(&self) -> ShimState {
        let pid = self.worker.as_ref().map_or(0, |worker| worker.pid.as_raw_pid().cast_unsigned());
        ShimState {
            build: self.spec.build.clone(),
            link: cellblock_proto::link::LINK,
            worker: self.spec.worker.clone(),
            notebook: self.spec.notebook.clone(),
            tenant: self.spec.tenant.clone(),
            profile: self.spec.profile.clone(),
            slot: self.spec.slot,
            // What it loads is told first.
            ready: self
                .ready
                .clone()
                .filter(|_| !self.is_restoring())
                .map(|(python, report)| (pid, python, report)),
            running: self.executions.running.as_ref().map(|running| running.execution.clone()),
            queue: self.withheld_and_queued(),
            leave: self.executions.with_leave(),
            names: self.names.iter().cloned().collect(),
            executions: self.executions.ended,
            spare: self.is_nobodys,
            unsaved: self.saver.as_ref().map_or_else(Vec::new, Saver::unsaved),
            unsavable: self.saver.as_ref().is_some_and(Saver::is_unsavable),
            newest: self.newest.clone(),
            begun: self.has_begun,
        }
    }

    /// What has no end yet that was told, but for what runs.
    fn withheld_and_queued(&self) -> Vec<ExecutionId> {
        let withheld = self.saver.iter().flat_map(Saver::withheld);
        withheld.chain(self.executions.queue.iter().map(|queued| &queued.execution)).cloned().collect()
    }

    pub(super) fn interrupt(&mut self, cause: Cause, now: Instant) {
        let (Some(running), Some(worker)) = (&mut self.executions.running, &self.worker) else { return };
        // The first cause stands; a second interrupt repeats the signal and not the grace.
        running.interrupted.get_or_insert((cause, now));
        worker.interrupt(running.run);
    }

    fn cancel(&mut self, request: u32, execution: &ExecutionId, now: Instant) {
        if let Some(queued) = self.executions.remove(execution) {
            self.cancelled(queued, "it was cancelled while it waited");
        } else if self.executions.running.as_ref().is_some_and(|running| running.execution == *execution) {
            self.interrupt(Cause::Asked, now);
        } else {
            self.refuse(request, format!("execution {execution} neither runs nor waits"));
        }
    }

    fn input(&mut self, request: u32, execution: &ExecutionId, value: String, now: Instant) {
        let asked = self.executions.running.as_mut().filter(|running| running.execution == *execution);
        if !asked.is_some_and(|running| running.answer(now)) {
            return self.refuse(request, format!("execution {execution} has not asked for input"));
        }
        self.tell_worker(0, &WorkerCommand::Input { value }, Vec::new());
    }

    fn query(&mut self, request: u32, query: Query, code: Vec<u8>) {
        // The names are known here, so that question never waits for anything.
        let busy = self.executions.running.is_some() || self.ready.is_none();
        match query {
            Query::Variables if busy => {
                let variables = self.names.iter().map(as_variable).collect();
                let answer = Answer::Variables { variables };
                self.outbox.push_loose(request, EventBody::Answer(answer), Vec::new());
            }
            _ if self.over => self.refuse(request, "the worker has ended".to_owned()),
            _ if busy => self.outbox.push_loose(request, EventBody::Answer(Answer::Busy), Vec::new()),
            query => {
                self.asked.insert(request);
                self.tell_worker(request, &WorkerCommand::Query(query), code);
            }
        }
    }

    pub(super) fn tell_worker(&mut self, request: u32, command: &WorkerCommand, payload: Vec<u8>) {
        let Some(worker) = &self.worker else { return };
        if let Err(detail) = worker.say(request, command, payload) {
            self.protocol_broken(detail);
        }
    }

    pub(super) fn protocol_broken(&mut self, detail: String) {
        if self.ending.is_none() {
            self.ending = Some(Cause::Protocol(detail));
            self.kill();
        }
    }

    pub(super) fn begin_next(&mut self) {
        if self.ready.is_none() || self.over || self.ending.is_some() || self.is_restoring() {
            return;
        }
        if self.is_to_end() || !self.is_saved_before() {
            return;
        }
        let now = Instant::now();
        let Some((queued, run)) = self.executions.begin(now) else { return };
        let Queued { execution, options, notice, code, .. } = queued;
        (self.memory_at, self.processor_at) = (now, now);
        self.begin_meter();
        self.disk.begin(now);
        self.outbox.push(EventBody::Started { execution: execution.clone() }, Vec::new());
        self.has_begun = true;
        if let Some(notice) = notice {
            self.output((execution.clone(), notice, Vec::new()));
        }
        self.flush_text();
        self.text_of = Some(execution.clone());
        let command = WorkerCommand::Execute {
            execution,
            run,
            silent: options.silent,
            store_history: options.store_history,
            allow_stdin: options.allow_stdin,
            echo: options.echo,
            user_expressions: options.user_expressions,
            cell: options.cell,
            task: options.task,
        };
        self.tell_worker(0, &command, code);
    }

    /// Whether all is saved that has to be before the first that waits.
    fn is_saved_before(&mut self) -> bool {
        let first = self.executions.queue.front().filter(|queued| queued.leave);
        let Some(first) = first.filter(|_| self.executions.running.is_none()) else { return true };
        if self.saves_before(first.options.checkpoint) {
            return false;
        }
        if !first.options.transactional {
            return true;
        }
        let execution = first.execution.clone();
        match self.may_begin_transaction(&execution) {
            Ok(may) => may,
            Err(reason) => {
                if let Some(queued) = self.executions.queue.pop_front() {
                    self.cancelled(queued, &format!("it was to be transactional, and cannot be: {reason}"));
                }
                self.begin_next();
                false
            }
        }
    }

    pub(super) fn hear_worker(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        let read = worker.read(&mut self.sequencer);
        let pieces = if self.sequencer.awaited().is_some() {
            self.sequencer.take_all()
        } else {
            self.sequencer.take()
        };
        self.handle(pieces);
        self.one_sided = match (self.sequencer.one_sided(), self.one_sided) {
            (Some(mark), Some((same, since))) if mark == same => Some((mark, since)),
            (Some(mark), _) => Some((mark, Instant::now())),
            (None, _) => None,
        };
        if let Err(detail) = read {
            self.protocol_broken(detail);
        }
    }

    pub(super) fn handle(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            // Whoever has broken the protocol is not listened to any more.
            if matches!(self.ending, Some(Cause::Protocol(_))) {
                return;
            }
            match piece {
                Piece::Text(name, bytes) => match self.text_of.clone() {
                    Some(execution) => self.printed(&execution, name, &bytes),
                    None => {
                        self.startup_text.extend_from_slice(&bytes);
                        let over = self.startup_text.len().saturating_sub(STARTUP_BYTES);
                        self.startup_text.drain(..over);
                    }
                },
                Piece::Frame(frame) => self.frame(frame),
            }
        }
    }

    fn printed(&mut self, execution: &ExecutionId, name: StreamName, bytes: &[u8]) {
        // What stands before the cap is kept to the byte.
        let cap = self.spec.limits.output_bytes;
        let room = cap.saturating_sub(self.executions.output_bytes(execution));
        let (kept, rest) = bytes.split_at(usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len()));
        for part in [kept, rest].into_iter().filter(|part| !part.is_empty()) {
            let gap = self.count_output(execution, part.len() as u64);
            let ready = self.text.push(execution, name, part, gap, Instant::now());
            ready.into_iter().for_each(|ready| self.output(ready));
        }
    }

    /// Counts bytes of an Execution's output; says whether they are to be dropped.
    fn count_output(&mut self, execution: &ExecutionId, bytes: u64) -> Option<Gap> {
        let total = self.executions.count_bytes(execution, bytes);
        self.gap(total)
    }

    /// Puts an output in the outbox. The text batch must not hold anything older.
    pub(super) fn output(&mut self, (execution, output, payload): Ready) {
        let Some(seq) = self.executions.next_output(&execution) else { return };
        self.outbox.push(EventBody::Output(OutputFrame { execution, seq, output }), payload);
    }

    pub(super) fn flush_text(&mut self) {
        let ready = self.text.flush();
        ready.into_iter().for_each(|ready| self.output(ready));
    }

    fn frame(&mut self, frame: Pending) {
        let Pending { request, body, payload, .. } = frame;
        if !matches!(body, WorkerEventBody::Answer(_)) {
            self.flush_text();
        }
        match body {
            WorkerEventBody::Ready { python, .. } => self.worker_ready(python),
            WorkerEventBody::Unfit { detail } => {
                self.kill();
                self.fail_to_start(StartFailure::Interpreter { detail });
            }
            WorkerEventBody::Switch { execution } => self.text_of = Some(execution),
            WorkerEventBody::Output { execution, output } => self.displayed(execution, output, payload),
            WorkerEventBody::Finished { execution, end, execution_count, names, expressions } => {
                let running = self.executions.running.as_ref();
                if running.is_none_or(|running| running.execution != execution) {
                    return self.protocol_broken(format!("execution {execution} ended, which does not run"));
                }
                if !matches!(end, End::Ok | End::Error { .. } | End::Interrupted) {
                    return self.protocol_broken("an end that is not the worker's to give".to_owned());
                }
                if self.has_overfilled_its_disk() {
                    // Its end comes with the sandbox's.
                    return;
                }
                self.finish(end, execution_count, names, Variables::Kept, expressions, payload);
            }
            WorkerEventBody::Snapshot { pause_us, failed } => self.snapshot_taken(pause_us, failed),
            WorkerEventBody::Restored { names, losses, failed, differences } => {
                if !self.is_restoring() {
                    return self.protocol_broken("restored, which it was not asked for".to_owned());
                }
                self.names.apply(&names);
                self.restored(names.added, losses, failed, differences);
            }
            WorkerEventBody::Answer(answer) => {
                // An answer that nobody waits for would only fill our memory.
                if !self.asked.remove(&request) {
                    return self.protocol_broken("an answer to no question".to_owned());
                }
                self.outbox.push_loose(request, EventBody::Answer(answer), payload);
            }
        }
    }

    fn worker_ready(&mut self, python: String) {
        let (Some(worker), Some(sandbox)) = (&self.worker, &self.sandbox) else { return };
        if self.ready.is_some() {
            return self.protocol_broken("ready for a second time".to_owned());
        }
        self.memory = Memory::of(worker.pid);
        let below = sandbox.disk.as_ref().and_then(|disk| disk.try_clone().ok());
        self.disk = Disk::of(worker.pid, &self.spec.steps, &self.spec.limits, below);
        let facts = report::Facts {
            steps: &self.spec.steps,
            missing: &sandbox.missing,
            worker: worker.pid,
            unseen: self.memory.unseen(),
            group: &sandbox.group,
            disk: &self.disk,
            made_in: self.made_in,
            start: &self.start_kind,
        };
        match report::report(&facts) {
            Ok(report) => {
                let worker_pid = worker.pid.as_raw_pid().cast_unsigned();
                self.ready = Some((python.clone(), report.clone()));
                self.restore(EventBody::Ready { worker_pid, python, report });
            }
            Err(error) => {
                self.kill();
                let step = "verify the sandbox".to_owned();
                self.fail_to_start(StartFailure::Step { step, error, cure: None });
            }
        }
    }

    fn displayed(&mut self, execution: ExecutionId, output: Output, payload: Vec<u8>) {
        let now = Instant::now();
        if !is_the_workers(&output, &payload) || self.executions.waits(&execution) {
            return self.protocol_broken("an output that is not the worker's to give".to_owned());
        }
        if let Output::InputRequest { .. } = output {
            let running = self.executions.running.as_mut().filter(|running| running.execution == execution);
            match running {
                Some(running) if running.options.allow_stdin => running.ask(now),
                // It would stop the clock, and nobody is there to answer.
                _ => return self.protocol_broken("a question that nobody allowed".to_owned()),
            }
        }
        // A little more than the bundle's own bytes, so that a million empty displays count too.
        let bytes = payload.len() as u64 + OUTPUT_OVERHEAD_BYTES;
        let counted = matches!(output, Output::Display { .. } | Output::Result { .. }) || self.is_overfull();
        if let Some(gap) = self.count_output(&execution, bytes).filter(|_| counted) {
            let ready = self.text.drop_display(&execution, bytes, gap);
            return ready.into_iter().for_each(|ready| self.output(ready));
        }
        self.output((execution, output, payload));
    }
}

/// What is known of a name without a look at its value.
fn as_variable(known: &NameInfo) -> VariableInfo {
    VariableInfo {
        name: known.name.clone(),
        kind: known.kind.clone(),
        bytes: known.bytes,
        ..VariableInfo::default()
    }
}

/// Whether a worker may say this: text comes through the pipes, what was dropped or lost is ours to
/// tell, only bundles have a payload, and their parts lie within it.
fn is_the_workers(output: &Output, payload: &[u8]) -> bool {
    match output {
        Output::Display { bundle, .. } | Output::Result { bundle, .. } => {
            let mut spans = bundle.parts.iter().map(|part| part.span).chain(bundle.metadata);
            spans.all(|span| span.of(payload).is_some())
        }
        Output::Stream { .. } | Output::Truncated { .. } => false,
        Output::Notice { topic, .. } => *topic == NoticeTopic::Degraded && payload.is_empty(),
        Output::Error(_) | Output::ClearOutput { .. } | Output::InputRequest { .. } => payload.is_empty(),
    }
}
