//! Runs one notebook, cell by cell, over one connection.

use std::time::{Duration, Instant};

use cellblock_proto::client::{NotebookStatus, Reply};
use cellblock_proto::execution::{Checkpoint, Checkpointing, End, ExecuteOptions, Outcome, Output};
use cellblock_proto::id::{ExecutionId, NotebookId};

use crate::client::{ClientError, Connection, Replies};
use crate::ending::describe;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::notebook::outputs::Collector;
use crate::notebook::{CodeCell, Notebook};
use crate::session::Session;
use crate::signals::{Signals, Target};

/// How often a lost connection to a shared daemon is tried again, and how long between.
const RECONNECTS: u32 = 50;
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// How a notebook is to be run.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    pub(crate) notebook: NotebookId,
    pub(crate) wall_ms: Option<u64>,
    /// An exception does not end the run.
    pub(crate) allow_errors: bool,
    /// Whether the variables are saved after each cell; as the profile says when absent.
    pub(crate) checkpoint: Option<Checkpointing>,
}

/// What happens while it runs.
pub(crate) trait Watcher {
    /// A cell begins.
    fn begins(&mut self, cell: &CodeCell);
    /// It put out something.
    fn puts_out(&mut self, output: &Output, payload: &[u8]) -> Result<(), Fault>;
    /// It has ended.
    fn ends(&mut self, outcome: &Outcome);
}

/// How the run went.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) cells: usize,
    pub(crate) done: usize,
    pub(crate) failures: Vec<Failure>,
    pub(crate) exit: Exit,
    pub(crate) elapsed: Duration,
    /// The notebook as it was when its worker lived.
    pub(crate) status: Option<NotebookStatus>,
    /// What became of the checkpoint after the last cell.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// Why the run could not go on, when that was not the code's doing.
    pub(crate) fault: Option<Fault>,
}

/// A cell that did not end well.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Its place among all cells of the notebook, from 1.
    pub(crate) cell: usize,
    pub(crate) name: String,
    pub(crate) sentence: String,
}

/// Runs the notebook and fills in its outputs; after a fault too, those that came before it.
pub(crate) fn run(
    session: &mut Session,
    document: &mut Notebook,
    options: &RunOptions,
    signals: &Signals,
    watcher: &mut dyn Watcher,
) -> Summary {
    let cells = document.code_cells();
    let mut summary = Summary {
        cells: cells.len(),
        done: 0,
        failures: Vec::new(),
        exit: Exit::Ok,
        elapsed: Duration::ZERO,
        status: None,
        checkpoint: None,
        fault: None,
    };
    let started = Instant::now();
    if let Err(fault) = run_cells(session, document, &cells, options, signals, watcher, &mut summary) {
        summary.exit = summary.exit.or(fault.exit());
        summary.fault = Some(fault);
    }
    summary.elapsed = started.elapsed();
    summary
}

/// The body of [`run`], apart from it for the sake of `?`.
fn run_cells(
    session: &mut Session,
    document: &mut Notebook,
    cells: &[CodeCell],
    options: &RunOptions,
    signals: &Signals,
    watcher: &mut dyn Watcher,
    summary: &mut Summary,
) -> Result<(), Fault> {
    let mut collector = Collector::default();
    let tag = random_suffix()?;
    for (place, cell) in cells.iter().enumerate() {
        if signals.stopping() {
            return Err(Fault::Interrupted);
        }
        watcher.begins(cell);
        collector.begin(cell.index);
        let execution = format!("run-{tag}-{place}").parse().expect("made of letters, digits and -");
        let code = Code {
            notebook: &options.notebook,
            execution: &execution,
            source: &cell.source,
            options: ExecuteOptions {
                wall_ms: options.wall_ms,
                cell: cell.id.clone(),
                checkpoint: options.checkpoint,
                ..ExecuteOptions::default()
            },
        };
        let outcome = execute(session, &code, signals, &mut |reply, payload, _| {
            let Reply::Output(frame) = reply else { return Ok(()) };
            collector.apply(document, &frame.output, payload);
            watcher.puts_out(&frame.output, payload)
        })?;
        collector.finish(document, &outcome);
        summary.done += 1;
        summary.checkpoint = outcome.checkpoint.clone();
        watcher.ends(&outcome);
        if summary.status.is_none() {
            // After the first cell there is a worker, and a later one may take it along.
            summary.status = session.connection.status(&options.notebook).ok();
        }
        if note(summary, cell, &outcome, options.allow_errors) {
            break;
        }
    }
    Ok(())
}

