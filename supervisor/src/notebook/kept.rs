//! What a notebook has of Executions of before: of daemons before us, and of clients that have gone.

use cellblock_proto::client::WorkerState;
use cellblock_proto::execution::{Death, End, Outcome, Variables};
use cellblock_proto::id::ExecutionId;
use tokio::time::Instant;

use super::{DESERT_PATIENCE, Live, Notebook, Survivor, ToGo};
use crate::machine::Input;
use crate::metrics::end_name;
use crate::outbox::Payload;
use crate::records::Records;
use crate::workspace;
use crate::{log, loss};

impl Notebook {
    /// Takes over what outlived the daemon before us, oldest first.
    pub(crate) fn adopt(&mut self, survivors: Vec<Survivor>) {
        self.open_records();
        self.machine.remember(self.records.recent());
        self.machine.doubt(self.records.unsaved());
        for survivor in survivors {
            if let Some(older) = self.live.take() {
                tracing::warn!(worker = %older.worker, "two workers of one notebook; killing the older");
                self.decide(Input::ShimLost);
                self.kill(older.worker);
            }
            self.machine.adopt();
            self.lease = Some(self.daemon.launches.claim(self.id.tenant.as_str()));
            self.life = survivor.launched.life;
            let to_go = survivor.is_outdated().then(|| ToGo::Build(survivor.state.build.clone()));
            self.live = Some(Live { to_go, ..Live::new(survivor.launched) });
            self.ready = survivor.state.ready.clone();
            for arrival in survivor.arrivals {
                self.arrived(arrival, true);
            }
            let actions = self.machine.resumed(&survivor.state, Instant::now());
            self.perform(actions);
        }
        let actions = self.machine.adopted();
        self.perform(actions);
        self.records.retain(|execution| self.machine.knows(execution));
        self.end_lost();
        if self.records.has_deserted() {
            self.desert_at = Some(Instant::now() + DESERT_PATIENCE);
        }
        // The machine has it without having been told.
        self.watch.state(WorkerState::None, self.machine.state(), false);
        if self.live.is_some() {
            self.end_forbidden();
        }
    }

    /// What there is on the disk, unless a worker that has outlived the daemon before us was taken over with it.
    pub(super) fn take_up(&mut self) {
        if !self.records.is_open() {
            self.open_records();
            self.machine.doubt(self.records.unsaved());
            self.end_lost();
        }
    }

    fn open_records(&mut self) {
        self.records = Records::open(&workspace::outputs(&self.daemon.state, &self.id));
    }

    /// What had been accepted, and whose shim is gone with the daemon before us, has its Outcome now.
    fn end_lost(&mut self) {
        for execution in self.records.open_ones() {
            if !self.machine.knows(&execution) {
                tracing::warn!(%execution, "execution lost together with its shim");
                let variables = Variables::Lost { names: Vec::new() };
                let outcome = loss::unmeasured(End::WorkerDied(Death::ShimLost), variables);
                self.conclude(&execution, None, outcome, Payload::default());
                self.machine.passed(&execution);
            }
        }
    }

    /// The one end of an Execution: told, counted, kept.
    pub(super) fn conclude(
        &mut self,
        execution: &ExecutionId,
        outputs: Option<u64>,
        outcome: Outcome,
        payload: Payload,
    ) {
        log::execution(execution)
            .in_scope(|| tracing::info!(end = end_name(&outcome.end), "execution ended"));
        self.watch.ended(execution, &outcome);
        self.records.end(execution, outputs, outcome, payload);
    }

    /// Ends what was to end with its client.
    pub(super) fn end_deserted(&mut self) {
        for execution in self.records.take_deserted() {
            tracing::info!(%execution, "its client has gone: interrupted");
            self.decide(Input::Cancel { execution });
        }
    }
}
