//! Pid 1 of the sandbox: builds its root, starts the worker, reaps orphans, and ends with the
//! worker; and when it ends, the kernel ends everything else in there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cellblock_proto::shim::StartSpec;
use cellblock_steps::talk::{hear, say};
use cellblock_steps::{StepError, execute_steps, join, worker_step};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use sandbox_profiles::{Action, Actor, Namespace};

use crate::sandbox::{InitCommand, InitEvent, Taken, attach_at, init_step};
use crate::sys::{self, Forked};

/// What init and worker-to-be exit with when they could not become what they should.
const NOT_STARTED: i32 = 71;

/// Runs init. Never returns.
pub fn run(spec: &StartSpec, mut taken: Taken, channel: OwnedFd) -> ! {
    let code = match serve(spec, &mut taken, &channel) {
        Ok(()) => 0,
        // There is nobody to tell but the shim, which sees the channel close.
        Err(_) => NOT_STARTED,
    };
    sys::exit_now(code)
}

fn serve(spec: &StartSpec, taken: &mut Taken, channel: &OwnedFd) -> io::Result<()> {
    sys::block_signals()?;
    // The shim has written the id maps when it says so; without them we are nobody.
    let Some((InitCommand::Go, _)) = hear(channel.as_fd())? else { return Ok(()) };
    match execute_steps(&spec.steps, Actor::Init, |step| init_step(step, taken)) {
        Ok(missing) => say(channel.as_fd(), &InitEvent::Made { missing }, &[])?,
        Err(error) => return say(channel.as_fd(), &InitEvent::Failed(error), &[]),
    }
    let children = sys::child_signal_fd()?;
    let mut worker = None;
    // Of those that ended before we were told who the worker is.
    let mut unknown = Vec::new();
    loop {
        let mut polled = [PollFd::new(channel, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, None))?;
        let [asked, ended] = polled.map(|fd| !fd.revents().is_empty());
        if ended {
            let mut info = [0; 128];
            let _ = rustix::io::read(&children, &mut info);
            unknown.extend(reap());
            if worker.is_some() {
                let ended = unknown.iter().find(|(pid, _)| Some(*pid) == worker);
                if let Some((_, status)) = ended {
                    say(channel.as_fd(), &InitEvent::Ended { status: *status }, &[])?;
                    // The end of all else is the shim's to bring: a process may be saving what the worker had.
                    worker = None;
                }
                unknown.clear();
            }
        }
        if asked {
            match hear(channel.as_fd())? {
                // The shim has gone: so has the reason to live.
                None => return Ok(()),
                Some((InitCommand::Start, files)) => worker = Some(start(spec, &files, channel)?),
                Some((InitCommand::Namespaces, _)) => tell_namespaces(channel.as_fd())?,
                Some((InitCommand::Adopt { pid }, _)) => {
                    worker = Pid::from_raw(pid);
                    say(channel.as_fd(), &InitEvent::Adopted, &[])?;
                    // It may have ended already.
                    if let Some((_, status)) = unknown.iter().find(|(pid, _)| Some(*pid) == worker) {
                        say(channel.as_fd(), &InitEvent::Ended { status: *status }, &[])?;
                        worker = None;
                    }
                }
                Some((InitCommand::Attach { step }, trees)) => {
                    let done = match (&step.action, trees.first()) {
                        (Action::Attach { target }, Some(tree)) => attach_at(tree.as_fd(), target),
                        _ => Err(io::Error::other("not a step that attaches, or nothing to attach")),
                    };
                    let event = match done {
                        Ok(()) => InitEvent::Attached,
                        Err(error) => InitEvent::Failed(StepError::new(&step, &error)),
                    };
                    say(channel.as_fd(), &event, &[])?;
                }
                Some((InitCommand::InterruptAll, _)) => {
                    let _ = signal_all(Signal::INT, |_| true);
                }
                Some((InitCommand::EndSaves, _)) => {
                    let _ = signal_all(Signal::KILL, is_a_save);
                }
                Some((InitCommand::Go, _)) => {}
            }
        }
    }
}

