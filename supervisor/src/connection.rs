//! One client: who it is, what it says, where it goes. Every request is answered, by whoever holds
//! its [`Responder`]; nothing a client sends can do more than end its own connection.

mod admission;
mod dispatch;
mod reader;
mod teller;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::client::{ErrorCode, Hello, Reply, Request};
use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{Frame, FrameError, Kind, Limits};
use cellblock_proto::id::TenantId;
use cellblock_proto::operations::Hint;
use cellblock_proto::{BUILD, PROTOCOL_MAX, PROTOCOL_MIN};
use tokio::net::UnixStream;

use crate::daemon::Daemon;
use crate::denial::{Denial, deny};
use crate::files;
use crate::log::chain;
use crate::outbox::{BeginError, Client, Outbox, Responder};
use crate::tenants::Tenant;

use self::reader::Reader;
pub(crate) use self::teller::Teller;

/// How long a new connection may be silent.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);

/// When to try again for a place; others come and go.
const NO_PLACE_MS: u64 = 1_000;

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
    #[error("user {uid} may not act as tenant {tenant}: only operators choose whose notebooks they see")]
    ForbiddenTenant { uid: u32, tenant: TenantId },
    #[error("the first frame must be hello, in JSON, with a request id that is not 0: {reason}")]
    NotHello { reason: String },
    #[error("no hello within {} s", HELLO_PATIENCE.as_secs())]
    Silent,
    #[error("{0}")]
    Full(String),
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
            ConnectionError::Full(_) => ErrorCode::Busy,
            ConnectionError::Forbidden { .. } | ConnectionError::ForbiddenTenant { .. } => {
                ErrorCode::Forbidden
            }
            ConnectionError::Version { .. } => ErrorCode::Version,
            _ => ErrorCode::BadRequest,
        }
    }
}

/// Serves a client until it goes, breaks the protocol, or the daemon ends.
pub(crate) async fn serve(daemon: Arc<Daemon>, socket: UnixStream) {
    let (uid, pid) = match socket.peer_cred() {
        Ok(peer) => (peer.uid(), peer.pid()),
        Err(error) => return tracing::warn!(%error, "could not tell who a client is"),
    };
    let Some(tenant) = daemon.tenants.of(uid) else {
        let reason = chain(&ConnectionError::Forbidden { uid });
        let request = "hello";
        deny(&Denial { uid, tenant: None, request, notebook: None, reason: &reason });
        let teller = Some(Arc::new(Teller::new(daemon, uid, pid)));
        return turn_away(socket, ErrorCode::Forbidden, reason, teller).await;
    };
    let (read, write) = socket.into_split();
    let outbox = Arc::new(Outbox::default());
    let writer = {
        let outbox = Arc::clone(&outbox);
        tokio::spawn(async move { outbox.write_to(write).await })
    };
    let teller = Arc::new(Teller::new(Arc::clone(&daemon), uid, pid));
    let mut connection = Connection {
        daemon,
        uid,
        operator: tenant.operator,
        tenant,
        client: Client { outbox: Arc::clone(&outbox), codec: Codec::Json, teller: Some(teller) },
        files: files::Queue::default(),
        reader: Reader::new(read),
    };
    connection.reader.count_for(&connection.tenant);
    let mut is_refused = false;
    match connection.run().await {
        Ok(()) => tracing::debug!(uid, "client gone"),
        Err(ConnectionError::Io(error)) => tracing::debug!(uid, %error, "client lost"),
        Err(error @ ConnectionError::ForbiddenTenant { .. }) => {
            let (reason, tenant, request) = (chain(&error), Some(&connection.tenant.id), "hello");
            deny(&Denial { uid, tenant, request, notebook: None, reason: &reason });
            connection.client.refuse(0, error.code(), reason);
            is_refused = true;
        }
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

/// Tells a client that there is no place for it, or that it may not.
pub(crate) async fn turn_away(
    socket: UnixStream,
    code: ErrorCode,
    reason: String,
    teller: Option<Arc<Teller>>,
) {
    let client = Client { outbox: Arc::new(Outbox::default()), codec: Codec::Json, teller };
    let hint = (code == ErrorCode::Busy).then_some(Hint { retry_ms: NO_PLACE_MS, position: None });
    client.answer(0, &Reply::Error { code, message: reason, hint }, None);
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
    /// Whether whoever it is may do what concerns all tenants.
    operator: bool,
    /// Whose notebooks it sees.
    tenant: Arc<Tenant>,
    client: Client,
    files: files::Queue,
    reader: Reader,
}

impl Connection {
    async fn run(&mut self) -> Result<(), ConnectionError> {
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

    /// Whose notebooks this connection sees: an operator chooses, everybody else sees his own.
    fn act_as(&mut self, wanted: Option<TenantId>) -> Result<(), ConnectionError> {
        let Some(wanted) = wanted.filter(|wanted| *wanted != self.tenant.id) else { return Ok(()) };
        if !self.tenant.operator {
            return Err(ConnectionError::ForbiddenTenant { uid: self.uid, tenant: wanted });
        }
        self.tenant = self.daemon.tenants.named(&wanted);
        Ok(())
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
        let Hello { min_version: min, max_version: max, codec, client, tenant } = hello;
        let version = max.min(PROTOCOL_MAX);
        if version < min.max(PROTOCOL_MIN) {
            return Err(ConnectionError::Version { min, max });
        }
        self.act_as(tenant)?;
        self.client.outbox.count_for(&self.tenant);
        self.reader.count_for(&self.tenant);
        let name: String = client.chars().take(80).collect();
        if let Some(teller) = &self.client.teller {
            self.client.teller = Some(Arc::new(teller.named(&self.tenant.id, &name)));
        }
        tracing::debug!(uid = self.uid, tenant = %self.tenant.id, client = ?name, version, "hello");
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
            Ok(request) => {
                if let Some(teller) = &self.client.teller {
                    teller.asked(id, &request, &frame.payload);
                }
                self.dispatch(request, frame.payload, responder).await
            }
            Err(error) => responder.refuse(ErrorCode::BadRequest, chain(&error)),
        }
    }
}
