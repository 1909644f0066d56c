//! Checkpoints, the shim's part: it starts a store process for each, gives worker and store the two ends of a
//! socket, and tells what became of it. It never sees a byte of what is saved.
//!
//! One is taken at a time. An Execution that ends meanwhile is covered by the next, which begins when this one is
//! over and no cell runs: the newest wins.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use cellblock_proto::execution::{Checkpoint, Checkpointing, NameInfo, NotRestored, Outcome};
use cellblock_proto::id::ExecutionId;
use cellblock_proto::shim::{Checkpoints, EventBody, StartFailure};
use cellblock_proto::worker::WorkerCommand;
use rustix::fs::{Mode, OFlags};
use rustix::mount::OpenTreeFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal, WaitOptions};
use serde::Deserialize;

use super::Shim;
use crate::sys::{self, Forked};

/// What a store process may say at most: a line.
const SAID_BYTES: u64 = 16 << 10;

/// The notebook's folder of checkpoints, and what is going on in it.
pub struct Saver {
    spec: Checkpoints,
    folder: OwnedFd,
    /// The same, read-only: what a worker gets a descriptor of it could otherwise make writable (fchmod through
    /// a descriptor that only reads), where it has the files' owner's id.
    read_only: Option<OwnedFd>,
    /// Our own program, which is the store process's too.
    program: OwnedFd,
    now: Option<Saving>,
    /// Those that have ended since: the next checkpoint is theirs.
    next: Vec<Awaiting>,
    /// The worker loads what it is to begin with; what is told when it has.
    restoring: Option<(Process, EventBody)>,
    /// When it has to have them.
    restored_by: Option<Instant>,
    /// What was saved is to be no more, before anything is lost.
    anew: bool,
}

/// A checkpoint that is being written.
struct Saving {
    process: Process,
    /// Where it says what became of it.
    said: OwnedFd,
    pause_us: u64,
    of: Vec<Awaiting>,
}

/// An Execution whose checkpoint is not over.
pub struct Awaiting {
    execution: ExecutionId,
    /// Its end, when that is not to be told before: outputs, Outcome, payload.
    end: Option<(u64, Box<Outcome>, Vec<u8>)>,
}

/// A store process. It ends with its socket's other end, or with this.
struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }
}

/// What a store process prints, see `store.rs`.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Saved { id: u64, written: u64 },
    Failed { reason: String },
}

impl Saver {
    /// Opens the folder, while there are rights to; and takes the view of it, when `view` says so.
    pub fn open(spec: Checkpoints, program: OwnedFd, view: bool) -> io::Result<Saver> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&spec.folder, flags, Mode::empty())?;
        let mut saver = Saver {
            spec,
            folder,
            read_only: None,
            program,
            now: None,
            next: Vec::new(),
            restoring: None,
            restored_by: None,
            anew: false,
        };
        if view {
            saver.take_view()?;
        }
        Ok(saver)
    }

    /// Makes the read-only view of the folder. To be called where trees can be taken: as host root before it has
    /// entered Z, as an ordinary user after.
    pub fn take_view(&mut self) -> io::Result<()> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let view = rustix::mount::open_tree(rustix::fs::CWD, &self.spec.folder, flags)?;
        let attributes = libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC;
        sys::mount_setattr(view.as_fd(), false, attributes, None)?;
        self.read_only = Some(view);
        Ok(())
    }

    /// Whether there is something to begin with.
    fn has_any(&self) -> bool {
        let manifests = Path::new("manifests");
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, manifests, flags, Mode::empty()).is_ok_and(|folder| {
            rustix::fs::Dir::new(folder).is_ok_and(|mut entries| {
                entries.any(|entry| entry.is_ok_and(|entry| !entry.file_name().to_bytes().starts_with(b".")))
            })
        })
    }

    /// Executions whose end is told when their checkpoint is over.
    pub fn withheld(&self) -> impl Iterator<Item = &ExecutionId> {
        let now = self.now.iter().flat_map(|saving| &saving.of);
        now.chain(&self.next).filter(|awaiting| awaiting.end.is_some()).map(|awaiting| &awaiting.execution)
    }

    /// Where a store process says what became of a checkpoint, for poll.
    pub fn readable(&self) -> Option<BorrowedFd<'_>> {
        self.now.as_ref().map(|saving| saving.said.as_fd())
    }

    /// A store process with these arguments: the worker's end of its socket, and what it prints.
    fn start(&self, arguments: &[String], folder: BorrowedFd<'_>) -> io::Result<(Process, OwnedFd, OwnedFd)> {
        let pair =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let (said, says) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let stderr = io::stderr();
        let argv: Vec<String> =
            ["/proc/self/fd/4", "--store"].map(str::to_owned).into_iter().chain(arguments.to_vec()).collect();
        match sys::clone(0, None)? {
            Forked::Child => {
                let files = [folder, says.as_fd(), stderr.as_fd(), pair.1.as_fd(), self.program.as_fd()];
                if sys::install_files(&files).is_err() || sys::reset_signals().is_err() {
                    sys::exit_now(70);
                }
                let _ = sys::exec(&argv, &[]);
                sys::exit_now(70);
            }
            Forked::Parent { pidfd, pid } => Ok((Process { pid, pidfd }, pair.0, said)),
        }
    }
}

