//! The anchor's client: asks the process that outlives us to start, list and kill shims.
//!
//! The socket is SEQPACKET, which tokio does not have, and some requests carry fds; so
//! it is a blocking socket behind a mutex, used on the blocking pool, one request at a time. An
//! anchor answers within a millisecond; the socket's own timeouts bound the rest.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cellblock_proto::anchor::{AnchorReply, AnchorRequest, CgroupTier};
use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{FrameReader, Kind, Limits};
use cellblock_proto::id::WorkerId;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

use crate::args::{AnchorFrom, Args};
use crate::process::{self, ProcessError};
use crate::shims::{Shims, Since};

/// Shutdown waits for every shim's end; everything else is immediate.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long systemd may take to start an anchor that has ended.
const UNIT_PATIENCE: Duration = Duration::from_secs(10);

/// Nothing tells of a socket that begins to listen.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// A sender is bounded by its socket buffer (212,992 bytes by default), so this is all there is.
const MESSAGE_BYTES: usize = 256 << 10;

/// The way to one anchor.
#[derive(Debug)]
pub(crate) struct Anchor {
    /// The shim's program, opened once: what is on disk may be replaced while we run.
    shim: File,
    socket: Socket,
    shims: Shims,
    /// The same for all anchors of one daemon: files on disk belong to the workers' ids.
    first_uid: Option<u32>,
    said: Mutex<Said>,
    from: AnchorFrom,
    /// How it was found, to find it again; held by who does.
    place: tokio::sync::Mutex<Place>,
}

/// Empty after a talk that failed: an answer that comes late must not be taken for the next one's.
type Socket = Arc<Mutex<Option<OwnedFd>>>;

/// What the anchor that is there has said of itself.
#[derive(Clone, Debug)]
struct Said {
    build: String,
    cgroup: (CgroupTier, String),
}

/// Where an anchor listens, and how one is started.
#[derive(Clone, Debug)]
struct Place {
    shim: PathBuf,
    socket: PathBuf,
    first_uid: Option<u32>,
    cgroup: String,
    from: AnchorFrom,
}

impl Place {
    /// The socket of the anchor that is there, or of a new one.
    async fn find(&self) -> Result<OwnedFd, AnchorError> {
        match (connect(&self.socket), self.from) {
            (Ok(connected), _) => return Ok(connected),
            (Err(_), AnchorFrom::Start) => {
                process::start_anchor(&self.shim, &self.socket, self.first_uid, &self.cgroup).await?;
            }
            (Err(_), AnchorFrom::Find) => return self.wait().await,
        }
        connect(&self.socket).map_err(|source| AnchorError::Connect { path: self.socket.clone(), source })
    }

    /// The socket of an anchor that somebody else starts, and may be starting again just now.
    async fn wait(&self) -> Result<OwnedFd, AnchorError> {
        let deadline = tokio::time::Instant::now() + UNIT_PATIENCE;
        loop {
            match connect(&self.socket) {
                Ok(connected) => return Ok(connected),
                Err(source) if tokio::time::Instant::now() >= deadline => {
                    return Err(AnchorError::NotThere { path: self.socket.clone(), source });
                }
                Err(_) => tokio::time::sleep(BETWEEN_LOOKS).await,
            }
        }
    }
}

/// Why the anchor could not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnchorError {
    #[error("failed to start the anchor")]
    Start(#[from] ProcessError),
    #[error("failed to reach the anchor at {path}")]
    Connect { path: PathBuf, source: io::Error },
    #[error("no anchor listens at {path}: start its unit (cellblock-workers.service), or use --anchor start")]
    NotThere { path: PathBuf, source: io::Error },
    #[error("failed to open the shim's program {program}")]
    Program { program: PathBuf, source: io::Error },
    #[error("failed to talk to the anchor")]
    Talk(#[source] io::Error),
    #[error("the anchor could not do it: {reason}")]
    Refused { reason: String },
    #[error("the anchor answered with something else: {answer}")]
    Unexpected { answer: String },
    #[error(
        "the new anchor's workers begin at uid {theirs:?}, ours at {ours:?}: end it, or restart cellblockd"
    )]
    OtherIds { theirs: Option<u32>, ours: Option<u32> },
}

