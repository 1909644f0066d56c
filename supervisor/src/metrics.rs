//! What the daemon counts, as Prometheus has it: counted where it happens, written out when somebody asks.
//!
//! Labels have few values: profiles, tenants, kinds, causes, codes. Never a notebook, an Execution or a path: ten
//! thousand notebooks are one line. `docs/monitoring.md` has the table, and a test holds it to this file.
//!
//! One count costs some tens of nanoseconds (a map behind a lock that is only read, an atomic addition).

pub(crate) mod listener;
mod process;
mod request;

pub(crate) use request::{code, name};

use std::sync::Arc;
use std::time::Duration;

use cellblock_proto::BUILD;
use cellblock_proto::checkpoint::Checkpoint;
use cellblock_proto::client::{ErrorCode, Request, WorkerState};
use cellblock_proto::execution::{Death, End, Outcome};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// From the hit of a resident notebook to the start of an interpreter, in seconds.
const QUICK: [f64; 16] =
    [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// From a line of Python to a night of computing, in seconds.
const LONG: [f64; 14] =
    [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0, 1800.0, 7200.0];

/// How a worker came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartKind {
    /// Python was executed.
    Exec,
    /// A zygote forked it.
    Zygote,
    /// A spare was claimed.
    Spare,
}

impl StartKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            StartKind::Exec => "exec",
            StartKind::Zygote => "zygote",
            StartKind::Spare => "spare",
        }
    }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($label:ident: $kind:ty),+ })+) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
        pub(crate) struct $name { $(pub(crate) $label: $kind),+ }
    )+ };
}