impl Shim {
    /// Tells an end, with the checkpoint that is to be taken after it.
    pub(super) fn conclude(
        &mut self,
        execution: ExecutionId,
        asked: Option<Checkpointing>,
        outputs: u64,
        mut outcome: Outcome,
        payload: Vec<u8>,
    ) {
        let alive = self.worker.is_some() && self.ending.is_none();
        if self.saver.is_none() && asked.is_some_and(|asked| asked != Checkpointing::None) {
            let reason = "the profile has no checkpoints: set `checkpoints` in it".to_owned();
            outcome.checkpoint = Some(Checkpoint::Failed { reason });
        }
        let Some(saver) = self.saver.as_mut().filter(|_| alive) else {
            return self.outbox.push(EventBody::Finished { execution, outputs, outcome }, payload);
        };
        match asked.unwrap_or(saver.spec.when) {
            Checkpointing::None => {
                self.outbox.push(EventBody::Finished { execution, outputs, outcome }, payload);
            }
            Checkpointing::Background => {
                outcome.checkpoint = Some(Checkpoint::Pending);
                saver.next.push(Awaiting { execution: execution.clone(), end: None });
                self.outbox.push(EventBody::Finished { execution, outputs, outcome }, payload);
            }
            Checkpointing::Wait => {
                saver.next.push(Awaiting { execution, end: Some((outputs, Box::new(outcome), payload)) });
            }
        }
    }

    /// Begins a checkpoint when one is due: none is being written, and no cell runs.
    pub(super) fn save_next(&mut self) {
        let idle = self.executions.running.is_none() && self.ready.is_some() && self.ending.is_none();
        let Some(saver) = self.saver.as_mut().filter(|saver| idle && saver.now.is_none()) else { return };
        let of = std::mem::take(&mut saver.next);
        let anew = std::mem::take(&mut saver.anew);
        let execution = match of.last() {
            Some(last) => last.execution.to_string(),
            None if anew => String::new(),
            None => return,
        };
        let arguments =
            ["save".to_owned(), saver.spec.quota_bytes.to_string(), saver.spec.seconds.to_string()];
        match saver.start(&arguments, saver.folder.as_fd()) {
            Ok((process, socket, said)) => {
                saver.now = Some(Saving { process, said, pause_us: 0, of });
                self.tell_worker_with(&WorkerCommand::Snapshot { execution }, socket.as_fd());
            }
            Err(error) => {
                let reason = format!("no store process could be started: {error}");
                self.saved(of, &Checkpoint::Failed { reason });
            }
        }
    }

    /// The worker has forked, or has written all itself.
    pub(super) fn snapshot_taken(&mut self, pause_us: u64) {
        if let Some(saving) = self.saver.as_mut().and_then(|saver| saver.now.as_mut()) {
            saving.pause_us = pause_us;
        }
    }

    /// A store process has said something, or ended.
    pub(super) fn hear_store(&mut self) {
        let Some(Saving { process, said, pause_us, of }) =
            self.saver.as_mut().and_then(|saver| saver.now.take())
        else {
            return;
        };
        let mut line = String::new();
        let heard = File::from(said).take(SAID_BYTES).read_to_string(&mut line);
        drop(process);
        let checkpoint = match heard.map(|_| serde_json::from_str(&line)) {
            Ok(Ok(Said::Saved { id, written })) => Checkpoint::Saved { id, written_bytes: written, pause_us },
            Ok(Ok(Said::Failed { reason })) => Checkpoint::Failed { reason },
            _ => Checkpoint::Failed { reason: "the store process ended without a word".to_owned() },
        };
        self.saved(of, &checkpoint);
    }

