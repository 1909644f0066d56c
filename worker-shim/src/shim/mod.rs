//! The shim: beside one worker, outside its sandbox. It holds the notebook's queue, makes the one
//! order of outputs, watches clock and memory, and keeps what it has to say until it is taken; so
//! that cellblockd may go and come back, and nothing is lost.
//!
//! One thread, one loop: wait, read, decide, write. `handlers.rs` has what happens on each
//! input, `ends.rs` what happens at an end.

mod below;
mod clocks;
mod control;
mod disk;
mod ends;
mod executions;
mod handlers;
mod memory;
mod meter;
mod orders;
mod outbox;
mod processes;
mod processor;
mod report;
mod resume;
mod retire;
mod saver;
mod text;
mod walk;
mod worker;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use anyhow::Context;
use cellblock_proto::frame::{FrameReader, Limits as FrameLimits};
use cellblock_proto::id::ExecutionId;
use cellblock_proto::names::KnownNames;
use cellblock_proto::shim::{Claim, EventBody, StartFailure, StartSpec};
use cellblock_steps::StepError;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use sandbox_profiles::{Action, SandboxReport, Start};

pub use self::below::Room;
use self::control::Control;
use self::disk::Disk;
use self::executions::{Cause, Executions};
use self::memory::Memory;
use self::meter::Meter;
use self::orders::{First, cgroups, first_command};
use self::outbox::Outbox;
use self::processor::Processor;
use self::retire::Retiring;
pub use self::saver::Places;
use self::saver::Saver;
use self::text::{Gap, Text};
use self::worker::{Joined, Worker};
use crate::cgroup::Folder;
use crate::outer::Outer;
use crate::pump::Sequencer;
use crate::sandbox::Sandbox;
use crate::{sys, wire};

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
    let program = sys::inherited(PROGRAM_FD).context("descriptor 5 must be our own program")?;
    let outer = Outer { user, mount: first_host_uid.is_none().then_some(mount), first_host_uid };
    let _ = rustix::thread::set_name(c"cellblock-shim");
    crate::outer::end_with_parent()?;
    let _ = rustix::process::setsid();

    let mut reader = FrameReader::new(FrameLimits::DEFAULT);
    let mut spec = match first_command(&socket, &mut reader)? {
        First::Worker(spec) => *spec,
        First::Zygote(spec) => return crate::zygote::run(&spec, socket, &outer),
    };
    // While we can: where it listens is the supervisor's folder.
    let zygote = spec.zygote.as_deref().map(|path| wire::connect(path, worker::JOIN_PATIENCE));
    let nonce = worker::nonce(&mut spec)?;
    // With rights on the host still: the folder is the supervisor's alone.
    let _ = std::fs::remove_file(&spec.control_socket);
    let listener = UnixListener::bind(&spec.control_socket)
        .with_context(|| format!("failed to listen at {}", spec.control_socket.display()))?;
    // Of the supervisor's folder a shim in Z can reach nothing any more, so the socket is removed
    // by whoever starts and ends shims.
    listener.set_nonblocking(true)?;
    socket.set_nonblocking(true)?;
    let signals = sys::end_signal_fd()?;
    // With rights on the host still, but for an ordinary user, who takes a view of it later.
    let opened = spec.checkpoints.take().map(|spec| {
        let mut places = Places::open(&spec)?;
        let view = if outer.mount.is_none() { places.take_view(&spec) } else { Ok(()) };
        view.map(|()| (spec, places))
    });
    let (opened, unsaved) =
        opened.transpose().map_or_else(|error| (None, Some(error)), |opened| (opened, None));

    let mut shim = Shim {
        outbox: Outbox::default(),
        control: Some(Control { socket, reader, resumed: true }),
        listener,
        signals,
        retiring: None,
        sandbox: None,
        worker: None,
        spare: None,
        is_nobodys: spec.spare,
        newest: None,
        has_begun: false,
        start_kind: Start::Exec,
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
        saver: None,
        program,
        alone_since: None,
        over: false,
        spec,
    };
    if unsaved.is_none() {
        shim.start(&outer, &groups, zygote, nonce);
    }
    let late = opened.map_or(Ok(()), |(spec, mut places)| {
        let view = if outer.mount.is_some() { places.take_view(&spec) } else { Ok(()) };
        shim.saver = Some(Saver::new(spec, places));
        view
    });
    if let Some(error) = unsaved.or(late.err()) {
        let step = "open the notebook's checkpoints".to_owned();
        shim.fail_to_start(StartFailure::Step { step, error: error.to_string(), cure: None });
    }
    drop((outer, groups));
    shim.serve()
}

