//! The worker as the shim holds it: its pipes, its channel, its interrupt word.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use cellblock_proto::codec::Codec;
use cellblock_proto::execution::StreamName;
use cellblock_proto::frame::Kind;
use cellblock_proto::shim::StartSpec;
use cellblock_proto::worker::{WorkerCommand, WorkerEvent};
use cellblock_steps::StepError;
use cellblock_steps::join::{Reply, Request, Seal};
use cellblock_steps::talk::{hear, say};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{MemfdFlags, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};
use sandbox_profiles::{Actor, Step};

use crate::pump::{Pending, Sequencer};
use crate::sandbox::{InitEvent, Sandbox};
use crate::sys::SharedWord;
use crate::wire::{self, ReceiveError};

/// What one look at a pipe reads at most, in bytes: enough to be fast, little enough to be fair.
const READ_BYTES: usize = 256 << 10;
/// Read at most so many bytes while looking for a mark. A pipe holds a mebibyte at most, so whoever
/// has not shown the mark by then keeps writing without one.
const SEARCH_BYTES: usize = 4 << 20;
/// Size asked for the pipes, in bytes: fewer switches between writer and reader.
const PIPE_BYTES: usize = 256 << 10;
/// Frames taken from the channel before the pipes are looked at again, in bytes of payload.
const CHANNEL_BYTES: usize = 8 << 20;

/// How long a zygote may take to fork, and a worker to be prepared: both take milliseconds, but a hundred
/// may be asked for at once.
pub const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// A started worker.
pub struct Worker {
    /// Never closed: it may hold descriptors that nobody has received, see
    /// [`wire::receive_from_worker`].
    channel: ManuallyDrop<OwnedFd>,
    /// What came through the channel was no message; nothing more is received.
    is_refused: bool,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    pidfd: OwnedFd,
    /// As the host numbers it.
    pub pid: Pid,
    word: SharedWord,
    buffer: Vec<u8>,
    text: Vec<u8>,
}

impl Worker {
    /// Starts it in a made sandbox. `spec` has its argv and environment.
    pub fn start(sandbox: &Sandbox) -> Result<Worker, StepError> {
        Worker::try_start(sandbox)?
            .map_err(|error| StepError::new(&"prepare the worker's descriptors", &error))
    }

    fn try_start(sandbox: &Sandbox) -> Result<io::Result<Worker>, StepError> {
        let ends = match Ends::open() {
            Ok(ends) => ends,
            Err(error) => return Ok(Err(error)),
        };
        let files = [&ends.null, &ends.stdout.1, &ends.stderr.1, &ends.channel.1, &ends.word];
        let pidfd = sandbox.start(&files.map(AsFd::as_fd))?;
        let worker = ends.into_worker(pidfd);
        // It has ended already, and perhaps said why.
        if worker.is_err()
            && let Some(InitEvent::NotStarted(error)) = sandbox.next_event()
        {
            return Err(error);
        }
        Ok(worker)
    }

