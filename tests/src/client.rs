//! A client that speaks JSON, sends many requests at once, and waits with a bound. `cellctl` has a
//! client of its own (bincode, one request at a time), so between them both codecs are used.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use cellblock_proto::client::{ErrorCode, Hello, NotebookInfo, NotebookStatus, Reply, Request};
use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{Frame, FrameReader, Kind, Limits};
use cellblock_proto::id::NotebookId;
use cellblock_proto::operations::Hint;
use cellblock_proto::{PROTOCOL_MAX, PROTOCOL_MIN};

use crate::wait::PATIENCE;

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    reader: FrameReader,
    next_request: u32,
    /// Answers to other requests than the one last asked for.
    waiting: VecDeque<Frame>,
}

/// A reply and its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The message.
    pub reply: Reply,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Whether it is the last to its request.
    pub last: bool,
}

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// When to try again.
    pub hint: Option<Hint>,
}

impl Client {
    /// Connects and says hello.
    ///
    /// # Panics
    /// When it cannot.
    pub fn connect(socket: &Path) -> Self {
        Client::silent(socket).greet(None).expect("hello is answered")
    }

    /// Connects as another user, which only root can, and says hello.
    ///
    /// # Errors
    /// The daemon's refusal.
    ///
    /// # Panics
    /// When the socket cannot be reached.
    pub fn connect_as(socket: &Path, uid: u32, tenant: Option<&str>) -> Result<Self, Refused> {
        Client::silent_as(socket, uid).greet(tenant)
    }

    /// Connects as the user `uid` and says nothing; the tests run as root then.
    ///
    /// # Panics
    /// When it cannot.
    pub fn silent_as(socket: &Path, uid: u32) -> Self {
        use rustix::fs::{Gid, Uid};
        use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
        // A thread may be somebody else, and who that is when it connects is what the daemon is told.
        let socket = socket.to_owned();
        let connect = std::thread::spawn(move || {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
            set_thread_groups(&[]).expect("we are root");
            set_thread_res_gid(gid, gid, gid).expect("we are root");
            set_thread_res_uid(uid, uid, uid).expect("we are root");
            Client::silent(&socket)
        });
        connect.join().expect("the socket can be reached")
    }

    /// Says hello, as another tenant where an operator wants that.
    ///
    /// # Errors
    /// The daemon's refusal.
    ///
    /// # Panics
    /// When it answers something else.
    pub fn greet(mut self, tenant: Option<&str>) -> Result<Self, Refused> {
        let hello = Hello {
            min_version: PROTOCOL_MIN,
            max_version: PROTOCOL_MAX,
            codec: Codec::Json,
            client: "tests".to_owned(),
            tenant: tenant.map(|tenant| tenant.parse().expect("a legal name")),
        };
        let id = self.send(&Request::Hello(hello), &[]);
        match self.next_or_refusal(id).reply {
            Reply::Error { code, message, hint } => Err(Refused { code, message, hint }),
            Reply::Hello { codec: Codec::Json, .. } => Ok(self),
            other => panic!("{other:?} as an answer to hello"),
        }
    }

    /// What is said to a connection that has said nothing: why there is no place for it.
    ///
    /// # Panics
    /// When it is something else.
    pub fn refusal(mut self) -> Refused {
        match self.next_or_refusal(0).reply {
            Reply::Error { code, message, hint } => Refused { code, message, hint },
            other => panic!("{other:?} to who has said nothing"),
        }
    }

    /// What the daemon has counted, as an operator.
    ///
    /// # Panics
    /// When it does not say.
    pub fn metrics(&mut self) -> String {
        let asked = self.ask_about(&Request::Metrics, &[]).expect("metrics");
        assert_eq!(asked.reply, Reply::Metrics);
        String::from_utf8(asked.payload).expect("text")
    }

    /// The next answer to a request, or what is said to the connection.
    fn next_or_refusal(&mut self, request: u32) -> Answer {
        match self.frame(Instant::now() + PATIENCE) {
            Received::Frame(frame) if [0, request].contains(&frame.request) => answer(frame),
            _ => panic!("no answer to request {request}"),
        }
    }

    /// Connects and says nothing.
    ///
    /// # Panics
    /// When it cannot.
    pub fn silent(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket)
            .unwrap_or_else(|error| panic!("failed to connect to {}: {error}", socket.display()));
        Client {
            stream,
            reader: FrameReader::new(Limits::DEFAULT),
            next_request: 1,
            waiting: VecDeque::new(),
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the daemon listens");
    }