    fn saved(&mut self, of: Vec<Awaiting>, checkpoint: &Checkpoint) {
        for Awaiting { execution, end } in of {
            match end {
                Some((outputs, mut outcome, payload)) => {
                    outcome.checkpoint = Some(checkpoint.clone());
                    self.outbox.push(EventBody::Finished { execution, outputs, outcome: *outcome }, payload);
                }
                None => {
                    let checkpoint = checkpoint.clone();
                    self.outbox.push(EventBody::Checkpoint { execution, checkpoint }, Vec::new());
                }
            }
        }
    }

    /// The worker is gone, and with it whatever was not saved yet.
    pub(super) fn give_up_saving(&mut self) {
        self.hear_store();
        let Some(saver) = &mut self.saver else { return };
        saver.restoring = None;
        let of = std::mem::take(&mut saver.next);
        let reason = "the worker ended before its variables were saved".to_owned();
        self.saved(of, &Checkpoint::Failed { reason });
    }

    /// The worker is up, which is told as `ready` when it has loaded what the one before it had. It runs nothing
    /// until then.
    pub(super) fn restore(&mut self, ready: EventBody) {
        if self.saver.is_some() {
            self.tell_worker(0, &WorkerCommand::Checkpoints, Vec::new());
        }
        let Some(saver) = self.saver.as_mut().filter(|saver| saver.has_any()) else {
            return self.outbox.push(ready, Vec::new());
        };
        if !saver.spec.restore {
            saver.anew = true;
            return self.outbox.push(ready, Vec::new());
        }
        let view =
            saver.read_only.as_ref().ok_or_else(|| io::Error::other("no read-only view of the folder"));
        match view.and_then(|view| saver.start(&["open".to_owned()], view.as_fd())) {
            Ok((process, socket, _)) => {
                saver.restoring = Some((process, ready));
                saver.restored_by = Some(Instant::now() + Duration::from_secs(saver.spec.seconds));
                self.tell_worker_with(&WorkerCommand::Restore, socket.as_fd());
            }
            Err(error) => {
                let failed = Some(format!("no store process could be started: {error}"));
                self.outbox
                    .push(EventBody::Restored { names: Vec::new(), losses: Vec::new(), failed }, Vec::new());
                self.outbox.push(ready, Vec::new());
            }
        }
    }

    /// Whether cells have to wait for the variables.
    pub(super) fn is_restoring(&self) -> bool {
        self.saver.as_ref().is_some_and(|saver| saver.restoring.is_some())
    }

    /// Gives up a worker that does not come to an end with loading: code of the user's runs then.
    pub(super) fn restore_clock(&mut self, now: Instant) -> Option<Instant> {
        let by = self.saver.as_ref().filter(|saver| saver.restoring.is_some())?.restored_by?;
        if now < by {
            return Some(by);
        }
        self.fail_to_load("it did not come to an end in time".to_owned());
        None
    }

    /// There is no worker because of what it was to begin with, and there is a way to begin without.
    pub(super) fn fail_to_load(&mut self, error: String) {
        if let Some(saver) = &mut self.saver {
            saver.restoring = None;
        }
        let cure = Some("restart the notebook to begin without them".to_owned());
        self.kill();
        self.fail_to_start(StartFailure::Step { step: "load the saved variables".to_owned(), error, cure });
    }

    /// The worker has them, or has not.
    pub(super) fn restored(
        &mut self,
        names: Vec<NameInfo>,
        losses: Vec<NotRestored>,
        failed: Option<String>,
    ) {
        let Some((_, ready)) = self.saver.as_mut().and_then(|saver| saver.restoring.take()) else { return };
        self.outbox.push(EventBody::Restored { names, losses, failed }, Vec::new());
        self.outbox.push(ready, Vec::new());
    }

    fn tell_worker_with(&mut self, command: &WorkerCommand, socket: BorrowedFd<'_>) {
        let Some(worker) = &self.worker else { return };
        if let Err(detail) = worker.give(command, socket) {
            self.protocol_broken(detail);
        }
    }
}