/// What a process that saves has made of itself, see `snapshot.py`: the first to go. Another that has is one too.
fn is_a_save(pid: Pid) -> bool {
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", pid.as_raw_pid()));
    score.is_ok_and(|score| score.trim() == "1000")
}

/// A signal to all processes that are meant and that we may signal, which from pid 1 is all but ourselves.
fn signal_all(signal: Signal, is_meant: impl Fn(Pid) -> bool) -> io::Result<()> {
    // Reading /proc instead of kill(-1): rustix has no safe form of the latter.
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|pid| *pid != Pid::INIT && is_meant(*pid)) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
    Ok(())
}

/// Reaps all that have ended; returns them with their exit code, or signal negated.
fn reap() -> Vec<(Pid, i32)> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        let how = status.exit_status().or_else(|| status.terminating_signal().map(|signal| -signal));
        ended.extend(how.map(|how| (pid, how)));
    }
    ended
}

/// Gives the shim what a worker that is not our child joins. We may open our own whoever we are; the shim
/// could not, because we are not dumpable.
fn tell_namespaces(channel: BorrowedFd<'_>) -> io::Result<()> {
    let open = |namespace: &Namespace| File::open(format!("/proc/self/ns/{}", namespace.file()));
    let files = join::NAMESPACES.iter().map(open).collect::<io::Result<Vec<_>>>()?;
    let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    say(channel, &InitEvent::Namespaces, &files)
}

fn start(spec: &StartSpec, files: &[OwnedFd], channel: &OwnedFd) -> io::Result<Pid> {
    let parent = rustix::process::getpid();
    match sys::clone(0, None)? {
        Forked::Child => become_worker(spec, files, channel, parent),
        Forked::Parent { pidfd, pid } => {
            say(channel.as_fd(), &InitEvent::Started, &[pidfd.as_fd()])?;
            Ok(pid)
        }
    }
}

fn become_worker(spec: &StartSpec, files: &[OwnedFd], channel: &OwnedFd, parent: Pid) -> ! {
    // The channel comes last and closes at exec; until then there is somebody to complain to.
    // Its own /dev/null, on a read-only mount: through the shim's it could change the host's, its times.
    let Ok(null) = std::fs::File::open("/dev/null") else { sys::exit_now(NOT_STARTED) };
    let given = files.iter().skip(1).chain([channel]).map(AsFd::as_fd);
    let installed: Vec<BorrowedFd<'_>> = std::iter::once(null.as_fd()).chain(given).collect();
    let last = i32::try_from(files.len()).unwrap_or(i32::MAX);
    let Ok(channel) = sys::install_files(&installed).and_then(|()| sys::inherited(last)) else {
        sys::exit_now(NOT_STARTED)
    };
    let error = match execute_steps(&spec.steps, Actor::Worker, worker_step) {
        Err(error) => error,
        Ok(missing) => {
            match tell_missing(channel.as_fd(), missing).and_then(|()| Ok(sys::reset_signals()?)) {
                Err(error) => StepError::new(&"reset the signals", &error),
                // A zygote has no pid namespace that would take it along, and its parent may have died before it
                // was to end with it: then nobody would ever end it.
                Ok(()) if rustix::process::getppid() != Some(parent) => sys::exit_now(NOT_STARTED),
                Ok(()) => {
                    let error = io::Error::from(sys::exec(&spec.argv, &spec.environment));
                    let program = spec.argv.first().map_or("nothing", String::as_str);
                    StepError::new(&format!("execute {program}"), &error)
                }
            }
        }
    };
    let _ = say(channel.as_fd(), &InitEvent::NotStarted(error), &[]);
    sys::exit_now(NOT_STARTED)
}

/// Says what of the worker's plan did not hold, before it is anybody else.
fn tell_missing(channel: BorrowedFd<'_>, missing: Vec<(u32, String)>) -> io::Result<()> {
    if missing.is_empty() { Ok(()) } else { say(channel, &InitEvent::Lacks { missing }, &[]) }
}
