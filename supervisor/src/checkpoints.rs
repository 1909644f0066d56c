//! What clients ask of a notebook's checkpoints, and a worker is not needed for. Store processes do it, see
//! [`crate::store`].

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use cellblock_proto::checkpoint::{Checkpoint, Keep, NotebookEvent};
use cellblock_proto::client::{ErrorCode, Reply};
use cellblock_proto::id::NotebookId;
use cellblock_proto::store::{StoreOrder, StoreReply};
use rustix::pipe::PipeFlags;
use sandbox_profiles::{CheckpointPolicy, Checkpointing};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Duration, timeout};

use crate::daemon::{Daemon, Entry, Key};
use crate::log::chain;
use crate::notebook::Message;
use crate::outbox::{Client, Payload, PushError, Responder};
use crate::registry::Refusal;
use crate::store::{self, StoreError};
use crate::unsaved::Unsaved;
use crate::{files, loss, profiles, registry, workspace};

/// Events that wait for a listener who is behind.
pub(crate) const EVENTS: usize = 1_024;

/// How often it is looked whether a listener is still there.
const LISTENER_INTERVAL: Duration = Duration::from_secs(30);

/// One payload of an exported file.
const PART_BYTES: usize = 1 << 20;

/// What is asked, of which notebook.
#[derive(Debug)]
pub(crate) enum Ask {
    List,
    Content(Option<u64>),
    Restore(Option<u64>),
    Fork(Option<u64>, Key),
    Export(Option<u64>),
    Verify(Option<u64>),
    Collect(Option<Keep>),
}

/// Answers in its own time.
pub(crate) async fn serve(daemon: Arc<Daemon>, notebook: Key, ask: Ask, responder: Responder) {
    let answered = match ask {
        Ask::Export(checkpoint) => return export(&daemon, &notebook, checkpoint, responder).await,
        Ask::Restore(checkpoint) => return restore(&daemon, &notebook, checkpoint, responder).await,
        Ask::Fork(checkpoint, to) => fork(&daemon, &notebook, checkpoint, to).await,
        Ask::List => list(&daemon, &notebook).await,
        Ask::Content(checkpoint) => content(&daemon, &notebook, checkpoint).await,
        Ask::Verify(checkpoint) => verify(&daemon, &notebook, checkpoint).await,
        Ask::Collect(keep) => collect(&daemon, &notebook, keep).await,
    };
    match answered {
        Ok(reply) => responder.answer_with_room(&reply, None).await,
        Err((ErrorCode::Forbidden, message)) => responder.forbid("fork", &notebook, &message),
        Err((code, message)) => responder.refuse(code, message),
    }
}

/// One of a few at a time: each may read gigabytes. Nobody waits here for a client that does not read.
async fn run(daemon: &Arc<Daemon>, notebook: &Key, order: StoreOrder) -> Result<StoreReply, Refusal> {
    let _permit = files::permit(daemon, notebook).await;
    store::run(daemon, notebook, &order, None).await.map_err(|error| error.for_client())
}

fn unexpected() -> Refusal {
    StoreError::Reply.for_client()
}

async fn list(daemon: &Arc<Daemon>, notebook: &Key) -> Result<Reply, Refusal> {
    match run(daemon, notebook, StoreOrder::List).await? {
        StoreReply::Listed { checkpoints, used_bytes, damage } => {
            Ok(Reply::Checkpoints { checkpoints, used_bytes, damage })
        }
        _ => Err(unexpected()),
    }
}

async fn content(daemon: &Arc<Daemon>, notebook: &Key, checkpoint: Option<u64>) -> Result<Reply, Refusal> {
    match run(daemon, notebook, StoreOrder::Content { checkpoint }).await? {
        StoreReply::Content(content) => Ok(Reply::CheckpointContent(content)),
        _ => Err(unexpected()),
    }
}

async fn verify(daemon: &Arc<Daemon>, notebook: &Key, checkpoint: Option<u64>) -> Result<Reply, Refusal> {
    match run(daemon, notebook, StoreOrder::Verify { checkpoint }).await? {
        StoreReply::Verified { checkpoints } => Ok(Reply::Verified { checkpoints }),
        _ => Err(unexpected()),
    }
}

async fn collect(daemon: &Arc<Daemon>, notebook: &Key, keep: Option<Keep>) -> Result<Reply, Refusal> {
    let keep = match keep {
        Some(keep) => keep,
        None => policy(daemon, &opened(daemon, notebook)?)?.keep,
    };
    match run(daemon, notebook, StoreOrder::Collect { keep }).await? {
        StoreReply::Collected(collected) => {
            tracing::info!(%notebook, removed = ?collected.removed, "checkpoints collected");
            Ok(Reply::Collected(collected))
        }
        _ => Err(unexpected()),
    }
}