/// A worker that has just been started.
enum Started {
    /// Python begins.
    Running(Worker),
    /// Python is there, and waits to be sealed.
    Forked(Joined),
}

/// The shim's whole state.
struct Shim {
    spec: StartSpec,
    outbox: Outbox,
    control: Option<Control>,
    listener: UnixListener,
    /// Readable when SIGTERM has come.
    signals: OwnedFd,
    retiring: Option<Retiring>,
    sandbox: Option<Sandbox>,
    worker: Option<Worker>,
    /// A worker that waits to be claimed.
    spare: Option<Joined>,
    /// No notebook has claimed it.
    is_nobodys: bool,
    /// The Execution after which the variables stand; see [`cellblock_proto::shim::ShimState::newest`].
    newest: Option<String>,
    /// A cell has.
    has_begun: bool,
    /// How Python was started.
    start_kind: Start,
    sequencer: Sequencer,
    /// A mark that stands in one pipe alone, and since when.
    one_sided: Option<(u64, Instant)>,
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
    /// Its checkpoints, when it has any.
    saver: Option<Saver>,
    /// Our own, which is the store processes' too.
    program: OwnedFd,
    /// Since when there is no supervisor.
    alone_since: Option<Instant>,
    /// The worker has ended; what remains is to have everything taken.
    over: bool,
}

impl Shim {
    fn start(
        &mut self,
        outer: &Outer,
        groups: &[Folder],
        zygote: Option<io::Result<OwnedFd>>,
        nonce: [u8; 16],
    ) {
        let began = Instant::now();
        let made = Sandbox::make(&self.spec, outer, groups).and_then(|sandbox| {
            self.made_in = began.elapsed();
            let started = self.start_worker(&sandbox, zygote, nonce);
            started.map(|started| (sandbox, started))
        });
        match made {
            Ok((sandbox, started)) => {
                self.sandbox = Some(sandbox);
                match started {
                    Started::Running(worker) => self.worker = Some(worker),
                    Started::Forked(joined) if self.spec.spare => {
                        self.spare = Some(joined);
                        self.outbox.push_loose(0, EventBody::Spare, Vec::new());
                    }
                    Started::Forked(joined) => self.seal(joined),
                }
            }
            Err(error) if self.is_warm() => self.fail_warm(&error),
            Err(error) => self.fail_to_start(error.failure()),
        }
    }

    /// Whether the worker is a zygote's to make.
    fn is_warm(&self) -> bool {
        self.spec.zygote.is_some() && self.start_kind != Start::Exec
    }

    /// What failed before the seal can be tried once more with another sandbox and a fresh interpreter: no
    /// code of the user's has run.
    fn fail_warm(&mut self, error: &StepError) {
        self.fail_to_start(StartFailure::Warm { why: error.to_string() });
    }

    /// By a zygote, if there is one; and if it has not made anything, by executing Python.
    fn start_worker(
        &mut self,
        sandbox: &Sandbox,
        zygote: Option<io::Result<OwnedFd>>,
        nonce: [u8; 16],
    ) -> Result<Started, StepError> {
        let why = match zygote {
            Some(Ok(zygote)) => {
                self.start_kind = Start::Zygote;
                match Worker::fork(sandbox, zygote, &self.spec, nonce)? {
                    Ok(joined) => return Ok(Started::Forked(joined)),
                    Err(why) => Some(why),
                }
            }
            Some(Err(error)) => Some(format!("the zygote does not listen: {error}")),
            None => self.spec.no_zygote.clone(),
        };
        if self.spec.spare {
            // Executed Python would be running before anybody knows for whom.
            let error = why.unwrap_or_else(|| "a spare needs a zygote".to_owned());
            return Err(StepError { step: "fork a spare".to_owned(), error, errno: 0 });
        }
        self.start_kind = why.map_or(Start::Exec, |why| Start::Fallback { why });
        Worker::start(sandbox).map(Started::Running)
    }

