//! A notebook's task with everything around it: clients' connections on one side, on the other an
//! anchor and shims of a few lines, at the real sockets.

mod adoption;
mod idle;
mod sleeping;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::anchor::AnchorReply;
use cellblock_proto::client::{ErrorCode, Reply, Request};
use cellblock_proto::codec::Codec;
use cellblock_proto::execution::{
    Death, End, ExecuteOptions, NameChanges, NameInfo, Outcome, Output, OutputFrame, StreamName, Variables,
};
use cellblock_proto::frame::{Frame, FrameReader, Kind, Limits};
use cellblock_proto::id::{ExecutionId, NotebookId};
use cellblock_proto::shim::{Command, Event, EventBody, ShimState};
use sandbox_profiles::SandboxReport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::anchor::{Anchor, fake_anchor};
use crate::connection;
use crate::daemon::Daemon;
use crate::launch::Launched;
use crate::link;
use crate::notebook::Survivor;
use crate::registry;

/// Bounds every wait; nothing here takes a hundredth of it.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn notebook() -> NotebookId {
    "a".parse().unwrap()
}

pub(crate) fn id(name: &str) -> ExecutionId {
    name.parse().unwrap()
}

/// A daemon whose anchor hands the sockets of new shims to the test.
pub(crate) async fn daemon() -> (tempfile::TempDir, Arc<Daemon>, mpsc::Receiver<OwnedFd>) {
    let temp = tempfile::tempdir().unwrap();
    let (daemon, shims) = daemon_at(temp.path());
    (temp, daemon, shims)
}

/// The same in a folder, where another may have been.
fn daemon_at(folder: &std::path::Path) -> (Arc<Daemon>, mpsc::Receiver<OwnedFd>) {
    let (spawned, shims) = mpsc::channel(16);
    let socket = fake_anchor(move |_, fd| {
        if let Some(fd) = fd {
            spawned.blocking_send(fd).unwrap();
        }
        AnchorReply::Started { pid: 1 }
    });
    let anchor = Anchor::with_socket(socket);
    (crate::server::test_daemon(folder, anchor), shims)
}

/// A client.
pub(crate) struct Peer {
    pub(crate) socket: UnixStream,
    frames: FrameReader,
    requests: u32,
}