/// What the newest checkpoint is, for who asks for one while there is no worker and nothing has changed since: of
/// `untold` none may be newer.
pub(crate) async fn newest(daemon: Arc<Daemon>, notebook: Key, mut untold: Unsaved, responder: Responder) {
    match content(&daemon, &notebook, None).await {
        Ok(Reply::CheckpointContent(content)) => {
            untold.settle(&content.info.execution);
            if let Some(message) = loss::before_it_was_saved(&untold) {
                return responder.refuse(ErrorCode::Checkpoint, message);
            }
            let checkpoint = Checkpoint::Saved { id: content.info.id, written_bytes: 0, pause_us: 0 };
            responder.answer(&Reply::Checkpoint(checkpoint), None);
        }
        Ok(_) => responder.refuse(ErrorCode::Internal, "no content"),
        Err((code, message)) => responder.refuse(code, message),
    }
}

/// Sees that it can be had before anything is ended for it.
async fn restore(daemon: &Arc<Daemon>, notebook: &Key, checkpoint: Option<u64>, responder: Responder) {
    let found = async {
        let entry = opened(daemon, notebook)?;
        saves(&policy(daemon, &entry)?)?;
        let Reply::CheckpointContent(content) = content(daemon, notebook, checkpoint).await? else {
            return Err(unexpected());
        };
        match content.info.damage {
            None => Ok((entry, content.info.id)),
            Some(damage) => {
                let message = format!("checkpoint {} cannot be restored: {damage}", content.info.id);
                Err((ErrorCode::Checkpoint, message))
            }
        }
    };
    match found.await {
        // A notebook that is closed meanwhile drops it, and that answers.
        Ok((entry, id)) => drop(entry.inbox.send(Message::Restore { checkpoint: id, responder }).await),
        Err((code, message)) => responder.refuse(code, message),
    }
}

async fn fork(
    daemon: &Arc<Daemon>,
    notebook: &Key,
    checkpoint: Option<u64>,
    to: Key,
) -> Result<Reply, Refusal> {
    let entry = opened(daemon, notebook)?;
    if let Some(reason) = daemon.tenants.named(&to.tenant).forbids(&entry.profile) {
        return Err((ErrorCode::Forbidden, reason));
    }
    let policy = policy(daemon, &entry)?;
    saves(&policy)?;
    // Before anything is made.
    content(daemon, notebook, checkpoint).await?;
    let taken = || {
        let message = format!("there is a notebook {:?} already: choose another name", to.as_str());
        (ErrorCode::BadRequest, message)
    };
    if registry::find(daemon, &to).is_some() {
        return Err(taken());
    }
    // Whoever makes the folder has the name.
    match workspace::reserve(&daemon.state, &to) {
        Ok(true) => {}
        Ok(false) => return Err(taken()),
        Err(error) => return Err((ErrorCode::Storage, chain(&error))),
    }
    if let Err(refusal) = copy(daemon, notebook, checkpoint, &to, policy.keep).await {
        // Unless somebody has opened it meanwhile: then it is theirs.
        if daemon.notebooks.get(&to).is_none()
            && let Err(error) = workspace::remove(&daemon.state, &to)
        {
            tracing::warn!(%to, error = chain(&error), "could not remove what a fork has left");
        }
        return Err(refusal);
    }
    tracing::info!(%notebook, %to, "notebook forked");
    registry::open(daemon, to, Some(entry.profile)).await.map(Reply::Notebook)
}

/// A checkpoint of one notebook becomes another's.
async fn copy(
    daemon: &Arc<Daemon>,
    from: &Key,
    checkpoint: Option<u64>,
    to: &Key,
    keep: Keep,
) -> Result<(), Refusal> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| (ErrorCode::Internal, format!("failed to make a pipe: {error}")))?;
    let export = StoreOrder::Export { checkpoint, notebook: from.to_string() };
    let import = StoreOrder::Import { keep };
    let (exported, imported) = tokio::join!(
        store::run(daemon, from, &export, Some(write)),
        store::run(daemon, to, &import, Some(read)),
    );
    // What cannot be read is why what cannot be written is cut off.
    exported.and(imported).map(drop).map_err(|error| error.for_client())
}

async fn export(daemon: &Arc<Daemon>, notebook: &Key, checkpoint: Option<u64>, responder: Responder) {
    let (client, request) = responder.into_parts();
    let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
    let pipe = pipe.and_then(|(read, write)| Ok((pipe::Receiver::from_owned_fd(read)?, write)));
    let (read, write) = match pipe {
        Ok(pipe) => pipe,
        Err(error) => return client.refuse(request, ErrorCode::Internal, error.to_string()),
    };
    let order = StoreOrder::Export { checkpoint, notebook: notebook.to_string() };
    let parts = send_parts(read, &client, request);
    let (exported, ()) = tokio::join!(store::run(daemon, notebook, &order, Some(write)), parts);
    match exported.map(drop).map_err(|error| error.for_client()) {
        Ok(()) => client.answer(request, &Reply::Done, None),
        Err((code, message)) => client.refuse(request, code, message),
    }
}

