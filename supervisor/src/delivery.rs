//! From a record to the clients attached to it: each reads at its own pace, from its own place.

use std::collections::VecDeque;
use std::sync::Arc;

use cellblock_proto::client::{ErrorCode, Reply};
use cellblock_proto::execution::{NameChanges, Outcome, Output, OutputFrame, Variables};
use cellblock_proto::frame::FLAG_LAST;
use cellblock_proto::id::ExecutionId;
use cellblock_proto::operations::Hint;
use tokio::sync::Notify;

use crate::outbox::{Client, Payload, PushError, Responder, Ticket};
use crate::records::{Next, Record};
use crate::spill::Ahead;

/// A client that reads an Execution.
#[derive(Debug)]
pub(crate) struct Attachment {
    client: Client,
    request: u32,
    /// Whether `Accepted` has been sent.
    accepted: bool,
    /// The next output it gets.
    next: u64,
    /// What is on its way to the socket.
    in_flight: VecDeque<(Ticket, Milestone)>,
    /// Whether the Outcome has been sent.
    finished: bool,
    /// Where it is among the outputs on the disk.
    ahead: Ahead,
    /// Whether we are told when it goes.
    is_watched: bool,
}

#[derive(Clone, Copy, Debug)]
enum Milestone {
    /// All outputs before this number.
    Outputs(u64),
    Outcome,
}

/// How far a reader got.
enum Progress {
    /// It has all there is.
    UpToDate,
    /// Its queue is full.
    Blocked,
    /// It has gone.
    Gone,
}

impl Attachment {
    /// Reads from output `next` on.
    pub(crate) fn new(responder: Responder, next: u64) -> Self {
        let (client, request) = responder.into_parts();
        Attachment {
            client,
            request,
            accepted: false,
            next,
            in_flight: VecDeque::new(),
            finished: false,
            ahead: Ahead::at(next),
            is_watched: false,
        }
    }

    /// The next output it gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Ends it with an error.
    pub(crate) fn refuse(self, code: ErrorCode, message: &str, hint: Option<Hint>) {
        if !self.finished {
            let reply = Reply::Error { code, message: message.to_owned(), hint };
            self.client.answer(self.request, &reply, None);
        }
    }

    fn push(
        &mut self,
        reply: &Reply,
        payload: Option<Payload>,
        flags: u8,
        wake: &Arc<Notify>,
    ) -> Result<Ticket, PushError> {
        self.client.offer(self.request, reply, payload, flags, wake)
    }

    fn push_output(
        &mut self,
        execution: &ExecutionId,
        seq: u64,
        output: Output,
        payload: Option<Payload>,
        wake: &Arc<Notify>,
    ) -> Result<(), PushError> {
        let frame = |output| Reply::Output(OutputFrame { execution: execution.clone(), seq, output });
        let dropped_bytes = payload.as_ref().map_or(0, |payload| payload.len() as u64);
        let ticket = match self.push(&frame(output), payload, 0, wake) {
            Err(PushError::TooLarge) => {
                let reason = "its description does not fit into a frame".to_owned();
                let mark = Output::Truncated { stream: None, dropped_bytes, reason };
                self.push(&frame(mark), None, 0, wake)?
            }
            other => other?,
        };
        self.next = seq + 1;
        self.in_flight.push_back((ticket, Milestone::Outputs(seq + 1)));
        Ok(())
    }

    fn push_outcome(
        &mut self,
        execution: &ExecutionId,
        outputs: u64,
        outcome: &Outcome,
        payload: &Payload,
        wake: &Arc<Notify>,
    ) -> Result<(), PushError> {
        let execution = execution.clone();
        let reply = Reply::Outcome { execution: execution.clone(), outputs, outcome: outcome.clone() };
        let ticket = match self.push(&reply, Some(Arc::clone(payload)), FLAG_LAST, wake) {
            Err(PushError::TooLarge) => {
                let outcome = shortened(outcome);
                self.push(&Reply::Outcome { execution, outputs, outcome }, None, FLAG_LAST, wake)?
            }
            other => other?,
        };
        self.finished = true;
        self.in_flight.push_back((ticket, Milestone::Outcome));
        Ok(())
    }

