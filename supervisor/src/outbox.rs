//! What waits to be written to one client. Notebook tasks put frames in while there is room and are
//! woken when there is room again, and when what they put in has reached the socket: only then may
//! a shim forget an output.
//!
//! Invariant: answers go in always (each belongs to one of a bounded number of requests), outputs
//! only below [`ROOM_BYTES`]; so a client that does not read costs us a bounded amount and stops
//! its own notebooks, nobody else's.

use std::collections::{HashSet, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cellblock_proto::client::{ErrorCode, Reply};
use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{FLAG_LAST, Frame, HEADER_BYTES, Header, Kind, Limits};
use cellblock_proto::operations::Hint;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::connection::Teller;
use crate::daemon::Key;
use crate::denial::{Denial, deny};
use crate::tenants::{Counted, Held, Tenant};

/// Bytes that may wait before outputs have to: enough to keep the socket busy, little enough for a
/// thousand clients. A single frame may exceed it.
const ROOM_BYTES: usize = 1 << 20;

/// Requests of one connection that may be under way at once.
const MAX_IN_FLIGHT: usize = 256;

/// Frames per writev(2).
const BATCH: usize = 32;

/// The payload of a frame, shared with whoever keeps it.
pub(crate) type Payload = Arc<Vec<u8>>;

/// The queue of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Wakes the writer: something to write, or the end.
    filled: Notify,
    /// Wakes the reader of requests: room again, or the end.
    drained: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Item>,
    /// Bytes not yet in the socket, those being written included.
    waiting_bytes: usize,
    /// Frames ever put in.
    pushed: u64,
    /// Frames ever written into the socket.
    written: u64,
    in_flight: HashSet<u32>,
    /// `waiting_bytes`, as the client's tenant has them counted.
    held: Option<Held>,
    /// Who found no room.
    hungry: Vec<Arc<Notify>>,
    /// Who wants to know when the client has gone. A connection outlives most of them.
    watchers: Vec<Weak<Notify>>,
    /// Nothing more goes in; the writer ends when it has written what there is.
    closed: bool,
    /// The peer has gone; nothing will be written any more.
    broken: bool,
}

impl State {
    fn count(&mut self) {
        if let Some(held) = &mut self.held {
            held.set(self.waiting_bytes as u64);
        }
    }
}

#[derive(Debug)]
struct Item {
    head: Vec<u8>,
    payload: Option<Payload>,
    /// Woken when the frame is in the socket.
    wake: Option<Arc<Notify>>,
}

impl Item {
    fn bytes(&self) -> usize {
        self.head.len() + self.payload.as_ref().map_or(0, |payload| payload.len())
    }
}

/// The number of a frame in its connection; it is written when [`Outbox::written`] reaches it.
pub(crate) type Ticket = u64;

/// Why an output did not go in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// Later; the `Notify` given will be woken.
    Full,
    /// Never: the client has gone.
    Gone,
    /// Its description is longer than a frame's meta may be.
    TooLarge,
}

