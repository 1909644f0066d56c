//! One client: who it is, what it says, where it goes. Every request is answered, by whoever holds
//! its [`Responder`]; nothing a client sends can do more than end its own connection.

mod reader;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::client::{ErrorCode, Hello, Reply, Request};
use cellblock_proto::codec::Codec;
use cellblock_proto::execution::Task;
use cellblock_proto::frame::{Frame, FrameError, Kind, Limits};
use cellblock_proto::id::NotebookId;
use cellblock_proto::{BUILD, PROTOCOL_MAX, PROTOCOL_MIN};
use tokio::net::UnixStream;

use crate::checkpoints::{self, Ask};
use crate::daemon::Daemon;
use crate::doctor;
use crate::files::{self, What};
use crate::launch;
use crate::log::chain;
use crate::notebook::Message;
use crate::outbox::{BeginError, Client, Outbox, Payload, Responder};
use crate::places::is_operator;
use crate::profiles;
use crate::registry;

use self::reader::Reader;

/// How long a new connection may be silent.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// How long the last words to a client may take.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(5);

/// Code of one Execution, in bytes: far above what people write, far below what hurts.
const MAX_CODE_BYTES: u32 = 16 << 20;

/// Requests carry code at most, so more is refused before it is held.
const LIMITS: Limits = Limits { meta_bytes: Limits::DEFAULT.meta_bytes, payload_bytes: MAX_CODE_BYTES };

/// What a worker is told besides the payload, in bytes: with a payload it must fit into one message of its channel.
const WORKER_META_BYTES: usize = 128 << 10;

/// How long a frame may take to come, once it has begun: what has come of it is held all the while.
const FRAME_PATIENCE: Duration = Duration::from_secs(60);

/// Why a connection ends before its client ends it.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("failed to read from the client")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a client sends requests (kind 1), this frame is of kind {0:?}")]
    Kind(Kind),
    #[error("user {uid} may not use this daemon; its operator can allow it with --allow-uid {uid}")]
    Forbidden { uid: u32 },
    #[error("the first frame must be hello, in JSON, with a request id that is not 0: {reason}")]
    NotHello { reason: String },
    #[error("no hello within {} s", HELLO_PATIENCE.as_secs())]
    Silent,
    #[error("a frame was begun and not ended within {} s", FRAME_PATIENCE.as_secs())]
    Torn,
    #[error(
        "no common protocol version: the client speaks {min} to {max}, this daemon {PROTOCOL_MIN} to {PROTOCOL_MAX}"
    )]
    Version { min: u16, max: u16 },
}

impl ConnectionError {
    fn code(&self) -> ErrorCode {
        match self {
            ConnectionError::Frame(FrameError::TooLarge { .. }) => ErrorCode::TooLarge,
            ConnectionError::Forbidden { .. } => ErrorCode::Forbidden,
            ConnectionError::Version { .. } => ErrorCode::Version,
            _ => ErrorCode::BadRequest,
        }
    }
}

/// Serves a client until it goes, breaks the protocol, or the daemon ends.
pub(crate) async fn serve(daemon: Arc<Daemon>, socket: UnixStream) {
    let uid = match socket.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => return tracing::warn!(%error, "could not tell who a client is"),
    };
    let (read, write) = socket.into_split();
    let outbox = Arc::new(Outbox::default());
    let writer = {
        let outbox = Arc::clone(&outbox);
        tokio::spawn(async move { outbox.write_to(write).await })
    };
    let mut connection = Connection {
        daemon,
        uid,
        client: Client { outbox: Arc::clone(&outbox), codec: Codec::Json },
        files: files::Queue::default(),
        reader: Reader::new(read),
    };
    let mut is_refused = false;
    match connection.run().await {
        Ok(()) => tracing::debug!(uid, "client gone"),
        Err(ConnectionError::Io(error)) => tracing::debug!(uid, %error, "client lost"),
        Err(error) => {
            tracing::warn!(uid, error = chain(&error), "connection refused");
            connection.client.refuse(0, error.code(), chain(&error));
            is_refused = true;
        }
    }
    outbox.close();
    let aborted = writer.abort_handle();
    let farewell = async {
        let written = writer.await;
        if is_refused {
            // A socket that is closed with something unread in it takes back our last words, and
            // somebody who is still sending does not read them yet.
            connection.reader.drain().await;
        }
        written
    };
    if tokio::time::timeout(FAREWELL_PATIENCE, farewell).await.is_err() {
        aborted.abort();
    }
}

