//! A blocking client of cellblockd: one connection, one request at a time.
//!
//! ```no_run
//! # fn main() -> Result<(), cellctl::client::ClientError> {
//! # let (notebook, execution) = ("a".parse().unwrap(), "1".parse().unwrap());
//! let mut connection = cellctl::client::Connection::connect("/run/cellblock/cellblockd.sock".as_ref())?;
//! connection.open_notebook(&notebook, None)?;
//! for received in connection.execute(&notebook, &execution, "1 + 1", Default::default())? {
//!     let received = received?;
//!     // Accepted, then Outputs, then one Outcome
//! }
//! # Ok(()) }
//! ```
//!
//! What is deliberately absent: a background thread. To interrupt a running cell, connect a second
//! time; that is also what works from another process.

mod error;

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use cellblock_proto::client::{
    DoctorLine, Hello, NotebookInfo, NotebookStatus, ProfileInfo, Reply, Request, WarmInfo,
};
use cellblock_proto::codec::Codec;
use cellblock_proto::execution::ExecuteOptions;
use cellblock_proto::frame::{Frame, FrameReader, Kind, Limits};
use cellblock_proto::id::{ExecutionId, NotebookId, TenantId};
use cellblock_proto::operations::{Overview, TenantInfo};
use cellblock_proto::{PROTOCOL_MAX, PROTOCOL_MIN};
use sandbox_profiles::Step;

pub use self::error::ClientError;
pub(crate) use self::error::unexpected;

/// One read from the socket; large enough that a big output takes few system calls.
const READ_BYTES: usize = 256 << 10;

/// A reply with its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// The message.
    pub reply: Reply,
    /// Raw bytes; the message says what they are.
    pub payload: Vec<u8>,
}

/// A connection on which Hello has been exchanged.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    reader: FrameReader,
    buffer: Vec<u8>,
    codec: Codec,
    next_request: u32,
    server: String,
}

