//! The attack itself: the probe as a cell, and what can be seen of its end from outside.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use cellblock_attacks::{Attack, Kind, Seen};
use cellblock_proto::client::{Reply, Request};
use cellblock_proto::codec::Codec;
use cellblock_proto::execution::{Death, End, ExecuteOptions, Limit, Output, StreamName};
use cellblock_proto::frame::{Frame, FrameReader, Kind as FrameKind, Limits};
use cellblock_proto::id::NotebookId;
use rustix::process::{Pid, Signal, kill_process};
use sandbox_profiles::{Barrier, BarrierState};

use super::Range;
use super::processes::{self, Namespace};
use crate::client::{ClientError, Connection};
use crate::fault::Fault;

/// Beyond its own wall time, what a cell may take until its outcome is there: grace, kill, a slow machine.
const SLACK: Duration = Duration::from_secs(3);
/// How long deleting a workspace full of traps may take.
const DELETION: Duration = Duration::from_secs(10);
/// How long a killed sandbox may take to be gone.
const GONE: Duration = Duration::from_secs(2);
/// A daemon that does not answer a raw connection in this time does not answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Names that must be refused, as a client can write them into JSON.
const NAMES: [&str; 12] = [
    "../x",
    "a/b",
    "/etc",
    "..",
    ".",
    "",
    "a\\u0000b",
    "%2e%2e%2fx",
    "a\\\\b",
    "\\u0430ttacker",
    "a b",
    "a\\nb",
];

/// A cell that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub end: End,
    /// What it printed.
    pub stdout: String,
    /// Whether something of its output was dropped.
    pub truncated: bool,
    /// How long it took.
    pub took: Duration,
}

/// Runs a cell to its end. `printed` is called with all that was printed so far.
pub(super) fn run(
    connection: &mut Connection,
    notebook: &NotebookId,
    id: &str,
    code: &str,
    options: ExecuteOptions,
    printed: &mut dyn FnMut(&[u8]),
) -> Result<Ended, ClientError> {
    let execution = id.parse().expect("made of letters, digits and -");
    let begun = Instant::now();
    let (mut stdout, mut truncated) = (Vec::new(), false);
    for received in connection.execute(notebook, &execution, code, options)? {
        let received = received?;
        match received.reply {
            Reply::Output(frame) => match frame.output {
                Output::Stream { name: StreamName::Stdout } => {
                    stdout.extend_from_slice(&received.payload);
                    printed(&stdout);
                }
                Output::Truncated { .. } => truncated = true,
                _ => {}
            },
            Reply::Outcome { outcome, .. } => {
                let stdout = String::from_utf8_lossy(&stdout).into_owned();
                return Ok(Ended { end: outcome.end, stdout, truncated, took: begun.elapsed() });
            }
            _ => {}
        }
    }
    Err(ClientError::Lost(std::io::ErrorKind::UnexpectedEof.into()))
}

