//! Frames over SEQPACKET sockets, with descriptors: one message is one frame.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{FLAG_MEMFD, Frame, FrameError, HEADER_BYTES, Header, Kind, Limits};
use cellblock_proto::worker::INLINE_BYTES;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::{Serialize, de::DeserializeOwned};

/// Largest message in bytes; the default `wmem_max` bounds what a peer can send.
const MESSAGE_BYTES: usize = 256 << 10;

/// What came in one message.
pub struct Message {
    /// The frame.
    pub frame: Frame,
    /// The descriptors that came along and are not the payload.
    pub fds: Vec<OwnedFd>,
}

/// Why nothing could be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The socket.
    #[error("failed to receive")]
    Socket(#[from] Errno),
    /// Not a frame.
    #[error("received something that is not a frame")]
    Frame(#[from] FrameError),
    /// Lengths that do not add up, or a payload that is not what it must be.
    #[error("received a bad message: {0}")]
    Shape(&'static str),
}

/// Sends a frame and descriptors as one message; a large payload goes in a sealed memfd.
pub fn send(socket: BorrowedFd<'_>, mut frame: Frame, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let memfd;
    let mut header = frame.header();
    let mut all_fds = fds.to_vec();
    if frame.payload.len() > INLINE_BYTES {
        memfd = sealed_memfd(&frame.payload)?;
        header.flags |= FLAG_MEMFD;
        frame.payload.clear();
        all_fds.push(memfd.as_fd());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !all_fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&all_fds)) {
        return Err(Errno::TOOMANYREFS.into());
    }
    let head = header.encode();
    let parts = [io::IoSlice::new(&head), io::IoSlice::new(&frame.meta), io::IoSlice::new(&frame.payload)];
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Listens at a path for packets.
///
/// # Errors
/// The path is too long, or cannot be made.
pub fn listen(path: &Path) -> anyhow::Result<OwnedFd> {
    let failed = || format!("failed to listen at {}", path.display());
    let name = CString::new(path.as_os_str().as_encoded_bytes()).with_context(failed)?;
    let address = SocketAddrUnix::new(name.as_c_str()).with_context(failed)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .with_context(failed)?;
    let _ = std::fs::remove_file(path);
    rustix::net::bind(&socket, &address).with_context(failed)?;
    rustix::net::listen(&socket, 128).with_context(failed)?;
    Ok(socket)
}

/// Connects to who listens at a path for packets. Nothing that is then sent or received waits longer than
/// `patience`.
pub fn connect(path: &Path, patience: Duration) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    let address = SocketAddrUnix::new(name.as_c_str())?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // To who does not accept, connecting waits once his queue is full.
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(patience))?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Sends a message without payload or descriptors.
pub fn say<M: Serialize>(socket: BorrowedFd<'_>, kind: Kind, message: &M) -> io::Result<()> {
    let frame = Codec::Json.frame(kind, 0, message).map_err(io::Error::other)?;
    send(socket, frame, &[])
}

/// Receives one message into `buffer` (kept by the caller, so that it is made once); `None` when
/// the peer has gone. `expected` is the only kind accepted.
pub fn receive(
    buffer: &mut Vec<u8>,
    socket: BorrowedFd<'_>,
    expected: Kind,
    flags: RecvFlags,
) -> Result<Option<Message>, ReceiveError> {
    let (bytes, mut fds) = receive_bytes(buffer, socket, flags)?;
    if bytes == 0 {
        return Ok(None);
    }
    let frame = frame(&buffer[..bytes], &mut fds, expected)?;
    Ok(Some(Message { frame, fds }))
}

/// As [`receive`], from a worker. It may send the memfd of a payload and nothing else along.
///
/// Whatever else it sends is kept until this process ends, and never closed: to close somebody's
/// socket may mean to wait for as long as he likes (`SO_LINGER`), whether he has sent the socket
/// itself or one in whose queue it lies. A process that exits does not wait. It is little that is
/// kept, because after an error nothing more may be received.
pub fn receive_from_worker(
    buffer: &mut Vec<u8>,
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> Result<Option<Frame>, ReceiveError> {
    let (bytes, mut fds) = receive_bytes(buffer, socket, flags)?;
    if bytes == 0 && fds.is_empty() {
        return Ok(None);
    }
    let frame = frame(&buffer[..bytes], &mut fds, Kind::WorkerEvent);
    if fds.is_empty() {
        return frame.map(Some);
    }
    std::mem::forget(fds);
    Err(frame.err().unwrap_or(ReceiveError::Shape("descriptors came along that nobody asked for")))
}

fn receive_bytes(
    buffer: &mut Vec<u8>,
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> Result<(usize, Vec<OwnedFd>), ReceiveError> {
    buffer.resize(MESSAGE_BYTES, 0);
    // Space for as many as a message can have (SCM_MAX_FD): what does not fit, the kernel closes.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            socket,
            &mut [io::IoSliceMut::new(buffer)],
            &mut control,
            flags | RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok((received.bytes, fds))
}

/// The frame that a message is; takes its memfd out of `fds` when it has one and that is sound.
fn frame(message: &[u8], fds: &mut Vec<OwnedFd>, expected: Kind) -> Result<Frame, ReceiveError> {
    let head = message.first_chunk::<HEADER_BYTES>().ok_or(ReceiveError::Shape("shorter than a header"))?;
    let header = Header::decode(head, &Limits::DEFAULT)?;
    if header.kind != expected {
        return Err(ReceiveError::Shape("a frame of the wrong kind for this socket"));
    }
    let meta_end = HEADER_BYTES + header.meta_bytes as usize;
    let meta = message.get(HEADER_BYTES..meta_end).ok_or(ReceiveError::Shape("meta is cut off"))?.to_vec();
    let rest = &message[meta_end..];
    let payload = if header.flags & FLAG_MEMFD != 0 {
        let memfd = fds.last().ok_or(ReceiveError::Shape("the payload's memfd is missing"))?;
        let payload = read_sealed(memfd, header.payload_bytes as usize)?;
        fds.pop();
        payload
    } else {
        if rest.len() != header.payload_bytes as usize {
            return Err(ReceiveError::Shape("payload length differs from the header's"));
        }
        rest.to_vec()
    };
    Ok(Frame {
        kind: header.kind,
        codec: header.codec,
        flags: header.flags & !FLAG_MEMFD,
        request: header.request,
        meta,
        payload,
    })
}

/// Decodes a whole message of a kind that carries no payload.
pub fn hear<M: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    expected: Kind,
) -> anyhow::Result<Option<(M, Vec<OwnedFd>)>> {
    match receive(&mut Vec::new(), socket, expected, RecvFlags::empty())? {
        None => Ok(None),
        Some(Message { frame, fds }) => Ok(Some((frame.message()?, fds))),
    }
}

fn sealed_memfd(bytes: &[u8]) -> io::Result<OwnedFd> {
    let memfd = rustix::fs::memfd_create("payload", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut written = 0;
    while written < bytes.len() {
        written += rustix::io::pwrite(&memfd, &bytes[written..], written as u64)?;
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memfd, seals)?;
    Ok(memfd)
}

/// Reads a payload from a descriptor that a hostile worker chose. Only memory files answer to
/// F_GET_SEALS, so a pipe or a device that would block is refused before it is read; reading, not
/// mapping, means a change under our hands is wrong bytes and never a SIGBUS.
fn read_sealed(memfd: &OwnedFd, length: usize) -> Result<Vec<u8>, ReceiveError> {
    let wrong = ReceiveError::Shape("the payload's memfd is not a sealed memory file of its length");
    let Ok(seals) = rustix::fs::fcntl_get_seals(memfd) else { return Err(wrong) };
    let size = rustix::fs::fstat(memfd)?.st_size;
    if !seals.contains(SealFlags::SHRINK) || size < 0 || size as u64 != length as u64 {
        return Err(wrong);
    }
    let mut bytes = vec![0; length];
    let mut read = 0;
    while read < length {
        match rustix::io::pread(memfd, &mut bytes[read..], read as u64)? {
            0 => return Err(wrong),
            n => read += n,
        }
    }
    Ok(bytes)
}