labels! {
    /// Of an Execution.
    Ended { profile: Arc<str>, end: &'static str }
    /// Of what a tenant has used.
    Used { tenant: Arc<str> }
    /// Of what a profile decides.
    ByProfile { profile: Arc<str> }
    /// Of what there are several kinds of.
    ByKind { kind: &'static str }
    /// Of what ends in several ways.
    ByResult { result: &'static str }
    /// Of what has several causes.
    ByCause { cause: &'static str }
    /// Of what is refused.
    ByCode { code: &'static str }
    /// Of notebooks.
    ByState { state: &'static str }
    /// Of the daemon.
    Build { build: &'static str }
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

fn quick() -> Histogram {
    Histogram::new(QUICK)
}

fn long() -> Histogram {
    Histogram::new(LONG)
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Requests by kind.
    requests: Family<ByKind, Counter>,
    /// Requests and connections refused.
    refusals: Family<ByCode, Counter>,
    /// Connections that have come.
    connections_total: Family<ByResult, Counter>,
    /// Connections that are there.
    connections: Gauge,
    /// From the request to the answer.
    open_seconds: Histogram,
    /// By state of their worker.
    notebooks: Family<ByState, Gauge>,
    /// Executions that have ended.
    executions: Family<Ended, Counter>,
    wall_seconds: Histograms<ByProfile>,
    queue_seconds: Histograms<ByProfile>,
    cpu_seconds: Family<Used, Counter<f64, std::sync::atomic::AtomicU64>>,
    /// Since the worker was wanted until it was up.
    start_seconds: Histograms<ByKind>,
    start_failures: Family<ByCode, Counter>,
    worker_ends: Family<ByCause, Counter>,
    end_seconds: Histogram,
    checkpoints: Family<ByResult, Counter>,
    checkpoint_pause_seconds: Histogram,
    checkpoint_bytes: Counter,
    restores: Family<ByResult, Counter>,
    restore_seconds: Histogram,
    evictions: Counter,
    store_failures: Counter,
    adopted: Counter,
    reconciled: Family<ByKind, Counter>,
    audit_lost: Counter,
    gauges: Gauges,
}

/// What is known by others, asked when somebody looks.
#[derive(Clone, Debug, Default)]
struct Gauges {
    workers: Gauge,
    running: Gauge,
    waiting: Gauge,
}

/// What only somebody else knows, at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    /// Cells that have leave to run.
    pub(crate) running: usize,
    /// Notebooks that wait for it.
    pub(crate) waiting: usize,
    /// Notebooks that sleep.
    pub(crate) asleep: usize,
}

impl Metrics {
    /// Nothing has been counted.
    pub(crate) fn new() -> Self {
        let mut metrics = Metrics {
            registry: Registry::default(),
            requests: Family::default(),
            refusals: Family::default(),
            connections_total: Family::default(),
            connections: Gauge::default(),
            open_seconds: quick(),
            notebooks: Family::default(),
            executions: Family::default(),
            wall_seconds: Family::new_with_constructor(long),
            queue_seconds: Family::new_with_constructor(long),
            cpu_seconds: Family::default(),
            start_seconds: Family::new_with_constructor(quick),
            start_failures: Family::default(),
            worker_ends: Family::default(),
            end_seconds: quick(),
            checkpoints: Family::default(),
            checkpoint_pause_seconds: quick(),
            checkpoint_bytes: Counter::default(),
            restores: Family::default(),
            restore_seconds: quick(),
            evictions: Counter::default(),
            store_failures: Counter::default(),
            adopted: Counter::default(),
            reconciled: Family::default(),
            audit_lost: Counter::default(),
            gauges: Gauges::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let root = &mut self.registry;
        root.register_collector(Box::new(process::Process) as Box<dyn Collector>);
        let to = root.sub_registry_with_prefix("cellblock");
        let seconds = || Unit::Seconds;
        to.register("build", "What this daemon is", Info::new(Build { build: BUILD }));
        to.register("requests", "Requests by kind", self.requests.clone());
        to.register("refusals", "Requests and connections refused, by code", self.refusals.clone());
        to.register("connections_opened", "Clients that have connected", self.connections_total.clone());
        to.register("connections", "Clients that are connected", self.connections.clone());
        to.register_with_unit("open", "Time to open a notebook", seconds(), self.open_seconds.clone());
        to.register("notebooks", "Open notebooks by state of their worker", self.notebooks.clone());
        to.register("executions", "Executions that have ended", self.executions.clone());
        let help = "Time that the code of an Execution ran";
        to.register_with_unit("execution_wall", help, seconds(), self.wall_seconds.clone());
        let help = "Time that an Execution waited in its queue";
        to.register_with_unit("execution_queue", help, seconds(), self.queue_seconds.clone());
        let help = "Processor time of Executions that have ended";
        to.register_with_unit("execution_cpu", help, seconds(), self.cpu_seconds.clone());
        let help = "Time from when a worker was begun until it was up, its variables loaded";
        to.register_with_unit("worker_start", help, seconds(), self.start_seconds.clone());
        to.register("worker_start_failures", "Workers that did not start", self.start_failures.clone());
        to.register("worker_ends", "Workers that have ended, by cause", self.worker_ends.clone());
        let help = "Time from the order to end a worker until it was gone";
        to.register_with_unit("worker_end", help, seconds(), self.end_seconds.clone());
        to.register("checkpoints", "Checkpoints by what became of them", self.checkpoints.clone());
        let help = "Time that a worker stood still for a checkpoint";
        to.register_with_unit("checkpoint_pause", help, seconds(), self.checkpoint_pause_seconds.clone());
        let help = "What checkpoints have added to the stores";
        to.register_with_unit("checkpoint_written", help, Unit::Bytes, self.checkpoint_bytes.clone());
        to.register("restores", "New workers that have loaded variables", self.restores.clone());
        let help = "Time until a new worker had its variables, its start included";
        to.register_with_unit("restore", help, seconds(), self.restore_seconds.clone());
        to.register("evictions", "Workers saved and ended because nobody used them", self.evictions.clone());
        to.register("store_failures", "Store processes that failed", self.store_failures.clone());
        to.register("shims_adopted", "Shims taken over at the start", self.adopted.clone());
        to.register("reconciled", "Things removed that belonged to nothing", self.reconciled.clone());
        to.register("audit_lost", "Lines of the audit log not written", self.audit_lost.clone());
        let Gauges { workers, running, waiting } = self.gauges.clone();
        to.register("workers", "Workers that live, or are being started or ended", workers);
        to.register("cells_running", "Executions that have leave to run", running);
        to.register("cells_waiting", "Notebooks that wait for leave to run", waiting);
    }

    /// All of it, in the text format of OpenMetrics.
    pub(crate) fn text(&self, now: Moment) -> String {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.gauges.workers.set(self.workers());
        self.gauges.running.set(count(now.running));
        self.gauges.waiting.set(count(now.waiting));
        self.notebooks.get_or_create(&ByState { state: ASLEEP }).set(count(now.asleep));
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }

    /// Workers of notebooks that live, or are being started or ended.
    pub(crate) fn workers(&self) -> i64 {
        let states = [
            WorkerState::Starting,
            WorkerState::Idle,
            WorkerState::Busy,
            WorkerState::Ending,
            WorkerState::Waiting,
        ];
        let count =
            |state| self.notebooks.get(&ByState { state: state_name(state) }).map_or(0, |gauge| gauge.get());
        states.into_iter().map(count).sum()
    }

    /// Clients that are connected.
    pub(crate) fn connections(&self) -> i64 {
        self.connections.get()
    }

    /// A request has come.
    pub(crate) fn request(&self, request: &Request) {
        self.requests.get_or_create(&ByKind { kind: name(request) }).inc();
    }

    /// A request, or a connection, was refused.
    pub(crate) fn refused(&self, code: ErrorCode) {
        self.refusals.get_or_create(&ByCode { code: self::code(code) }).inc();
    }

    /// Somebody has connected; they are there as long as this is kept.
    pub(crate) fn connected(&self) -> Present {
        self.connections_total.get_or_create(&ByResult { result: "served" }).inc();
        Present::new(self.connections.clone())
    }

    /// Somebody has connected for whom there was no place.
    pub(crate) fn turned_away(&self) {
        self.connections_total.get_or_create(&ByResult { result: "turned_away" }).inc();
    }

    /// A notebook was opened or found.
    pub(crate) fn opened(&self, took: Duration) {
        self.open_seconds.observe(took.as_secs_f64());
    }

    /// A notebook is there, as long as this is kept.
    pub(crate) fn notebook(&self) -> Standing {
        let family = self.notebooks.clone();
        Standing { present: present(&family, WorkerState::None), family }
    }

    /// An Execution has ended.
    pub(crate) fn execution(&self, tenant: &Arc<str>, profile: &Arc<str>, outcome: &Outcome) {
        let end = end_name(&outcome.end);
        self.executions.get_or_create(&Ended { profile: Arc::clone(profile), end }).inc();
        let label = ByProfile { profile: Arc::clone(profile) };
        self.queue_seconds.get_or_create(&label).observe(seconds(outcome.queued_us));
        // It is 0 of what never began.
        if outcome.wall_us > 0 {
            self.wall_seconds.get_or_create(&label).observe(seconds(outcome.wall_us));
            let used = Used { tenant: Arc::clone(tenant) };
            self.cpu_seconds.get_or_create(&used).inc_by(seconds(outcome.usage.cpu_us));
        }
    }

    /// A worker is up.
    pub(crate) fn started(&self, kind: StartKind, took: Duration) {
        self.start_seconds.get_or_create(&ByKind { kind: kind.name() }).observe(took.as_secs_f64());
    }

    /// A worker did not start.
    pub(crate) fn start_failed(&self, code: ErrorCode) {
        self.start_failures.get_or_create(&ByCode { code: self::code(code) }).inc();
    }

    /// A worker has ended.
    pub(crate) fn worker_ended(&self, death: &Death) {
        self.worker_ends.get_or_create(&ByCause { cause: death_name(death) }).inc();
    }

    /// A worker that was to end is gone.
    pub(crate) fn end_took(&self, took: Duration) {
        self.end_seconds.observe(took.as_secs_f64());
    }

    /// A checkpoint has been taken, or not.
    pub(crate) fn checkpoint(&self, checkpoint: &Checkpoint) {
        self.checkpoints.get_or_create(&ByResult { result: checkpoint_name(checkpoint) }).inc();
        if let Checkpoint::Saved { written_bytes, pause_us, .. }
        | Checkpoint::Partial { written_bytes, pause_us, .. } = checkpoint
        {
            self.checkpoint_pause_seconds.observe(seconds(*pause_us));
            self.checkpoint_bytes.inc_by(*written_bytes);
        }
    }

    /// A new worker has loaded variables (partly, or could not).
    pub(crate) fn restored(&self, result: &'static str, took: Duration) {
        self.restores.get_or_create(&ByResult { result }).inc();
        self.restore_seconds.observe(took.as_secs_f64());
    }

    /// A worker was saved and ended to make room.
    pub(crate) fn evicted(&self) {
        self.evictions.inc();
    }

    /// A store process has failed.
    pub(crate) fn store_failed(&self) {
        self.store_failures.inc();
    }

    /// A shim was taken over.
    pub(crate) fn adopted(&self) {
        self.adopted.inc();
    }

    /// Something was removed that belonged to nothing: a `process`, `cgroup`, `socket`, ….
    pub(crate) fn reconciled(&self, kind: &'static str) {
        self.reconciled.get_or_create(&ByKind { kind }).inc();
    }

    /// The counter of lines that the audit log has lost.
    pub(crate) fn audit_lost(&self) -> Counter {
        self.audit_lost.clone()
    }
}

/// A thing that is counted as long as it is kept.
#[derive(Debug)]
pub(crate) struct Present(Gauge);

impl Present {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Present(gauge)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A notebook, counted under the state of its worker.
#[derive(Debug)]
pub(crate) struct Standing {
    family: Family<ByState, Gauge>,
    present: Present,
}

impl Standing {
    /// Its worker is in another state.
    pub(crate) fn set(&mut self, state: WorkerState) {
        self.present = present(&self.family, state);
    }
}

fn present(family: &Family<ByState, Gauge>, state: WorkerState) -> Present {
    Present::new(family.get_or_create_owned(&ByState { state: state_name(state) }))
}

fn seconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64()
}

/// The name alone: what an exception says is the user's.
pub(crate) fn end_name(end: &End) -> &'static str {
    match end {
        End::Ok => "ok",
        End::Error { .. } => "error",
        End::TimedOut { .. } => "timed_out",
        End::Interrupted => "interrupted",
        End::LimitHit { .. } => "limit_hit",
        End::WorkerDied(_) => "worker_died",
        End::Cancelled { .. } => "cancelled",
    }
}

/// The name alone: some of a death is the worker's own words.
pub(crate) fn death_name(death: &Death) -> &'static str {
    match death {
        Death::Exited { .. } => "exited",
        Death::Signalled { .. } => "signalled",
        Death::Ended { .. } => "ended",
        Death::ShimLost => "shim_lost",
        Death::Protocol { .. } => "protocol",
    }
}

/// The name alone: the rest names variables.
pub(crate) fn checkpoint_name(checkpoint: &Checkpoint) -> &'static str {
    match checkpoint {
        Checkpoint::Pending => "pending",
        Checkpoint::Saved { .. } => "saved",
        Checkpoint::Partial { .. } => "partial",
        Checkpoint::Failed { .. } => "failed",
    }
}

/// Of a notebook without a worker that nobody has asked for anything for a while.
const ASLEEP: &str = "asleep";

fn state_name(state: WorkerState) -> &'static str {
    match state {
        WorkerState::None => "none",
        WorkerState::Starting => "starting",
        WorkerState::Idle => "idle",
        WorkerState::Busy => "busy",
        WorkerState::Ending => "ending",
        WorkerState::Waiting => "waiting",
    }
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
