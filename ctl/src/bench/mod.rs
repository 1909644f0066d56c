//! What this installation does in what time, measured against peers in turns.
//!
//! ```text
//! round 1: start, python, bwrap, 20 round trips, stdout, pipe     round 2: the other way about     …
//! ```
//!
//! Turns, so that whatever else the machine does meanwhile hits all alike. Before each start it is waited
//! until cellblockd has its spares again, as far as it has any: what is measured is what somebody meets
//! who does not come faster than they are refilled.
//!
//! Deliberately absent: ipykernel. That peer needs Python packages, and `cargo xtask bench` has it.

mod peers;
mod rows;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use cellblock_proto::client::{Reply, Request, ZygoteState};
use cellblock_proto::execution::{End, ExecuteOptions, Output, StreamName};
use cellblock_proto::id::NotebookId;
use sandbox_profiles::Start;
use serde_json::Value;

use crate::client::{ClientError, Connection};
use crate::ending::describe;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::notebook::outputs;
use crate::runner::{Code, execute, random_suffix};
use crate::session::Session;
use crate::signals::Signals;
use peers::Interpreter;
use rows::{Role, Row, Unit};

pub(crate) use rows::text;

/// Round trips in a round: they are short, so a round can have more of them.
const ROUND_TRIPS: usize = 20;
const SUM: &str = "1+1";
const SUM_PRINTED: &str = "print(1+1)";
/// Both print this. Below the 16 MiB that a cell of the profile `strict` may print.
const PRINT_LINES: &str = "line = 'x' * 79\nfor _ in range(200_000):\n    print(line)\n";
const PRINTED_BYTES: u64 = 200_000 * 80;
/// As much of a cell's text as is kept, in bytes; the rest is counted.
const KEPT_BYTES: usize = 4096;

/// A zygote that imports pandas is up after a second or two, on a busy machine later.
const ZYGOTE_PATIENCE: Duration = Duration::from_secs(20);
/// Spares are refilled within a second, unless others take them all the time.
const SPARES_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is asked whether they are there: nothing tells.
const GLANCE: Duration = Duration::from_millis(20);

/// What was measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) server: String,
    pub(crate) profile: String,
    pub(crate) python: String,
    pub(crate) rows: Vec<Row>,
    /// What could not be measured or is not as asked for, and why; a sentence each.
    pub(crate) notes: BTreeSet<String>,
}

/// Measures so many rounds; `begins` hears of each.
///
/// # Errors
/// What is measured fails, or gives a wrong answer.
pub(crate) fn measure(
    session: &mut Session,
    profile: Option<&str>,
    rounds: usize,
    signals: &Signals,
    begins: &dyn Fn(),
) -> Result<Report, Fault> {
    // Of whoever else uses this daemon nobody has such a name, by chance or by choice.
    let suffix = random_suffix()?;
    let bench = &mut Bench {
        session,
        signals,
        profile: profile.map(str::to_owned),
        warm: name(&suffix, 0),
        suffix,
        count: 0,
        peers: [("python", Vec::new()), ("bwrap + python", Vec::new())],
        start: Row::new("start", "new notebook → first 1+1", Unit::Milliseconds),
        trip: Row::new("round_trip", "1+1 round trip, warm", Unit::Milliseconds),
        stdout: Row::new("stdout", "stdout, lines of 80 bytes", Unit::MegabytesPerSecond),
        notes: BTreeSet::new(),
    };
    let warm = bench.warm.clone();
    let (profile, python) = in_notebook(bench, &warm, |bench, profile| {
        let python = bench.warm_up()?;
        for round in 0..rounds {
            begins();
            bench.round(round % 2 == 1)?;
        }
        Ok((profile, python))
    })?;
    Ok(Report {
        server: bench.session.connection.server().to_owned(),
        profile,
        python,
        rows: vec![bench.start.clone(), bench.trip.clone(), bench.stdout.clone()],
        notes: std::mem::take(&mut bench.notes),
    })
}

