//! What a notebook uses of what its tenant may use: counted here, and asked for before something new is taken on.

use std::sync::Arc;

use cellblock_proto::client::ErrorCode;
use cellblock_proto::operations::Hint;

use super::{Message, Notebook};
use crate::daemon::{Daemon, Key};
use crate::launches::{Full, Short};
use crate::machine::{Evict, Input};
use crate::pace::hint;
use crate::tenants::{Counted, Held, Tenant, Whose};

/// What a notebook has taken.
#[derive(Debug)]
pub(super) struct Uses {
    pub(super) tenant: Arc<Tenant>,
    queued: Held,
    buffered: Held,
    /// When whoever is refused now is to try again, where that is not until a cell has ended.
    hint: Option<Hint>,
}

impl Uses {
    /// Nothing yet. The caps of its tenant hold from now on.
    pub(super) fn new(daemon: &Daemon, id: &Key) -> Self {
        let tenant = daemon.tenants.named(&id.tenant);
        let name = tenant.id.as_str();
        let (running, workers) = (tenant.limits.running, tenant.limits.workers);
        if running != 0 {
            daemon.runners.set_most_of(name, running as usize);
        } else if !tenant.operator {
            // A cell whose client does not read keeps its place for as long as it may run: no tenant is to have all.
            let (_, most, _) = daemon.runners.figures();
            daemon.runners.set_most_of(name, share(most));
        }
        if workers != 0 {
            daemon.launches.set_most_of(name, workers as usize);
        } else if let (false, Some(most)) = (tenant.operator, daemon.launches.figures().1) {
            // Nor do workers make room that are pinned, at work, or cannot be saved.
            daemon.launches.set_most_of(name, share(most));
        }
        let [queued, buffered] =
            [Counted::Queued, Counted::Buffered].map(|kind| Held::claim(&tenant, kind, 0));
        Uses { tenant, queued, buffered, hint: None }
    }
}

/// What one tenant may have of so many, unless the file of tenants says otherwise.
fn share(most: usize) -> usize {
    (most - most / 4).max(1)
}

impl Notebook {
    /// Whether its tenant may have its profile: it may have been opened before that was said.
    ///
    /// # Errors
    /// Why not, as the client is told.
    pub(super) fn may_work(&self) -> Result<(), String> {
        self.uses.tenant.forbids_open(&self.id.notebook, &self.profile).map_or(Ok(()), Err)
    }

    /// What is asked, unless it would be done under a profile that its tenant may not have. To stop, to read and
    /// to close it may always be asked for.
    pub(super) fn permitted(&self, message: Message) -> Option<Message> {
        let Err(reason) = self.may_work() else { return Some(message) };
        let (request, responder) = match message {
            Message::Execute { execution, responder, .. } if !self.knows(&execution) => {
                ("execute", responder)
            }
            Message::Query { responder, .. } => ("query", responder),
            Message::Restore { responder, .. } => ("restore", responder),
            other => return Some(other),
        };
        responder.forbid(request, &self.id, &reason);
        None
    }

    /// A worker that lives although its tenant may not have its profile ends as soon as it has nothing to do.
    pub(super) fn end_forbidden(&mut self) {
        if let Err(reason) = self.may_work() {
            tracing::warn!(reason, "the worker ends when it has nothing to do");
            let rule = Evict { saves: self.life.saves, with_losses: true, firmly: true };
            let reason = "its tenant may not have its profile".to_owned();
            self.decide(Input::Evict { reason, rule });
        }
    }

    /// Whether one more Execution may wait.
    ///
    /// # Errors
    /// Why not, as the client is told, and when to try again.
    pub(super) fn may_wait(&mut self) -> Result<(), (String, Hint)> {
        let Err(met) = self.uses.queued.more(1) else { return Ok(()) };
        let tenant = &self.uses.tenant;
        let whose = Some(tenant.id.as_str()).filter(|_| !met.in_all);
        let hint = hint(self.daemon.runners.until_next(whose), Some(tenant.uses(Counted::Queued)));
        Err((tenant.explain(met), hint))
    }

    /// Counts anew what is held.
    pub(super) fn settle_uses(&mut self) {
        let waiting = self.machine.waiting_count();
        self.uses.queued.set(waiting as u64);
        // What an idle notebook keeps for who comes back is bounded by itself, and goes when it is closed.
        let is_idle = waiting == 0 && self.machine.running().is_none() && !self.records.has_readers();
        let bytes = if is_idle { 0 } else { self.records.bytes() + self.machine.code_bytes() };
        self.uses.buffered.set(bytes as u64);
    }

    /// No worker of this notebook can be started, for too many live.
    pub(super) fn too_many_workers(&mut self, full: &Full) {
        let Full { short, most, position } = full;
        let is_own = *short != Short::All;
        let whose = Whose(&self.uses.tenant, !is_own);
        let key = match self.uses.tenant.limits.workers {
            _ if !is_own => "--max-workers",
            0 => "three quarters of --max-workers: `max_workers` in the file of tenants",
            _ => "max_workers of its tenant",
        };
        let message = format!(
            "{whose} {most} workers, the most that may live ({key}), and none makes room: each is at work, \
             pinned, or has variables that cannot be saved; try again later, or restart or close a notebook"
        );
        let until = self.daemon.runners.until_next(is_own.then(|| self.id.tenant.as_str()));
        self.uses.hint = Some(hint(until, Some(*position as u64)));
        self.start_failed(ErrorCode::Busy, message);
        self.uses.hint = None;
    }

    /// When to try again what is refused now.
    pub(super) fn hint(&self, code: ErrorCode) -> Option<Hint> {
        let own = || hint(self.machine.until_next(), Some(self.machine.waiting_count() as u64));
        (code == ErrorCode::Busy).then(|| self.uses.hint.unwrap_or_else(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tenant_without_a_cap_has_three_quarters_of_what_may_run_or_live_and_an_operator_all() {
        let (_temp, daemon) = crate::server::lonely_daemon();
        let (_, most, _) = daemon.runners.figures();
        for (tenant, expected) in [("uid-5", most - most / 4), ("operator", most)] {
            let key = Key { tenant: tenant.parse().unwrap(), notebook: "a".parse().unwrap() };
            let _uses = Uses::new(&daemon, &key);
            let mut turns: Vec<_> =
                (0..most + 1).map(|_| daemon.runners.turn(tenant, "default", Arc::default())).collect();
            let given = turns.iter_mut().map(|turn| turn.ask()).filter(|given| *given).count();
            assert_eq!(given, expected, "{tenant} of {most}");
            let _places: Vec<_> = (0..9).map(|_| daemon.launches.place(tenant)).collect();
            assert_eq!(daemon.launches.workers_of(tenant), if tenant == "operator" { 8 } else { 6 });
        }
    }
}
