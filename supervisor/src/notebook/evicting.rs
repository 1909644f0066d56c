//! A notebook whose worker may have to make room.

use std::time::Duration;

use cellblock_proto::checkpoint::NotebookEvent;
use cellblock_proto::client::{ErrorCode, Reply, WorkerState};
use sandbox_profiles::Evictable;
use tokio::time::Instant;

use super::Notebook;
use crate::daemon::Key;
use crate::entry::blocking;
use crate::evict::Answer;
use crate::log::chain;
use crate::machine::{Evict, Input};
use crate::outbox::Responder;
use crate::vitals::Signs;
use crate::workspace::{self, Settings};

/// How long one that stays is left alone.
const STAYS_FOR: Duration = Duration::from_secs(60);

/// Who waits for the worker to be gone, or to stay.
#[derive(Debug)]
pub(super) enum Released {
    Client(Responder),
    Evictor(Answer),
}

impl Released {
    pub(super) fn gone(self) {
        match self {
            Released::Client(responder) => responder.done(),
            // Whoever asked may be tired of waiting.
            Released::Evictor(answer) => drop(answer.send(Ok(()))),
        }
    }

    fn stays(self, reason: &str) {
        let message = format!("the worker was not evicted: {reason}");
        match self {
            Released::Client(responder) => responder.refuse(ErrorCode::Busy, message),
            Released::Evictor(answer) => drop(answer.send(Err(message))),
        }
    }
}

impl Notebook {
    /// Tells what can be seen from outside.
    pub(super) fn settle_vitals(&mut self, now: Instant) {
        // Questions and those who wait for it want it too.
        let is_idle = self.machine.is_idle() && self.asked.is_empty() && self.closing.is_none();
        self.idle_since = is_idle.then(|| self.idle_since.unwrap_or(now));
        if !is_idle {
            self.not_before = None;
        }
        let would_lose = self.machine.would_lose();
        let limit = self.life.lifecycle.idle_seconds;
        let is_new = self.vitals.set(Signs {
            idle_since: self.idle_since,
            idle_limit: (limit > 0).then(|| Duration::from_secs(limit)),
            is_evictable: Signs::may_go(self.life.lifecycle.evict, self.pinned, would_lose),
            would_lose,
            is_running: self.machine.may_run(),
            is_saving: self.machine.is_saving(),
            is_telling: self.records.is_telling(),
            waiting: u32::try_from(self.machine.waiting().count()).unwrap_or(u32::MAX),
            not_before: self.not_before,
        });
        if is_new && is_idle {
            self.daemon.idle.notify_one();
        }
    }

    /// Its owner wants its memory back.
    pub(super) fn release(&mut self, responder: Responder) {
        self.evictions.push(Released::Client(responder));
        self.leave("its owner wants it", self.life.lifecycle.evict == Evictable::Any);
    }

    /// Somebody else's worker needs the room.
    pub(super) fn evict(&mut self, reason: String, answer: Answer) {
        self.evictions.push(Released::Evictor(answer));
        // It may have become busy, or pinned, since it was looked at.
        if !self.vitals.get().is_evictable {
            if let Some(asked) = self.evictions.pop() {
                asked.stays("it may not be any more");
            }
            return;
        }
        self.leave(&reason, self.life.lifecycle.evict == Evictable::Any);
    }

    fn leave(&mut self, reason: &str, with_losses: bool) {
        let rule = Evict { saves: self.life.saves, with_losses, firmly: false };
        self.decide(Input::Evict { reason: reason.to_owned(), rule });
    }

    /// It is not evicted after all.
    pub(super) fn stays(&mut self, reason: &str) {
        tracing::debug!(reason, "the worker stays");
        self.not_before = Some(Instant::now() + STAYS_FOR);
        for who in self.evictions.drain(..) {
            who.stays(reason);
        }
    }

    /// It has been evicted.
    pub(super) fn was_evicted(&self, reason: &str) {
        tracing::info!(reason, "worker evicted");
        let Key { tenant, notebook } = self.id.clone();
        let event = NotebookEvent::Evicted { notebook, tenant, reason: reason.to_owned() };
        self.daemon.metrics.evicted();
        self.watch.tell(|| event);
    }

    /// What the daemon after us is to know.
    pub(super) fn settings(&self) -> Settings {
        Settings { profile: self.profile.clone(), pinned: self.pinned, evicted: self.evicted }
    }

    /// Whether its worker was evicted the daemon after us is to know, not to guess.
    pub(super) fn keep_evicted(&mut self) {
        let evicted = match self.machine.state() {
            WorkerState::None => self.machine.is_evicted(),
            // It may yet come up, or be evicted.
            WorkerState::Starting | WorkerState::Ending => return,
            WorkerState::Idle | WorkerState::Busy | WorkerState::Waiting => false,
        };
        if evicted == self.evicted || self.closing.is_some() {
            return;
        }
        self.evicted = evicted;
        let settings = self.settings();
        if let Err(error) = blocking(|| workspace::remember(&self.daemon.state, &self.id, &settings)) {
            tracing::warn!(evicted, error = chain(&error), "not kept whether the worker was evicted");
        }
    }

    pub(super) fn pin(&mut self, pinned: bool, responder: Responder) {
        let settings = Settings { pinned, ..self.settings() };
        match workspace::remember(&self.daemon.state, &self.id, &settings) {
            Ok(()) => {
                tracing::info!(pinned, "pinned");
                self.pinned = pinned;
                if pinned {
                    self.decide(Input::Pinned);
                }
                responder.answer(&Reply::Notebook(self.info()), None);
            }
            Err(error) => responder.refuse(ErrorCode::Storage, chain(&error)),
        }
    }
}