struct Bench<'a> {
    session: &'a mut Session,
    signals: &'a Signals,
    profile: Option<String>,
    /// The notebook whose worker is there already.
    warm: NotebookId,
    suffix: String,
    /// Executions and notebooks so far.
    count: u32,
    /// By name, with their command; without one they are not measured.
    peers: [(&'static str, Vec<OsString>); 2],
    start: Row,
    trip: Row,
    stdout: Row,
    notes: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug)]
enum Turn {
    Start,
    /// By its place among the peers.
    Peer(usize),
    RoundTrips,
    Stdout,
    Pipe,
}

const TURNS: [Turn; 6] =
    [Turn::Start, Turn::Peer(0), Turn::Peer(1), Turn::RoundTrips, Turn::Stdout, Turn::Pipe];

/// What came out of a cell that ended well.
#[derive(Debug, Default)]
struct Answer {
    elapsed: Duration,
    result: Option<String>,
    /// How its text began.
    printed: Vec<u8>,
    bytes: u64,
}

impl Bench<'_> {
    /// Everything once, uncounted: caches fill, and peers that cannot be run are found out. Returns what
    /// the Python calls itself.
    fn warm_up(&mut self) -> Result<String, Fault> {
        let told = self.cell("the warm notebook", &self.warm.clone(), "import sys; print(sys.executable)")?;
        let status = self.session.connection.status(&self.warm)?;
        let plan = self.session.connection.plan(&status.info.profile)?;
        match Interpreter::of(String::from_utf8_lossy(&told.printed).trim_end(), &plan) {
            Ok(interpreter) => {
                self.peers[0].1 = interpreter.bare();
                self.peers[1].1 = interpreter.in_bubblewrap().unwrap_or_default();
            }
            Err(why) => _ = self.notes.insert(format!("no peer is measured: {why}")),
        }
        for (name, command) in &mut self.peers {
            if command.is_empty() {
                continue;
            }
            if let Err(why) = peers::run(command, SUM_PRINTED) {
                self.notes.insert(format!("`{name}` is not measured: {why}"));
                command.clear();
            }
        }
        self.settle(ZYGOTE_PATIENCE)?;
        self.round(false)?;
        for row in [&mut self.start, &mut self.trip, &mut self.stdout] {
            row.clear();
        }
        Ok(status.python.unwrap_or_default())
    }

    fn round(&mut self, other_way_about: bool) -> Result<(), Fault> {
        let mut turns = TURNS;
        if other_way_about {
            turns.reverse();
        }
        for turn in turns {
            if self.signals.stopping() {
                return Err(Fault::Interrupted);
            }
            match turn {
                Turn::Start => self.new_notebook()?,
                Turn::Peer(place) => self.new_peer(place)?,
                Turn::RoundTrips => self.round_trips()?,
                Turn::Stdout => self.print_lines()?,
                Turn::Pipe => self.print_into_pipe()?,
            }
        }
        Ok(())
    }

    /// From `open_notebook` to the Outcome; its end is timed in no row.
    fn new_notebook(&mut self) -> Result<(), Fault> {
        let what = "a new notebook";
        let has_spares = self.settle(SPARES_PATIENCE)?;
        self.count += 1;
        let notebook = name(&self.suffix, self.count);
        let started = Instant::now();
        let (elapsed, start) = in_notebook(self, &notebook, |bench, _| {
            let answer = bench.cell(what, &notebook, SUM)?;
            let elapsed = started.elapsed();
            answer.must_be_two(what)?;
            let report = bench.session.connection.status(&notebook)?.report;
            Ok((elapsed, report.unwrap_or_default().start))
        })?;
        if let Start::Fallback { why } = &start {
            self.notes.insert(format!("a Python was executed, though its profile asks for a zygote: {why}"));
        }
        let engine = match start {
            // The report does not tell them apart: a spare is a fork, made before it was asked for.
            Start::Zygote if has_spares => "cellblock, spare",
            Start::Zygote => "cellblock, zygote",
            Start::Exec | Start::Fallback { .. } => "cellblock, exec",
        };
        self.start.push(engine, Role::Cellblock, milliseconds(elapsed));
        // Making the next spare takes processor time, which would be the next turn's.
        self.settle(SPARES_PATIENCE).map(|_| ())
    }

    fn new_peer(&mut self, place: usize) -> Result<(), Fault> {
        let (name, command) = &self.peers[place];
        if command.is_empty() {
            return Ok(());
        }
        let ran = peers::run(command, SUM_PRINTED).map_err(|why| failed(name, why, Exit::Internal))?;
        must_be(name, "2\n", &ran.printed)?;
        self.start.push(name, Role::Peer, milliseconds(ran.elapsed));
        Ok(())
    }

    fn round_trips(&mut self) -> Result<(), Fault> {
        for _ in 0..ROUND_TRIPS {
            let answer = self.cell("a round trip", &self.warm.clone(), SUM)?;
            answer.must_be_two("a round trip")?;
            self.trip.push("cellblock", Role::Cellblock, milliseconds(answer.elapsed));
        }
        Ok(())
    }

    fn print_lines(&mut self) -> Result<(), Fault> {
        let what = "a cell that prints lines";
        let answer = self.cell(what, &self.warm.clone(), PRINT_LINES)?;
        must_be_all(what, answer.bytes)?;
        self.stdout.push("cellblock", Role::Cellblock, megabytes_per_second(answer.elapsed));
        Ok(())
    }

    fn print_into_pipe(&mut self) -> Result<(), Fault> {
        let name = "python into a pipe";
        let (_, command) = &self.peers[0];
        if command.is_empty() {
            return Ok(());
        }
        let ran = peers::run(command, PRINT_LINES).map_err(|why| failed(name, why, Exit::Internal))?;
        must_be_all(name, ran.bytes)?;
        self.stdout.push(name, Role::Peer, megabytes_per_second(ran.elapsed));
        Ok(())
    }

    /// Runs code to its Outcome, which must be a good one, with nothing of its text left out.
    fn cell(&mut self, what: &str, notebook: &NotebookId, source: &str) -> Result<Answer, Fault> {
        self.count += 1;
        let execution = format!("bench-{}", self.count).parse().expect("made of letters, digits and -");
        let code = Code { notebook, execution: &execution, source, options: ExecuteOptions::default() };
        let (mut answer, mut cut) = (Answer::default(), None);
        let started = Instant::now();
        let outcome = execute(self.session, &code, self.signals, &mut |reply, payload, _| {
            let Reply::Output(frame) = reply else { return Ok(()) };
            match &frame.output {
                Output::Stream { name: StreamName::Stdout } => {
                    let wanted = payload.len().min(KEPT_BYTES - answer.printed.len());
                    answer.printed.extend_from_slice(&payload[..wanted]);
                    answer.bytes += payload.len() as u64;
                }
                Output::Result { bundle, .. } => {
                    let plain = outputs::data(bundle, payload).remove("text/plain");
                    answer.result = plain.and_then(|text| text.as_str().map(str::to_owned));
                }
                Output::Truncated { reason, .. } => cut = Some(format!("its text was cut: {reason}")),
                _ => {}
            }
            Ok(())
        })?;
        answer.elapsed = started.elapsed();
        if let Some((name, sentence)) = describe(&outcome) {
            // Whoever presses Ctrl-C knows that the cell did not end well.
            if self.signals.stopping() {
                return Err(Fault::Interrupted);
            }
            let raised = matches!(outcome.end, End::Error { .. });
            let sentence = if raised { format!("{name}: {sentence}") } else { sentence };
            return Err(failed(what, sentence, Exit::of(&outcome.end)));
        }
        match cut {
            Some(reason) => Err(failed(what, reason, Exit::WorkerDied)),
            None => Ok(answer),
        }
    }

    /// Waits until the profile is as warm as it gets: a zygote, all its spares. Whether it has any.
    fn settle(&mut self, patience: Duration) -> Result<bool, Fault> {
        let deadline = Instant::now() + patience;
        let profile = self.profile.as_deref().unwrap_or("default").to_owned();
        loop {
            let lines = self.session.connection.warm()?;
            let Some(line) = lines.into_iter().find(|line| line.profile == profile) else {
                return Ok(false);
            };
            let is_warm = match line.zygote {
                ZygoteState::Starting => false,
                ZygoteState::Up => line.spares_ready >= line.spares_wanted,
                ZygoteState::Failed => true,
            };
            if is_warm || Instant::now() >= deadline {
                return Ok(line.spares_ready > 0);
            }
            if self.signals.stopping() {
                return Err(Fault::Interrupted);
            }
            std::thread::park_timeout(GLANCE);
        }
    }
}

