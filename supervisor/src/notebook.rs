//! The task of one notebook. It alone touches the notebook's shim, records and timers; everybody
//! else sends a [`Message`]. [`Machine`] decides, this performs.
//!
//! Each turn of the loop waits for one thing, handles it, and then settles: readers get what there
//! is and room for, the shim is told what it may forget. While a reader is behind, the shim is not
//! read from; it is still written to, so an interrupt always goes through.

mod caps;
mod events;
mod evicting;
mod kept;
mod parts;
mod replacing;
mod requests;
mod sleeping;
mod travel;
mod waits;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::client::{ErrorCode, Reply, WorkerState};
use cellblock_proto::execution::Death;
use cellblock_proto::id::WorkerId;
use cellblock_proto::query::Query;
use cellblock_proto::shim::Command;
use sandbox_profiles::SandboxReport;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::daemon::{Daemon, Key};
use crate::launch::{Begin, LaunchError, Launched, Life};
use crate::launches::{self, Launch, Lease, Place};
use crate::link::LinkError;
use crate::log::chain;
use crate::machine::{Input, Machine};
use crate::outbox::{Payload, Responder};
use crate::records::Records;
use crate::vitals::Vitals;
use crate::workspace::{self, Settings};
use caps::Uses;
use evicting::Released;
use parts::{Asked, Closing, Live, Retired, ToGo, Woken};
pub(crate) use parts::{LiveWorker, Message, Survivor, WorkerReply};
use waits::{fill, flush, joined, until};
use watch::Watch;
pub(crate) use watch::tell;

/// Messages that may wait; a connection that sends more waits with them.
pub(crate) const INBOX: usize = 64;

/// How long `Taken` may wait for more to come.
const TAKEN_DELAY: Duration = Duration::from_millis(50);

/// How long clients have after a restart of cellblockd to come back to what is to end without them.
const DESERT_PATIENCE: Duration = Duration::from_secs(30);

/// How long the shim of a worker that has ended is kept for outputs that nobody has read.
const RETIRED_PATIENCE: Duration = Duration::from_secs(30);

/// How long the readers of a closed notebook have to take their Outcomes.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// One notebook.
#[derive(Debug)]
pub(crate) struct Notebook {
    daemon: Arc<Daemon>,
    id: Key,
    profile: String,
    inbox: mpsc::Receiver<Message>,
    /// What is counted and told of it.
    watch: Watch,
    machine: Machine,
    records: Records,
    /// What it has taken of what its tenant may use.
    uses: Uses,
    /// In the line of those whose worker is to be started.
    place: Option<Place>,
    /// The right to start it, until it is up.
    launch: Option<Launch>,
    /// The right to have it, until it has ended.
    lease: Option<Lease>,
    launching: Option<JoinHandle<Result<Launched, LaunchError>>>,
    live: Option<Live>,
    retired: Vec<Retired>,
    /// The worker's pid, its Python, what holds it.
    ready: Option<(u32, String, SandboxReport)>,
    asked: HashMap<u32, Asked>,
    last_request: u32,
    /// Questions that wait for a worker.
    questions: Vec<(Query, Payload, Responder)>,
    /// Who waits to know the worker.
    visitors: Vec<WorkerReply>,
    /// Who waits for the worker's end.
    restarts: Vec<Responder>,
    /// The same, if it can be had back.
    evictions: Vec<Released>,
    /// What can be seen of the worker from outside.
    vitals: Vitals,
    life: Life,
    pinned: bool,
    /// As the disk has it.
    evicted: bool,
    idle_since: Option<Instant>,
    not_before: Option<Instant>,
    closing: Option<Closing>,
    /// A client that is attached reads slowly: the shim is not read from.
    is_blocked: bool,
    /// Woken by readers' sockets, and when there is leave to run.
    wake: Arc<Notify>,
    say_at: Option<Instant>,
    /// When it goes to sleep.
    sleep_at: Option<Instant>,
    /// Until when clients of what is to end without them may come back.
    desert_at: Option<Instant>,
    /// What the next worker begins with.
    begin: Begin,
    /// Who waits for it to have that, and what it has.
    travels: Vec<Responder>,
    came_back: Option<Reply>,
    /// Who waits for the checkpoints to be gone.
    clears: Vec<Responder>,
}

