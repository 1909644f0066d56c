//! Packets of the offer, with their memfds, until a deadline.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags};

use super::folder::read_exact_at;
use crate::offer::MESSAGE_BYTES;

/// Most descriptors that the kernel lets come with one packet (`SCM_MAX_FD`): room for all, so that none is lost
/// unseen.
const MOST_FDS: usize = 253;

/// The socket to a snapshot child, which may do anything, or nothing.
pub(crate) struct Socket<'a> {
    fd: BorrowedFd<'a>,
    deadline: Instant,
    packet: Vec<u8>,
}

/// Why nothing was received or sent.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The other side has gone.
    #[error("the snapshot child went away")]
    Closed,
    /// Time is up.
    #[error("the snapshot child did not offer its checkpoint in time")]
    Deadline,
    /// A packet that no message fits.
    #[error("the snapshot child sent a packet of more than {MESSAGE_BYTES} bytes")]
    Long,
    /// A packet came with another number of descriptors than its message has.
    #[error("a message came with {found} descriptors instead of {expected}")]
    Descriptors {
        /// How many came.
        found: usize,
        /// How many belong to it.
        expected: usize,
    },
    /// The descriptor that came is not memory.
    #[error("a message came with a descriptor that is not a memfd")]
    NotMemory,
    /// A memfd does not hold what its message says.
    #[error("cannot read {bytes} bytes of a memfd")]
    Memfd {
        /// How many bytes it should have.
        bytes: usize,
        /// Why they cannot be read.
        #[source]
        source: io::Error,
    },
    /// The socket fails.
    #[error("the socket to the snapshot child fails")]
    Io(#[from] io::Error),
}

impl<'a> Socket<'a> {
    pub(crate) fn new(fd: BorrowedFd<'a>, deadline: Instant) -> Self {
        Socket { fd, deadline, packet: vec![0; MESSAGE_BYTES] }
    }

    /// The next packet, and the descriptors that came with it.
    pub(crate) fn receive(&mut self) -> Result<(&[u8], Vec<OwnedFd>), SocketError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
        loop {
            // Also when something is there: a child that always has a next packet is never waited for.
            self.check_deadline()?;
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let mut parts = [io::IoSliceMut::new(&mut self.packet)];
            match rustix::net::recvmsg(self.fd, &mut parts, &mut control, flags) {
                Ok(received) => {
                    let descriptors = control.drain().flat_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
                        _ => Vec::new(),
                    });
                    let descriptors: Vec<_> = descriptors.collect();
                    if received.flags.contains(ReturnFlags::TRUNC) {
                        return Err(SocketError::Long);
                    }
                    if received.bytes == 0 {
                        return Err(SocketError::Closed);
                    }
                    return Ok((&self.packet[..received.bytes], descriptors));
                }
                Err(Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Err(SocketError::Closed),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    /// Sends a packet.
    pub(crate) fn send(&self, packet: &[u8]) -> Result<(), SocketError> {
        loop {
            match rustix::net::send(self.fd, packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(SocketError::Closed),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    fn check_deadline(&self) -> Result<(), SocketError> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(SocketError::Deadline) }
    }

    fn wait(&self, flags: PollFlags) -> Result<(), SocketError> {
        self.check_deadline()?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.fd, flags)], Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }
}

/// Reads the first `bytes` bytes of the one memfd that came with a message into our own memory, where from then on
/// nobody changes them: over what is in `content`, whose memory is used again.
pub(crate) fn read_memfd(
    descriptors: &[OwnedFd],
    bytes: usize,
    content: &mut Vec<u8>,
) -> Result<(), SocketError> {
    let [memfd] = descriptors else {
        return Err(SocketError::Descriptors { found: descriptors.len(), expected: 1 });
    };
    // Only files in memory can have seals. Any other could make us wait without end: a FUSE file, a FIFO.
    let stat = rustix::fs::fstat(memfd).map_err(io::Error::from)?;
    if rustix::fs::fcntl_get_seals(memfd).is_err()
        || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
    {
        return Err(SocketError::NotMemory);
    }
    let fault = |source| SocketError::Memfd { bytes, source };
    if u64::try_from(stat.st_size).unwrap_or(0) < bytes as u64 {
        return Err(fault(io::ErrorKind::UnexpectedEof.into()));
    }
    content.resize(bytes, 0);
    read_exact_at(memfd.as_fd(), content, 0).map_err(fault)
}