impl Answer {
    fn must_be_two(&self, what: &str) -> Result<(), Fault> {
        must_be(what, "2", self.result.as_deref().unwrap_or_default())
    }
}

/// Opens a notebook and deletes it afterwards, whatever happens in it; also when it was hung up meanwhile.
fn in_notebook<'a, T>(
    bench: &mut Bench<'a>,
    notebook: &NotebookId,
    body: impl FnOnce(&mut Bench<'a>, String) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let opened = bench.session.connection.open_notebook(notebook, bench.profile.as_deref())?;
    let done = body(bench, opened.profile);
    let delete = Request::Delete { notebook: notebook.clone() };
    let mut deleted = bench.session.connection.tell(&delete);
    if matches!(deleted, Err(ClientError::Lost(_))) && bench.session.private.is_none() {
        // A second Ctrl-C hangs up; a shared daemon would keep the notebook for ever.
        deleted = Connection::connect_as(&bench.session.socket, bench.session.tenant.as_ref())
            .and_then(|mut other| other.tell(&delete));
    }
    // What went wrong first is the better message.
    let done = done?;
    deleted?;
    Ok(done)
}

fn name(suffix: &str, count: u32) -> NotebookId {
    format!("bench-{suffix}-{count}").parse().expect("made of letters, digits and -")
}