impl Notebook {
    /// A notebook without a worker.
    pub(crate) fn new(
        daemon: Arc<Daemon>,
        id: Key,
        settings: Settings,
        inbox: mpsc::Receiver<Message>,
        vitals: Vitals,
    ) -> Self {
        let Settings { profile, pinned, evicted } = settings;
        let wake = Arc::new(Notify::new());
        let turn = daemon.runners.turn(id.tenant.as_str(), &profile, Arc::clone(&wake));
        let uses = Uses::new(&daemon, &id);
        Notebook {
            watch: Watch::new(&daemon, &id, &profile),
            daemon,
            id,
            profile,
            inbox,
            machine: Machine::new(turn),
            records: Records::default(),
            uses,
            place: None,
            launch: None,
            lease: None,
            launching: None,
            live: None,
            retired: Vec::new(),
            ready: None,
            asked: HashMap::new(),
            last_request: 0,
            questions: Vec::new(),
            visitors: Vec::new(),
            restarts: Vec::new(),
            evictions: Vec::new(),
            vitals,
            life: Life::default(),
            pinned,
            evicted,
            idle_since: None,
            not_before: None,
            closing: None,
            is_blocked: false,
            wake,
            say_at: None,
            sleep_at: None,
            desert_at: None,
            begin: Begin::Saved,
            travels: Vec::new(),
            came_back: None,
            clears: Vec::new(),
        }
    }

    /// Serves the notebook until it is closed. Boxed: a future that has it by value holds it several times over.
    pub(crate) async fn run(mut self: Box<Self>) {
        self.take_up();
        // What came in one read with a shim's word on how things stand, no later read will tell of.
        self.drain();
        loop {
            self.settle();
            if self.is_over() {
                break;
            }
            match self.next().await {
                Woken::Message(Some(message)) => self.requested(message),
                // The registry holds a sender as long as the notebook is open: the daemon ends.
                Woken::Message(None) => return,
                Woken::Launch(launch) => self.start(launch),
                Woken::Launched(result) => self.launched(*result),
                Woken::Read(Ok(())) => self.drain(),
                Woken::Read(Err(error)) => self.lost(&error),
                Woken::Written => {}
                Woken::Readers => self.decide(Input::Leave),
                Woken::Time if self.sleep_at.is_some_and(|at| at <= Instant::now()) => {
                    if self.sleep() {
                        return;
                    }
                }
                Woken::Time => self.timed(),
            }
        }
        self.finish().await;
    }

    async fn next(&mut self) -> Woken {
        // A worker that ends is heard to its end even when nobody reads, or whoever waits for that
        // would wait for a stranger's client. What comes is bounded by what its shim retains.
        let reads = !self.is_blocked || self.machine.state() == WorkerState::Ending;
        let is_idle = self.machine.state() == WorkerState::None;
        let decides = self.machine.deadline();
        let (reader, writer) = match &mut self.live {
            Some(live) => (Some(&mut live.reader).filter(|_| reads), Some(&mut live.writer)),
            None => (None, None),
        };
        let deadline = [decides, self.say_at, self.desert_at, self.sleep_at]
            .into_iter()
            .flatten()
            .chain(self.retired.iter().map(|retired| retired.until))
            .chain(self.closing.as_ref().filter(|_| is_idle).map(|closing| closing.until))
            .min();
        tokio::select! {
            message = self.inbox.recv() => Woken::Message(message),
            launch = launches::turn(&mut self.place) => Woken::Launch(launch),
            result = joined(&mut self.launching) => Woken::Launched(Box::new(result)),
            result = fill(reader) => Woken::Read(result),
            () = flush(writer) => Woken::Written,
            () = self.wake.notified() => Woken::Readers,
            () = until(deadline) => Woken::Time,
        }
    }

    fn settle(&mut self) {
        let now = Instant::now();
        self.settle_start();
        self.settle_uses();
        self.is_blocked = self.records.deliver(&self.wake);
        self.settle_vitals(now);
        self.end_deserted();
        self.say_at = None;
        if let Some(live) = &mut self.live {
            live.taken.advance(&self.records);
            if live.taken.is_due() {
                live.say();
            } else if live.taken.is_waiting() {
                self.say_at = Some(now + TAKEN_DELAY);
            }
            live.writer.try_flush();
        }
        self.settle_retired(now);
        self.settle_sleep(now);
    }

