//! A notebook goes to another state of its variables: each time in a new worker, never by changing the one that is
//! there.

use std::sync::Arc;

use cellblock_proto::checkpoint::{Checkpoint, NotebookEvent};
use cellblock_proto::client::{ErrorCode, Reply, WorkerState};
use cellblock_proto::execution::NameInfo;
use cellblock_proto::id::ExecutionId;
use cellblock_proto::shim::Command;

use super::{Asked, Notebook};
use crate::checkpoints;
use crate::daemon::Key;
use crate::launch::Begin;
use crate::log::chain;
use crate::loss::{self, Restoration};
use crate::machine::Input;
use crate::outbox::Responder;
use crate::workspace;

impl Notebook {
    /// Saves what there is; without a worker that is what the newest checkpoint has. Who does not know yet that
    /// something has been lost is told that first: nobody is to take it for saved.
    pub(super) fn save(&mut self, responder: Responder) {
        let untold = self.machine.untold();
        match self.machine.state() {
            WorkerState::Idle | WorkerState::Busy | WorkerState::Waiting => {
                match loss::before_it_was_saved(&untold) {
                    Some(message) => responder.refuse(ErrorCode::Checkpoint, message),
                    None => {
                        let ended = self.machine.ended_count();
                        self.ask(&Command::Save, &[], Asked::Checkpoint(responder, ended));
                    }
                }
            }
            WorkerState::None | WorkerState::Starting | WorkerState::Ending => {
                let daemon = Arc::clone(&self.daemon);
                tokio::spawn(checkpoints::newest(daemon, self.id.clone(), untold, responder));
            }
        }
    }

    pub(super) fn travel(&mut self, checkpoint: u64, responder: Responder) {
        tracing::info!(checkpoint, "restore");
        for earlier in std::mem::take(&mut self.travels) {
            earlier.refuse(ErrorCode::Checkpoint, "another checkpoint was asked for before this was loaded");
        }
        self.travels.push(responder);
        self.begin = Begin::At(checkpoint);
        self.decide(Input::Restart { reason: format!("checkpoint {checkpoint} is restored") });
    }

    pub(super) fn clear(&mut self, responder: Responder) {
        tracing::info!("clear");
        self.clears.push(responder);
        self.begin = Begin::Anew;
        self.decide(Input::Restart { reason: "the notebook was cleared".to_owned() });
    }

    /// There is no worker any more, which somebody has waited for.
    pub(super) fn gone_for(&mut self) {
        if !self.clears.is_empty() {
            let removed = workspace::remove_checkpoints(&self.daemon.state, &self.id);
            for responder in std::mem::take(&mut self.clears) {
                match &removed {
                    Ok(()) => responder.done(),
                    Err(error) => responder.refuse(ErrorCode::Storage, chain(error)),
                }
            }
        }
        if !self.travels.is_empty() && self.closing.is_none() {
            self.decide(Input::Wanted);
        }
    }

    /// The new worker has loaded what it begins with, or could not.
    pub(super) fn came_back(&mut self, execution: String, mut names: Vec<NameInfo>, told: Restoration) {
        names.sort_by(|a, b| a.name.cmp(&b.name));
        let Restoration { checkpoint, losses, failed, .. } = &told;
        let (names_count, losses_count) = (names.len(), losses.len());
        let is_failed = failed.is_some();
        tracing::info!(checkpoint, names_count, losses_count, is_failed, "variables loaded");
        // An exception in it is the user's.
        tracing::trace!(failed, "why nothing is loaded");
        self.watch.loaded(&told);
        if let Ok(execution) = execution.parse() {
            self.records.settle(Some(&execution));
        }
        self.came_back = Some(match failed {
            Some(reason) => Reply::Error { code: ErrorCode::Checkpoint, message: reason.clone(), hint: None },
            None => Reply::Restored { checkpoint: *checkpoint, names: names.clone(), losses: losses.clone() },
        });
        self.decide(Input::Restored { execution, names, told });
    }

    /// The new worker is up.
    pub(super) fn arrived_there(&mut self) {
        let reply = self.came_back.take();
        for responder in std::mem::take(&mut self.travels) {
            match &reply {
                Some(reply) => responder.answer(reply, None),
                None => responder.refuse(ErrorCode::Checkpoint, "the worker has begun without any variables"),
            }
        }
    }

    /// There is no new worker.
    pub(super) fn did_not_arrive(&mut self, code: ErrorCode, message: &str) {
        self.came_back = None;
        if matches!(self.begin, Begin::At(_)) {
            // What cannot be loaded is not tried again by whoever comes next.
            self.begin = Begin::Saved;
        }
        for responder in std::mem::take(&mut self.travels) {
            responder.refuse(code, message);
        }
    }

    /// Tells listeners what became of a checkpoint.
    pub(super) fn publish(&self, execution: &ExecutionId, checkpoint: &Checkpoint) {
        let Key { tenant, notebook } = self.id.clone();
        let (execution, checkpoint) = (execution.clone(), checkpoint.clone());
        self.watch.tell(|| NotebookEvent::Checkpoint { notebook, tenant, execution, checkpoint });
    }
}
