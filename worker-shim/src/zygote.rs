//! A zygote's shim: makes its root, executes Python in it, tells the supervisor how that went, and ends it
//! when the supervisor has gone. Forking is between the zygote and the workers' shims alone.
//!
//! A zygote is no sandbox: it runs what the operator's profile names and the worker's own modules, never
//! user code. It is held in all the same, so that an import that misbehaves finds nothing.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::Context;
use cellblock_proto::codec::Codec;
use cellblock_proto::frame::Kind;
use cellblock_proto::shim::{Event, EventBody, StartFailure, ZygoteSpec};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use serde::Deserialize;

use crate::outer::Outer;
use crate::sandbox::{InitEvent, Sandbox};
use crate::wire;

/// What is kept of what its imports print, in bytes: enough for a traceback.
const LOG_BYTES: usize = 8 << 10;

/// Longest message of a zygote, in bytes.
const REPORT_BYTES: usize = 64 << 10;

/// What a zygote tells, in JSON.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Report {
    Up { python: String, preloaded: Vec<String>, seconds: f64 },
    Failed { detail: String },
}

/// Runs the zygote that `spec` describes until it or the supervisor ends.
///
/// # Errors
/// It cannot listen, or the supervisor cannot be spoken to.
pub fn run(spec: &ZygoteSpec, mut supervisor: UnixStream, outer: &Outer) -> anyhow::Result<()> {
    // With rights on the host still: the folder is the supervisor's alone.
    let listener = wire::listen(&spec.socket)?;
    let sandbox = match Sandbox::make(&spec.start, outer, &[]) {
        Ok(sandbox) => sandbox,
        Err(error) => return tell(&mut supervisor, EventBody::StartFailed { failure: error.failure() }),
    };
    let mut zygote = match Zygote::start(sandbox, listener) {
        Ok(zygote) => zygote,
        Err(detail) => return tell(&mut supervisor, failed(detail)),
    };
    zygote.serve(&mut supervisor)
}

struct Zygote {
    sandbox: Sandbox,
    /// What it has to say.
    reports: OwnedFd,
    /// What it prints; gone when it has closed that.
    log: Option<OwnedFd>,
    printed: Vec<u8>,
    is_up: bool,
}

impl Zygote {
    fn start(sandbox: Sandbox, listener: OwnedFd) -> Result<Self, String> {
        let prepared = || -> io::Result<_> {
            let (log, its_log) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            rustix::fs::fcntl_setfl(&log, OFlags::RDONLY | OFlags::NONBLOCK)?;
            let (reports, its_reports) = rustix::net::socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?;
            let null: OwnedFd = std::fs::File::open("/dev/null")?.into();
            Ok((log, its_log, reports, its_reports, null))
        };
        let (log, its_log, reports, its_reports, null) = prepared().map_err(|error| error.to_string())?;
        let files: [BorrowedFd<'_>; 5] =
            [&null, &its_log, &its_log, &its_reports, &listener].map(AsFd::as_fd);
        sandbox.start(&files).map_err(|error| error.to_string())?;
        Ok(Zygote { sandbox, reports, log: Some(log), printed: Vec::new(), is_up: false })
    }

    fn serve(&mut self, supervisor: &mut UnixStream) -> anyhow::Result<()> {
        loop {
            let (told, printed, ended, gone) = self.wait(supervisor).context("failed to wait")?;
            if printed {
                self.read_log();
            }
            if told && let Some(event) = self.hear() {
                let is_end = matches!(event, EventBody::StartFailed { .. });
                tell(supervisor, event)?;
                if is_end {
                    return Ok(());
                }
                self.is_up = true;
            }
            if ended {
                let detail = match self.sandbox.next_event() {
                    Some(InitEvent::NotStarted(error)) => error.to_string(),
                    Some(InitEvent::Ended { status }) => format!("the zygote ended with status {status}"),
                    Some(_) => continue,
                    None => "the zygote ended".to_owned(),
                };
                self.read_log();
                let printed = String::from_utf8_lossy(&self.printed);
                return match self.is_up {
                    // The supervisor sees us go.
                    true => Ok(()),
                    false => tell(supervisor, failed(format!("{detail}\n{}", printed.trim_end()))),
                };
            }
            if gone {
                // It says nothing to a zygote's shim but by going.
                return Ok(());
            }
        }
    }

    /// Which of reports, log, init and supervisor have something.
    fn wait(&self, supervisor: &UnixStream) -> io::Result<(bool, bool, bool, bool)> {
        let listening = PollFlags::IN;
        let mut polled = vec![
            PollFd::new(&self.reports, listening),
            PollFd::from_borrowed_fd(self.sandbox.events(), listening),
            PollFd::new(supervisor, listening),
        ];
        polled.extend(self.log.as_ref().map(|log| PollFd::new(log, listening)));
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, None))?;
        let woken: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        // The end of the reports is init's to tell.
        let told = polled[0].revents().contains(listening);
        Ok((told, woken.get(3).copied().unwrap_or(false), woken[1] || (woken[0] && !told), woken[2]))
    }

    fn hear(&mut self) -> Option<EventBody> {
        let mut bytes = vec![0; REPORT_BYTES];
        let (count, _) = rustix::net::recv(&self.reports, &mut bytes[..], RecvFlags::DONTWAIT).ok()?;
        if count == 0 {
            return None;
        }
        Some(match Codec::Json.decode::<Report>(&bytes[..count]) {
            Ok(Report::Up { python, preloaded, seconds }) => {
                EventBody::ZygoteUp { python, preloaded, took_ms: (seconds * 1e3) as u64 }
            }
            Ok(Report::Failed { detail }) => failed(detail),
            Err(error) => failed(format!("it sent something that is no report: {error}")),
        })
    }

    fn read_log(&mut self) {
        let mut bytes = [0; 4096];
        while let Some(log) = &self.log {
            match rustix::io::read(log, &mut bytes) {
                Ok(0) => self.log = None,
                Ok(count) => {
                    self.printed.extend_from_slice(&bytes[..count]);
                    let over = self.printed.len().saturating_sub(LOG_BYTES);
                    self.printed.drain(..over);
                }
                Err(_) => return,
            }
        }
    }
}

fn failed(detail: String) -> EventBody {
    EventBody::StartFailed { failure: StartFailure::Interpreter { detail } }
}

/// Nobody says `Taken` to a zygote's shim: what it has to tell is told once.
fn tell(supervisor: &mut UnixStream, body: EventBody) -> anyhow::Result<()> {
    let frame = Codec::Bincode.frame(Kind::Event, 0, &Event { seq: 0, body })?;
    let mut bytes = Vec::new();
    frame.write_to(&mut bytes);
    supervisor.write_all(&bytes).context("failed to tell the supervisor")
}