    /// Sends bytes that the daemon may refuse before it has read them all.
    pub fn send_unwelcome(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a message in JSON under a request id.
    ///
    /// # Panics
    /// As [`Client::send_bytes`].
    pub fn send_json(&mut self, request: u32, json: &str) {
        let meta = json.as_bytes().to_vec();
        let frame =
            Frame { kind: Kind::Request, codec: Codec::Json, flags: 0, request, meta, payload: Vec::new() };
        let mut bytes = Vec::new();
        frame.write_to(&mut bytes);
        self.send_bytes(&bytes);
    }

    /// Sends a request; returns its id.
    ///
    /// # Panics
    /// As [`Client::send_bytes`].
    pub fn send(&mut self, request: &Request, payload: &[u8]) -> u32 {
        let id = self.next_request;
        self.next_request += 1;
        let frame = Codec::Json.frame(Kind::Request, id, request).expect("requests have a JSON form");
        let mut bytes = Vec::new();
        frame.with_payload(payload.to_vec()).write_to(&mut bytes);
        self.send_bytes(&bytes);
        id
    }

    /// The next answer to a request.
    ///
    /// # Panics
    /// When none comes in time, or the connection ends.
    pub fn next(&mut self, request: u32) -> Answer {
        self.next_within(request, PATIENCE)
            .unwrap_or_else(|| panic!("no answer to request {request} within {PATIENCE:?}"))
    }

    /// The next answer to a request, if it comes in time.
    ///
    /// # Panics
    /// When the connection ends.
    pub fn next_within(&mut self, request: u32, patience: Duration) -> Option<Answer> {
        let deadline = Instant::now() + patience;
        if let Some(at) = self.waiting.iter().position(|frame| frame.request == request) {
            return self.waiting.remove(at).map(answer);
        }
        loop {
            match self.frame(deadline) {
                Received::Frame(frame) if frame.request == request => return Some(answer(frame)),
                Received::Frame(frame) if frame.request == 0 && request != 0 => {
                    panic!("the connection was refused: {:?}", answer(frame).reply)
                }
                Received::Frame(frame) => self.waiting.push_back(frame),
                Received::Nothing => return None,
                Received::End => panic!("the daemon ended the connection"),
            }
        }
    }

    /// The next answer to a request; `None` when the connection ends, whole frames before that or a
    /// torn one.
    ///
    /// # Panics
    /// When neither comes in time.
    pub fn next_or_end(&mut self, request: u32) -> Option<Answer> {
        match self.frame(Instant::now() + PATIENCE) {
            Received::Frame(frame) => {
                assert_eq!(frame.request, request, "an answer to another request");
                Some(answer(frame))
            }
            Received::Nothing => panic!("neither an answer nor the end within {PATIENCE:?}"),
            Received::End => None,
        }
    }

    /// Whether the daemon ends the connection (answers on the way are passed over).
    pub fn ends(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.frame(deadline) {
                Received::Frame(_) => {}
                Received::Nothing => return false,
                Received::End => return true,
            }
        }
    }

    fn frame(&mut self, deadline: Instant) -> Received {
        let mut bytes = vec![0; 256 << 10];
        loop {
            if let Some(frame) = self.reader.next_frame().expect("the daemon sends frames") {
                return Received::Frame(frame);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Received::Nothing;
            }
            self.stream.set_read_timeout(Some(left)).expect("a positive time");
            match self.stream.read(&mut bytes) {
                Ok(0) => return Received::End,
                Ok(count) => self.reader.feed(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Received::End,
                Err(error) => panic!("failed to read from the daemon: {error}"),
            }
        }
    }

    /// Asks something that has one answer.
    ///
    /// # Errors
    /// The daemon's refusal.
    ///
    /// # Panics
    /// As [`Client::next`].
    pub fn ask(&mut self, request: &Request) -> Result<Reply, Refused> {
        self.ask_about(request, &[]).map(|answer| answer.reply)
    }

    /// Asks something about a piece of code.
    ///
    /// # Errors
    /// The daemon's refusal.
    ///
    /// # Panics
    /// As [`Client::next`].
    pub fn ask_about(&mut self, request: &Request, payload: &[u8]) -> Result<Answer, Refused> {
        let id = self.send(request, payload);
        let answer = self.next(id);
        match answer.reply {
            Reply::Error { code, message, hint } => Err(Refused { code, message, hint }),
            _ => {
                assert!(answer.last, "a second answer would follow {:?}", answer.reply);
                Ok(answer)
            }
        }
    }

    /// Asks something that is answered by `Done`.
    ///
    /// # Panics
    /// When it is not.
    pub fn tell(&mut self, request: &Request) {
        assert_eq!(self.ask(request), Ok(Reply::Done), "{request:?}");
    }

    /// A notebook in full.
    ///
    /// # Panics
    /// When there is none.
    pub fn status(&mut self, notebook: &NotebookId) -> NotebookStatus {
        match self.ask(&Request::Status { notebook: notebook.clone() }) {
            Ok(Reply::Status(status)) => status,
            other => panic!("no status: {other:?}"),
        }
    }

    /// The open notebooks.
    ///
    /// # Panics
    /// When they are not told.
    pub fn notebooks(&mut self) -> Vec<NotebookInfo> {
        match self.ask(&Request::Notebooks) {
            Ok(Reply::Notebooks { notebooks, .. }) => notebooks,
            other => panic!("no list: {other:?}"),
        }
    }
}

enum Received {
    Frame(Frame),
    Nothing,
    End,
}

fn answer(frame: Frame) -> Answer {
    let reply = frame.message().expect("the daemon sends known replies");
    assert_eq!((frame.kind, frame.codec), (Kind::Reply, Codec::Json));
    Answer { reply, last: frame.is_last(), payload: frame.payload }
}