/// Tells a client that there is no place for it.
pub(crate) async fn turn_away(socket: UnixStream, reason: String) {
    let client = Client { outbox: Arc::new(Outbox::default()), codec: Codec::Json };
    client.refuse(0, ErrorCode::Busy, reason);
    client.outbox.close();
    let (half, write) = socket.into_split();
    let mut reader = Reader::new(half);
    let farewell = async {
        let _ = client.outbox.write_to(write).await;
        // It may be saying hello first.
        reader.drain().await;
    };
    // Whether it is heard is the client's business.
    let _ = tokio::time::timeout(FAREWELL_PATIENCE, farewell).await;
}

struct Connection {
    daemon: Arc<Daemon>,
    uid: u32,
    client: Client,
    files: files::Queue,
    reader: Reader,
}

impl Connection {
    async fn run(&mut self) -> Result<(), ConnectionError> {
        self.authorise()?;
        let hello = tokio::time::timeout(HELLO_PATIENCE, self.reader.request());
        let Some(frame) = hello.await.map_err(|_| ConnectionError::Silent)?? else { return Ok(()) };
        self.greet(&frame)?;
        let mut ending = self.daemon.ending.subscribe();
        loop {
            // A client that does not read is not listened to either.
            self.client.outbox.room().await;
            let frame = tokio::select! {
                frame = self.reader.request() => frame?,
                _ = ending.wait_for(|ending| *ending) => None,
            };
            let Some(frame) = frame else { return Ok(()) };
            self.take(frame).await;
        }
    }

    fn authorise(&self) -> Result<(), ConnectionError> {
        let uid = self.uid;
        if is_operator(uid) || self.daemon.allow_uids.contains(&uid) {
            Ok(())
        } else {
            Err(ConnectionError::Forbidden { uid })
        }
    }

    fn greet(&mut self, frame: &Frame) -> Result<(), ConnectionError> {
        let wrong = |reason: &str| ConnectionError::NotHello { reason: reason.to_owned() };
        if frame.codec != Codec::Json || frame.request == 0 {
            return Err(wrong("it is in another codec or has request id 0"));
        }
        let hello = match frame.message() {
            Ok(Request::Hello(hello)) => hello,
            Ok(_) => return Err(wrong("it is another request")),
            Err(error) => return Err(wrong(&chain(&error))),
        };
        let Hello { min_version: min, max_version: max, codec, client } = hello;
        let version = max.min(PROTOCOL_MAX);
        if version < min.max(PROTOCOL_MIN) {
            return Err(ConnectionError::Version { min, max });
        }
        let name: String = client.chars().take(80).collect();
        tracing::debug!(uid = self.uid, client = ?name, version, "hello");
        let reply = Reply::Hello {
            version,
            codec,
            server: BUILD.to_owned(),
            meta_bytes: LIMITS.meta_bytes,
            payload_bytes: LIMITS.payload_bytes,
        };
        self.client.answer(frame.request, &reply, None);
        self.client.codec = codec;
        Ok(())
    }

    async fn take(&mut self, frame: Frame) {
        let id = frame.request;
        let refuse = |message: String| self.client.refuse(0, ErrorCode::BadRequest, message);
        if id == 0 {
            return refuse("request id 0 belongs to the connection: choose another".to_owned());
        }
        match self.client.outbox.begin(id) {
            Ok(()) => {}
            Err(BeginError::InUse) => {
                return refuse(format!("request id {id} is being answered: choose another"));
            }
            Err(BeginError::TooMany) => {
                let message = "too many requests at once on this connection: wait for answers";
                return self.client.refuse(id, ErrorCode::Busy, message);
            }
        }
        let responder = Responder::new(self.client.clone(), id);
        match frame.message::<Request>() {
            Ok(request) => self.dispatch(request, frame.payload, responder).await,
            Err(error) => responder.refuse(ErrorCode::BadRequest, chain(&error)),
        }
    }

