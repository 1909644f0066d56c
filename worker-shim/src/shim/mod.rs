//! The shim: beside one worker, outside its sandbox. It holds the notebook's queue, makes the one
//! order of outputs, watches clock and memory, and keeps what it has to say until it is taken; so
//! that cellblockd may go and come back, and nothing is lost.
//!
//! One thread, one loop: wait, read, decide, write. `handlers.rs` has what happens on each
//! input, `ends.rs` what happens at an end.

mod clocks;
mod disk;
mod ends;
mod executions;
mod handlers;
mod memory;
mod meter;
mod outbox;
mod processes;
mod processor;
mod report;
mod text;
mod walk;
mod worker;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use cellblock_proto::frame::{Frame, FrameReader, Kind, Limits as FrameLimits};
use cellblock_proto::id::ExecutionId;
use cellblock_proto::names::KnownNames;
use cellblock_proto::shim::{Command, EventBody, StartFailure, StartSpec};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use sandbox_profiles::{Action, SandboxReport};

use self::disk::Disk;
use self::executions::{Cause, Executions};
use self::memory::Memory;
use self::meter::Meter;
use self::outbox::Outbox;
use self::processor::Processor;
use self::text::{Gap, Text};
use self::worker::Worker;
use crate::cgroup::Folder;
use crate::outer::Outer;
use crate::pump::Sequencer;
use crate::sandbox::Sandbox;
use crate::sys;

/// Where the anchor puts our own program; its cgroups come behind it.
const PROGRAM_FD: i32 = 5;

/// Runs the shim whose arguments are the worker's id, the first host uid (or `rootless`), and the kinds
/// of its cgroups.
pub fn run(arguments: &[OsString]) -> anyhow::Result<()> {
    let number = |text: &OsString| text.to_str().and_then(|text| text.parse().ok());
    let first_host_uid: Option<u32> = arguments.get(1).and_then(number);
    let groups = cgroups(arguments.get(2..).unwrap_or_default())?;
    let socket = UnixStream::from(sys::inherited(0)?);
    let user = sys::inherited(3).context("descriptor 3 must be the outer user namespace")?;
    let mount = sys::inherited(4).context("descriptor 4 must be the outer mount namespace")?;
    // Our own program.
    drop(sys::inherited(PROGRAM_FD));
    let outer = Outer { user, mount: first_host_uid.is_none().then_some(mount), first_host_uid };
    let _ = rustix::thread::set_name(c"cellblock-shim");
    crate::outer::end_with_parent()?;
    let _ = rustix::process::setsid();

    let mut reader = FrameReader::new(FrameLimits::DEFAULT);
    let mut spec = first_command(&socket, &mut reader)?;
    let nonce = worker::nonce(&mut spec)?;
    // With rights on the host still: the folder is the supervisor's alone.
    let _ = std::fs::remove_file(&spec.control_socket);
    let listener = UnixListener::bind(&spec.control_socket)
        .with_context(|| format!("failed to listen at {}", spec.control_socket.display()))?;
    // Of the supervisor's folder a shim in Z can reach nothing any more, so the socket is removed
    // by whoever starts and ends shims.
    listener.set_nonblocking(true)?;
    socket.set_nonblocking(true)?;

    let mut shim = Shim {
        outbox: Outbox::default(),
        control: Some(Control { socket, reader, resumed: true }),
        listener,
        sandbox: None,
        worker: None,
        sequencer: Sequencer::new(nonce),
        one_sided: None,
        text: Text::default(),
        executions: Executions::default(),
        text_of: None,
        startup_text: Vec::new(),
        ready: None,
        started: Instant::now(),
        made_in: Duration::ZERO,
        names: KnownNames::default(),
        asked: BTreeSet::new(),
        ending: None,
        full_since: None,
        nobody_reads: false,
        disk: Disk::default(),
        memory: Memory::default(),
        memory_at: Instant::now(),
        processor: Processor::new(),
        processor_at: Instant::now(),
        watches_memory: spec.steps.iter().any(|step| matches!(step.action, Action::WatchMemory { .. })),
        watches_processor: spec.steps.iter().any(|step| matches!(step.action, Action::WatchProcessor { .. })),
        meter: Meter::default(),
        alone_since: None,
        over: false,
        spec,
    };
    shim.start(&outer, &groups);
    drop((outer, groups));
    shim.serve()
}