impl Anchor {
    /// Finds the anchor that listens at `socket`, or starts one if it may.
    ///
    /// # Errors
    /// No anchor, and none could be started; its own words are in the message.
    pub(crate) async fn open(shim: &Path, socket: &Path, args: &Args) -> Result<Self, AnchorError> {
        let mut place = Place {
            shim: shim.to_owned(),
            socket: socket.to_owned(),
            first_uid: args.first_uid,
            cgroup: args.cgroup.clone(),
            from: args.anchor,
        };
        let socket: Socket = Arc::new(Mutex::new(Some(place.find().await?)));
        let program = process::find(shim)?;
        let shim = File::open(&program).map_err(|source| AnchorError::Program { program, source })?;
        let (said, first_uid) = hello(&socket).await?;
        // One that was there keeps the ids it was started with, and so does whoever comes after it.
        place.first_uid = first_uid;
        let (said, place) = (Mutex::new(said), tokio::sync::Mutex::new(place));
        Ok(Anchor { shim, socket, shims: Shims::default(), first_uid, said, from: args.anchor, place })
    }

    /// Whether it is somebody else's to start: a unit of its own.
    pub(crate) fn is_unit(&self) -> bool {
        self.from == AnchorFrom::Find
    }

    /// The anchor's build; it may be older than ours.
    pub(crate) fn build(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).build.clone()
    }

    /// The first host uid of the workers; `None` when rootless.
    pub(crate) fn first_uid(&self) -> Option<u32> {
        self.first_uid
    }

    /// How much of cgroups there is, and why no more.
    pub(crate) fn cgroup(&self) -> (CgroupTier, String) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).cgroup.clone()
    }

    /// The shim's program, as long as this lives.
    pub(crate) fn program(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.shim.as_raw_fd()))
    }

    /// Starts a shim whose standard input is `stdin`.
    pub(crate) async fn spawn(&self, worker: WorkerId, stdin: OwnedFd) -> Result<u32, AnchorError> {
        self.shims.add(worker.clone(), Since::Now);
        let request = AnchorRequest::Spawn { worker: worker.clone() };
        let started = match self.ask(request, &[stdin.as_fd(), self.shim.as_fd()]).await {
            Ok(AnchorReply::Started { pid }) => Ok(pid),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Err(error),
        };
        // An anchor that answers too late has started one that is nobody's.
        started.inspect_err(|_| self.shims.remove(&worker))
    }

    /// Which of its shims are somebody's.
    pub(crate) fn shims(&self) -> &Shims {
        &self.shims
    }

    /// Its process id, while we reach it.
    pub(crate) fn pid(&self) -> Option<i32> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = rustix::net::sockopt::socket_peercred(socket.as_ref()?).ok()?;
        Some(peer.pid.as_raw_pid())
    }

    /// As [`call`]; of an anchor that has gone, its successor.
    async fn ask(&self, request: AnchorRequest, fds: &[BorrowedFd<'_>]) -> Result<AnchorReply, AnchorError> {
        let files = || -> Result<Vec<OwnedFd>, AnchorError> {
            fds.iter()
                .map(BorrowedFd::try_clone_to_owned)
                .collect::<Result<_, _>>()
                .map_err(AnchorError::Talk)
        };
        match call(&self.socket, request.clone(), files()?).await {
            Err(AnchorError::Talk(error)) if has_gone(&error) => {
                // Its shims have ended with it. A new one is as good for what begins now.
                tracing::warn!(%error, "the anchor has gone; looking for another");
                self.find_again().await?;
                call(&self.socket, request, files()?).await
            }
            reply => reply,
        }
    }

    /// Two anchors at one socket would not know of each other's shims: one looks at a time, and who comes
    /// second finds what the first has found.
    async fn find_again(&self) -> Result<(), AnchorError> {
        let place = self.place.lock().await;
        if self.socket.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let socket: Socket = Arc::new(Mutex::new(Some(place.find().await?)));
        let (said, theirs) = hello(&socket).await?;
        if theirs != self.first_uid {
            return Err(AnchorError::OtherIds { theirs, ours: self.first_uid });
        }
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = said;
        let found = socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }

    /// Whether it answers. Blocks for a moment.
    pub(crate) fn answers(&self) -> bool {
        talk(&self.socket, &AnchorRequest::Hello, &[]).is_ok()
    }

    /// The shims that live.
    pub(crate) async fn list(&self) -> Result<Vec<WorkerId>, AnchorError> {
        match call(&self.socket, AnchorRequest::List, Vec::new()).await? {
            AnchorReply::Shims { shims } => Ok(shims.into_iter().map(|(worker, _)| worker).collect()),
            other => Err(unexpected(&other)),
        }
    }

    /// Kills a shim, and so its sandbox.
    pub(crate) async fn kill(&self, worker: WorkerId) -> Result<(), AnchorError> {
        self.shims.remove(&worker);
        match call(&self.socket, AnchorRequest::Kill { worker }, Vec::new()).await {
            // Its shims have ended with it, and nobody is to start another for that: we may be going down.
            Err(AnchorError::Talk(error)) if has_gone(&error) => Ok(()),
            reply => done(&reply?),
        }
    }

    /// Ends the anchor and all shims.
    pub(crate) async fn shutdown(&self) -> Result<(), AnchorError> {
        done(&call(&self.socket, AnchorRequest::Shutdown, Vec::new()).await?)
    }
}

