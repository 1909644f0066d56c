//! The hop between cellblockd and a shim.

use cellblock_proto::execution::{
    Checkpoint, Checkpointing, Death, End, ExecuteOptions, Keep, NoticeTopic, OutputFrame,
};
use cellblock_proto::query::Query;
use cellblock_proto::shim::{
    Checkpoints, Claim, Command, Event, EventBody, ShimState, StartFailure, StartSpec, ZygoteSpec,
};
use sandbox_profiles::{Action, Actor, Barrier, Limits, Namespace, Need, Resource, Step};

use super::checkpoints::partial;
use super::client::{answers, ends, every_option, losses, name, notice, outcome, outputs, report};
use super::{Message, Sample, id};

pub(super) fn commands() -> Vec<Sample> {
    let make = |name, command| Sample::new(name, Message::Command(command), 0);
    let execute = |execution, options, notice, leave| Command::Execute {
        execution: id(execution),
        options: Box::new(options),
        notice,
        leave,
    };
    let lost = notice(NoticeTopic::VariablesLost, &["df"]);
    vec![
        make("start", Command::Start(Box::new(start()))),
        make("zygote", Command::Zygote(Box::new(zygote()))),
        make("claim", Command::Claim(Box::new(claim()))),
        make("resume", Command::Resume { build: "0.1.0+1".into(), link: 1, taken: 42 }),
        make("taken", Command::Taken { seq: 43 }),
        make("execute", execute("e-1", ExecuteOptions::default(), None, true)).payload(b"1 + 1"),
        make("execute_with_notice", execute("e-2", every_option(), Some(lost), false)).payload(b"df"),
        make("interrupt", Command::Interrupt),
        make("cancel", Command::Cancel { execution: id("e-1") }),
        make("input", Command::Input { execution: id("e-1"), value: "blue".into() }),
        Sample::new("query", Message::Command(Command::Query(Query::Complete { cursor: 6 })), 9)
            .payload(b"df.mea"),
        make("end", Command::End { reason: "restart was asked for".into() }),
        make("leave", Command::Leave { execution: id("e-2") }),
        make("settled", Command::Settled { execution: id("e-2") }),
        Sample::new("save", Message::Command(Command::Save), 10),
        make("retire", Command::Retire { reason: "it cannot be understood".into() }),
    ]
}

pub(super) fn events() -> Vec<Sample> {
    let make = |name, seq, body| Sample::new(name, Message::Event(Event { seq, body }), 0);
    let python = || "CPython 3.11.7, IPython 9.18.1".to_owned();
    let step_failed = StartFailure::Step {
        step: "mount /proc".into(),
        error: "Operation not permitted (os error 1)".into(),
        cure: Some("sysctl kernel.unprivileged_userns_clone=1".into()),
    };
    let no_python =
        StartFailure::Interpreter { detail: "ModuleNotFoundError: No module named 'IPython'".into() };
    let warm_failed = StartFailure::Warm { why: "fork a worker: the zygote did not answer for 10 s".into() };
    let mut all = vec![
        make("ready", 1, EventBody::Ready { worker_pid: 4711, python: python(), report: report() }),
        make("start_failed_step", 1, EventBody::StartFailed { failure: step_failed }),
        make("start_failed_warm", 1, EventBody::StartFailed { failure: warm_failed }),
        make("start_failed_interpreter", 1, EventBody::StartFailed { failure: no_python }),
        make("accepted", 2, EventBody::Accepted { execution: id("e-1"), position: 0 }),
        make("started", 3, EventBody::Started { execution: id("e-1") }),
        make("returned", 90, EventBody::Returned { execution: id("e-2"), options: every_option() })
            .payload(b"df"),
        make(
            "worker_ended",
            91,
            EventBody::WorkerEnded {
                death: Death::Signalled { signal: 9 },
                lost: vec![name("df", Some(96))],
            },
        ),
        make(
            "checkpoint",
            82,
            EventBody::Checkpoint {
                execution: id("e-1"),
                checkpoint: Checkpoint::Failed { reason: "no space left on the disk".into() },
            },
        ),
        make(
            "restored",
            1,
            EventBody::Restored {
                checkpoint: 42,
                execution: "e-1".into(),
                names: vec![name("df", Some(96))],
                losses: losses(),
                failed: None,
                differences: vec!["numpy 2.3.1, now 2.4.0".into()],
                passed_over: vec!["`manifests/43`: it is cut off".into()],
            },
        ),
        Sample::new("saved", Message::Event(Event { seq: 0, body: EventBody::Saved(partial()) }), 10),
        make("state", 0, EventBody::State(state())),
        make("spare", 0, EventBody::Spare),
        make(
            "zygote_up",
            0,
            EventBody::ZygoteUp {
                python: "CPython 3.11.7, IPython 9.18.1".into(),
                preloaded: vec!["numpy".into(), "pandas".into()],
                took_ms: 412,
            },
        ),
        make("refused", 0, EventBody::Refused { reason: "no such Execution".into() }),
    ];
    all.extend(outputs().into_iter().zip(0..).map(|((name, output, payload), seq)| {
        make(name, 10 + seq, EventBody::Output(OutputFrame { execution: id("e-1"), seq, output }))
            .payload(&payload)
    }));
    all.extend(ends().map(|(name, end)| make(name, 80, finished(end))));
    all.extend(answers().into_iter().map(|(name, answer, payload)| Sample {
        request: 9,
        ..make(name, 0, EventBody::Answer(answer)).payload(&payload)
    }));
    all
}