    /// Sends what there is and room for.
    fn advance(
        &mut self,
        execution: &ExecutionId,
        record: &Record,
        wake: &Arc<Notify>,
    ) -> Result<(), PushError> {
        if self.finished {
            return Ok(());
        }
        if !self.accepted {
            let position = match (record.accepted, &record.ended) {
                (Some(position), None) => position,
                (_, Some(_)) => 0,
                (None, None) => return Ok(()),
            };
            self.push(&Reply::Accepted { execution: execution.clone(), position }, None, 0, wake)?;
            self.accepted = true;
        }
        loop {
            match record.next_from(self.next, &mut self.ahead) {
                Next::Output(seq, stored) => {
                    let after = stored.after();
                    self.push_output(execution, seq, stored.output, Some(stored.payload), wake)?;
                    self.ahead.position = Some(after);
                }
                Next::Gap { resume_at, dropped_bytes, position, reason } => {
                    let mark = Output::Truncated { stream: None, dropped_bytes, reason };
                    self.push_output(execution, resume_at - 1, mark, None, wake)?;
                    self.ahead.position = Some(position);
                }
                Next::Nothing => break,
            }
        }
        match &record.ended {
            Some(ended) => self.push_outcome(execution, ended.outputs, &ended.outcome, &ended.payload, wake),
            None => Ok(()),
        }
    }

    /// What has reached the socket since the last call.
    fn landed(&mut self) -> Vec<Milestone> {
        let written = self.client.outbox.written();
        let count = self.in_flight.iter().take_while(|(ticket, _)| *ticket <= written).count();
        self.in_flight.drain(..count).map(|(_, milestone)| milestone).collect()
    }

    fn progress(&mut self, execution: &ExecutionId, record: &Record, wake: &Arc<Notify>) -> Progress {
        match self.advance(execution, record, wake) {
            Ok(()) => Progress::UpToDate,
            Err(PushError::Full) => Progress::Blocked,
            // An `Accepted` always fits, and the others are shortened until they do.
            Err(PushError::Gone | PushError::TooLarge) => Progress::Gone,
        }
    }

    fn is_over(&self) -> bool {
        self.client.outbox.is_gone() || (self.finished && self.in_flight.is_empty())
    }
}

/// Serves all readers of a record; true when one of them has to be waited for.
pub(crate) fn deliver(execution: &ExecutionId, record: &mut Record, wake: &Arc<Notify>) -> bool {
    let mut blocked = false;
    let mut readers = std::mem::take(&mut record.attached);
    readers.retain_mut(|reader| {
        if record.interrupt && !std::mem::replace(&mut reader.is_watched, true) {
            reader.client.outbox.watch(wake);
        }
        let progress = reader.progress(execution, record, wake);
        // After the sending, so that what a client got before it went counts.
        for milestone in reader.landed() {
            match milestone {
                Milestone::Outputs(upto) => record.mark_written(upto),
                Milestone::Outcome => {
                    if let Some(ended) = &mut record.ended {
                        ended.written = true;
                    }
                }
            }
        }
        blocked |= matches!(progress, Progress::Blocked);
        !matches!(progress, Progress::Gone) && !reader.is_over()
    });
    record.attached = readers;
    blocked
}

/// An Outcome whose lists of names are longer than a frame's meta: the end itself must arrive.
fn shortened(outcome: &Outcome) -> Outcome {
    const NAMES: usize = 1000;
    let variables = match &outcome.variables {
        Variables::Lost { names } => Variables::Lost { names: names.iter().take(NAMES).cloned().collect() },
        other => other.clone(),
    };
    Outcome { variables, names: NameChanges::default(), expressions: Vec::new(), ..outcome.clone() }
}