/// Why a request cannot begin.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BeginError {
    /// Its id is being answered already.
    InUse,
    /// Too many at once.
    TooMany,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics with the lock held half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a request is being answered.
    pub(crate) fn begin(&self, request: u32) -> Result<(), BeginError> {
        let mut state = self.lock();
        if state.in_flight.contains(&request) {
            return Err(BeginError::InUse);
        }
        if state.in_flight.len() >= MAX_IN_FLIGHT {
            return Err(BeginError::TooMany);
        }
        state.in_flight.insert(request);
        Ok(())
    }

    /// Counts from now on what waits as this tenant's.
    pub(crate) fn count_for(&self, tenant: &Arc<Tenant>) {
        let mut state = self.lock();
        state.held = Some(Held::claim(tenant, Counted::Buffered, 0));
        state.count();
    }

    /// How many frames are in the socket.
    pub(crate) fn written(&self) -> Ticket {
        self.lock().written
    }

    /// Whether the client has gone.
    pub(crate) fn is_gone(&self) -> bool {
        let state = self.lock();
        state.closed || state.broken
    }

    /// Lets the writer write what is there, then end.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        self.wake_all();
    }

    /// Wakes `wake` when the client has gone.
    pub(crate) fn watch(&self, wake: &Arc<Notify>) {
        let mut state = self.lock();
        if state.broken || state.closed {
            wake.notify_one();
        } else {
            let wake = Arc::downgrade(wake);
            state.watchers.retain(|watcher| watcher.strong_count() > 0 && !watcher.ptr_eq(&wake));
            state.watchers.push(wake);
        }
    }

    fn break_off(&self) {
        {
            let mut state = self.lock();
            state.broken = true;
            state.queue.clear();
            state.held = None;
        }
        self.wake_all();
    }

    fn wake_all(&self) {
        let (hungry, waiting, watchers) = {
            let mut state = self.lock();
            let waiting: Vec<_> = state.queue.iter().filter_map(|item| item.wake.clone()).collect();
            (std::mem::take(&mut state.hungry), waiting, std::mem::take(&mut state.watchers))
        };
        hungry.iter().chain(&waiting).for_each(|notify| notify.notify_one());
        watchers.iter().filter_map(Weak::upgrade).for_each(|notify| notify.notify_one());
        self.drained.notify_one();
    }

    /// Returns when there is room, or nobody to write to.
    ///
    /// # Cancel safety
    /// Safe: it takes nothing.
    pub(crate) async fn room(&self) {
        loop {
            {
                let state = self.lock();
                if state.waiting_bytes < ROOM_BYTES || state.broken || state.closed {
                    return;
                }
            }
            self.drained.notified().await;
        }
    }

    /// Returns when everything has been written, or the client has gone.
    pub(crate) async fn flushed(&self) {
        loop {
            {
                let state = self.lock();
                if state.written == state.pushed || state.broken {
                    return;
                }
            }
            self.drained.notified().await;
        }
    }

    fn push(&self, header: Header, item: Item, only_with_room: bool) -> Result<Ticket, PushError> {
        let mut state = self.lock();
        if state.broken || state.closed {
            return Err(PushError::Gone);
        }
        if only_with_room && state.waiting_bytes >= ROOM_BYTES {
            state.hungry.extend(item.wake);
            return Err(PushError::Full);
        }
        if header.flags & FLAG_LAST != 0 {
            state.in_flight.remove(&header.request);
        }
        state.waiting_bytes += item.bytes();
        state.count();
        state.queue.push_back(item);
        state.pushed += 1;
        let ticket = state.pushed;
        drop(state);
        self.filled.notify_one();
        Ok(ticket)
    }

    /// Writes the queue to the socket until the connection is closed and all is written.
    ///
    /// # Errors
    /// What the socket says; the outbox is broken from then on.
    pub(crate) async fn write_to(&self, mut socket: impl AsyncWrite + Unpin) -> io::Result<()> {
        loop {
            let (batch, closed) = {
                let mut state = self.lock();
                let count = state.queue.len().min(BATCH);
                (state.queue.drain(..count).collect::<Vec<_>>(), state.closed)
            };
            if batch.is_empty() {
                if closed {
                    self.break_off();
                    return Ok(());
                }
                self.filled.notified().await;
                continue;
            }
            let result = write_batch(&mut socket, &batch).await;
            self.after(&batch, result.is_ok());
            if let Err(error) = result {
                self.break_off();
                return Err(error);
            }
        }
    }

    fn after(&self, batch: &[Item], written: bool) {
        let hungry = {
            let mut state = self.lock();
            if written {
                state.written += batch.len() as u64;
            }
            state.waiting_bytes -= batch.iter().map(Item::bytes).sum::<usize>();
            state.count();
            let room = state.waiting_bytes < ROOM_BYTES;
            if room { std::mem::take(&mut state.hungry) } else { Vec::new() }
        };
        // A Notify keeps one permit, so waking the same task twice is once too often at worst.
        let wakes = batch.iter().filter_map(|item| item.wake.as_ref());
        hungry.iter().chain(wakes).for_each(|notify| notify.notify_one());
        self.drained.notify_one();
    }
}

async fn write_batch(socket: &mut (impl AsyncWrite + Unpin), batch: &[Item]) -> io::Result<()> {
    let mut slices = Vec::with_capacity(2 * batch.len());
    for item in batch {
        slices.push(IoSlice::new(&item.head));
        slices.extend(item.payload.as_ref().map(|payload| IoSlice::new(payload)));
    }
    let mut rest = &mut slices[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let count = socket.write_vectored(rest).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut rest, count);
    }
    Ok(())
}

/// A connection as those who answer it see it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Its queue.
    pub(crate) outbox: Arc<Outbox>,
    /// How it wants its messages.
    pub(crate) codec: Codec,
    /// Who it is, for those who count and write down what is refused; nobody in tests.
    pub(crate) teller: Option<Arc<Teller>>,
}

impl Client {
    /// Answers a request for good.
    pub(crate) fn answer(&self, request: u32, reply: &Reply, payload: Option<Payload>) {
        if let (Some(teller), Reply::Error { code, message, .. }) = (&self.teller, reply) {
            teller.refused(request, *code, message);
        }
        if self.send(request, reply, payload, FLAG_LAST, None) == Err(PushError::TooLarge) {
            let code = ErrorCode::TooLarge;
            let message = "the answer does not fit into a frame: ask for less".to_owned();
            // Gone or not, there is nothing more to do about it.
            let _ = self.send(request, &Reply::Error { code, message, hint: None }, None, FLAG_LAST, None);
        }
    }