fn finished(end: End) -> EventBody {
    EventBody::Finished { execution: id("e-1"), outputs: 13, outcome: outcome(end) }
}

fn start() -> StartSpec {
    StartSpec {
        build: "0.1.0+1".into(),
        worker: id("w-1"),
        notebook: id("analysis"),
        tenant: id("operator"),
        profile: "default".into(),
        slot: 3,
        steps: steps(),
        limits: Limits::default(),
        argv: vec!["/usr/bin/python3".into(), "-I".into(), "/cellblock/worker.py".into()],
        environment: vec![("HOME".into(), "/workspace".into())],
        control_socket: "/run/cellblock/workers/w-1.sock".into(),
        retain_bytes: 64 << 20,
        retain_grace_ms: 30_000,
        orphan_ms: 600_000,
        checkpoints: Some(Checkpoints {
            folder: "/var/lib/cellblock/notebooks/analysis/checkpoints".into(),
            when: Checkpointing::Background,
            restore: true,
            keep: Keep { last: 20, daily: 7, max_bytes: 1 << 34 },
            seconds: 120,
        }),
        zygote: Some("/run/cellblock/workers/zygote.sock".into()),
        no_zygote: Some("the zygote is still starting".into()),
        spare: true,
    }
}

fn claim() -> Claim {
    Claim {
        notebook: id("analysis"),
        tenant: id("operator"),
        attach: steps(),
        steps: steps(),
        checkpoints: start().checkpoints,
    }
}

fn zygote() -> ZygoteSpec {
    ZygoteSpec { start: start(), socket: "/run/cellblock/workers/zygote.sock".into() }
}

/// One step per actor and shape of action; the list of all actions is the plan's business.
pub(super) fn steps() -> Vec<Step> {
    let step = |actor, barrier, need, action| Step {
        actor,
        barrier,
        need,
        action,
        reason: "so that it holds".into(),
    };
    let clone = Action::Clone { namespaces: vec![Namespace::User, Namespace::Pid, Namespace::Mount] };
    let root = Action::MountRoot { bytes: 16 << 20, inodes: 4096 };
    let sysctl = Action::Sysctl { key: "user/max_user_namespaces".into(), value: "0".into() };
    let limit = Action::Limit { resource: Resource::LockedMemory, value: 0 };
    vec![
        step(Actor::Shim, Barrier::Namespaces, Need::Required, clone),
        step(Actor::Init, Barrier::PrivateRoot, Need::Required, root),
        step(Actor::Init, Barrier::PrivateRoot, Need::Required, Action::Pivot),
        step(Actor::Init, Barrier::NamespaceQuota, Need::BestEffort, sysctl),
        step(Actor::Worker, Barrier::ResourceLimits, Need::Required, limit),
    ]
}

fn state() -> ShimState {
    ShimState {
        build: "0.1.0+1".into(),
        link: 1,
        worker: id("w-1"),
        notebook: id("analysis"),
        tenant: id("operator"),
        profile: "default".into(),
        slot: 3,
        ready: Some((4711, "CPython 3.11.7, IPython 9.18.1".into(), report())),
        running: Some(id("e-1")),
        queue: vec![id("e-2"), id("e-3")],
        leave: vec![id("e-2")],
        names: vec![name("df", None)],
        executions: 12,
        spare: false,
        unsaved: vec![id("e-0")],
        unsavable: false,
        newest: Some("e-1".to_owned()),
        begun: true,
    }
}