    /// Has a zygote fork it into a made sandbox. The inner error says why the zygote has not: then the sandbox
    /// is as it was.
    ///
    /// # Errors
    /// A worker was begun and failed: the sandbox cannot be used any more.
    pub fn fork(
        sandbox: &Sandbox,
        zygote: OwnedFd,
        spec: &StartSpec,
        nonce: [u8; 16],
    ) -> Result<Result<Joined, String>, StepError> {
        let ends = match Ends::open() {
            Ok(ends) => ends,
            Err(error) => return Ok(Err(format!("no descriptors for a worker: {error}"))),
        };
        let steps: Vec<Step> = worker_steps(&spec.steps).map(|(_, step)| step.clone()).collect();
        let early = sandbox_profiles::early(&steps);
        let request = Request {
            birth: sandbox.group.birth().is_some(),
            late: u32::try_from(sandbox.group.late().count()).unwrap_or(u32::MAX),
            spare: spec.spare,
            nonce,
            steps: steps[..early].to_vec(),
        };
        if let Err(error) = ask_for_worker(sandbox, &zygote, &ends, &request) {
            return Ok(Err(format!("the zygote was not asked: {error}")));
        }
        let failed = |what: String| StepError::new(&"fork a worker", &io::Error::other(what));
        let (mut worker, mut waits) = (None, false);
        // Zygote and worker talk at the same time.
        while worker.is_none() || !waits {
            match hear::<Reply>(zygote.as_fd()) {
                Ok(Some((Reply::Forked { pid }, files))) => {
                    let pidfd = files.into_iter().next().ok_or_else(|| failed("no pidfd came".to_owned()))?;
                    sandbox.adopt(pid).map_err(|error| failed(error.to_string()))?;
                    worker = Some(pidfd);
                }
                Ok(Some((Reply::Waits, _))) => waits = true,
                Ok(Some((Reply::Refused(error), _))) => return Ok(Err(error.to_string())),
                Ok(Some((Reply::Failed(error), _))) => return Err(error),
                Ok(Some((other, _))) => return Err(failed(format!("it said {other:?}"))),
                // While a worker lives that has not said so, the connection does.
                Ok(None) if worker.is_none() && !waits => return Ok(Err("the zygote has ended".to_owned())),
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionReset && worker.is_none() && !waits =>
                {
                    return Ok(Err("the zygote has ended".to_owned()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(failed(format!(
                        "the zygote did not answer for {} s",
                        JOIN_PATIENCE.as_secs()
                    )));
                }
                Ok(None) => return Err(failed("zygote and worker have ended".to_owned())),
                // Whether there is a worker now, nobody can say.
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        let Some(pidfd) = worker else { return Err(failed("no worker came".to_owned())) };
        let worker = ends.into_worker(pidfd).map_err(|error| failed(error.to_string()))?;
        Ok(Ok(Joined { worker, channel: zygote, early }))
    }

    /// The descriptors to wait for, by what they are.
    pub fn readable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let channel = Some(&*self.channel).filter(|_| !self.is_refused);
        [self.stdout.as_ref(), self.stderr.as_ref(), channel].into_iter().flatten().map(AsFd::as_fd)
    }

    /// Reads what is there: the pipes first, the channel after (see `pump`).
    ///
    /// # Errors
    /// The worker spoke something that is not the protocol.
    pub fn read(&mut self, sequencer: &mut Sequencer) -> Result<(), String> {
        for name in [StreamName::Stdout, StreamName::Stderr] {
            self.read_pipe(name, sequencer, READ_BYTES, None);
        }
        self.read_channel(sequencer)?;
        if let Some(mark) = sequencer.awaited() {
            // A frame is here, so its mark has been written, or is just about to be: it is in the pipe, or
            // went somewhere else because the program has redirected its output.
            for name in [StreamName::Stdout, StreamName::Stderr] {
                self.read_pipe(name, sequencer, SEARCH_BYTES, Some(mark));
            }
        }
        Ok(())
    }

    /// Reads until the end of both pipes; for when nobody is left to write.
    pub fn read_to_end(&mut self, sequencer: &mut Sequencer) {
        for name in [StreamName::Stdout, StreamName::Stderr] {
            self.read_pipe(name, sequencer, usize::MAX, None);
        }
        // What it said last may be cut off; what came before stands.
        let _ = self.read_channel(sequencer);
        sequencer.heard_out();
    }

    fn read_pipe(&mut self, name: StreamName, sequencer: &mut Sequencer, most: usize, until: Option<u64>) {
        let slot = if name == StreamName::Stdout { &mut self.stdout } else { &mut self.stderr };
        self.text.resize(64 << 10, 0);
        let mut read = 0;
        while let Some(pipe) = slot.as_ref() {
            if read >= most || until.is_some_and(|mark| !sequencer.lacks(name, mark)) {
                break;
            }
            match rustix::io::read(pipe, &mut self.text[..]) {
                Ok(0) => *slot = None,
                Ok(count) => {
                    sequencer.feed_text(name, &self.text[..count]);
                    read += count;
                    // All there was; whether it was the end is asked for only by who wants the end.
                    if count < self.text.len() && most != usize::MAX {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        // A mark is written whole, so what ends where the pipe does is not the first part of one; and
        // nothing that is written later would bring us back for it.
        if sequencer.holds(name) && slot.as_ref().is_none_or(|pipe| rustix::io::ioctl_fionread(pipe) == Ok(0))
        {
            sequencer.release(name);
        }
    }

    fn read_channel(&mut self, sequencer: &mut Sequencer) -> Result<(), String> {
        let is_empty = self.receive(sequencer);
        if is_empty != Ok(false) {
            sequencer.heard_out();
        }
        is_empty.map(drop)
    }

    /// Whether that was all there is.
    fn receive(&mut self, sequencer: &mut Sequencer) -> Result<bool, String> {
        let mut bytes = 0;
        while bytes < CHANNEL_BYTES && !self.is_refused {
            let message =
                wire::receive_from_worker(&mut self.buffer, self.channel.as_fd(), RecvFlags::DONTWAIT);
            let frame = match message {
                Ok(Some(frame)) => frame,
                // Closed: the worker is ending, or its user closed our channel; init will tell.
                Ok(None) | Err(ReceiveError::Socket(_)) => return Ok(true),
                Err(error) => {
                    self.is_refused = true;
                    return Err(error.to_string());
                }
            };
            let WorkerEvent { mark, body } = frame.message().map_err(|error| error.to_string())?;
            bytes += frame.payload.len() + 1024;
            sequencer.feed_frame(Pending { mark, request: frame.request, body, payload: frame.payload });
        }
        Ok(self.is_refused)
    }

    /// Tells the worker something.
    ///
    /// # Errors
    /// It does not read what it is told; an honest worker always does.
    pub fn say(&self, request: u32, command: &WorkerCommand, payload: Vec<u8>) -> Result<(), String> {
        let frame = Codec::Json
            .frame(Kind::WorkerCommand, request, command)
            .map_err(|error| error.to_string())?
            .with_payload(payload);
        self.sent(wire::send(self.channel.as_fd(), frame, &[]))
    }

    /// Tells it something, and gives it a descriptor.
    ///
    /// # Errors
    /// As [`Worker::say`].
    pub fn give(&self, command: &WorkerCommand, file: BorrowedFd<'_>) -> Result<(), String> {
        let frame = Codec::Json.frame(Kind::WorkerCommand, 0, command).map_err(|error| error.to_string())?;
        self.sent(wire::send(self.channel.as_fd(), frame, &[file]))
    }

    /// Of one that has died meanwhile init will tell how.
    fn sent(&self, sent: io::Result<()>) -> Result<(), String> {
        match sent {
            Err(_) if self.has_died() => Ok(()),
            sent => sent.map_err(|error| format!("it does not read: {error}")),
        }
    }

    fn has_died(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0)
    }

    /// Interrupts run `run`, and no other.
    pub fn interrupt(&self, run: u64) {
        self.word.store(run);
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::INT);
    }
}

/// A worker in its sandbox, with Python prepared, that waits to be sealed.
pub struct Joined {
    worker: Worker,
    /// To the worker, until it is sealed.
    channel: OwnedFd,
    /// How many of its steps it has taken.
    early: usize,
}

impl Joined {
    /// Has it take its last steps. Gives what of them did not hold, by position in the plan.
    ///
    /// # Errors
    /// A step that is required failed; the sandbox must not be used.
    pub fn seal(self, plan: &[Step]) -> Result<(Worker, Vec<(u32, String)>), StepError> {
        let (places, steps): (Vec<u32>, Vec<Step>) =
            worker_steps(plan).skip(self.early).map(|(at, step)| (at, step.clone())).unzip();
        let failed = |error: &io::Error| StepError::new(&"seal the worker", error);
        say(self.channel.as_fd(), &Seal { steps }, &[]).map_err(|error| failed(&error))?;
        match self.hear()? {
            Reply::Sealed { missing } => {
                let place = |at: u32| places.get(at as usize).copied().unwrap_or(u32::MAX);
                let missing = missing.into_iter().map(|(at, error)| (place(at), error)).collect();
                Ok((self.worker, missing))
            }
            other => Err(failed(&io::Error::other(format!("it said {other:?}")))),
        }
    }

    /// Its next word; a failure is an error.
    fn hear(&self) -> Result<Reply, StepError> {
        let failed = |error: &io::Error| StepError::new(&"hear from the worker", error);
        match hear::<Reply>(self.channel.as_fd()).map_err(|error| failed(&error))? {
            Some((Reply::Failed(error), _)) => Err(error),
            Some((reply, _)) => Ok(reply),
            None => Err(failed(&io::Error::other("it ended before it was sealed"))),
        }
    }
}

/// A plan's steps of the worker, with their places in it.
fn worker_steps(plan: &[Step]) -> impl Iterator<Item = (u32, &Step)> {
    (0..).zip(plan).filter(|(_, step)| step.actor == Actor::Worker)
}

fn ask_for_worker(sandbox: &Sandbox, zygote: &OwnedFd, ends: &Ends, request: &Request) -> io::Result<()> {
    let namespaces = sandbox.namespaces()?;
    let own = [&ends.stdout.1, &ends.stderr.1, &ends.channel.1, &ends.word].map(AsFd::as_fd);
    let groups = sandbox.group.birth().into_iter().chain(sandbox.group.late());
    let files: Vec<BorrowedFd<'_>> = namespaces.iter().map(AsFd::as_fd).chain(groups).chain(own).collect();
    say(zygote.as_fd(), request, &files)
}

/// Both ends of everything, before the worker has its own.
struct Ends {
    null: OwnedFd,
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
    channel: (OwnedFd, OwnedFd),
    word: OwnedFd,
}

impl Ends {
    fn open() -> io::Result<Ends> {
        let pipe = || -> io::Result<(OwnedFd, OwnedFd)> {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            // Beyond the user's quota of pipe pages it stays as it is, and works.
            let _ = rustix::pipe::fcntl_setpipe_size(&read, PIPE_BYTES);
            rustix::fs::fcntl_setfl(&read, OFlags::RDONLY | OFlags::NONBLOCK)?;
            Ok((read, write))
        };
        let word = rustix::fs::memfd_create("interrupt", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&word, 4096)?;
        rustix::fs::fcntl_add_seals(&word, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW)?;
        let channel =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // A worker that does not read must not stop its shim.
        rustix::fs::fcntl_setfl(&channel.0, OFlags::RDWR | OFlags::NONBLOCK)?;
        let null = std::fs::File::open("/dev/null")?.into();
        Ok(Ends { null, stdout: pipe()?, stderr: pipe()?, channel, word })
    }

    fn into_worker(self, pidfd: OwnedFd) -> io::Result<Worker> {
        let pid = pid_of(&pidfd)?;
        Ok(Worker {
            channel: ManuallyDrop::new(self.channel.0),
            is_refused: false,
            stdout: Some(self.stdout.0),
            stderr: Some(self.stderr.0),
            pidfd,
            pid,
            word: SharedWord::map(self.word.as_fd())?,
            buffer: Vec::new(),
            text: Vec::new(),
        })
    }
}

/// The process id behind a pidfd, as our own /proc numbers it.
fn pid_of(pidfd: &OwnedFd) -> io::Result<Pid> {
    use std::os::fd::AsRawFd;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    living_pid(&info).ok_or_else(|| io::Error::other("the worker ended as it began"))
}

/// From the fdinfo of a pidfd: -1 there is a process that has been reaped, 0 one we cannot see.
fn living_pid(info: &str) -> Option<Pid> {
    let pid: i32 = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())?;
    Pid::from_raw(pid.max(0))
}

/// Random bytes for the marks, and their form in the environment.
pub fn nonce(spec: &mut StartSpec) -> io::Result<[u8; 16]> {
    let mut nonce = [0; 16];
    rustix::rand::getrandom(&mut nonce[..], rustix::rand::GetRandomFlags::empty())?;
    let text: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
    spec.environment.push(("CELLBLOCK_NONCE".to_owned(), text));
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_that_has_been_reaped_has_no_number() {
        assert_eq!(living_pid("pos:\t0\nPid:\t17\nNSpid:\t17\n"), Pid::from_raw(17));
        assert_eq!(living_pid("pos:\t0\nPid:\t-1\n"), None);
        assert_eq!(living_pid("pos:\t0\nPid:\t0\n"), None);
        assert_eq!(living_pid(""), None);
    }
}