/// Writes down how a cell ended; true when it ends the run.
fn note(summary: &mut Summary, cell: &CodeCell, outcome: &Outcome, allow_errors: bool) -> bool {
    let Some((name, sentence)) = describe(outcome) else { return false };
    let raised = matches!(outcome.end, End::Error { .. });
    if raised && cell.may_raise {
        return false;
    }
    summary.failures.push(Failure { cell: cell.index + 1, name, sentence });
    if !(raised && allow_errors) {
        summary.exit = summary.exit.or(Exit::of(&outcome.end));
    }
    !allow_errors || matches!(outcome.end, End::Interrupted | End::Cancelled { .. })
}

/// Code on its way to one Execution.
#[derive(Clone, Debug)]
pub(crate) struct Code<'a> {
    pub(crate) notebook: &'a NotebookId,
    pub(crate) execution: &'a ExecutionId,
    pub(crate) source: &'a str,
    pub(crate) options: ExecuteOptions,
}

/// What is done with each reply and its payload; it may answer through the last argument.
pub(crate) type OnReply<'a> = dyn FnMut(&Reply, &[u8], &mut Replies<'_>) -> Result<(), Fault> + 'a;

/// Runs code to its Outcome. Ctrl-C interrupts it meanwhile. A shared daemon that is restarted is
/// found again, and nothing is lost or seen twice.
pub(crate) fn execute(
    session: &mut Session,
    code: &Code<'_>,
    signals: &Signals,
    on_reply: &mut OnReply<'_>,
) -> Result<Outcome, Fault> {
    let mut seen = 0;
    loop {
        let hangup = session.connection.hangup()?;
        let target = Target {
            socket: session.socket.clone(),
            tenant: session.tenant.clone(),
            notebook: code.notebook.clone(),
            hangup,
        };
        signals.aim(Some(target));
        let connection = &mut session.connection;
        let sent = if seen == 0 {
            // Sent again it does not run again, and it may be that it never arrived.
            connection.execute(code.notebook, code.execution, code.source, code.options.clone())
        } else {
            connection.attach(code.notebook, code.execution, seen)
        };
        let ended = sent.map_err(Fault::from).and_then(|replies| read(replies, &mut seen, on_reply));
        signals.aim(None);
        let Err(Fault::Client(ClientError::Lost(source))) = ended else { return ended };
        if signals.stopping() {
            return Err(Fault::Interrupted);
        }
        if let Some(daemon) = &session.private {
            return Err(Fault::PrivateEnded { log: daemon.log_tail() });
        }
        session.connection = reconnect(session, signals).ok_or(ClientError::Lost(source))?;
    }
}

fn read(mut replies: Replies<'_>, seen: &mut u64, on_reply: &mut OnReply<'_>) -> Result<Outcome, Fault> {
    while let Some(received) = replies.next() {
        let received = received?;
        on_reply(&received.reply, &received.payload, &mut replies)?;
        match received.reply {
            Reply::Output(frame) => *seen = frame.seq + 1,
            Reply::Outcome { outcome, .. } => return Ok(outcome),
            _ => {}
        }
    }
    Err(ClientError::Lost(std::io::ErrorKind::UnexpectedEof.into()).into())
}

/// A restarted daemon listens at the same place; nothing tells us when, so we look.
fn reconnect(session: &Session, signals: &Signals) -> Option<Connection> {
    for _ in 0..RECONNECTS {
        if signals.stopping() {
            return None;
        }
        if let Ok(connection) = Connection::connect_as(&session.socket, session.tenant.as_ref()) {
            return Some(connection);
        }
        std::thread::park_timeout(RECONNECT_PAUSE);
    }
    None
}

/// Eight random letters and digits: names that do not collide with another run's.
pub(crate) fn random_suffix() -> Result<String, Fault> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Fault::file("read", "/dev/urandom".as_ref())(error.into()))?;
    Ok(format!("{:08x}", u32::from_le_bytes(bytes)))
}
