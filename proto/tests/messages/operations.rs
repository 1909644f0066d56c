//! What operators ask, and what is told of notebooks as they live.

use cellblock_proto::checkpoint::NotebookEvent;
use cellblock_proto::client::{
    DaemonInfo, ErrorCode, Hint, NotebookInfo, Overview, Reply, Request, TenantInfo, TenantLimits,
    WorkerState,
};
use cellblock_proto::frame::FLAG_LAST;

use super::{Message, Sample, id};

pub(super) fn requests() -> Vec<Sample> {
    let make = |name, request| Sample::new(name, Message::Request(request), 13);
    vec![
        make("notebooks_after", Request::NotebooksAfter { after: id("analysis") }),
        make("pin", Request::Pin { notebook: id("analysis"), pinned: true }),
        make("evict", Request::Evict { notebook: id("analysis") }),
        make("drain", Request::Drain { seconds: None }),
        make("drain_seconds", Request::Drain { seconds: Some(5) }),
        make("metrics", Request::Metrics),
        make("overview", Request::Overview),
        make("tenants", Request::Tenants),
    ]
}

pub(super) fn replies() -> Vec<Sample> {
    let make = |name, reply| Sample::new(name, Message::Reply(reply), 13);
    let last = |name, reply| make(name, reply).flag(FLAG_LAST);
    let busy = Reply::Error {
        code: ErrorCode::Busy,
        message: "which cap, and the cure".into(),
        hint: Some(Hint { retry_ms: 2_500, position: Some(3) }),
    };
    let mut all = vec![
        last("error_busy_hint", busy),
        last("drained", Reply::Drained { running: 1, waiting: 2, unsaved: 0 }),
        last("metrics", Reply::Metrics).payload(b"# HELP cellblock_workers Workers that live.\n"),
        last("overview", Reply::Overview(Box::new(overview()))),
        last("tenants", Reply::Tenants { tenants: vec![tenant()] }),
    ];
    all.extend(events().map(|(name, event)| make(name, Reply::Event(event))));
    all
}

fn events() -> [(&'static str, NotebookEvent); 7] {
    let (notebook, tenant, execution) = (|| id("analysis"), || id("web"), || id("e-1"));
    [
        (
            "event_opened",
            NotebookEvent::Opened { notebook: notebook(), tenant: tenant(), profile: "default".into() },
        ),
        ("event_closed", NotebookEvent::Closed { notebook: notebook(), tenant: tenant(), deleted: true }),
        (
            "event_worker",
            NotebookEvent::Worker { notebook: notebook(), tenant: tenant(), state: WorkerState::Idle },
        ),
        (
            "event_started",
            NotebookEvent::Started { notebook: notebook(), tenant: tenant(), execution: execution() },
        ),
        (
            "event_ended",
            NotebookEvent::Ended {
                notebook: notebook(),
                tenant: tenant(),
                execution: execution(),
                end: "ok".into(),
                wall_us: 1_234,
            },
        ),
        (
            "event_evicted",
            NotebookEvent::Evicted { notebook: notebook(), tenant: tenant(), reason: "idle".into() },
        ),
        ("event_returned", NotebookEvent::Returned { notebook: notebook(), tenant: tenant(), took_ms: 14 }),
    ]
}

fn overview() -> Overview {
    Overview {
        daemon: DaemonInfo {
            build: "0.1.0".into(),
            pid: 4711,
            uptime_ms: 86_400_000,
            draining: false,
            workers: 12,
            max_workers: 200,
            running: 2,
            max_running: 8,
            waiting: 1,
            notebooks: 7,
            connections: 3,
            memory_bytes: 24 << 20,
            available_bytes: 8 << 30,
            cpu_ms: Some(1_234_567),
        },
        notebooks: vec![NotebookInfo {
            notebook: id("analysis"),
            profile: "default".into(),
            state: WorkerState::Busy,
            queued: 0,
            executions: 3,
            tenant: Some(id("web")),
            pinned: true,
            evicted: false,
            idle_ms: None,
            memory_bytes: None,
            saved_whole: false,
            running_ms: None,
            cpu_ms: None,
        }],
    }
}

fn tenant() -> TenantInfo {
    let uses =
        TenantLimits { running: 1, workers: 2, notebooks: 3, queued: 4, connections: 5, buffered_bytes: 6 };
    TenantInfo {
        tenant: id("web"),
        uids: vec![1_001, 1_002],
        operator: false,
        uses,
        limits: TenantLimits { running: 4, ..TenantLimits::default() },
    }
}

pub(super) fn refusal(code: ErrorCode) -> Reply {
    Reply::Error { code, message: "which thing, and the cure".into(), hint: None }
}

pub(super) fn error_codes() -> [(&'static str, ErrorCode); 16] {
    [
        ("error_bad_request", ErrorCode::BadRequest),
        ("error_version", ErrorCode::Version),
        ("error_too_large", ErrorCode::TooLarge),
        ("error_unknown_notebook", ErrorCode::UnknownNotebook),
        ("error_unknown_execution", ErrorCode::UnknownExecution),
        ("error_bad_profile", ErrorCode::BadProfile),
        ("error_interpreter", ErrorCode::Interpreter),
        ("error_sandbox", ErrorCode::Sandbox),
        ("error_forbidden", ErrorCode::Forbidden),
        ("error_unsupported", ErrorCode::Unsupported),
        ("error_busy", ErrorCode::Busy),
        ("error_storage", ErrorCode::Storage),
        ("error_shutting_down", ErrorCode::ShuttingDown),
        ("error_internal", ErrorCode::Internal),
        ("error_file", ErrorCode::File),
        ("error_checkpoint", ErrorCode::Checkpoint),
    ]
}