/// What comes out of the pipe, as fast as the client reads. When that has gone, so does the pipe.
async fn send_parts(mut read: pipe::Receiver, client: &Client, request: u32) {
    let wake = Arc::new(Notify::new());
    loop {
        let mut part = vec![0; PART_BYTES];
        let mut filled = 0;
        while filled < PART_BYTES {
            match read.read(&mut part[filled..]).await {
                Ok(0) | Err(_) => break,
                Ok(count) => filled += count,
            }
        }
        if filled == 0 {
            return;
        }
        part.truncate(filled);
        let payload = Payload::new(part);
        loop {
            match client.offer(request, &Reply::Part, Some(payload.clone()), 0, &wake) {
                Ok(_) => break,
                Err(PushError::Full) => wake.notified().await,
                Err(PushError::Gone | PushError::TooLarge) => return,
            }
        }
    }
}

/// One part of a file that is imported. They are put together beside the checkpoints.
pub(crate) async fn import(
    daemon: &Arc<Daemon>,
    notebook: &Key,
    offset: u64,
    last: bool,
    part: Vec<u8>,
) -> Result<Reply, Refusal> {
    let policy = policy(daemon, &opened(daemon, notebook)?)?;
    saves(&policy)?;
    let most = policy.keep.max_bytes.saturating_mul(2);
    if offset.saturating_add(part.len() as u64) > most {
        let message = format!("the file has more than the {most} bytes that this notebook's profile allows");
        return Err((ErrorCode::TooLarge, message));
    }
    let staged = workspace::staged_import(&daemon.state, notebook);
    let written = {
        let staged = staged.clone();
        tokio::task::spawn_blocking(move || append(&staged, offset, &part))
    };
    let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    if let Err(error) = written {
        let code = match error.kind() {
            io::ErrorKind::InvalidInput => ErrorCode::BadRequest,
            _ => ErrorCode::Storage,
        };
        return Err((code, format!("failed to take a part of the file: {error}")));
    }
    if !last {
        return Ok(Reply::Done);
    }
    let whole = File::open(&staged).map_err(|error| (ErrorCode::Storage, chain(&error)))?;
    // It lives as long as somebody reads it.
    let removed = std::fs::remove_file(&staged);
    removed.map_err(|error| (ErrorCode::Storage, chain(&error)))?;
    let order = StoreOrder::Import { keep: policy.keep };
    match store::run(daemon, notebook, &order, Some(OwnedFd::from(whole))).await {
        Ok(StoreReply::Imported { checkpoint }) => Ok(Reply::Imported { checkpoint }),
        Ok(_) => Err(unexpected()),
        Err(error) => Err(error.for_client()),
    }
}

fn append(staged: &PathBuf, offset: u64, part: &[u8]) -> io::Result<()> {
    let mut file = File::options().create(true).write(true).truncate(offset == 0).open(staged)?;
    let found = file.seek(SeekFrom::End(0))?;
    if found != offset {
        let message = format!("the part begins at byte {offset}, and {found} have come before it");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    file.write_all(part)
}

/// Tells a client what happens, until it goes.
pub(crate) fn listen(
    mut events: broadcast::Receiver<NotebookEvent>,
    notebook: Option<NotebookId>,
    responder: Responder,
) {
    let (client, request) = responder.into_parts();
    let is_meant = move |event: &NotebookEvent| match event.whose() {
        Some((_, which)) => notebook.as_ref().is_none_or(|notebook| notebook == which),
        None => true,
    };
    tokio::spawn(async move {
        let wake = Arc::new(Notify::new());
        let mut said = Reply::Listening;
        loop {
            match client.offer(request, &said, None, 0, &wake) {
                Ok(_) => {}
                Err(PushError::Full) => {
                    wake.notified().await;
                    continue;
                }
                Err(PushError::Gone | PushError::TooLarge) => return,
            }
            said = loop {
                let event = match timeout(LISTENER_INTERVAL, events.recv()).await {
                    Ok(Ok(event)) => event,
                    Ok(Err(RecvError::Lagged(count))) => NotebookEvent::Missed { count },
                    Ok(Err(RecvError::Closed)) => return,
                    Err(_) if client.outbox.is_gone() => return,
                    Err(_) => continue,
                };
                if is_meant(&event) {
                    break Reply::Event(event);
                }
            };
        }
    });
}

fn opened(daemon: &Arc<Daemon>, notebook: &Key) -> Result<Entry, Refusal> {
    let unknown = || {
        let message =
            format!("notebook {:?} is not open: open it first (`open_notebook`)", notebook.as_str());
        (ErrorCode::UnknownNotebook, message)
    };
    registry::find(daemon, notebook).ok_or_else(unknown)
}

fn policy(daemon: &Daemon, entry: &Entry) -> Result<CheckpointPolicy, Refusal> {
    let profile = profiles::load(daemon.profiles.as_deref(), &entry.profile);
    profile.map(|profile| profile.checkpoints).map_err(|error| (ErrorCode::BadProfile, chain(&error)))
}

fn saves(policy: &CheckpointPolicy) -> Result<(), Refusal> {
    if policy.when != Checkpointing::None {
        return Ok(());
    }
    let message =
        "the notebook's profile has no checkpoints: set `when` in its table [checkpoints]".to_owned();
    Err((ErrorCode::Checkpoint, message))
}
