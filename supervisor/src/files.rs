//! The files of a workspace, on a client's request: list, read, write, remove.
//!
//! Whatever lies in a workspace was put there by code that nobody trusts, and may change under our
//! hands. So [`tree`] resolves each path beneath the workspace and follows no link, and it does so
//! on a thread of its own, which has become the workspace's owner first: as root, the daemon could
//! be led to what only root can reach; as the owner, it can do what the worker can do anyway. It
//! also means that what a client writes belongs to the worker, and counts against its quota.
//!
//! Invariant: such a thread serves one request and ends; no other work ever runs on it, and no path
//! below a workspace is looked at by any other thread.
//!
//! What is deliberately absent: links (neither followed, read nor made), modes and owners. The
//! requests carry names and bytes.

mod tree;

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use cellblock_proto::client::{ErrorCode, Reply};
use rustix::fs::{Gid, Uid};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::daemon::{Daemon, Key};
use crate::log::chain;
use crate::notebook::{LiveWorker, Message};
use crate::outbox::{Payload, Responder};
use crate::registry;
use crate::{quota, workspace};

use self::tree::Tree;

/// Threads at work in workspaces at once, of the whole daemon: each may hold [`MAX_PART_BYTES`].
pub(crate) const MAX_THREADS: usize = 8;

/// Of those, the work of one tenant: others have the rest.
pub(crate) const MAX_THREADS_OF_TENANT: usize = MAX_THREADS * 3 / 4;

/// Requests about files that one connection may have waiting, each of which may carry
/// [`MAX_PART_BYTES`]. They are done one after the other.
const MAX_WAITING: usize = 8;

/// What one request reads or writes at most, in bytes.
const MAX_PART_BYTES: u32 = 8 << 20;

/// How long a listing, a read or a write may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a removal may take: a tree of a million files, on a slow disk.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(60);

/// The stack of a thread: nothing in [`tree`] recurses.
const STACK_BYTES: usize = 256 << 10;

/// Why a request about files was not done, as the client is told.
type Refusal = (ErrorCode, String);

/// What is asked. Paths are as [`cellblock_proto::path`] has them.
#[derive(Debug)]
pub(crate) enum What {
    /// The names in a folder.
    List { path: String },
    /// A part of a file.
    Read { path: String, offset: u64, bytes: u32 },
    /// The payload, into a file.
    Write { path: String, offset: u64, payload: Vec<u8> },
    /// A file, or a folder and all in it.
    Remove { path: String },
}

#[derive(Debug)]
struct Job {
    notebook: Key,
    what: What,
    responder: Responder,
}

/// The requests of one connection, which are done in their order.
#[derive(Debug, Default)]
pub(crate) struct Queue(OnceLock<mpsc::Sender<Job>>);

impl Queue {
    /// Answers in time, or at once that there are too many.
    pub(crate) fn put(&self, daemon: &Arc<Daemon>, notebook: Key, what: What, responder: Responder) {
        let sender = self.0.get_or_init(|| {
            let (sender, inbox) = mpsc::channel(MAX_WAITING);
            tokio::spawn(serve(Arc::clone(daemon), inbox));
            sender
        });
        match sender.try_send(Job { notebook, what, responder }) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => {
                let message = format!(
                    "more than {MAX_WAITING} requests about files on this connection: wait for answers"
                );
                job.responder.refuse(ErrorCode::Busy, message);
            }
            // Dropping it answers: the daemon is going down.
            Err(TrySendError::Closed(_)) => {}
        }
    }
}

/// Ends with its connection, when what had been asked is done.
async fn serve(daemon: Arc<Daemon>, mut inbox: mpsc::Receiver<Job>) {
    while let Some(Job { notebook, what, responder }) = inbox.recv().await {
        let worker = match worker(&daemon, &notebook).await {
            Ok(worker) => worker,
            Err((code, message)) => {
                responder.refuse(code, message);
                continue;
            }
        };
        // Never closed.
        let Some(permit) = permit(&daemon, &notebook).await else { return };
        let (reply, answer) = oneshot::channel();
        let begun = {
            let daemon = Arc::clone(&daemon);
            thread::Builder::new().name("files".to_owned()).stack_size(STACK_BYTES).spawn(move || {
                // Whoever asked may have gone.
                let _ = reply.send(work(&daemon, &notebook, worker, what));
                drop(permit);
            })
        };
        let done = match begun {
            Ok(_) => answer.await.unwrap_or_else(|_| {
                Err((ErrorCode::Internal, "the thread that was at it has failed".to_owned()))
            }),
            Err(error) => Err((ErrorCode::Busy, format!("failed to start a thread: {error}"))),
        };
        match done {
            Ok((reply, payload)) => responder.answer_with_room(&reply, payload).await,
            Err((code, message)) => responder.refuse(code, message),
        }
    }
}