    /// The last steps of a worker that was forked; from here on it is as any other.
    fn seal(&mut self, joined: Joined) {
        let steps = self.spec.steps.clone();
        let sealed = joined.seal(&steps).and_then(|(worker, missing)| {
            let Some(sandbox) = &mut self.sandbox else { return Ok(worker) };
            sandbox.note(&self.spec, missing).map(|()| worker)
        });
        match sealed {
            Ok(worker) => self.worker = Some(worker),
            Err(error) => self.fail_warm(&error),
        }
    }

    /// A spare becomes a notebook's.
    fn claim(&mut self, claim: Claim) {
        let (Some(joined), Some(sandbox)) = (self.spare.take(), &mut self.sandbox) else {
            return self.fail_to_start(StartFailure::Warm { why: "the spare has ended".to_owned() });
        };
        self.is_nobodys = false;
        self.spec.notebook = claim.notebook;
        self.spec.tenant = claim.tenant;
        self.spec.steps = claim.steps;
        self.started = Instant::now();
        match sandbox.attach(&claim.attach, claim.checkpoints.as_ref()) {
            Ok(places) => {
                self.saver = claim.checkpoints.zip(places).map(|(spec, places)| Saver::new(spec, places));
                self.seal(joined);
            }
            Err(error) => self.fail_warm(&error),
        }
    }

    fn fail_to_start(&mut self, failure: StartFailure) {
        (self.sandbox, self.worker, self.spare) = (None, None, None);
        (self.memory, self.disk) = (Memory::default(), Disk::default());
        self.outbox.push(EventBody::StartFailed { failure }, Vec::new());
        self.over = true;
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            let deadline = self.clock(now);
            if (self.over && self.outbox.is_empty()) || self.has_retired(now) {
                return Ok(());
            }
            if self.is_nobodys && (self.control.is_none() || (self.over && !self.outbox.has_unsent())) {
                // Whoever comes back makes new ones, and nobody waits for this one's end.
                return Ok(());
            }
            if self.alone_since.is_some_and(|since| now >= since + Duration::from_millis(self.spec.orphan_ms))
            {
                // Nobody has come back for so long that nobody will.
                return Ok(());
            }
            let woken = self.wait(deadline, now)?;
            if woken.signals {
                self.hear_signals();
            }
            if woken.init {
                self.hear_init();
            }
            if woken.worker {
                self.hear_worker();
            }
            self.hear_stores(&woken.stores);
            if woken.listener {
                self.accept();
            }
            self.hear_supervisor(woken.control);
            self.save_next();
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
        let mut polled = vec![PollFd::new(&self.listener, listening), PollFd::new(&self.signals, listening)];
        if let Some(control) = &self.control {
            let unsent = control.resumed && self.outbox.has_unsent();
            let writing = if unsent { PollFlags::OUT } else { PollFlags::empty() };
            polled.push(PollFd::new(&control.socket, listening | writing));
        }
        let init_at = polled.len();
        if let Some(sandbox) = &self.sandbox {
            polled.push(PollFd::from_borrowed_fd(sandbox.events(), listening));
        }
        let store_at = polled.len();
        let stores = self.saver.iter().flat_map(Saver::readable);
        polled.extend(stores.map(|said| PollFd::from_borrowed_fd(said, listening)));
        let worker_at = polled.len();
        let is_gone = self.saver.as_ref().is_some_and(Saver::outlives);
        let is_heard = !is_gone && (!self.is_full() || self.nobody_reads);
        if let Some(worker) = self.worker.as_ref().filter(|_| is_heard) {
            polled.extend(worker.readable().map(|fd| PollFd::from_borrowed_fd(fd, listening)));
        }
        let is_unheard = is_heard && self.worker.is_some() && self.sequencer.must_hear();
        let deadline = if is_unheard { Some(now) } else { deadline };
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
            signals: woken(&polled[1..2]),
            control: woken(&polled[2..init_at]),
            init: woken(&polled[init_at..store_at]),
            stores: polled[store_at..worker_at].iter().map(|fd| !fd.revents().is_empty()).collect(),
            worker: is_unheard || woken(&polled[worker_at..]),
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
        let (frames, goes_on) = control.take(woken);
        frames.into_iter().for_each(|frame| self.command(frame));
        if !goes_on {
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
    signals: bool,
    control: bool,
    init: bool,
    stores: Vec<bool>,
    worker: bool,
}
