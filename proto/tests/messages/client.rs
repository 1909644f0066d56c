//! The client's hop.

use cellblock_proto::client::{
    DoctorLine, ErrorCode, FileInfo, FileKind, Hello, NotebookInfo, NotebookStatus, ProfileInfo, Reply,
    Request, WarmInfo, WorkerState, ZygoteState,
};
use cellblock_proto::codec::Codec;
use cellblock_proto::execution::{
    Bundle, Cause, Checkpoint, Checkpointing, Death, Echo, End, ErrorFrame, ErrorReport, ExecuteOptions,
    ExpressionResult, ExpressionValue, Limit, NameChanges, NameInfo, NotRestored, NoticeTopic, OnDisconnect,
    Outcome, Output, OutputFrame, Part, Span, StreamName, Task, Usage, ValueFormat, Variables,
};
use cellblock_proto::frame::FLAG_LAST;
use cellblock_proto::query::{Answer, Completeness, Match, Query, VariableInfo};
use sandbox_profiles::{Barrier, BarrierReport, BarrierState, SandboxReport, Start};

use super::{Message, Sample, id, operations};

pub(super) fn requests() -> Vec<Sample> {
    let make = |name, request| Sample::new(name, Message::Request(request), 7);
    let query = |name, query| {
        make(name, Request::Query { notebook: id("analysis"), query }).payload("df.mea".as_bytes())
    };
    let hello = Hello {
        min_version: 1,
        max_version: 1,
        codec: Codec::Json,
        client: "cellblock-python 0.1.0".into(),
        tenant: None,
    };
    let acting = Hello { tenant: Some(id("web")), ..hello.clone() };
    vec![
        make("hello", Request::Hello(hello)),
        make("hello_as_tenant", Request::Hello(acting)),
        make("open_notebook", Request::OpenNotebook { notebook: id("analysis"), profile: None }),
        make(
            "open_notebook_profile",
            Request::OpenNotebook { notebook: id("analysis"), profile: Some("large".into()) },
        ),
        make(
            "execute",
            Request::Execute {
                notebook: id("analysis"),
                execution: id("e-1"),
                options: ExecuteOptions::default(),
            },
        )
        .payload(b"1 + 1"),
        make(
            "execute_every_option",
            Request::Execute { notebook: id("analysis"), execution: id("run:2.b"), options: every_option() },
        )
        .payload("print('h\u{e9}llo \u{1f40d}')\n".as_bytes()),
        make(
            "attach",
            Request::Attach { notebook: id("analysis"), execution: id("e-1"), from_seq: 4_294_967_296 },
        ),
        make("interrupt", Request::Interrupt { notebook: id("analysis") }),
        make("cancel", Request::Cancel { notebook: id("analysis"), execution: id("e-1") }),
        make(
            "input",
            Request::Input { notebook: id("analysis"), execution: id("e-1"), value: "gr\u{fc}n\t\"".into() },
        ),
        query("query_complete", Query::Complete { cursor: 6 }),
        query("query_inspect", Query::Inspect { cursor: 2, detail: 1 }),
        query("query_is_complete", Query::IsComplete),
        query("query_history", Query::History { last: 100 }),
        query("query_variables", Query::Variables),
        make("restart", Request::Restart { notebook: id("analysis") }),
        make("close", Request::Close { notebook: id("analysis") }),
        make("delete", Request::Delete { notebook: id("analysis") }),
        make("notebooks", Request::Notebooks),
        make("status", Request::Status { notebook: id("analysis") }),
        make("doctor", Request::Doctor),
        make("comm", Request::Comm { target: "jupyter.widget".into() }),
        make("shutdown", Request::Shutdown),
        make("profiles", Request::Profiles),
        make("warm", Request::Warm),
        make("plan", Request::Plan { profile: Some("strict".into()) }),
        make("list_files", Request::ListFiles { notebook: id("analysis"), path: "data".into() }),
        make(
            "read_file",
            Request::ReadFile {
                notebook: id("analysis"),
                path: "data/gr\u{fc}n.csv".into(),
                offset: 4_294_967_296,
                bytes: 1 << 20,
            },
        ),
        make(
            "write_file",
            Request::WriteFile { notebook: id("analysis"), path: "data/x.csv".into(), offset: 0 },
        )
        .payload(b"a,b\n1,2\n"),
        make("remove_file", Request::RemoveFile { notebook: id("analysis"), path: "odd\\xff".into() }),
    ]
}