impl Range {
    /// One form of an attack.
    pub(super) fn attempt(&mut self, attack: &Attack, variant: &str) -> Result<Seen, Fault> {
        if attack.kind == Kind::Names {
            return self.names();
        }
        // There may be no worker, after the attack before.
        self.run_in_attacker("None", None)?;
        let worker = self.worker()?;
        // Now: the attack may be the end of the worker, and of its report.
        let cgroup = attack.asks_for("report_cgroup").then(|| self.cgroup_state()).transpose()?;
        let sandbox = Namespace::of(worker);
        let shim = processes::parent(worker).and_then(processes::parent);
        let half = (attack.kind == Kind::HalfFrame).then(|| self.half_frame()).transpose()?;

        let id = self.next_id();
        let mut given = self.given(variant, &id);
        given["neighbour_pid"] = self.connection.status(&self.neighbour.clone())?.worker_pid.into();
        let code = cellblock_attacks::program(&attack.probe, &given.to_string());
        let options =
            ExecuteOptions { wall_ms: attack.wall_ms, store_history: false, ..ExecuteOptions::default() };
        let mut to_kill = shim.filter(|_| attack.kind == Kind::ShimKilled);
        let attacker = self.attacker.clone();
        let ended = run(&mut self.connection, &attacker, &id, &code, options, &mut |printed| {
            if printed.starts_with(b"begun")
                && let Some(pid) = to_kill.take().and_then(Pid::from_raw)
            {
                let _ = kill_process(pid, Signal::KILL);
            }
        })?;
        let probed = Seen::parse(&ended.stdout);
        // What the probe says of itself is its own word; what is seen of it from here on is ours.
        let mut seen = Seen::default();
        seen.note("end", &end_name(&ended.end));
        if let Some(state) = cgroup {
            seen.note("report_cgroup", state);
        }
        seen.note("truncated", if ended.truncated { "yes" } else { "no" });
        let bound = Duration::from_millis(attack.wall_ms.unwrap_or(0)) + SLACK;
        seen.note("prompt", if ended.took < bound { "yes" } else { "no" });
        if half.is_some() {
            let neighbour = self.neighbour.clone();
            let answered = self.run(&neighbour, "print(kept)", None)?;
            let prompt = answered.took < SLACK && answered.stdout.trim() == "7";
            seen.note("half_frame", if prompt { "held_nobody_up" } else { "held_others_up" });
        }
        if attack.kind == Kind::Deletion {
            self.delete(&mut seen)?;
        } else if attack.restarts {
            self.renew()?;
        }
        let gone = attack.restarts || attack.kind == Kind::Deletion || self.worker().ok() != Some(worker);
        if gone {
            seen.note("left", &sandbox.left_after(GONE).to_string());
        } else if attack.ends_worker {
            // It did not end by it; the next attack still gets a worker that nobody has touched.
            self.renew()?;
            seen.note("left", &sandbox.left_after(GONE).to_string());
        }
        if gone && !attack.ends_worker && !attack.restarts && ended.end == End::Ok {
            seen.note("worker", "lost");
        }
        seen.retain(|name| {
            attack.asks_for(name) || name == "worker" || (name == "end" && ended.end != End::Ok)
        });
        let mut all = probed;
        all.merge("", &seen);
        Ok(all)
    }

    /// The worker's process id on the host.
    fn worker(&mut self) -> Result<i32, Fault> {
        let status = self.connection.status(&self.attacker.clone())?;
        let pid = status.worker_pid.and_then(|pid| i32::try_from(pid).ok());
        pid.ok_or_else(|| Fault::usage("the attacker has no worker"))
    }

    /// What the sandbox says of a barrier that not every host has.
    fn cgroup_state(&mut self) -> Result<&'static str, Fault> {
        let report = self.connection.status(&self.attacker.clone())?.report.unwrap_or_default();
        let line = report.barriers.iter().find(|line| line.barrier == Barrier::Cgroup);
        Ok(line.map_or("none", |line| match line.state {
            BarrierState::Enforced => "enforced",
            BarrierState::Degraded => "degraded",
            BarrierState::Missing => "missing",
        }))
    }

    /// Deletes the attacker's notebook, with all that it has laid out, and opens it anew.
    fn delete(&mut self, seen: &mut Seen) -> Result<(), Fault> {
        let notebook = self.attacker.clone();
        let begun = Instant::now();
        self.connection.tell(&Request::Delete { notebook: notebook.clone() })?;
        seen.note("prompt", if begun.elapsed() < DELETION { "yes" } else { "no" });
        let there = self.against.notebooks.join(notebook.as_str()).symlink_metadata().is_ok();
        seen.note("deleted", if there { "no" } else { "yes" });
        seen.note("canary", if self.places.canary_is_untouched() { "untouched" } else { "touched" });
        let loaded = self.places.folder().join("loaded");
        seen.note("loaded", if loaded.exists() { "yes" } else { "no" });
        self.connection.open_notebook(&notebook, Some(super::PROFILE_NAME))?;
        Ok(())
    }

    /// A client that says hello and then half a header. Kept by the caller for as long as it is to hang.
    fn half_frame(&self) -> Result<UnixStream, Fault> {
        let mut raw = Raw::connect(&self.against.socket)?;
        raw.send(&[0xCB, 1, 1])?;
        Ok(raw.stream)
    }

    /// Opens notebooks under names that must be refused, and one under a plain name.
    fn names(&mut self) -> Result<Seen, Fault> {
        let mut seen = Seen::default();
        let mut taken = Vec::new();
        let long = "x".repeat(4096);
        for name in NAMES.into_iter().chain([long.as_str()]) {
            // A connection each, because some refusals end it.
            if Raw::connect(&self.against.socket)?.open(name)? {
                taken.push(name);
            }
        }
        seen.note(
            "refused",
            if taken.is_empty() { "all".to_owned() } else { format!("not {taken:?}") }.as_str(),
        );
        let plain = Raw::connect(&self.against.socket)?.open("plain")?;
        seen.note("plain", if plain { "taken" } else { "refused" });
        if plain {
            let notebook = "plain".parse().expect("a legal name");
            self.connection.tell(&Request::Delete { notebook })?;
        }
        Ok(seen)
    }
}