#[cfg(test)]
impl Anchor {
    /// An anchor at the other end of a socket.
    pub(crate) fn with_socket(socket: OwnedFd) -> Self {
        let shim = File::open("/dev/null").unwrap();
        Anchor {
            shim,
            socket: Arc::new(Mutex::new(Some(socket))),
            shims: Shims::default(),
            first_uid: None,
            said: Mutex::new(Said { build: "test".to_owned(), cgroup: (CgroupTier::None, String::new()) }),
            from: AnchorFrom::Start,
            // One that has gone has no successor: where it would be, nothing can be made.
            place: tokio::sync::Mutex::new(Place {
                shim: PathBuf::new(),
                socket: PathBuf::from("/dev/null/anchor.sock"),
                first_uid: None,
                cgroup: String::new(),
                from: AnchorFrom::Start,
            }),
        }
    }
}

/// A socket behind which `answer` plays the anchor, on a thread that ends with the socket.
#[cfg(test)]
pub(crate) fn fake_anchor(
    answer: impl Fn(AnchorRequest, Option<OwnedFd>) -> AnchorReply + Send + 'static,
) -> OwnedFd {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage};
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .unwrap();
    std::thread::spawn(move || {
        loop {
            let mut buffer = vec![0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [io::IoSliceMut::new(&mut buffer)];
            let got = rustix::net::recvmsg(&theirs, &mut parts, &mut control, RecvFlags::empty()).unwrap();
            if got.bytes == 0 {
                return;
            }
            let mut fds = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            });
            let fd = fds.next().and_then(|mut fds| fds.next());
            let mut reader = FrameReader::new(Limits::DEFAULT);
            reader.feed(&buffer[..got.bytes]);
            let request = reader.next_frame().unwrap().unwrap().message().unwrap();
            let reply = Codec::Json.frame(Kind::AnchorReply, 1, &answer(request, fd)).unwrap();
            let mut bytes = Vec::new();
            reply.write_to(&mut bytes);
            if rustix::net::send(&theirs, &bytes, SendFlags::NOSIGNAL).is_err() {
                return;
            }
        }
    });
    ours
}

/// Whether an error says that nobody is at the other end any more.
fn has_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected | UnexpectedEof)
}

fn done(reply: &AnchorReply) -> Result<(), AnchorError> {
    match reply {
        AnchorReply::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

fn unexpected(reply: &AnchorReply) -> AnchorError {
    match reply {
        AnchorReply::Failed { reason } => AnchorError::Refused { reason: reason.clone() },
        other => AnchorError::Unexpected { answer: format!("{other:?}") },
    }
}

fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    for timeout in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, timeout, Some(PATIENCE))?;
    }
    Ok(socket)
}

