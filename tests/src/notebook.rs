//! A notebook on a connection of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use cellblock_proto::client::{NotebookStatus, Reply, Request};
use cellblock_proto::execution::{ExecuteOptions, Output, StreamName};
use cellblock_proto::id::{ExecutionId, NotebookId};
use cellblock_proto::query::{Answer as QueryAnswer, Query};

use crate::client::{Answer, Client, Refused};
use crate::ran::{Piece, Ran};
use crate::wait::PATIENCE;

/// A notebook on a connection of its own.
#[derive(Debug)]
pub struct Notebook {
    /// The connection.
    pub client: Client,
    /// Its name.
    pub id: NotebookId,
}

static COUNT: AtomicU32 = AtomicU32::new(1);

/// An Execution that was sent; its answers so far.
#[derive(Debug)]
pub struct Sent {
    /// Its id.
    pub execution: ExecutionId,
    /// The request's.
    pub request: u32,
    position: Option<u32>,
    /// Outputs received so far.
    pub outputs: Vec<Piece>,
    /// The number the next output must have.
    next: u64,
}

impl Sent {
    /// Text of stdout received so far.
    pub fn stdout(&self) -> Vec<u8> {
        let is_stdout = |piece: &&Piece| piece.output == Output::Stream { name: StreamName::Stdout };
        self.outputs.iter().filter(is_stdout).flat_map(|piece| piece.payload.clone()).collect()
    }

    /// Its place in the queue, when it has been told.
    pub fn position_told(&self) -> Option<u32> {
        self.position
    }

    /// How many outputs there have been, those before an attach included.
    pub fn next_seq(&self) -> u64 {
        self.next
    }
}