    /// Refuses a request.
    pub(crate) fn refuse(&self, request: u32, code: ErrorCode, message: impl Into<String>) {
        self.answer(request, &Reply::Error { code, message: message.into(), hint: None }, None);
    }

    /// Puts a frame in if there is room; `wake` is woken when it is written, or when there is room.
    pub(crate) fn offer(
        &self,
        request: u32,
        reply: &Reply,
        payload: Option<Payload>,
        flags: u8,
        wake: &Arc<Notify>,
    ) -> Result<Ticket, PushError> {
        self.send(request, reply, payload, flags, Some(Arc::clone(wake)))
    }

    fn send(
        &self,
        request: u32,
        reply: &Reply,
        payload: Option<Payload>,
        flags: u8,
        wake: Option<Arc<Notify>>,
    ) -> Result<Ticket, PushError> {
        let Ok(frame) = self.codec.frame(Kind::Reply, request, reply) else {
            return Err(PushError::TooLarge);
        };
        let header = header(&frame, payload.as_ref(), flags);
        if header.meta_bytes > Limits::DEFAULT.meta_bytes {
            return Err(PushError::TooLarge);
        }
        let mut head = Vec::with_capacity(HEADER_BYTES + frame.meta.len());
        head.extend_from_slice(&header.encode());
        head.extend_from_slice(&frame.meta);
        let payload = payload.filter(|payload| !payload.is_empty());
        let only_with_room = wake.is_some();
        self.outbox.push(header, Item { head, payload, wake }, only_with_room)
    }
}

fn header(frame: &Frame, payload: Option<&Payload>, flags: u8) -> Header {
    let length = payload.map_or(0, |payload| payload.len());
    // Payloads came in by frames, whose lengths are u32.
    Header { flags, payload_bytes: u32::try_from(length).unwrap_or(u32::MAX), ..frame.header() }
}

/// The duty to answer one request. Whoever drops it unanswered answers with an error, so no client
/// waits for ever.
#[derive(Debug)]
pub(crate) struct Responder {
    client: Client,
    request: u32,
    answered: bool,
}

impl Responder {
    /// For a request that has begun.
    pub(crate) fn new(client: Client, request: u32) -> Self {
        Responder { client, request, answered: false }
    }

    /// For what nobody asked for.
    pub(crate) fn to_nobody() -> Self {
        let client = Client { outbox: Arc::new(Outbox::default()), codec: Codec::Json, teller: None };
        Responder { client, request: 0, answered: false }
    }

    /// Answers.
    pub(crate) fn answer(mut self, reply: &Reply, payload: Option<Payload>) {
        self.answered = true;
        self.client.answer(self.request, reply, payload);
    }

    /// Answers as soon as there is room: for answers that are large, of which the client may ask for
    /// many before it reads one.
    ///
    /// # Cancel safety
    /// Dropped half-way, it refuses as any responder does.
    pub(crate) async fn answer_with_room(mut self, reply: &Reply, payload: Option<Payload>) {
        let wake = Arc::new(Notify::new());
        loop {
            match self.client.offer(self.request, reply, payload.clone(), FLAG_LAST, &wake) {
                Ok(_) | Err(PushError::Gone) => {
                    self.answered = true;
                    return;
                }
                Err(PushError::TooLarge) => return self.answer(reply, payload),
                Err(PushError::Full) => wake.notified().await,
            }
        }
    }

    /// Answers `Done`.
    pub(crate) fn done(self) {
        self.answer(&Reply::Done, None);
    }

    /// Refuses.
    pub(crate) fn refuse(self, code: ErrorCode, message: impl Into<String>) {
        self.answer(&Reply::Error { code, message: message.into(), hint: None }, None);
    }

    /// Refuses what who asks may not, and notes that.
    pub(crate) fn forbid(self, request: &'static str, notebook: &Key, reason: &str) {
        if let Some(teller) = &self.client.teller {
            let (tenant, notebook) = (Some(&notebook.tenant), Some(&notebook.notebook));
            deny(&Denial { uid: teller.uid(), tenant, request, notebook, reason });
        }
        self.refuse(ErrorCode::Forbidden, reason);
    }

    /// Refuses for now.
    pub(crate) fn busy(self, message: impl Into<String>, hint: Hint) {
        let reply = Reply::Error { code: ErrorCode::Busy, message: message.into(), hint: Some(hint) };
        self.answer(&reply, None);
    }

    /// Hands the duty over: to a stream of frames that ends with one that has `FLAG_LAST`.
    pub(crate) fn into_parts(mut self) -> (Client, u32) {
        self.answered = true;
        (self.client.clone(), self.request)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.answered {
            let message = "the notebook was closed, or cellblockd is going down, before this was answered";
            self.client.refuse(self.request, ErrorCode::ShuttingDown, message);
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