/// The descriptors behind our program's, by what they are for.
fn cgroups(kinds: &[OsString]) -> anyhow::Result<Vec<Folder>> {
    let mut groups = Vec::new();
    for (number, kind) in (PROGRAM_FD + 1..).zip(kinds) {
        let descriptor =
            sys::inherited(number).with_context(|| format!("descriptor {number} must be a cgroup"))?;
        let folder = kind.to_str().and_then(|kind| Folder::parse(kind, descriptor));
        groups.push(folder.context("an unknown kind of cgroup")?);
    }
    Ok(groups)
}

fn first_command(socket: &UnixStream, reader: &mut FrameReader) -> anyhow::Result<StartSpec> {
    let frame = loop {
        if let Some(frame) = reader.next_frame()? {
            break frame;
        }
        let mut bytes = [0; 16 << 10];
        match rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut bytes))? {
            0 => bail!("the supervisor went away before it said what to start"),
            count => reader.feed(&bytes[..count]),
        }
    };
    match frame.message()? {
        Command::Start(spec) if spec.build == cellblock_proto::BUILD => Ok(*spec),
        Command::Start(spec) => {
            bail!("the supervisor is of build {}, this shim of {}", spec.build, cellblock_proto::BUILD)
        }
        _ => bail!("the first command must be Start"),
    }
}

/// The connection to the supervisor.
struct Control {
    socket: UnixStream,
    reader: FrameReader,
    /// It has said where it wants to go on; nothing is written before, or the first frame would be
    /// cut off by the second beginning.
    resumed: bool,
}

/// The shim's whole state.
struct Shim {
    spec: StartSpec,
    outbox: Outbox,
    control: Option<Control>,
    listener: UnixListener,
    sandbox: Option<Sandbox>,
    worker: Option<Worker>,
    sequencer: Sequencer,
    one_sided: Option<Instant>,
    text: Text,
    executions: Executions,
    /// Whose the text is that comes now.
    text_of: Option<ExecutionId>,
    /// What was printed before there was anybody whose it could be; the end of it.
    startup_text: Vec<u8>,
    ready: Option<(String, SandboxReport)>,
    started: Instant,
    /// How long it took to make the sandbox.
    made_in: Duration,
    names: KnownNames,
    /// Questions the worker has not answered, by request id.
    asked: BTreeSet<u32>,
    /// Why the sandbox is being ended by us.
    ending: Option<Cause>,
    /// Since when nothing has been taken though nothing more can be kept.
    full_since: Option<Instant>,
    nobody_reads: bool,
    disk: Disk,
    memory: Memory,
    memory_at: Instant,
    processor: Processor,
    processor_at: Instant,
    /// What the plan has us watch.
    watches_memory: bool,
    watches_processor: bool,
    /// What the Execution that runs has taken.
    meter: Meter,
    /// Since when there is no supervisor.
    alone_since: Option<Instant>,
    /// The worker has ended; what remains is to have everything taken.
    over: bool,
}

impl Shim {
    fn start(&mut self, outer: &Outer, groups: &[Folder]) {
        let began = Instant::now();
        let made = Sandbox::make(&self.spec, outer, groups).and_then(|sandbox| {
            self.made_in = began.elapsed();
            let worker = Worker::start(&sandbox);
            worker.map(|worker| (sandbox, worker))
        });
        match made {
            Ok((sandbox, worker)) => {
                self.sandbox = Some(sandbox);
                self.worker = Some(worker);
            }
            Err(error) => self.fail_to_start(error.failure()),
        }
    }