/// The right to be at work in a notebook's folder.
pub(crate) async fn permit(daemon: &Daemon, notebook: &Key) -> Option<[OwnedSemaphorePermit; 2]> {
    // Of the tenant's own first: who waits there takes nothing from others.
    let tenant = daemon.tenants.named(&notebook.tenant);
    let own = Arc::clone(&tenant.file_threads).acquire_owned().await.ok()?;
    Some([own, Arc::clone(&daemon.file_threads).acquire_owned().await.ok()?])
}

/// The worker that the way to the files leads through, where it does; it is started when there is none.
async fn worker(daemon: &Arc<Daemon>, notebook: &Key) -> Result<Option<LiveWorker>, Refusal> {
    let needed = quota::needs_worker(daemon, notebook).await;
    if !needed.map_err(|error| (ErrorCode::Storage, chain(&error)))? {
        return Ok(None);
    }
    let closed = || (ErrorCode::UnknownNotebook, format!("notebook {:?} was closed", notebook.as_str()));
    let entry = registry::find(daemon, notebook).ok_or_else(closed)?;
    let (reply, answer) = oneshot::channel();
    entry.inbox.send(Message::Worker { reply }).await.map_err(|_| closed())?;
    let ended = "the worker ended before its files could be reached: ask again".to_owned();
    answer.await.map_err(|_| (ErrorCode::Busy, ended))?.map(Some)
}

/// One request, on a thread that is for nothing else.
fn work(
    daemon: &Daemon,
    notebook: &Key,
    worker: Option<LiveWorker>,
    what: What,
) -> Result<(Reply, Option<Payload>), Refusal> {
    let root =
        workspace::root(daemon, notebook, worker).map_err(|error| (ErrorCode::Storage, chain(&error)))?;
    become_owner(root.owner)?;
    let within = |patience| Tree::new(root.folder, Instant::now() + patience);
    match what {
        What::List { path } => {
            let (files, truncated) = within(PATIENCE).list(&path)?;
            Ok((Reply::Files { files, truncated }, None))
        }
        What::Read { path, offset, bytes } => {
            check_part(u64::from(bytes))?;
            let (payload, bytes) = within(PATIENCE).read(&path, offset, bytes)?;
            Ok((Reply::File { bytes }, Some(Payload::new(payload))))
        }
        What::Write { path, offset, payload } => {
            check_part(payload.len() as u64)?;
            within(PATIENCE).write(&path, offset, &payload)?;
            Ok((Reply::Done, None))
        }
        What::Remove { path } => {
            within(REMOVAL_PATIENCE).remove(&path)?;
            Ok((Reply::Done, None))
        }
    }
}

fn check_part(bytes: u64) -> Result<(), Refusal> {
    if bytes <= u64::from(MAX_PART_BYTES) {
        return Ok(());
    }
    let message =
        format!("one request is for {MAX_PART_BYTES} bytes at most, not {bytes}: ask for less at a time");
    Err((ErrorCode::TooLarge, message))
}

/// Makes this thread, and it alone, the owner of the workspace's files: the three calls are the
/// kernel's own, which change one thread. It cannot go back, and it does not try.
fn become_owner(owner: Option<u32>) -> Result<(), Refusal> {
    let failed = |error: rustix::io::Errno| {
        (ErrorCode::Internal, format!("failed to become the workspace's owner: {error}"))
    };
    if let Some(owner) = owner {
        let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
        rustix::thread::set_thread_groups(&[]).map_err(failed)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed)?;
    }
    // Whatever was said above: root does not go on.
    if rustix::process::geteuid().is_root() {
        return Err(failed(rustix::io::Errno::PERM));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_that_becomes_the_owner_does_not_come_back_and_no_other_changes() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let there = thread::spawn(|| {
            become_owner(Some(70_000)).unwrap();
            let back = rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT);
            let groups = rustix::process::getgroups().unwrap();
            (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw(), groups.len(), back)
        });
        assert_eq!(there.join().unwrap(), (70_000, 70_000, 0, Err(rustix::io::Errno::PERM)));
        assert!(rustix::process::geteuid().is_root());
        thread::spawn(|| become_owner(None)).join().unwrap().unwrap_err();
        thread::spawn(|| become_owner(Some(0))).join().unwrap().unwrap_err();
    }
}