impl Peer {
    pub(crate) async fn connect(daemon: &Arc<Daemon>) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(connection::serve(Arc::clone(daemon), theirs));
        let mut peer = Peer { socket: ours, frames: FrameReader::new(Limits::DEFAULT), requests: 0 };
        let hello = cellblock_proto::client::Hello {
            min_version: 1,
            max_version: 9,
            codec: Codec::Bincode,
            client: String::new(),
            tenant: None,
        };
        peer.send(&Request::Hello(hello), b"").await;
        assert!(matches!(peer.reply().await.1, Reply::Hello { version: 1, .. }));
        peer
    }

    pub(crate) async fn send(&mut self, request: &Request, payload: &[u8]) -> u32 {
        self.requests += 1;
        let frame = Codec::Json.frame(Kind::Request, self.requests, request).unwrap();
        let mut bytes = Vec::new();
        frame.with_payload(payload.to_vec()).write_to(&mut bytes);
        self.socket.write_all(&bytes).await.unwrap();
        self.requests
    }

    async fn execute(&mut self, name: &str) -> u32 {
        let options = ExecuteOptions::default();
        self.send(&Request::Execute { notebook: notebook(), execution: id(name), options }, b"1").await
    }

    async fn frame(&mut self) -> Frame {
        let read = async {
            let mut buffer = vec![0; 64 << 10];
            loop {
                if let Some(frame) = self.frames.next_frame().unwrap() {
                    return frame;
                }
                let count = self.socket.read(&mut buffer).await.unwrap();
                assert!(count > 0, "the connection has ended");
                self.frames.feed(&buffer[..count]);
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("a frame in time")
    }

    pub(crate) async fn reply(&mut self) -> (u32, Reply, Vec<u8>) {
        let frame = self.frame().await;
        (frame.request, frame.message().unwrap(), frame.payload)
    }

    async fn open(&mut self) {
        self.send(&Request::OpenNotebook { notebook: notebook(), profile: None }, b"").await;
        assert!(matches!(self.reply().await.1, Reply::Notebook(_)));
    }
}

/// A shim, played by the test.
struct Shim {
    socket: UnixStream,
    frames: FrameReader,
    commands: VecDeque<(u32, Command)>,
    /// What the daemon spoke last.
    codec: Codec,
    seq: u64,
}

impl Shim {
    async fn next(shims: &mut mpsc::Receiver<OwnedFd>) -> Self {
        loop {
            let fd = tokio::time::timeout(PATIENCE, shims.recv()).await.expect("a shim in time").unwrap();
            let mut shim = Shim::new(fd.into());
            let Command::Start(spec) = shim.command().await.1 else { panic!("not told to start") };
            if spec.profile == crate::prepare::PROFILE_NAME {
                shim.event(EventBody::WorkerEnded { death: Death::Exited { code: 0 }, lost: Vec::new() })
                    .await;
                continue;
            }
            return shim;
        }
    }

    fn new(socket: std::os::unix::net::UnixStream) -> Self {
        socket.set_nonblocking(true).unwrap();
        Shim {
            socket: UnixStream::from_std(socket).unwrap(),
            frames: FrameReader::new(Limits::DEFAULT),
            commands: VecDeque::new(),
            codec: Codec::Bincode,
            seq: 0,
        }
    }

    /// The next command that is no `Taken`.
    async fn command(&mut self) -> (u32, Command) {
        loop {
            let (request, command) = self.any_command().await;
            if !matches!(command, Command::Taken { .. }) {
                return (request, command);
            }
        }
    }

    async fn any_command(&mut self) -> (u32, Command) {
        let read = async {
            let mut buffer = vec![0; 64 << 10];
            loop {
                while let Some(frame) = self.frames.next_frame().unwrap() {
                    self.codec = frame.codec;
                    self.commands.push_back((frame.request, frame.message().unwrap()));
                }
                if let Some(command) = self.commands.pop_front() {
                    return command;
                }
                let count = self.socket.read(&mut buffer).await.unwrap();
                assert!(count > 0, "the daemon has let go");
                self.frames.feed(&buffer[..count]);
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("a command in time")
    }

    async fn taken(&mut self, upto: u64) {
        loop {
            if let (_, Command::Taken { seq }) = self.any_command().await {
                assert!(seq <= upto, "took {seq} of {upto}");
                if seq == upto {
                    return;
                }
            }
        }
    }

    async fn event(&mut self, body: EventBody) -> u64 {
        self.event_with(body, &[]).await
    }

    async fn event_with(&mut self, body: EventBody, payload: &[u8]) -> u64 {
        self.seq += 1;
        self.write(self.seq, body, payload).await;
        self.seq
    }

    async fn write(&mut self, seq: u64, body: EventBody, payload: &[u8]) {
        let frame = Codec::Bincode.frame(Kind::Event, 0, &Event { seq, body }).unwrap();
        let mut bytes = Vec::new();
        frame.with_payload(payload.to_vec()).write_to(&mut bytes);
        self.socket.write_all(&bytes).await.unwrap();
    }

    async fn ready(&mut self) {
        let report = SandboxReport::default();
        self.event(EventBody::Ready { worker_pid: 7, python: "CPython".to_owned(), report }).await;
    }

    /// Takes an Execute and begins it, when it has leave.
    async fn begin(&mut self, name: &str) -> Option<Output> {
        let (_, command) = self.command().await;
        let Command::Execute { execution, notice, leave, .. } = command else { panic!("{command:?}") };
        assert_eq!(execution, id(name));
        if !leave {
            assert_eq!(self.command().await.1, Command::Leave { execution: id(name) });
        }
        self.event(EventBody::Accepted { execution: id(name), position: 0 }).await;
        self.event(EventBody::Started { execution: id(name) }).await;
        notice
    }

    async fn output(&mut self, name: &str, seq: u64, text: &[u8]) -> u64 {
        let output = Output::Stream { name: StreamName::Stdout };
        self.event_with(EventBody::Output(OutputFrame { execution: id(name), seq, output }), text).await
    }

    /// Outputs until the daemon does not read any more, which leaves the last one torn: the socket
    /// is full for longer than it takes the daemon.
    async fn fill(&mut self, name: &str) {
        let mut seq = 0;
        while tokio::time::timeout(Duration::from_millis(200), self.output(name, seq, &[b'x'; 256 << 10]))
            .await
            .is_ok()
        {
            seq += 1;
            assert!(seq < 200, "50 MiB were read that nobody took");
        }
    }

    async fn finish(&mut self, name: &str, outputs: u64) -> u64 {
        self.event(EventBody::Finished { execution: id(name), outputs, outcome: outcome(End::Ok) }).await
    }
}

/// A client whose Execution `e` runs, and the shim that has it.
async fn running(daemon: &Arc<Daemon>, shims: &mut mpsc::Receiver<OwnedFd>) -> (Peer, Shim) {
    let mut peer = Peer::connect(daemon).await;
    peer.open().await;
    peer.execute("e").await;
    let mut shim = Shim::next(shims).await;
    shim.ready().await;
    shim.begin("e").await;
    (peer, shim)
}

fn outcome(end: End) -> Outcome {
    Outcome {
        end,
        execution_count: 1,
        wall_us: 1,
        queued_us: 1,
        variables: Variables::Kept,
        names: NameChanges {
            added: vec![NameInfo { name: "x".to_owned(), kind: "int".to_owned(), bytes: None }],
            ..NameChanges::default()
        },
        expressions: Vec::new(),
        usage: Default::default(),
        checkpoint: None,
        worker_ms: None,
    }
}

#[tokio::test]
async fn execution_goes_to_a_new_worker_and_back_and_is_taken_when_read() {
    let (_temp, daemon, mut shims) = daemon().await;
    let mut peer = Peer::connect(&daemon).await;
    peer.open().await;
    let request = peer.execute("e").await;
    let mut shim = Shim::next(&mut shims).await;
    shim.ready().await;
    assert_eq!(shim.begin("e").await, None);
    shim.output("e", 0, b"hi").await;
    let last = shim.finish("e", 1).await;

    assert!(matches!(peer.reply().await, (r, Reply::Accepted { position: 0, .. }, _) if r == request));
    let (_, reply, payload) = peer.reply().await;
    assert!(matches!(reply, Reply::Output(OutputFrame { seq: 0, .. })), "{reply:?}");
    assert_eq!(payload, b"hi");
    let frame = peer.frame().await;
    assert!(frame.is_last());
    assert!(matches!(frame.message().unwrap(), Reply::Outcome { outputs: 1, .. }));
    shim.taken(last).await;

    // Sent again it is read again, not run again.
    peer.execute("e").await;
    let replies = [peer.reply().await.1, peer.reply().await.1, peer.reply().await.1];
    assert!(matches!(&replies[2], Reply::Outcome { outputs: 1, .. }), "{replies:?}");
    peer.execute("f").await;
    shim.begin("f").await;
}

#[tokio::test]
async fn nothing_is_taken_that_a_client_may_come_back_for_until_it_is_on_the_disk() {
    let (_temp, daemon, mut shims) = daemon().await;
    let (mut peer, mut shim) = running(&daemon, &mut shims).await;
    let first = shim.output("e", 0, b"read").await;
    assert!(matches!(peer.reply().await.1, Reply::Accepted { .. }));
    assert!(matches!(peer.reply().await.1, Reply::Output(_)));
    drop(peer);
    let mut peer = Peer::connect(&daemon).await;
    peer.open().await;
    shim.output("e", 1, b"unread").await;
    shim.taken(first - 1).await;
    // Four times as long as `Taken` is delayed.
    let taken = tokio::time::timeout(Duration::from_millis(200), shim.any_command()).await;
    assert!(taken.is_err(), "{taken:?}");

    peer.send(&Request::Attach { notebook: notebook(), execution: id("e"), from_seq: 1 }, b"").await;
    assert!(matches!(peer.reply().await.1, Reply::Accepted { .. }));
    let (_, reply, payload) = peer.reply().await;
    assert!(matches!(reply, Reply::Output(OutputFrame { seq: 1, .. })), "{reply:?}");
    assert_eq!(payload, b"unread");
    // It is on the disk when it has ended.
    shim.finish("e", 2).await;
    shim.taken(shim.seq).await;
}

/// A shim that nobody reads from any more, because its client reads nothing, and another client.
async fn beside_a_slow_reader() -> (impl Sized, Peer, Shim) {
    let (temp, daemon, mut shims) = daemon().await;
    let (slow, mut shim) = running(&daemon, &mut shims).await;
    shim.fill("e").await;
    let other = Peer::connect(&daemon).await;
    ((temp, daemon, shims, slow), other, shim)
}

#[tokio::test]
async fn slow_reader_does_not_keep_an_interrupt_from_the_shim() {
    let (_kept, mut other, mut shim) = beside_a_slow_reader().await;
    other.send(&Request::Interrupt { notebook: notebook() }, b"").await;
    assert_eq!(other.reply().await.1, Reply::Done);
    assert_eq!(shim.command().await.1, Command::Interrupt);
}

#[tokio::test]
async fn shim_is_read_from_again_when_its_worker_is_to_end_though_a_client_reads_nothing() {
    let (_kept, mut other, mut shim) = beside_a_slow_reader().await;
    other.send(&Request::Restart { notebook: notebook() }, b"").await;
    assert!(matches!(shim.command().await.1, Command::End { .. }));
    // As much as no socket holds; what was torn is its beginning.
    let rest = vec![0; 4 << 20];
    let written = tokio::time::timeout(PATIENCE / 2, shim.socket.write_all(&rest)).await;
    assert!(written.is_ok(), "the daemon does not read");
}

#[tokio::test]
async fn lost_shim_ends_the_execution_and_the_next_is_told() {
    let (_temp, daemon, mut shims) = daemon().await;
    let mut peer = Peer::connect(&daemon).await;
    peer.open().await;
    for name in ["first", "second"] {
        peer.execute(name).await;
    }
    let mut shim = Shim::next(&mut shims).await;
    shim.ready().await;
    shim.begin("first").await;
    shim.finish("first", 0).await;
    shim.begin("second").await;
    drop(shim);
    let mut ends = Vec::new();
    while ends.len() < 2 {
        if let Reply::Outcome { outcome, .. } = peer.reply().await.1 {
            ends.push(outcome);
        }
    }
    assert_eq!(ends[1].end, End::WorkerDied(Death::ShimLost));
    assert_eq!(ends[1].variables, Variables::Lost { names: vec!["x".to_owned()] });
    peer.execute("third").await;
    let mut shim = Shim::next(&mut shims).await;
    shim.ready().await;
    let notice = shim.begin("third").await;
    assert!(matches!(&notice, Some(Output::Notice { names, .. }) if names == &["x"]), "{notice:?}");
}

#[tokio::test]
async fn failed_start_is_told_to_all_who_wait() {
    let (_temp, daemon, mut shims) = daemon().await;
    let mut peer = Peer::connect(&daemon).await;
    peer.open().await;
    let requests = [peer.execute("one").await, peer.execute("two").await];
    let mut shim = Shim::next(&mut shims).await;
    let failure = cellblock_proto::shim::StartFailure::Step {
        step: "mount /proc".to_owned(),
        error: "EPERM".to_owned(),
        cure: Some("unmask /proc".to_owned()),
    };
    shim.event(EventBody::StartFailed { failure }).await;
    for request in requests {
        let (answered, reply, _) = peer.reply().await;
        assert_eq!(answered, request);
        let Reply::Error { code: ErrorCode::Sandbox, message, .. } = reply else { panic!("{reply:?}") };
        for part in ["mount /proc", "EPERM", "unmask /proc"] {
            assert!(message.contains(part), "{message}");
        }
    }
    let metrics = crate::overview::metrics(&daemon);
    assert!(metrics.contains("cellblock_worker_start_failures_total{code=\"sandbox\"} 1\n"), "{metrics}");
}

#[tokio::test]
async fn restart_is_answered_when_the_worker_has_gone() {
    let (_temp, daemon, mut shims) = daemon().await;
    let (mut peer, mut shim) = running(&daemon, &mut shims).await;
    assert!(matches!(peer.reply().await.1, Reply::Accepted { .. }));
    let restart = peer.send(&Request::Restart { notebook: notebook() }, b"").await;
    let (_, Command::End { reason }) = shim.command().await else { panic!("not told to end") };
    let death = Death::Ended { reason };
    let end = outcome(End::WorkerDied(death.clone()));
    shim.event(EventBody::Finished { execution: id("e"), outputs: 0, outcome: end }).await;
    shim.event(EventBody::WorkerEnded { death, lost: Vec::new() }).await;
    let mut answered = Vec::new();
    while answered.len() < 2 {
        let (request, reply, _) = peer.reply().await;
        answered.push((request == restart, reply));
    }
    assert!(answered.contains(&(true, Reply::Done)), "{answered:?}");
    // A question with nothing to ask about needs no worker.
    let query = cellblock_proto::query::Query::Variables;
    peer.send(&Request::Query { notebook: notebook(), query }, b"").await;
    assert!(matches!(peer.reply().await.1, Reply::Answer(_)));
    assert!(shims.try_recv().is_err());
}

#[tokio::test]
async fn deleted_notebook_takes_its_files_along_and_is_unknown() {
    let (temp, daemon, _shims) = daemon().await;
    let mut peer = Peer::connect(&daemon).await;
    peer.open().await;
    let folder: PathBuf = temp.path().join("state/notebooks/a");
    assert!(folder.is_dir());
    peer.send(&Request::Delete { notebook: notebook() }, b"").await;
    assert_eq!(peer.reply().await.1, Reply::Done);
    assert!(!folder.exists());
    peer.execute("e").await;
    let Reply::Error { code: ErrorCode::UnknownNotebook, message, .. } = peer.reply().await.1 else {
        panic!()
    };
    assert!(message.contains("open_notebook"), "{message}");
}
