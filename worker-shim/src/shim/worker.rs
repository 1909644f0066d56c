//! The worker as the shim holds it: its pipes, its channel, its interrupt word.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cellblock_proto::codec::Codec;
use cellblock_proto::execution::StreamName;
use cellblock_proto::frame::Kind;
use cellblock_proto::shim::StartSpec;
use cellblock_proto::worker::{WorkerCommand, WorkerEvent};
use rustix::fs::{MemfdFlags, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};

use crate::pump::{Pending, Sequencer};
use crate::sandbox::{InitEvent, Sandbox, StepError};
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
        while let Some(mark) = sequencer.awaited() {
            // A frame is here, so its mark has been written: it is in the pipe, or went somewhere
            // else because the program has redirected its output.
            for name in [StreamName::Stdout, StreamName::Stderr] {
                self.read_pipe(name, sequencer, SEARCH_BYTES, Some(mark));
            }
            if sequencer.awaited().is_some() {
                break;
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
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        // A mark is written whole, so what ends where the pipe does is not the first part of one; and
        // nothing that is written later would bring us back for it.
        if slot.as_ref().is_none_or(|pipe| rustix::io::ioctl_fionread(pipe) == Ok(0)) {
            sequencer.release(name);
        }
    }

    fn read_channel(&mut self, sequencer: &mut Sequencer) -> Result<(), String> {
        let mut bytes = 0;
        while bytes < CHANNEL_BYTES && !self.is_refused {
            let message =
                wire::receive_from_worker(&mut self.buffer, self.channel.as_fd(), RecvFlags::DONTWAIT);
            let frame = match message {
                Ok(Some(frame)) => frame,
                // Closed: the worker is ending, or its user closed our channel; init will tell.
                Ok(None) | Err(ReceiveError::Socket(_)) => return Ok(()),
                Err(error) => {
                    self.is_refused = true;
                    return Err(error.to_string());
                }
            };
            let WorkerEvent { mark, body } = frame.message().map_err(|error| error.to_string())?;
            bytes += frame.payload.len() + 1024;
            sequencer.feed_frame(Pending { mark, request: frame.request, body, payload: frame.payload });
        }
        Ok(())
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
        wire::send(self.channel.as_fd(), frame, &[]).map_err(|error| format!("it does not read: {error}"))
    }

    /// Interrupts run `run`, and no other.
    pub fn interrupt(&self, run: u64) {
        self.word.store(run);
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::INT);
    }
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