    fn settle_retired(&mut self, now: Instant) {
        for mut retired in std::mem::take(&mut self.retired) {
            retired.taken.advance(&self.records);
            if now >= retired.until && retired.taken.gives_back(&self.records) {
                retired.until = now + RETIRED_PATIENCE;
            } else if now >= retired.until {
                retired.taken.release();
            }
            if retired.taken.is_waiting() {
                retired.writer.push(&Command::Taken { seq: retired.taken.say() }, 0, &[]);
            }
            retired.writer.try_flush();
            if now < retired.until && !(retired.taken.is_clear() && retired.writer.is_empty()) {
                self.retired.push(retired);
            } else {
                // It ends by itself when all is taken; but it may just have said something more,
                // which nobody will read.
                self.kill(retired.worker);
            }
        }
    }

    fn timed(&mut self) {
        let now = Instant::now();
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if due(self.say_at)
            && let Some(live) = &mut self.live
        {
            live.say();
        }
        if due(self.desert_at) {
            self.desert_at = None;
            self.records.desert_unread();
        }
        if due(self.machine.deadline()) {
            self.decide(Input::Time);
        }
    }

    fn launched(&mut self, result: Result<Launched, LaunchError>) {
        self.launching = None;
        match result {
            Ok(launched) => {
                self.watch.launched(launched.kind);
                let warm = launched.zygote.is_some();
                self.life = launched.life;
                self.live = Some(Live::new(launched));
                self.decide(Input::Launched { warm });
            }
            Err(error) => {
                let (code, message) = error.for_client();
                tracing::warn!(?code, reason = message, "worker could not be started");
                self.start_failed(code, message);
            }
        }
    }

    /// Everything that has come whole. It is bounded by what one read brings, so readers who are
    /// behind are not outrun.
    fn drain(&mut self) {
        while let Some(live) = &mut self.live {
            match live.reader.next() {
                Ok(Some(arrival)) => self.arrived(arrival, false),
                Ok(None) => return,
                Err(error) => return self.lost(&error),
            }
        }
    }

    fn lost(&mut self, error: &LinkError) {
        if *self.daemon.ending.borrow() {
            // A private daemon ends its shims before itself.
            self.live = None;
            return;
        }
        if let Some(live) = self.live.take() {
            tracing::warn!(worker = %live.worker, error = chain(error), "shim lost");
            self.watch.died(&Death::ShimLost);
            // Gone or talking nonsense: in both cases nothing of it may stay.
            self.kill(live.worker);
        }
        self.decide(Input::ShimLost);
    }

    fn decide(&mut self, input: Input) {
        let (before, evicted) = (self.machine.state(), self.machine.is_evicted());
        let actions = self.machine.on(input, Instant::now());
        // Before anybody is told.
        self.keep_evicted();
        self.perform(actions);
        let after = self.machine.state();
        self.watch.state(before, after, evicted);
        if before != after && !matches!((before, after), (WorkerState::Idle, _) | (_, WorkerState::Idle)) {
            tracing::debug!(?before, ?after, "worker state");
        }
    }

    fn kill(&self, worker: WorkerId) {
        let daemon = Arc::clone(&self.daemon);
        tokio::spawn(async move {
            // Usually it has ended by itself already, and the anchor does not know it any more.
            if let Err(error) = daemon.anchor.kill(worker.clone()).await {
                tracing::debug!(%worker, error = chain(&error), "shim not killed");
            }
            daemon.runtime.remove_worker_socket(worker.as_str());
        });
    }

    fn is_over(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| {
            self.machine.state() == WorkerState::None
                && (!self.records.has_readers() || closing.until <= Instant::now())
        })
    }

    async fn finish(mut self: Box<Self>) {
        for retired in std::mem::take(&mut self.retired) {
            self.kill(retired.worker);
        }
        let Some(Closing { delete, responder, .. }) = self.closing.take() else { return };
        let removed = if delete {
            let (state, id) = (self.daemon.state.clone(), self.id.clone());
            let removal = tokio::task::spawn_blocking(move || workspace::remove(&state, &id));
            removal.await.unwrap_or(Ok(()))
        } else {
            Ok(())
        };
        {
            let mut known = self.daemon.notebooks.lock();
            // With the lock, so that who looks for sleepers takes it for none.
            workspace::forget(&self.daemon.state, &self.id);
            known.awake.remove(&self.id);
        }
        tracing::info!(delete, "notebook closed");
        self.watch.closed(delete);
        match removed {
            Ok(()) => responder.done(),
            Err(error) => responder.refuse(ErrorCode::Storage, chain(&error)),
        }
    }
}