impl Connection {
    /// Connects and says Hello.
    ///
    /// # Errors
    /// Nobody listens there, or it is no cellblockd of a version that we speak.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        Self::connect_as(socket, None)
    }

    /// Connects and says Hello, as another tenant: operators may, who see his notebooks then.
    ///
    /// # Errors
    /// As [`Connection::connect`]; and when we are no operator.
    pub fn connect_as(socket: &Path, tenant: Option<&TenantId>) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket)
            .map_err(|source| ClientError::Connect { socket: socket.to_owned(), source })?;
        Self::greet(stream, tenant)
    }

    /// Says Hello on a stream that is connected already.
    ///
    /// # Errors
    /// As [`Connection::connect`].
    pub fn over(stream: UnixStream) -> Result<Self, ClientError> {
        Self::greet(stream, None)
    }

    fn greet(stream: UnixStream, tenant: Option<&TenantId>) -> Result<Self, ClientError> {
        let mut connection = Connection {
            stream,
            reader: FrameReader::new(Limits::DEFAULT),
            buffer: vec![0; READ_BYTES],
            codec: Codec::Json,
            next_request: 1,
            server: String::new(),
        };
        let hello = Request::Hello(Hello {
            min_version: PROTOCOL_MIN,
            max_version: PROTOCOL_MAX,
            codec: Codec::Bincode,
            client: concat!("cellctl ", env!("CARGO_PKG_VERSION")).into(),
            tenant: tenant.cloned(),
        });
        match connection.ask(&hello)?.reply {
            Reply::Hello { codec, server, .. } => {
                connection.codec = codec;
                connection.server = server;
                Ok(connection)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The server's build, as it calls itself.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// A handle that ends this connection from another thread: the call in progress returns
    /// [`ClientError::Lost`].
    ///
    /// # Errors
    /// The process is out of file descriptors.
    pub fn hangup(&self) -> Result<Hangup, ClientError> {
        self.stream.try_clone().map(Hangup).map_err(ClientError::Lost)
    }

    /// Makes a notebook known to the daemon.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn open_notebook(
        &mut self,
        notebook: &NotebookId,
        profile: Option<&str>,
    ) -> Result<NotebookInfo, ClientError> {
        let request =
            Request::OpenNotebook { notebook: notebook.clone(), profile: profile.map(str::to_owned) };
        match self.ask(&request)?.reply {
            Reply::Notebook(info) => Ok(info),
            other => Err(unexpected(&other)),
        }
    }

    /// Runs code; the answers come one by one from the iterator.
    ///
    /// # Errors
    /// The request could not be sent.
    pub fn execute(
        &mut self,
        notebook: &NotebookId,
        execution: &ExecutionId,
        code: &str,
        options: ExecuteOptions,
    ) -> Result<Replies<'_>, ClientError> {
        let request = Request::Execute { notebook: notebook.clone(), execution: execution.clone(), options };
        let request = self.send(&request, code.as_bytes().to_vec())?;
        Ok(Replies { connection: self, request, ended: false })
    }

    /// Reads an Execution from output `from_seq` on, whoever started it.
    ///
    /// # Errors
    /// The request could not be sent.
    pub fn attach(
        &mut self,
        notebook: &NotebookId,
        execution: &ExecutionId,
        from_seq: u64,
    ) -> Result<Replies<'_>, ClientError> {
        self.ask_for_many(&Request::Attach {
            notebook: notebook.clone(),
            execution: execution.clone(),
            from_seq,
        })
    }

    /// One notebook in full.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn status(&mut self, notebook: &NotebookId) -> Result<NotebookStatus, ClientError> {
        match self.ask(&Request::Status { notebook: notebook.clone() })?.reply {
            Reply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// All notebooks of the caller.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn notebooks(&mut self) -> Result<Vec<NotebookInfo>, ClientError> {
        let (mut all, mut request) = (Vec::new(), Request::Notebooks);
        loop {
            match self.ask(&request)?.reply {
                Reply::Notebooks { notebooks, more } => {
                    all.extend(notebooks);
                    match all.last().filter(|_| more) {
                        Some(NotebookInfo { notebook, .. }) => {
                            request = Request::NotebooksAfter { after: notebook.clone() };
                        }
                        None => return Ok(all),
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
    }

    /// What the host can enforce.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn doctor(&mut self) -> Result<Vec<DoctorLine>, ClientError> {
        match self.ask(&Request::Doctor)?.reply {
            Reply::Doctor { checks } => Ok(checks),
            other => Err(unexpected(&other)),
        }
    }

    /// The tenants, and what each uses; for operators.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn tenants(&mut self) -> Result<Vec<TenantInfo>, ClientError> {
        match self.ask(&Request::Tenants)?.reply {
            Reply::Tenants { tenants } => Ok(tenants),
            other => Err(unexpected(&other)),
        }
    }

    /// The profiles that a notebook can be opened with.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn profiles(&mut self) -> Result<Vec<ProfileInfo>, ClientError> {
        match self.ask(&Request::Profiles)?.reply {
            Reply::Profiles { profiles } => Ok(profiles),
            other => Err(unexpected(&other)),
        }
    }

    /// Zygotes and spares.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn warm(&mut self) -> Result<Vec<WarmInfo>, ClientError> {
        match self.ask(&Request::Warm)?.reply {
            Reply::Warm { profiles } => Ok(profiles),
            other => Err(unexpected(&other)),
        }
    }

    /// Figures of the daemon in Prometheus' text format, for operators.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn metrics(&mut self) -> Result<Vec<u8>, ClientError> {
        let received = self.ask(&Request::Metrics)?;
        match received.reply {
            Reply::Metrics => Ok(received.payload),
            other => Err(unexpected(&other)),
        }
    }

    /// The daemon and all notebooks of all tenants, for operators.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn overview(&mut self) -> Result<Overview, ClientError> {
        match self.ask(&Request::Overview)?.reply {
            Reply::Overview(overview) => Ok(*overview),
            other => Err(unexpected(&other)),
        }
    }

    /// The steps that make a sandbox of a profile.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn plan(&mut self, profile: &str) -> Result<Vec<Step>, ClientError> {
        match self.ask(&Request::Plan { profile: Some(profile.to_owned()) })?.reply {
            Reply::Plan { steps } => Ok(steps),
            other => Err(unexpected(&other)),
        }
    }

    /// A request that is answered by `Done`.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn tell(&mut self, request: &Request) -> Result<(), ClientError> {
        match self.ask(request)?.reply {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// A request with exactly one answer.
    ///
    /// # Errors
    /// The daemon refused it ([`ClientError::Refused`]) or the connection is gone.
    pub fn ask(&mut self, request: &Request) -> Result<Received, ClientError> {
        self.ask_with(request, Vec::new())
    }

    /// A request with a payload and exactly one answer.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn ask_with(&mut self, request: &Request, payload: Vec<u8>) -> Result<Received, ClientError> {
        let request = self.send(request, payload)?;
        Ok(self.receive(request)?.0)
    }

    /// A request with any number of answers; they come one by one from the iterator.
    ///
    /// # Errors
    /// The request could not be sent.
    pub fn ask_for_many(&mut self, request: &Request) -> Result<Replies<'_>, ClientError> {
        let request = self.send(request, Vec::new())?;
        Ok(Replies { connection: self, request, ended: false })
    }

    fn send(&mut self, message: &Request, payload: Vec<u8>) -> Result<u32, ClientError> {
        let request = self.next_request;
        // 0 is the connection's own number and never a request's.
        self.next_request = request.checked_add(1).unwrap_or(1);
        let frame = self.codec.frame(Kind::Request, request, message)?.with_payload(payload);
        let mut bytes = Vec::new();
        frame.write_to(&mut bytes);
        match self.stream.write_all(&bytes) {
            Ok(()) => Ok(request),
            // The daemon may have said why before it hung up; that is the better message.
            Err(source) => match self.receive(0) {
                Err(refused @ ClientError::Refused { .. }) => Err(refused),
                _ => Err(ClientError::Lost(source)),
            },
        }
    }

    /// The next answer to `request`, and whether it is the last. Frames of other requests (of an
    /// iterator that was dropped, of an `Input` on the way) are passed over.
    fn receive(&mut self, request: u32) -> Result<(Received, bool), ClientError> {
        loop {
            let frame = self.next_frame()?;
            if frame.request != request && frame.request != 0 {
                continue;
            }
            let reply: Reply = frame.message()?;
            if let Reply::Error { code, message, hint } = reply {
                return Err(ClientError::Refused { code, message, hint });
            }
            if frame.request == request {
                let last = frame.is_last();
                return Ok((Received { reply, payload: frame.payload }, last));
            }
        }
    }

    fn next_frame(&mut self) -> Result<Frame, ClientError> {
        loop {
            if let Some(frame) = self.reader.next_frame()? {
                return Ok(frame);
            }
            match self.stream.read(&mut self.buffer) {
                Ok(0) => {
                    return Err(ClientError::Lost(io::Error::from(io::ErrorKind::UnexpectedEof)));
                }
                Ok(count) => self.reader.feed(&self.buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ClientError::Lost(source)),
            }
        }
    }
}