    fn fail_to_start(&mut self, failure: StartFailure) {
        (self.sandbox, self.worker) = (None, None);
        (self.memory, self.disk) = (Memory::default(), Disk::default());
        self.outbox.push(EventBody::StartFailed { failure }, Vec::new());
        self.over = true;
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            let deadline = self.clock(now);
            if self.over && self.outbox.is_empty() {
                return Ok(());
            }
            if self.alone_since.is_some_and(|since| now >= since + Duration::from_millis(self.spec.orphan_ms))
            {
                // Nobody has come back for so long that nobody will.
                return Ok(());
            }
            let woken = self.wait(deadline, now)?;
            if woken.init {
                self.hear_init();
            }
            if woken.worker {
                self.hear_worker();
            }
            if woken.listener {
                self.accept();
            }
            self.hear_supervisor(woken.control);
            self.begin_next();
            self.write();
        }
    }

    /// Whether the worker is held back because nobody takes what it has said.
    fn is_full(&self) -> bool {
        self.outbox.kept_bytes() as u64 >= self.spec.retain_bytes
    }

    /// Twice what may be kept: only what cannot be held back came after it was full, and no more of
    /// that is kept.
    fn is_overfull(&self) -> bool {
        self.outbox.kept_bytes() as u64 >= 2 * self.spec.retain_bytes
    }

    fn wait(&self, deadline: Option<Instant>, now: Instant) -> anyhow::Result<Woken> {
        let listening = PollFlags::IN;
        let mut polled = vec![PollFd::new(&self.listener, listening)];
        if let Some(control) = &self.control {
            let unsent = control.resumed && self.outbox.has_unsent();
            let writing = if unsent { PollFlags::OUT } else { PollFlags::empty() };
            polled.push(PollFd::new(&control.socket, listening | writing));
        }
        let init_at = polled.len();
        if let Some(sandbox) = &self.sandbox {
            polled.push(PollFd::from_borrowed_fd(sandbox.events(), listening));
        }
        let worker_at = polled.len();
        if let Some(worker) = self.worker.as_ref().filter(|_| !self.is_full() || self.nobody_reads) {
            polled.extend(worker.readable().map(|fd| PollFd::from_borrowed_fd(fd, listening)));
        }
        let timeout = deadline.map(|at| {
            let wait = at.saturating_duration_since(now);
            Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(wait.subsec_nanos()),
            }
        });
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("failed to wait"),
        }
        let woken = |range: &[PollFd<'_>]| range.iter().any(|fd| !fd.revents().is_empty());
        Ok(Woken {
            listener: woken(&polled[..1]),
            control: woken(&polled[1..init_at]),
            init: woken(&polled[init_at..worker_at]),
            worker: woken(&polled[worker_at..]),
        })
    }

    /// Why text that comes now is to be dropped, if it is.
    fn gap(&self, output_bytes: u64) -> Option<Gap> {
        let cap = self.spec.limits.output_bytes;
        if output_bytes > cap {
            Some(Gap::Cap(cap))
        } else if self.is_overfull() {
            Some(Gap::NobodyReads(self.spec.retain_grace_ms))
        } else {
            self.nobody_reads.then_some(Gap::NobodyReads(self.spec.retain_grace_ms))
        }
    }

    fn kill(&self) {
        if let Some(sandbox) = &self.sandbox {
            sandbox.kill();
        }
    }

    fn accept(&mut self) {
        // The folder's mode says who can connect. A newcomer replaces whom we had: the supervisor
        // that was killed has not always closed its end in our eyes yet.
        if let Ok((socket, _)) = self.listener.accept()
            && socket.set_nonblocking(true).is_ok()
        {
            let reader = FrameReader::new(FrameLimits::DEFAULT);
            self.control = Some(Control { socket, reader, resumed: false });
        }
    }

    fn hear_supervisor(&mut self, woken: bool) {
        let Some(control) = &mut self.control else { return };
        let mut frames: Vec<Frame> = Vec::new();
        let mut gone = false;
        let mut bytes = [0; 64 << 10];
        let mut more = woken;
        while more {
            match rustix::io::read(&control.socket, &mut bytes) {
                Ok(0) => (gone, more) = (true, false),
                Ok(count) => control.reader.feed(&bytes[..count]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => more = false,
                Err(_) => (gone, more) = (true, false),
            }
        }
        loop {
            match control.reader.next_frame() {
                Ok(Some(frame)) if frame.kind == Kind::Command => frames.push(frame),
                Ok(None) => break,
                // Not our supervisor; whoever it is goes, and the worker stays.
                Ok(Some(_)) | Err(_) => {
                    gone = true;
                    break;
                }
            }
        }
        frames.into_iter().for_each(|frame| self.command(frame));
        if gone {
            self.control = None;
        }
    }

    fn write(&mut self) {
        if let Some(control) = self.control.as_ref().filter(|control| control.resumed)
            && self.outbox.write(control.socket.as_fd()).is_err()
        {
            self.control = None;
        }
    }
}

/// Which descriptors have something.
struct Woken {
    listener: bool,
    control: bool,
    init: bool,
    worker: bool,
}