pub(super) fn replies() -> Vec<Sample> {
    let last = |name, reply| Sample::new(name, Message::Reply(reply), 7).flag(FLAG_LAST);
    let limits = (1 << 20, 64 << 20);
    let mut all = vec![
        last(
            "hello",
            Reply::Hello {
                version: 1,
                codec: Codec::Json,
                server: "cellblockd 0.1.0".into(),
                meta_bytes: limits.0,
                payload_bytes: limits.1,
            },
        ),
        last("notebook", Reply::Notebook(notebook(WorkerState::None))),
        Sample::new("accepted", Message::Reply(Reply::Accepted { execution: id("e-1"), position: 2 }), 7),
        last("notebooks", Reply::Notebooks { notebooks: states().map(notebook).into(), more: true }),
        last("status", Reply::Status(status())),
        last("status_without_worker", Reply::Status(idle_status())),
        last("doctor", Reply::Doctor { checks: doctor() }),
        last("done", Reply::Done),
        last("profiles", Reply::Profiles { profiles: profiles() }),
        last("warm", Reply::Warm { profiles: warm() }),
        last("plan", Reply::Plan { steps: super::shim::steps() }),
        last("files", Reply::Files { files: files(), truncated: true }),
        last("file", Reply::File { bytes: 9 }).payload(b"a,b\n1,2\n"),
    ];
    all.extend(operations::error_codes().map(|(name, code)| last(name, operations::refusal(code))));
    // The connection itself is refused: no request is answered.
    all.push(Sample { request: 0, ..last("error_connection", operations::refusal(ErrorCode::TooLarge)) });
    all.extend(outputs().into_iter().enumerate().map(|(seq, (name, output, payload))| {
        let frame = OutputFrame { execution: id("e-1"), seq: seq as u64, output };
        Sample::new(name, Message::Reply(Reply::Output(frame)), 7).payload(&payload)
    }));
    all.extend(ends().map(|(name, end)| {
        last(name, Reply::Outcome { execution: id("e-1"), outputs: 12, outcome: outcome(end) })
    }));
    let (outcome, payload) = full_outcome();
    all.push(
        last("outcome_full", Reply::Outcome { execution: id("e-1"), outputs: 3, outcome }).payload(&payload),
    );
    all.extend(
        answers()
            .into_iter()
            .map(|(name, answer, payload)| last(name, Reply::Answer(answer)).payload(&payload)),
    );
    all
}

fn profiles() -> Vec<ProfileInfo> {
    let info = |name: &str, description: &str, usable, builtin| ProfileInfo {
        name: name.into(),
        description: description.into(),
        usable,
        builtin,
    };
    vec![
        info("default", "compute within limits, no network", true, true),
        info("mine", "line 3: unknown key `memory_mb`", false, false),
    ]
}

fn files() -> Vec<FileInfo> {
    let kinds = [FileKind::File, FileKind::Folder, FileKind::Link, FileKind::Special];
    let info = |(name, kind): (&str, FileKind)| FileInfo {
        name: name.into(),
        kind,
        bytes: if kind == FileKind::File { 4_294_967_296 } else { 0 },
        modified_ms: 1_794_000_000_000,
    };
    ["a.csv", "data", "link", "odd\\xff"].into_iter().zip(kinds).map(info).collect()
}

pub(super) fn every_option() -> ExecuteOptions {
    ExecuteOptions {
        silent: true,
        store_history: false,
        stop_on_error: false,
        allow_stdin: true,
        echo: Echo::None,
        user_expressions: vec![("n".into(), "len(df)".into()), ("bad".into(), "1/0".into())],
        wall_ms: Some(2_500),
        cell: Some("cell-3".into()),
        task: Task::Get { name: "df".into(), format: ValueFormat::Arrow },
        checkpoint: Some(Checkpointing::Wait),
        transactional: true,
        on_disconnect: OnDisconnect::Interrupt,
    }
}

