//! The hops whose other side is Python or the anchor: shim and worker, cellblockd and anchor.

use cellblock_proto::anchor::{AnchorReply, AnchorRequest, CgroupTier};
use cellblock_proto::execution::{
    Echo, End, ExpressionResult, ExpressionValue, NameChanges, Task, ValueFormat,
};
use cellblock_proto::frame::FLAG_MEMFD;
use cellblock_proto::query::Query;
use cellblock_proto::worker::{WorkerCommand, WorkerEvent, WorkerEventBody};

use super::client::{answers, bundle, losses, name, outputs};
use super::{Message, Sample, id};

pub(super) fn samples() -> Vec<Sample> {
    [commands(), events(), anchor_requests(), anchor_replies()].concat()
}

fn commands() -> Vec<Sample> {
    let make = |name, command| Sample::new(name, Message::WorkerCommand(command), 0);
    let execute = |echo, user_expressions, cell, task| WorkerCommand::Execute {
        execution: id("e-1"),
        run: 1,
        silent: false,
        store_history: true,
        allow_stdin: true,
        echo,
        user_expressions,
        cell,
        task,
    };
    let with = |task| execute(Echo::None, vec![], None, task);
    let expressions = vec![("n".to_owned(), "len(df)".to_owned())];
    let query =
        |name, query| Sample { request: 9, ..make(name, WorkerCommand::Query(query)).payload(b"df.mea") };
    vec![
        make("execute", execute(Echo::LastExpression, vec![], None, Task::Code)).payload(b"1 + 1"),
        make("execute_full", execute(Echo::None, expressions, Some("cell-3".into()), Task::Code))
            .payload(b"df"),
        // The code is in the memfd sent along; the payload in the message is empty.
        make("execute_memfd", execute(Echo::LastExpression, vec![], None, Task::Code)).flag(FLAG_MEMFD),
        make("execute_put", with(Task::Put { name: "x".into(), format: ValueFormat::Json }))
            .payload(b"[1, 2]"),
        make("execute_get", with(Task::Get { name: "df".into(), format: ValueFormat::Arrow })),
        make(
            "execute_plugin",
            with(Task::Plugin { name: "execution_service".into(), arguments: r#"{"do":"run"}"#.into() }),
        )
        .payload(b"df"),
        make("input", WorkerCommand::Input { value: "blue".into() }),
        make("checkpoints", WorkerCommand::Checkpoints),
        make("snapshot", WorkerCommand::Snapshot { execution: "e-1".into() }),
        make("restore", WorkerCommand::Restore),
        query("query_complete", Query::Complete { cursor: 6 }),
        query("query_inspect", Query::Inspect { cursor: 2, detail: 0 }),
        query("query_is_complete", Query::IsComplete),
        query("query_history", Query::History { last: 10 }),
        query("query_variables", Query::Variables),
    ]
}

fn events() -> Vec<Sample> {
    let make = |name, mark, body| Sample::new(name, Message::WorkerEvent(WorkerEvent { mark, body }), 0);
    let ready = WorkerEventBody::Ready {
        python: "CPython 3.11.7, IPython 9.18.1".into(),
        proof: vec![("NoNewPrivs".into(), "1".into()), ("Seccomp".into(), "0".into())],
    };
    let finished = |end, names, expressions| WorkerEventBody::Finished {
        execution: id("e-1"),
        end,
        execution_count: 5,
        names,
        expressions,
    };
    let (value, payload) = bundle(&[("text/plain", b"42")], None);
    let expressions = vec![ExpressionResult { name: "n".into(), result: ExpressionValue::Value(value) }];
    let names =
        NameChanges { added: vec![name("df", Some(96))], changed: vec![], removed: vec!["tmp".into()] };
    let error = End::Error { name: "KeyError".into(), value: "'x'".into() };
    let restored = |losses, failed| WorkerEventBody::Restored {
        names: NameChanges { added: vec![name("df", Some(96))], ..NameChanges::default() },
        losses,
        failed,
        differences: vec!["numpy 2.3.1, now 2.4.0".into()],
    };
    let mut all = vec![
        make("snapshot", 81, WorkerEventBody::Snapshot { pause_us: 2_700, failed: None }),
        make("restored", 1, restored(losses(), None)),
        make("restored_not", 1, restored(vec![], Some("there is no checkpoint".into()))),
        make("ready", 0, ready),
        make("unfit", 0, WorkerEventBody::Unfit { detail: "IPython is missing: pip install ipython".into() }),
        make("switch", 1, WorkerEventBody::Switch { execution: id("e-1") }),
        make("finished", 80, finished(End::Ok, names, expressions)).payload(&payload),
        make("finished_error", 80, finished(error, NameChanges::default(), vec![])),
        make("finished_interrupted", 80, finished(End::Interrupted, NameChanges::default(), vec![])),
    ];
    all.extend(outputs().into_iter().zip(2..).map(|((name, output, payload), mark)| {
        make(name, mark, WorkerEventBody::Output { execution: id("e-1"), output }).payload(&payload)
    }));
    all.extend(answers().into_iter().map(|(name, answer, payload)| Sample {
        request: 9,
        ..make(name, 0, WorkerEventBody::Answer(answer)).payload(&payload)
    }));
    all
}

fn anchor_requests() -> Vec<Sample> {
    let make = |name, request| Sample::new(name, Message::AnchorRequest(request), 1);
    vec![
        make("hello", AnchorRequest::Hello),
        make("spawn", AnchorRequest::Spawn { worker: id("w-1") }),
        make("list", AnchorRequest::List),
        make("kill", AnchorRequest::Kill { worker: id("w-1") }),
        make("shutdown", AnchorRequest::Shutdown),
    ]
}

fn anchor_replies() -> Vec<Sample> {
    let make = |name, reply| Sample::new(name, Message::AnchorReply(reply), 1);
    let hello = |first_uid| AnchorReply::Hello {
        build: "0.1.0+1".into(),
        first_uid,
        cgroup: CgroupTier::Hybrid,
        cgroup_detail: "v2 without controllers, v1 memory, v1 pids".into(),
    };
    vec![
        make("hello", hello(Some(1_000_000))),
        make("hello_rootless", hello(None)),
        make("started", AnchorReply::Started { pid: 4712 }),
        make("shims", AnchorReply::Shims { shims: vec![(id("w-1"), 4712), (id("w-2"), 4800)] }),
        make("done", AnchorReply::Done),
        make("failed", AnchorReply::Failed { reason: "failed to fork: out of memory".into() }),
    ]
}