async fn hello(socket: &Socket) -> Result<(Said, Option<u32>), AnchorError> {
    match call(socket, AnchorRequest::Hello, Vec::new()).await? {
        AnchorReply::Hello { build, first_uid, cgroup, cgroup_detail } => {
            Ok((Said { build, cgroup: (cgroup, cgroup_detail) }, first_uid))
        }
        other => Err(unexpected(&other)),
    }
}

async fn call(
    socket: &Socket,
    request: AnchorRequest,
    fds: Vec<OwnedFd>,
) -> Result<AnchorReply, AnchorError> {
    let socket = Arc::clone(socket);
    let answer = tokio::task::spawn_blocking(move || talk(&socket, &request, &fds));
    // The closure cannot panic; a runtime that is going down cancels it.
    answer.await.map_err(io::Error::other).flatten().map_err(AnchorError::Talk)
}

/// One request and its answer.
fn talk(socket: &Socket, request: &AnchorRequest, fds: &[OwnedFd]) -> io::Result<AnchorReply> {
    let mut held = socket.lock().unwrap_or_else(PoisonError::into_inner);
    let socket = held.take().ok_or(io::ErrorKind::NotConnected)?;
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let reply = send(socket.as_fd(), request, &fds)
        .and_then(|()| receive(socket.as_fd()))
        .map_err(told_as_timeout)?;
    *held = Some(socket);
    Ok(reply)
}

/// What the kernel says of a socket's timeout ("temporarily unavailable") tells nobody what has happened.
fn told_as_timeout(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs()))
        }
        _ => error,
    }
}

fn send(socket: BorrowedFd<'_>, request: &AnchorRequest, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let frame = Codec::Json.frame(Kind::AnchorRequest, 1, request).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    frame.write_to(&mut bytes);
    send_with(socket, &bytes, fds)
}

/// Sends one message with at most two descriptors.
pub(crate) fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for the descriptors"));
    }
    let parts = [IoSlice::new(bytes)];
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<AnchorReply> {
    let mut buffer = vec![0; MESSAGE_BYTES];
    let (_, length) =
        rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()))?;
    if length == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the anchor has gone"));
    }
    let mut reader = FrameReader::new(Limits::DEFAULT);
    reader.feed(&buffer[..length.min(MESSAGE_BYTES)]);
    let frame = reader.next_frame().map_err(io::Error::other)?;
    let frame = frame.ok_or_else(|| io::Error::other("the anchor's answer is cut off"))?;
    if frame.kind != Kind::AnchorReply {
        return Err(io::Error::other("the anchor's answer is of the wrong kind"));
    }
    frame.message().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn kill_is_done_where_the_anchor_has_gone_and_starts_none() {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        drop(theirs);
        // To look for another would be an error: there is no program for one.
        let anchor = Anchor::with_socket(ours);
        anchor.kill("a-1".parse().unwrap()).await.unwrap();
        anchor.kill("a-2".parse().unwrap()).await.unwrap();
        let stdin = OwnedFd::from(File::open("/dev/null").unwrap());
        anchor.spawn("a-3".parse().unwrap(), stdin).await.unwrap_err();
    }
    #[tokio::test(start_paused = true)]
    async fn anchor_that_is_only_found_is_waited_for_and_never_started() {
        let temp = tempfile::tempdir().unwrap();
        let place = Place {
            shim: PathBuf::from("/nonexist/cellblock-shim"),
            socket: temp.path().join("anchor.sock"),
            first_uid: None,
            cgroup: "auto".to_owned(),
            from: AnchorFrom::Find,
        };
        let begun = tokio::time::Instant::now();
        let error = place.find().await.unwrap_err();
        assert!(matches!(error, AnchorError::NotThere { .. }), "{error}");
        assert!(begun.elapsed() >= UNIT_PATIENCE);
        assert!(error.to_string().contains("cellblock-workers.service"), "{error}");
    }
}