    async fn dispatch(&self, request: Request, payload: Vec<u8>, responder: Responder) {
        match request {
            Request::Hello(_) => responder.refuse(ErrorCode::BadRequest, "hello was said already"),
            Request::OpenNotebook { notebook, profile } => {
                match registry::open(&self.daemon, notebook, profile).await {
                    Ok(info) => responder.answer(&Reply::Notebook(info), None),
                    Err((code, message)) => responder.refuse(code, message),
                }
            }
            Request::Execute { notebook, execution, options } => {
                let Some(responder) = check_told(Codec::Json.encode(&options).ok(), "the options", responder)
                else {
                    return;
                };
                // What a value's bytes are is the worker's to judge.
                let checked = match options.task {
                    Task::Put { .. } => Some((Payload::new(payload), responder)),
                    Task::Code | Task::Plugin { .. } | Task::Get { .. } => check_code(payload, responder),
                };
                if let Some((code, responder)) = checked {
                    self.ask(&notebook, responder, |responder| Message::Execute {
                        execution,
                        options,
                        code,
                        responder,
                    })
                    .await;
                }
            }
            Request::Attach { notebook, execution, from_seq } => {
                self.ask(&notebook, responder, |responder| Message::Attach {
                    execution,
                    from_seq,
                    responder,
                })
                .await;
            }
            Request::Interrupt { notebook } => {
                self.ask(&notebook, responder, |responder| Message::Interrupt { responder }).await;
            }
            Request::Cancel { notebook, execution } => {
                self.ask(&notebook, responder, |responder| Message::Cancel { execution, responder }).await;
            }
            Request::Input { notebook, execution, value } => {
                let Some(responder) = check_told(Codec::Json.encode(&value).ok(), "the answer", responder)
                else {
                    return;
                };
                self.ask(&notebook, responder, |responder| Message::Input { execution, value, responder })
                    .await;
            }
            Request::Query { notebook, query } => {
                if let Some((code, responder)) = check_code(payload, responder) {
                    self.ask(&notebook, responder, |responder| Message::Query { query, code, responder })
                        .await;
                }
            }
            Request::Restart { notebook } => {
                self.ask(&notebook, responder, |responder| Message::Restart { responder }).await;
            }
            Request::Close { notebook } => {
                self.ask(&notebook, responder, |responder| Message::Close { delete: false, responder }).await;
            }
            Request::Delete { notebook } => self.delete(&notebook, responder).await,
            Request::Notebooks => {
                let notebooks = registry::list(&self.daemon).await;
                responder.answer(&Reply::Notebooks { notebooks }, None);
            }
            Request::Status { notebook } => {
                self.ask(&notebook, responder, |responder| Message::Status { responder }).await;
            }
            Request::Doctor => {
                let daemon = Arc::clone(&self.daemon);
                tokio::task::spawn_blocking(move || {
                    responder.answer(&Reply::Doctor { checks: doctor::examine(&daemon) }, None);
                });
            }
            Request::Comm { target } => {
                let target: String = target.chars().take(80).collect();
                let message = format!(
                    "comm {target:?} was refused: a comm needs a live object on both sides, and cellblock keeps a \
                     worker's objects inside its sandbox; use display() and update_display() instead"
                );
                responder.refuse(ErrorCode::Unsupported, message);
            }
            Request::Shutdown => self.shut_down(responder).await,
            Request::Profiles => {
                let daemon = Arc::clone(&self.daemon);
                tokio::task::spawn_blocking(move || match profiles::list(daemon.profiles.as_deref()) {
                    Ok(profiles) => responder.answer(&Reply::Profiles { profiles }, None),
                    Err(error) => responder.refuse(ErrorCode::BadProfile, chain(&error)),
                });
            }
            Request::Warm => {
                responder.answer(&Reply::Warm { profiles: self.daemon.warm.info() }, None);
            }
            Request::Plan { profile } => {
                let daemon = Arc::clone(&self.daemon);
                let profile = profile.unwrap_or_else(|| profiles::DEFAULT.to_owned());
                tokio::task::spawn_blocking(move || match launch::preview(&daemon, profile) {
                    Ok(steps) => responder.answer(&Reply::Plan { steps }, None),
                    Err(error) => {
                        let (code, message) = error.for_client();
                        responder.refuse(code, message);
                    }
                });
            }
            Request::Checkpoint { notebook } => {
                self.ask(&notebook, responder, |responder| Message::Save { responder }).await;
            }
            Request::Clear { notebook } => {
                self.ask(&notebook, responder, |responder| Message::Clear { responder }).await;
            }
            Request::Checkpoints { notebook } => self.checkpoints(notebook, Ask::List, responder),
            Request::CheckpointContent { notebook, checkpoint } => {
                self.checkpoints(notebook, Ask::Content(checkpoint), responder);
            }
            Request::Restore { notebook, checkpoint } => {
                self.checkpoints(notebook, Ask::Restore(checkpoint), responder);
            }
            Request::Fork { notebook, checkpoint, to } => {
                self.checkpoints(notebook, Ask::Fork(checkpoint, to), responder);
            }
            Request::ExportCheckpoint { notebook, checkpoint } => {
                self.checkpoints(notebook, Ask::Export(checkpoint), responder);
            }
            Request::VerifyCheckpoints { notebook, checkpoint } => {
                self.checkpoints(notebook, Ask::Verify(checkpoint), responder);
            }
            Request::CollectCheckpoints { notebook, keep } => {
                self.checkpoints(notebook, Ask::Collect(keep), responder);
            }
            // In their order: the parts of one file come one after the other.
            Request::ImportCheckpoint { notebook, offset, last } => {
                match checkpoints::import(&self.daemon, &notebook, offset, last, payload).await {
                    Ok(reply) => responder.answer(&reply, None),
                    Err((code, message)) => responder.refuse(code, message),
                }
            }
            Request::Events { notebook } => {
                checkpoints::listen(self.daemon.events.subscribe(), notebook, responder);
            }
            Request::ListFiles { notebook, path } => {
                self.look_into(notebook, What::List { path }, responder);
            }
            Request::ReadFile { notebook, path, offset, bytes } => {
                self.look_into(notebook, What::Read { path, offset, bytes }, responder);
            }
            Request::WriteFile { notebook, path, offset } => {
                self.look_into(notebook, What::Write { path, offset, payload }, responder);
            }
            Request::RemoveFile { notebook, path } => {
                self.look_into(notebook, What::Remove { path }, responder);
            }
        }
    }

