//! Who answers a request: a notebook's task, a store process, a thread for files, or we at once.

use std::sync::Arc;

use cellblock_proto::client::{ErrorCode, Reply, Request};
use cellblock_proto::codec::Codec;
use cellblock_proto::execution::Task;
use cellblock_proto::id::NotebookId;

use super::admission::FULL;
use super::{Connection, FAREWELL_PATIENCE, WORKER_META_BYTES};
use crate::checkpoints::{self, Ask};
use crate::daemon::Key;
use crate::doctor;
use crate::files::What;
use crate::launch;
use crate::log::chain;
use crate::notebook::Message;
use crate::outbox::{Payload, Responder};
use crate::overview;
use crate::profiles;
use crate::registry;
use crate::tenants::tenants;

impl Connection {
    pub(super) async fn dispatch(&self, request: Request, payload: Vec<u8>, responder: Responder) {
        let Some((request, responder)) = self.admit(request, responder) else { return };
        match request {
            Request::Hello(_) => responder.refuse(ErrorCode::BadRequest, "hello was said already"),
            Request::OpenNotebook { notebook, profile } => {
                let key = self.key(notebook);
                match registry::open(&self.daemon, key.clone(), profile).await {
                    Ok(info) => responder.answer(&Reply::Notebook(info), None),
                    Err((ErrorCode::Busy, message)) => responder.busy(message, FULL),
                    Err((ErrorCode::Forbidden, message)) => responder.forbid("open_notebook", &key, &message),
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
                    self.ask(notebook, responder, |responder| Message::Execute {
                        execution,
                        options: Box::new(options),
                        code,
                        responder,
                    })
                    .await;
                }
            }
            Request::Attach { notebook, execution, from_seq } => {
                self.ask(notebook, responder, |responder| Message::Attach { execution, from_seq, responder })
                    .await;
            }
            Request::Interrupt { notebook } => {
                self.ask(notebook, responder, |responder| Message::Interrupt { responder }).await;
            }
            Request::Cancel { notebook, execution } => {
                self.ask(notebook, responder, |responder| Message::Cancel { execution, responder }).await;
            }
            Request::Input { notebook, execution, value } => {
                let Some(responder) = check_told(Codec::Json.encode(&value).ok(), "the answer", responder)
                else {
                    return;
                };
                self.ask(notebook, responder, |responder| Message::Input { execution, value, responder })
                    .await;
            }
            Request::Query { notebook, query } => {
                if let Some((code, responder)) = check_code(payload, responder) {
                    self.ask(notebook, responder, |responder| Message::Query { query, code, responder })
                        .await;
                }
            }
            Request::Restart { notebook } => {
                self.ask(notebook, responder, |responder| Message::Restart { responder }).await;
            }
            Request::Close { notebook } => {
                self.ask(notebook, responder, |responder| Message::Close { delete: false, responder }).await;
            }
            Request::Delete { notebook } => self.delete(notebook, responder).await,
            Request::Notebooks => self.notebooks(None, responder).await,
            Request::NotebooksAfter { after } => self.notebooks(Some(after), responder).await,
            Request::Status { notebook } => {
                self.ask(notebook, responder, |responder| Message::Status { responder }).await;
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
                let tenant = Arc::clone(&self.tenant);
                tokio::task::spawn_blocking(move || match profiles::list(daemon.profiles.as_deref()) {
                    Ok(mut profiles) => {
                        profiles.retain(|profile| tenant.may_have(&profile.name));
                        responder.answer(&Reply::Profiles { profiles }, None);
                    }
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
                self.ask(notebook, responder, |responder| Message::Save { responder }).await;
            }
            Request::Clear { notebook } => {
                self.ask(notebook, responder, |responder| Message::Clear { responder }).await;
            }
            Request::Checkpoints { notebook } => self.checkpoints(notebook, Ask::List, responder),
            Request::CheckpointContent { notebook, checkpoint } => {
                self.checkpoints(notebook, Ask::Content(checkpoint), responder);
            }
            Request::Restore { notebook, checkpoint } => {
                self.checkpoints(notebook, Ask::Restore(checkpoint), responder);
            }
            Request::Fork { notebook, checkpoint, to } => {
                let to = self.key(to);
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
                match checkpoints::import(&self.daemon, &self.key(notebook), offset, last, payload).await {
                    Ok(reply) => responder.answer(&reply, None),
                    Err((code, message)) => responder.refuse(code, message),
                }
            }
            Request::Events { notebook, all } => {
                // Each tenant has a line of its own: nobody learns how much happens at others', nor misses
                // anything of his own for it.
                let events = if all { self.daemon.events.subscribe() } else { self.tenant.listen() };
                checkpoints::listen(events, notebook, responder);
            }
            Request::Metrics => {
                let text = overview::metrics(&self.daemon).into_bytes();
                responder.answer(&Reply::Metrics, Some(Payload::new(text)));
            }
            Request::Overview => {
                let daemon = Arc::clone(&self.daemon);
                tokio::spawn(async move {
                    let overview = overview::overview(&daemon).await;
                    responder.answer_with_room(&Reply::Overview(Box::new(overview)), None).await;
                });
            }
            Request::Tenants => responder.answer(&Reply::Tenants { tenants: tenants(&self.daemon) }, None),
            Request::Drain { seconds } => self.daemon.draining.ask(seconds, responder),
            Request::Pin { notebook, pinned } => {
                self.ask(notebook, responder, |responder| Message::Pin { pinned, responder }).await;
            }
            Request::Evict { notebook } => {
                self.ask(notebook, responder, |responder| Message::Release { responder }).await;
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

    async fn notebooks(&self, after: Option<NotebookId>, responder: Responder) {
        let (notebooks, more) = registry::list(&self.daemon, &self.tenant.id, after.as_ref()).await;
        responder.answer_with_room(&Reply::Notebooks { notebooks, more }, None).await;
    }

    /// A notebook of the tenant that this connection is.
    fn key(&self, notebook: NotebookId) -> Key {
        Key { tenant: self.tenant.id.clone(), notebook }
    }

    async fn ask(
        &self,
        notebook: NotebookId,
        responder: Responder,
        message: impl FnOnce(Responder) -> Message,
    ) {
        let key = self.key(notebook);
        match registry::find(&self.daemon, &key) {
            // A notebook that is closed meanwhile drops the message, and that answers it.
            Some(entry) => drop(entry.inbox.send(message(responder)).await),
            None => refuse_unknown(&key, responder),
        }
    }

    /// Nobody waits for it here: files may be slow, and what comes next may be an interrupt.
    fn look_into(&self, notebook: NotebookId, what: What, responder: Responder) {
        let notebook = self.key(notebook);
        if registry::find(&self.daemon, &notebook).is_none() {
            return refuse_unknown(&notebook, responder);
        }
        self.files.put(&self.daemon, notebook, what, responder);
    }

    /// Nobody waits for it here: a store may have gigabytes.
    fn checkpoints(&self, notebook: NotebookId, ask: Ask, responder: Responder) {
        let notebook = self.key(notebook);
        tokio::spawn(checkpoints::serve(Arc::clone(&self.daemon), notebook, ask, responder));
    }

    /// Also removes the files of a notebook that is not open.
    async fn delete(&self, notebook: NotebookId, responder: Responder) {
        let key = self.key(notebook.clone());
        if registry::find(&self.daemon, &key).is_none()
            && crate::workspace::exists(&self.daemon.state, &key)
            && let Err((code, message)) = registry::open(&self.daemon, key, None).await
        {
            return responder.refuse(code, message);
        }
        self.ask(notebook, responder, |responder| Message::Close { delete: true, responder }).await;
    }

    async fn shut_down(&self, responder: Responder) {
        responder.done();
        // The answer first; a client that does not read it does not keep us.
        let _ = tokio::time::timeout(FAREWELL_PATIENCE, self.client.outbox.flushed()).await;
        self.daemon.ending.send_replace(true);
    }
}

fn refuse_unknown(notebook: &Key, responder: Responder) {
    let message = format!("notebook {:?} is not open: open it first (`open_notebook`)", notebook.as_str());
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
