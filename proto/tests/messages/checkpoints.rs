//! What clients and cellblockd say of checkpoints.

use cellblock_proto::checkpoint::{
    Checkpoint, CheckpointContent, CheckpointInfo, Collected, Keep, NotebookEvent, Verified,
};
use cellblock_proto::client::{Reply, Request};
use cellblock_proto::frame::FLAG_LAST;

use super::client::{losses, name};
use super::{Message, Sample, id};

pub(super) fn requests() -> Vec<Sample> {
    let make = |name, request| Sample::new(name, Message::Request(request), 11);
    let notebook = || id("analysis");
    vec![
        make("checkpoint", Request::Checkpoint { notebook: notebook() }),
        make("checkpoints", Request::Checkpoints { notebook: notebook() }),
        make("checkpoint_content", Request::CheckpointContent { notebook: notebook(), checkpoint: Some(41) }),
        make("restore", Request::Restore { notebook: notebook(), checkpoint: Some(40) }),
        make("restore_current", Request::Restore { notebook: notebook(), checkpoint: None }),
        make("fork", Request::Fork { notebook: notebook(), checkpoint: None, to: id("what-if") }),
        make("export_checkpoint", Request::ExportCheckpoint { notebook: notebook(), checkpoint: None }),
        make(
            "import_checkpoint",
            Request::ImportCheckpoint { notebook: notebook(), offset: 1 << 20, last: true },
        )
        .payload(b"the end"),
        make("verify_checkpoints", Request::VerifyCheckpoints { notebook: notebook(), checkpoint: None }),
        make("collect_checkpoints", Request::CollectCheckpoints { notebook: notebook(), keep: None }),
        make(
            "collect_checkpoints_rule",
            Request::CollectCheckpoints {
                notebook: notebook(),
                keep: Some(Keep { last: 3, daily: 0, max_bytes: 1 << 30 }),
            },
        ),
        make("clear", Request::Clear { notebook: notebook() }),
        make("events", Request::Events { notebook: Some(notebook()), all: false }),
        make("events_of_all", Request::Events { notebook: None, all: true }),
    ]
}

pub(super) fn replies() -> Vec<Sample> {
    let make = |name, reply| Sample::new(name, Message::Reply(reply), 11);
    let last = |name, reply| make(name, reply).flag(FLAG_LAST);
    let happened = NotebookEvent::Checkpoint {
        notebook: id("analysis"),
        tenant: id("operator"),
        execution: id("e-1"),
        checkpoint: Checkpoint::Saved { id: 42, written_bytes: 4_096, pause_us: 2_100 },
    };
    let imported = CheckpointInfo {
        parent: None,
        origin: Some(("elsewhere".into(), 7)),
        damage: Some("packs/3: it is missing".into()),
        ..info(41)
    };
    vec![
        last("checkpoint_partial", Reply::Checkpoint(partial())),
        last(
            "checkpoint_failed",
            Reply::Checkpoint(Checkpoint::Failed { reason: "the disk is full".into() }),
        ),
        last(
            "checkpoints",
            Reply::Checkpoints {
                checkpoints: vec![imported, info(42)],
                used_bytes: 1 << 33,
                damage: vec!["HEAD: it is missing".into()],
            },
        ),
        last(
            "checkpoint_content",
            Reply::CheckpointContent(CheckpointContent {
                info: info(42),
                names: vec![name("df", Some(80_000_000)), name("x", None)],
                left_out: losses(),
                packages: vec![("numpy".into(), "2.4.0".into())],
            }),
        ),
        last("restored", Reply::Restored { checkpoint: 41, names: vec![name("df", None)], losses: losses() }),
        make("part", Reply::Part).payload(b"CBEXPT1\n"),
        last("imported", Reply::Imported { checkpoint: 43 }),
        last(
            "verified",
            Reply::Verified {
                checkpoints: vec![
                    Verified { id: 41, losses: vec!["buffer 2: chunk 00ff is damaged".into()] },
                    Verified { id: 42, losses: Vec::new() },
                ],
            },
        ),
        last(
            "collected",
            Reply::Collected(Collected {
                removed: vec![1, 2, 3],
                freed_bytes: 1 << 20,
                used_bytes: 1 << 30,
                damage: Vec::new(),
            }),
        ),
        make("listening", Reply::Listening),
        make("event_checkpoint", Reply::Event(happened)),
        make("event_missed", Reply::Event(NotebookEvent::Missed { count: 5 })),
    ]
}

fn info(id: u64) -> CheckpointInfo {
    CheckpointInfo {
        id,
        parent: Some(id - 1),
        created_ms: 1_790_000_000_000,
        execution: "e-1".into(),
        current: id == 42,
        names: 2,
        left_out: 1,
        state_bytes: 80_000_500,
        own_bytes: 4_096,
        python: "3.11.7".into(),
        origin: None,
        damage: None,
    }
}

/// A checkpoint without some values.
pub(super) fn partial() -> Checkpoint {
    Checkpoint::Partial {
        id: 43,
        written_bytes: 262_144,
        pause_us: 2_700,
        left_out: losses(),
        left_out_count: 1,
    }
}