/// The answers to one request; to Execute or Attach these are `Accepted`, `Output`s, and last the `Outcome`.
#[derive(Debug)]
pub struct Replies<'a> {
    connection: &'a mut Connection,
    request: u32,
    ended: bool,
}

impl Replies<'_> {
    /// Answers an `InputRequest` that this iterator has brought.
    ///
    /// # Errors
    /// The answer could not be sent.
    pub fn input(
        &mut self,
        notebook: &NotebookId,
        execution: &ExecutionId,
        value: String,
    ) -> Result<(), ClientError> {
        let request = Request::Input { notebook: notebook.clone(), execution: execution.clone(), value };
        // Its `Done` comes between our own answers and is passed over there: if it were refused,
        // the Execution would end and say so.
        self.connection.send(&request, Vec::new()).map(|_| ())
    }

    /// Interrupts the notebook that this iterator reads from.
    ///
    /// # Errors
    /// The request could not be sent.
    pub fn interrupt(&mut self, notebook: &NotebookId) -> Result<(), ClientError> {
        self.connection.send(&Request::Interrupt { notebook: notebook.clone() }, Vec::new()).map(|_| ())
    }
}

impl Iterator for Replies<'_> {
    type Item = Result<Received, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let answer = self.connection.receive(self.request);
        self.ended = answer.as_ref().map_or(true, |(_, last)| *last);
        Some(answer.map(|(received, _)| received))
    }
}

/// Ends a connection from another thread.
#[derive(Debug)]
pub struct Hangup(UnixStream);

impl Hangup {
    /// Ends it. A connection that has ended already is fine.
    pub fn hang_up(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