impl Notebook {
    /// Opens it.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn open(mut client: Client, name: &str, profile: Option<&str>) -> Self {
        let id: NotebookId = name.parse().expect("a legal name");
        let request = Request::OpenNotebook { notebook: id.clone(), profile: profile.map(str::to_owned) };
        match client.ask(&request) {
            Ok(Reply::Notebook(_)) => Notebook { client, id },
            other => panic!("notebook {name} cannot be opened: {other:?}"),
        }
    }

    /// One that is open already.
    ///
    /// # Panics
    /// When that is no legal name.
    pub fn known(client: Client, name: &str) -> Self {
        Notebook { client, id: name.parse().expect("a legal name") }
    }

    /// Sends code under the next id.
    pub fn start(&mut self, code: &str) -> Sent {
        self.start_with(code, ExecuteOptions::default())
    }

    /// Sends code with options.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn start_with(&mut self, code: &str, options: ExecuteOptions) -> Sent {
        // Of the whole process, because two connections may have the same notebook open.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let execution = format!("e{number}").parse().expect("a legal id");
        self.start_as(execution, code, options)
    }

    /// Sends code under an id.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn start_as(&mut self, execution: ExecutionId, code: &str, options: ExecuteOptions) -> Sent {
        let notebook = self.id.clone();
        let request = Request::Execute { notebook, execution: execution.clone(), options };
        let request = self.client.send(&request, code.as_bytes());
        Sent { execution, request, position: None, outputs: Vec::new(), next: 0 }
    }

    /// Reads an Execution from an output on.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn attach(&mut self, execution: &ExecutionId, from_seq: u64) -> Sent {
        let (notebook, execution) = (self.id.clone(), execution.clone());
        let request = Request::Attach { notebook, execution: execution.clone(), from_seq };
        let request = self.client.send(&request, &[]);
        Sent { execution, request, position: None, outputs: Vec::new(), next: from_seq }
    }

    /// Runs code to its end.
    ///
    /// # Panics
    /// When it does not end, or is refused.
    pub fn run(&mut self, code: &str) -> Ran {
        let sent = self.start(code);
        self.finish(sent)
    }

    /// Runs code with options to its end.
    ///
    /// # Panics
    /// As [`Notebook::run`].
    pub fn run_with(&mut self, code: &str, options: ExecuteOptions) -> Ran {
        let sent = self.start_with(code, options);
        self.finish(sent)
    }

    /// Runs code that must be refused.
    ///
    /// # Panics
    /// When it is not.
    pub fn refused(&mut self, code: &str) -> Refused {
        let sent = self.start(code);
        match self.client.next(sent.request) {
            Answer { reply: Reply::Error { code, message, hint }, last: true, .. } => {
                Refused { code, message, hint }
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Takes one more answer; the end when it was the last.
    ///
    /// # Panics
    /// When none comes, or one that does not belong there.
    pub fn step(&mut self, sent: &mut Sent) -> Option<Ran> {
        let Some(Answer { reply, payload, last }) = self.client.next_within(sent.request, PATIENCE) else {
            panic!("nothing more of {} within {PATIENCE:?}; so far: {sent:?}", sent.execution);
        };
        match reply {
            Reply::Accepted { execution, position } => {
                assert!(sent.position.is_none() && !last && execution == sent.execution);
                sent.position = Some(position);
                None
            }
            Reply::Output(frame) => {
                assert!(sent.position.is_some() && !last && frame.execution == sent.execution);
                let gap = matches!(frame.output, Output::Truncated { stream: None, .. });
                assert!(
                    frame.seq == sent.next || (gap && frame.seq > sent.next),
                    "{frame:?} after {}",
                    sent.next
                );
                sent.next = frame.seq + 1;
                sent.outputs.push(Piece { seq: frame.seq, output: frame.output, payload });
                None
            }
            Reply::Outcome { execution, outputs, outcome } => {
                assert!(last && execution == sent.execution);
                assert_eq!(outputs, sent.next, "outputs are missing or too many: {sent:?}");
                let position = sent.position.expect("accepted comes first");
                Some(Ran { position, outputs: std::mem::take(&mut sent.outputs), outcome, payload })
            }
            other => panic!("{other:?} as an answer to {}", sent.execution),
        }
    }

    /// Reads to the end.
    ///
    /// # Panics
    /// As [`Notebook::step`].
    pub fn finish(&mut self, mut sent: Sent) -> Ran {
        loop {
            if let Some(ran) = self.step(&mut sent) {
                return ran;
            }
        }
    }

    /// Reads until `enough` says so.
    ///
    /// # Panics
    /// When the Execution ends before.
    pub fn until(&mut self, sent: &mut Sent, enough: impl Fn(&Sent) -> bool) {
        while !enough(sent) {
            if let Some(ran) = self.step(sent) {
                panic!("it ended too early: {ran:?}");
            }
        }
    }

    /// Reads until stdout contains a text.
    ///
    /// # Panics
    /// As [`Notebook::until`].
    pub fn until_stdout(&mut self, sent: &mut Sent, text: &str) {
        self.until(sent, |sent| String::from_utf8_lossy(&sent.stdout()).contains(text));
    }

    /// Reads until it was accepted.
    ///
    /// # Panics
    /// As [`Notebook::step`].
    pub fn until_accepted(&mut self, sent: &mut Sent) {
        self.until(sent, |sent| sent.position.is_some());
    }

    /// Asks about the notebook.
    ///
    /// # Panics
    /// When it is refused.
    pub fn query(&mut self, query: Query, code: &str) -> (QueryAnswer, Vec<u8>) {
        let request = Request::Query { notebook: self.id.clone(), query };
        match self.client.ask_about(&request, code.as_bytes()) {
            Ok(Answer { reply: Reply::Answer(answer), payload, .. }) => (answer, payload),
            other => panic!("no answer: {other:?}"),
        }
    }

    /// Interrupts what runs.
    pub fn interrupt(&mut self) {
        let notebook = self.id.clone();
        self.client.tell(&Request::Interrupt { notebook });
    }

    /// Cancels an Execution.
    pub fn cancel(&mut self, execution: &ExecutionId) {
        let (notebook, execution) = (self.id.clone(), execution.clone());
        self.client.tell(&Request::Cancel { notebook, execution });
    }

    /// The notebook in full.
    pub fn status(&mut self) -> NotebookStatus {
        self.client.status(&self.id.clone())
    }
}
