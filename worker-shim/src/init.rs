//! Pid 1 of the sandbox: builds its root, starts the worker, reaps orphans, and ends with the
//! worker; and when it ends, the kernel ends everything else in there.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cellblock_proto::codec::Codec;
use cellblock_proto::shim::StartSpec;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use rustix::process::{Pid, Signal, WaitOptions};
use sandbox_profiles::Actor;
use serde::{Serialize, de::DeserializeOwned};

use crate::sandbox::{InitCommand, InitEvent, StepError, Taken, execute_steps, init_step, worker_step};
use crate::sys::{self, Forked};

/// Longest message between shim and init, in bytes; a step's text is the longest part.
const MESSAGE_BYTES: usize = 16 << 10;

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
    loop {
        let mut polled = [PollFd::new(channel, PollFlags::IN), PollFd::new(&children, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, None))?;
        let [asked, ended] = polled.map(|fd| !fd.revents().is_empty());
        if ended {
            let mut info = [0; 128];
            let _ = rustix::io::read(&children, &mut info);
            if let Some(status) = reap(worker) {
                return say(channel.as_fd(), &InitEvent::Ended { status }, &[]);
            }
        }
        if asked {
            match hear(channel.as_fd())? {
                // The shim has gone: so has the reason to live.
                None => return Ok(()),
                Some((InitCommand::Start, files)) => worker = Some(start(spec, &files, channel)?),
                Some((InitCommand::InterruptAll, _)) => {
                    let _ = interrupt_everyone();
                }
                Some((InitCommand::Go, _)) => {}
            }
        }
    }
}

/// SIGINT to all processes that we may signal, which from pid 1 is all but ourselves.
fn interrupt_everyone() -> io::Result<()> {
    // Reading /proc instead of kill(-1): rustix has no safe form of the latter.
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|pid| *pid != Pid::INIT) {
            let _ = rustix::process::kill_process(pid, Signal::INT);
        }
    }
    Ok(())
}

/// Reaps all that have ended; returns the worker's status when it is among them.
fn reap(worker: Option<Pid>) -> Option<i32> {
    let mut result = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if Some(pid) == worker {
            result = status.exit_status().or_else(|| status.terminating_signal().map(|signal| -signal));
        }
    }
    result
}

fn start(spec: &StartSpec, files: &[OwnedFd], channel: &OwnedFd) -> io::Result<Pid> {
    match sys::clone(0, None)? {
        Forked::Child => become_worker(spec, files, channel),
        Forked::Parent { pidfd, pid } => {
            say(channel.as_fd(), &InitEvent::Started, &[pidfd.as_fd()])?;
            Ok(pid)
        }
    }
}

fn become_worker(spec: &StartSpec, files: &[OwnedFd], channel: &OwnedFd) -> ! {
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

/// Sends one message of the shim-init channel.
pub fn say<M: Serialize>(socket: BorrowedFd<'_>, message: &M, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = Codec::Bincode.encode(message).map_err(io::Error::other)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let parts = [io::IoSlice::new(&bytes)];
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one message of the shim-init channel; `None` when the other side has gone.
pub fn hear<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut buffer = [0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [io::IoSliceMut::new(&mut buffer)];
        rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    let message = Codec::Bincode.decode(&buffer[..received.bytes]).map_err(io::Error::other)?;
    Ok(Some((message, fds)))
}
