//! A worker begins with what the one before it had; and what it has mapped is read to the last byte afterwards.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use cellblock_proto::execution::{NameInfo, NotRestored};
use cellblock_proto::shim::{EventBody, StartFailure};
use cellblock_proto::store::{StoreOrder, StoreReply};
use cellblock_proto::worker::WorkerCommand;
use rustix::fs::{Mode, OFlags};

use super::process::Store;
use super::{Saver, Shim};
use crate::shim::executions::Cause;

/// Stores that may be killed in the middle, one after the other, before that counts as a reason to begin without.
const MOST_STORES: u32 = 5;

/// The worker loads what it is to begin with.
pub struct Restoring {
    store: Store,
    /// How many stores there were for it.
    stores: u32,
    /// What is told when it has.
    ready: EventBody,
    /// When it has to have.
    by: Instant,
}

impl Saver {
    /// Whether there is something to begin with.
    fn has_any(&self) -> bool {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let manifests = rustix::fs::openat(&self.places.folder, Path::new("manifests"), flags, Mode::empty());
        manifests.is_ok_and(|folder| {
            rustix::fs::Dir::new(folder).is_ok_and(|mut entries| {
                entries.any(|entry| entry.is_ok_and(|entry| !entry.file_name().to_bytes().starts_with(b".")))
            })
        })
    }
}

impl Shim {
    /// The worker is up, which is told as `ready` when it has loaded what the one before it had. It runs nothing
    /// until then.
    pub(crate) fn restore(&mut self, ready: EventBody) {
        if self.saver.is_some() {
            self.tell_worker(0, &WorkerCommand::Checkpoints, Vec::new());
        }
        let Some(saver) = self.saver.as_mut().filter(|saver| saver.has_any()) else {
            return self.outbox.push(ready, Vec::new());
        };
        if !saver.spec.restore {
            saver.anew = true;
            return self.outbox.push(ready, Vec::new());
        }
        self.load(ready, 1);
    }

    /// Has the worker load what a store opens, the how manieth there is for it.
    fn load(&mut self, ready: EventBody, stores: u32) {
        let Some(saver) = &mut self.saver else { return };
        let order = StoreOrder::Open { checkpoint: None };
        let view = saver.places.view.as_ref();
        let view = view.ok_or_else(|| io::Error::other("no read-only view of the folder"));
        match view.and_then(|view| Store::start(&order, view.as_fd(), self.program.as_fd())) {
            Ok((store, socket)) => {
                let by = Instant::now() + Duration::from_secs(saver.spec.seconds);
                saver.restoring = Some(Restoring { store, stores, ready, by });
                self.tell_worker_with(&WorkerCommand::Restore, socket.as_fd());
            }
            Err(error) => {
                let failed = Some(format!("no store process could be started: {error}"));
                self.outbox.push(nothing(failed), Vec::new());
                self.outbox.push(ready, Vec::new());
            }
        }
    }

    /// Whether cells have to wait for the variables.
    pub(crate) fn is_restoring(&self) -> bool {
        self.saver.as_ref().is_some_and(|saver| saver.restoring.is_some())
    }

    /// Gives up a worker that does not come to an end with loading: code of the user's runs then.
    pub(crate) fn restore_clock(&mut self, now: Instant) -> Option<Instant> {
        let by = self.saver.as_ref()?.restoring.as_ref()?.by;
        if now < by {
            return Some(by);
        }
        self.fail_to_load("it did not come to an end in time".to_owned());
        None
    }

    /// There is no worker because of what it was to begin with, and there is a way to begin without.
    pub(crate) fn fail_to_load(&mut self, error: String) {
        if let Some(saver) = &mut self.saver {
            saver.restoring = None;
        }
        let cure = "restore another checkpoint, or restart the notebook to begin without".to_owned();
        self.kill();
        let step = "load the saved variables".to_owned();
        self.fail_to_start(StartFailure::Step { step, error, cure: Some(cure) });
    }

    /// The worker has them, or has not.
    pub(crate) fn restored(
        &mut self,
        names: Vec<NameInfo>,
        losses: Vec<NotRestored>,
        failed: Option<String>,
        differences: Vec<String>,
    ) {
        let Some(saver) = &mut self.saver else { return };
        let Some(Restoring { store, stores, ready, .. }) = saver.restoring.take() else { return };
        if failed.is_some() && stores < MOST_STORES && store.was_killed() {
            // That says nothing about what is saved.
            return self.load(ready, stores + 1);
        }
        let (checkpoint, execution, passed_over) = match store.reply() {
            StoreReply::Opened { checkpoint, execution, passed_over } => (checkpoint, execution, passed_over),
            // Nothing was handed over, which the worker has told.
            _ => (0, String::new(), Vec::new()),
        };
        if failed.is_none() && checkpoint != 0 {
            let order = StoreOrder::Mend { checkpoint };
            // Where it cannot be begun, nothing is known to be damaged.
            let begun = Store::start(&order, saver.places.folder.as_fd(), self.program.as_fd());
            saver.mending = begun.ok().map(|(store, _)| store);
        }
        self.newest = Some(execution.clone()).filter(|_| failed.is_none());
        let restored =
            EventBody::Restored { checkpoint, execution, names, losses, failed, differences, passed_over };
        self.outbox.push(restored, Vec::new());
        self.outbox.push(ready, Vec::new());
    }

    /// Every byte has been read: a worker with others than were saved does not go on with them.
    pub(super) fn hear_mending(&mut self) {
        let Some(store) = self.saver.as_mut().and_then(|saver| saver.mending.take()) else { return };
        let StoreReply::Mended { losses } = store.reply() else { return };
        if !losses.is_empty() && self.ending.is_none() && !self.over {
            let reason = format!("what it had loaded is damaged on the disk: {}", losses.join("; "));
            self.ending = Some(Cause::Ended(reason));
            self.kill();
        }
    }
}

fn nothing(failed: Option<String>) -> EventBody {
    EventBody::Restored {
        checkpoint: 0,
        execution: String::new(),
        names: Vec::new(),
        losses: Vec::new(),
        failed,
        differences: Vec::new(),
        passed_over: Vec::new(),
    }
}