fn failed(what: &str, sentence: String, exit: Exit) -> Fault {
    Fault::NotMeasured { what: what.to_owned(), sentence, exit }
}

fn must_be(what: &str, wanted: &str, found: &str) -> Result<(), Fault> {
    if found == wanted {
        return Ok(());
    }
    let sentence = format!("the answer is {found:?}, where it must be {wanted:?}");
    Err(failed(what, sentence, Exit::Internal))
}

fn must_be_all(what: &str, bytes: u64) -> Result<(), Fault> {
    if bytes == PRINTED_BYTES {
        return Ok(());
    }
    let sentence = format!("{bytes} bytes of text have come, where it must be {PRINTED_BYTES}");
    Err(failed(what, sentence, Exit::Internal))
}

fn milliseconds(elapsed: Duration) -> f64 {
    1e3 * elapsed.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "16 million is exact in a double")]
fn megabytes_per_second(elapsed: Duration) -> f64 {
    PRINTED_BYTES as f64 / 1e6 / elapsed.as_secs_f64()
}

impl Report {
    /// Everything, the single runs too.
    pub(crate) fn rows_as_json(&self) -> Vec<Value> {
        self.rows.iter().map(Row::as_json).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_what_the_code_prints() {
        assert!(PRINT_LINES.contains("'x' * 79") && PRINT_LINES.contains("range(200_000)"));
        assert_eq!(megabytes_per_second(Duration::from_millis(100)), 160.0);
    }

    #[test]
    fn a_wrong_answer_is_an_internal_fault_that_says_what_came() {
        let fault = must_be("a round trip", "2", "3").unwrap_err();
        assert_eq!(fault.exit(), Exit::Internal);
        assert_eq!(
            fault.report() + &must_be_all("python into a pipe", 1).unwrap_err().report(),
            "error: a round trip: the answer is \"3\", where it must be \"2\"\n\
             error: python into a pipe: 1 bytes of text have come, where it must be 16000000\n"
        );
    }
}