/// What was in a checkpoint's place, or could not be had back.
pub(super) fn losses() -> Vec<NotRestored> {
    vec![NotRestored { path: "d['lock']".into(), kind: "_thread.lock".into(), reason: "a lock".into() }]
}

/// Every kind of Output, with its payload.
pub(super) fn outputs() -> Vec<(&'static str, Output, Vec<u8>)> {
    let (figure, figure_bytes) = bundle(
        &[("image/png", b"\x89PNG\r\n\x1a\n"), ("text/plain", b"<Figure size 640x480>")],
        Some(br#"{"image/png":{"width":640}}"#),
    );
    let (table, table_bytes) = bundle(
        &[
            ("text/html", b"<table></table>"),
            ("application/json", br#"{"a":[1,2]}"#),
            ("text/plain", b"   a\n0  1"),
        ],
        None,
    );
    let stream = |name| Output::Stream { name };
    let display = |bundle, display_id: Option<&str>, update| Output::Display {
        bundle,
        display_id: display_id.map(str::to_owned),
        update,
    };
    vec![
        ("output_stdout", stream(StreamName::Stdout), "z\u{e4}hlt\n".into()),
        // A program may write what is no UTF-8.
        ("output_stderr", stream(StreamName::Stderr), b"\xff\xfe oops\n".to_vec()),
        ("output_display", display(figure.clone(), None, false), figure_bytes.clone()),
        ("output_display_update", display(figure, Some("plot-1"), true), figure_bytes),
        ("output_display_empty", display(Bundle::default(), None, false), Vec::new()),
        ("output_result", Output::Result { bundle: table, execution_count: 5 }, table_bytes),
        ("output_error", Output::Error(error_report()), Vec::new()),
        ("output_clear", Output::ClearOutput { wait: true }, Vec::new()),
        (
            "output_input_request",
            Output::InputRequest { prompt: "Name: ".into(), password: false },
            Vec::new(),
        ),
        ("output_truncated_stream", truncated(Some(StreamName::Stdout)), Vec::new()),
        ("output_truncated_all", truncated(None), Vec::new()),
        ("output_notice_lost", notice(NoticeTopic::VariablesLost, &["df", "model"]), Vec::new()),
        ("output_notice_degraded", notice(NoticeTopic::Degraded, &[]), Vec::new()),
        ("output_notice_disk_full", notice(NoticeTopic::DiskFull, &[]), Vec::new()),
        ("output_notice_workspace_closed", notice(NoticeTopic::WorkspaceClosed, &[]), Vec::new()),
    ]
}

fn truncated(stream: Option<StreamName>) -> Output {
    Output::Truncated { stream, dropped_bytes: 5_000_000_000, reason: "output cap of 268435456 bytes".into() }
}

pub(super) fn notice(topic: NoticeTopic, names: &[&str]) -> Output {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Output::Notice { topic, text: "the worker was replaced".into(), names }
}

fn error_report() -> ErrorReport {
    let frame = |execution: Option<&str>, file: &str, line, code: Option<&str>| ErrorFrame {
        execution: execution.map(str::to_owned),
        file: file.into(),
        line,
        function: "load".into(),
        code: code.map(str::to_owned),
    };
    ErrorReport {
        name: "ValueError".into(),
        value: "no column \u{201e}x\u{201c}".into(),
        traceback: vec!["\u{1b}[31mValueError\u{1b}[0m".into(), "no column".into()],
        frames: vec![
            frame(Some("e-1"), "<cell e-1>", 3, Some("load(df)")),
            frame(None, "/usr/lib/x.py", 120, None),
        ],
        causes: vec![
            Cause { name: "KeyError".into(), value: "'x'".into(), explicit: true, frames: vec![] },
            Cause {
                name: "OSError".into(),
                value: String::new(),
                explicit: false,
                frames: vec![frame(Some("e-1"), "<cell e-1>", 1, None)],
            },
        ],
    }
}

/// Every way an Execution can end.
pub(super) fn ends() -> [(&'static str, End); 11] {
    [
        ("outcome_ok", End::Ok),
        ("outcome_error", End::Error { name: "ZeroDivisionError".into(), value: "division by zero".into() }),
        ("outcome_timed_out", End::TimedOut { limit_ms: 2_500 }),
        ("outcome_interrupted", End::Interrupted),
        (
            "outcome_limit_hit",
            End::LimitHit { limit: Limit::Memory, allowed: 1 << 32, reached: (1 << 32) + 4096 },
        ),
        ("outcome_exited", End::WorkerDied(Death::Exited { code: -3 })),
        ("outcome_signalled", End::WorkerDied(Death::Signalled { signal: 11 })),
        ("outcome_ended", End::WorkerDied(Death::Ended { reason: "restart was asked for".into() })),
        ("outcome_shim_lost", End::WorkerDied(Death::ShimLost)),
        ("outcome_protocol", End::WorkerDied(Death::Protocol { detail: "unknown frame kind 9".into() })),
        ("outcome_cancelled", End::Cancelled { reason: "an earlier Execution failed".into() }),
    ]
}

pub(super) fn outcome(end: End) -> Outcome {
    let checkpoint = match end {
        End::Ok => Checkpoint::Saved { id: 7, written_bytes: 276_214, pause_us: 2_700 },
        End::Interrupted => super::checkpoints::partial(),
        _ => Checkpoint::Pending,
    };
    let variables = match end {
        End::Error { .. } => Variables::RolledBack,
        End::WorkerDied(_) | End::LimitHit { .. } => Variables::Lost { names: vec!["df".into(), "x".into()] },
        _ => Variables::Kept,
    };
    Outcome {
        end,
        execution_count: 5,
        wall_us: 1_234_567,
        queued_us: 0,
        variables,
        names: NameChanges::default(),
        expressions: Vec::new(),
        usage: Usage { cpu_us: 1_204_000, memory_peak_bytes: 48 << 20, written_bytes: 4096 },
        checkpoint: Some(checkpoint),
        worker_ms: Some(14),
    }
}

/// An Outcome with names and expressions, and the payload of those.
fn full_outcome() -> (Outcome, Vec<u8>) {
    let (value, payload) = bundle(&[("text/plain", b"42")], None);
    let failure =
        ExpressionValue::Error { name: "ZeroDivisionError".into(), value: "division by zero".into() };
    let names = NameChanges {
        added: vec![name("df", Some(1 << 40))],
        changed: vec![name("x", None)],
        removed: vec!["tmp".into()],
    };
    let expressions = vec![
        ExpressionResult { name: "n".into(), result: ExpressionValue::Value(value) },
        ExpressionResult { name: "bad".into(), result: failure },
    ];
    (Outcome { names, expressions, ..outcome(End::Ok) }, payload)
}

/// Every answer to a Query, with its payload.
pub(super) fn answers() -> Vec<(&'static str, Answer, Vec<u8>)> {
    let (found, found_bytes) = bundle(&[("text/plain", b"Signature: df.mean()")], None);
    let candidate = |text: &str, kind: &str| Match { text: text.into(), kind: kind.into() };
    let verdict = |status, indent: &str| Answer::IsComplete { status, indent: indent.into() };
    let table = VariableInfo {
        name: "df".into(),
        kind: "pandas.DataFrame".into(),
        bytes: Some(96),
        shape: Some(vec![3, 2]),
        preview: Some("3 rows: a, b".into()),
        columns: vec![("a".into(), "int64".into()), ("b".into(), "str".into())],
    };
    let matches = vec![candidate("mean", "function"), candidate("me\u{e4}n", "")];
    vec![
        ("answer_complete", Answer::Complete { matches, start: 3, end: 6 }, vec![]),
        ("answer_inspect", Answer::Inspect { bundle: Some(found) }, found_bytes),
        ("answer_inspect_nothing", Answer::Inspect { bundle: None }, vec![]),
        ("answer_is_complete", verdict(Completeness::Complete, ""), vec![]),
        ("answer_is_incomplete", verdict(Completeness::Incomplete, "    "), vec![]),
        ("answer_is_invalid", verdict(Completeness::Invalid, ""), vec![]),
        ("answer_is_unknown", verdict(Completeness::Unknown, ""), vec![]),
        ("answer_history", Answer::History { inputs: vec![(1, "x = 1".into()), (2, "x".into())] }, vec![]),
        (
            "answer_variables",
            Answer::Variables {
                variables: vec![table, VariableInfo { name: "x".into(), ..Default::default() }],
            },
            vec![],
        ),
        ("answer_busy", Answer::Busy, vec![]),
    ]
}

pub(super) fn name(name: &str, bytes: Option<u64>) -> NameInfo {
    NameInfo { name: name.into(), kind: "pandas.DataFrame".into(), bytes }
}

/// A bundle and its payload: the parts one after the other, then the metadata.
pub(super) fn bundle(parts: &[(&str, &[u8])], metadata: Option<&[u8]>) -> (Bundle, Vec<u8>) {
    let mut payload = Vec::new();
    let mut append = |bytes: &[u8]| {
        let span = Span { offset: payload.len() as u32, length: bytes.len() as u32 };
        payload.extend_from_slice(bytes);
        span
    };
    let parts =
        parts.iter().map(|(mime, bytes)| Part { mime: (*mime).into(), span: append(bytes) }).collect();
    let metadata = metadata.map(&mut append);
    (Bundle { parts, metadata }, payload)
}

fn states() -> [WorkerState; 6] {
    [
        WorkerState::None,
        WorkerState::Starting,
        WorkerState::Idle,
        WorkerState::Busy,
        WorkerState::Ending,
        WorkerState::Waiting,
    ]
}

fn notebook(state: WorkerState) -> NotebookInfo {
    NotebookInfo {
        notebook: id("analysis"),
        profile: "default".into(),
        state,
        queued: 1,
        executions: 12,
        tenant: Some(id("operator")),
        pinned: false,
        evicted: state == WorkerState::None,
        idle_ms: (state == WorkerState::Idle).then_some(1_500),
        memory_bytes: Some(48 << 20),
        saved_whole: true,
        running_ms: Some(1_500),
        cpu_ms: Some(250),
    }
}

fn status() -> NotebookStatus {
    NotebookStatus {
        info: notebook(WorkerState::Busy),
        running: Some(id("e-1")),
        queue: vec![id("e-2")],
        names: vec![name("df", Some(96))],
        worker_pid: Some(4711),
        python: Some("CPython 3.11.7, IPython 9.18.1".into()),
        report: Some(report()),
    }
}

fn idle_status() -> NotebookStatus {
    NotebookStatus {
        info: notebook(WorkerState::None),
        running: None,
        queue: vec![],
        names: vec![],
        worker_pid: None,
        python: None,
        report: None,
    }
}

fn warm() -> Vec<WarmInfo> {
    let up = WarmInfo {
        profile: "default".into(),
        zygote: ZygoteState::Up,
        detail: String::new(),
        spares_ready: 1,
        spares_wanted: 2,
    };
    let state = |profile: &str, zygote, detail: &str| WarmInfo {
        profile: profile.into(),
        zygote,
        detail: detail.into(),
        ..up.clone()
    };
    let failed =
        state("team", ZygoteState::Failed, "the zygote did not start: import polars: no such module");
    vec![up.clone(), state("data-science", ZygoteState::Starting, ""), failed]
}

pub(super) fn report() -> SandboxReport {
    let barrier = |barrier, state, detail: &str| BarrierReport { barrier, state, detail: detail.into() };
    SandboxReport {
        made_us: 1_870,
        start: Start::Fallback { why: "the zygote is still starting".into() },
        barriers: vec![
            barrier(Barrier::Namespaces, BarrierState::Enforced, "7 namespaces"),
            barrier(Barrier::Memory, BarrierState::Degraded, "watched every 100 ms, no cgroup"),
            barrier(Barrier::NamespaceQuota, BarrierState::Missing, "no such sysctl"),
        ],
    }
}

fn doctor() -> Vec<DoctorLine> {
    let line = |name: &str, state, cure: Option<&str>| DoctorLine {
        name: name.into(),
        state,
        detail: "as the kernel says".into(),
        cure: cure.map(str::to_owned),
    };
    vec![
        line("user namespaces", BarrierState::Enforced, None),
        line("subordinate ids", BarrierState::Missing, Some("apt-get install uidmap")),
    ]
}