    async fn ask(
        &self,
        notebook: &NotebookId,
        responder: Responder,
        message: impl FnOnce(Responder) -> Message,
    ) {
        match self.daemon.notebooks.get(notebook) {
            // A notebook that is closed meanwhile drops the message, and that answers it.
            Some(entry) => drop(entry.inbox.send(message(responder)).await),
            None => refuse_unknown(notebook, responder),
        }
    }

    /// Nobody waits for it here: files may be slow, and what comes next may be an interrupt.
    fn look_into(&self, notebook: NotebookId, what: What, responder: Responder) {
        if self.daemon.notebooks.get(&notebook).is_none() {
            return refuse_unknown(&notebook, responder);
        }
        self.files.put(&self.daemon, notebook, what, responder);
    }

    /// Nobody waits for it here: a store may have gigabytes.
    fn checkpoints(&self, notebook: NotebookId, ask: Ask, responder: Responder) {
        tokio::spawn(checkpoints::serve(Arc::clone(&self.daemon), notebook, ask, responder));
    }

    /// Also removes the files of a notebook that is not open.
    async fn delete(&self, notebook: &NotebookId, responder: Responder) {
        if self.daemon.notebooks.get(notebook).is_none()
            && crate::workspace::exists(&self.daemon.state, notebook)
            && let Err((code, message)) = registry::open(&self.daemon, notebook.clone(), None).await
        {
            return responder.refuse(code, message);
        }
        self.ask(notebook, responder, |responder| Message::Close { delete: true, responder }).await;
    }

    async fn shut_down(&self, responder: Responder) {
        if !is_operator(self.uid) {
            let message = "only root and the daemon's own user may end it";
            return responder.refuse(ErrorCode::Forbidden, message);
        }
        responder.done();
        // The answer first; a client that does not read it does not keep us.
        let _ = tokio::time::timeout(FAREWELL_PATIENCE, self.client.outbox.flushed()).await;
        self.daemon.ending.send_replace(true);
    }
}

fn refuse_unknown(notebook: &NotebookId, responder: Responder) {
    let message = format!("notebook {:?} is not open: send open_notebook first", notebook.as_str());
    responder.refuse(ErrorCode::UnknownNotebook, message);
}

/// Who is to answer, unless what a worker would have to be told is too much for one message and refused.
fn check_told(told: Option<Vec<u8>>, what: &str, responder: Responder) -> Option<Responder> {
    let bytes = told.map_or(usize::MAX, |told| told.len());
    if bytes > WORKER_META_BYTES {
        let message = format!("{what} would take {bytes} bytes, a worker takes {WORKER_META_BYTES}");
        responder.refuse(ErrorCode::TooLarge, message);
        return None;
    }
    Some(responder)
}

/// The payload as code, or the refusal sent.
fn check_code(payload: Vec<u8>, responder: Responder) -> Option<(Payload, Responder)> {
    if let Err(error) = std::str::from_utf8(&payload) {
        responder.refuse(ErrorCode::BadRequest, format!("the code is not UTF-8: {error}"));
        return None;
    }
    Some((Payload::new(payload), responder))
}