/// A connection on which anything can be said, in JSON.
struct Raw {
    stream: UnixStream,
}

impl Raw {
    fn connect(socket: &Path) -> Result<Self, Fault> {
        let failed = |error| Fault::file("talk to", socket)(error);
        let stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(ANSWER)).map_err(failed)?;
        let mut raw = Raw { stream };
        let (min, max) = (cellblock_proto::PROTOCOL_MIN, cellblock_proto::PROTOCOL_MAX);
        let hello = format!(
            "{{\"hello\": {{\"min_version\": {min}, \"max_version\": {max}, \"codec\": \"json\", \"client\": \"selftest\"}}}}"
        );
        raw.ask(&hello)?;
        Ok(raw)
    }

    /// Whether a notebook of that name was opened. `name` is what stands between the quotes.
    fn open(&mut self, name: &str) -> Result<bool, Fault> {
        let answer = self.ask(&format!("{{\"open_notebook\": {{\"notebook\": \"{name}\"}}}}"))?;
        Ok(matches!(answer, Some(Reply::Notebook(_))))
    }

    fn ask(&mut self, json: &str) -> Result<Option<Reply>, Fault> {
        let meta = json.as_bytes().to_vec();
        let (kind, codec) = (FrameKind::Request, Codec::Json);
        let frame = Frame { kind, codec, flags: 0, request: 1, meta, payload: Vec::new() };
        let mut bytes = Vec::new();
        frame.write_to(&mut bytes);
        self.send(&bytes)?;
        let mut reader = FrameReader::new(Limits::DEFAULT);
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = reader.next_frame().map_err(ClientError::from)? {
                return Ok(frame.message().ok());
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return Ok(None),
                Ok(count) => reader.feed(&buffer[..count]),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.stream.write_all(bytes).map_err(|error| ClientError::Lost(error).into())
    }
}

/// An end in one word.
fn end_name(end: &End) -> String {
    match end {
        End::Ok => "ok".to_owned(),
        End::Error { name, value } => format!("error_{name}: {value}"),
        End::TimedOut { .. } => "timed_out".to_owned(),
        End::Interrupted => "interrupted".to_owned(),
        End::LimitHit { limit, .. } => match limit {
            Limit::Memory => "limit_memory",
            Limit::Cpu => "limit_cpu",
            Limit::Processes => "limit_processes",
            Limit::Disk => "limit_disk",
            Limit::Output => "limit_output",
        }
        .to_owned(),
        End::WorkerDied(death) => match death {
            Death::Exited { code } => format!("died_exit_{code}"),
            Death::Signalled { signal } => format!("died_signal_{signal}"),
            Death::Ended { .. } => "died_ended".to_owned(),
            Death::ShimLost => "died_shim".to_owned(),
            Death::Protocol { .. } => "died_protocol".to_owned(),
        },
        End::Cancelled { .. } => "cancelled".to_owned(),
    }
}
