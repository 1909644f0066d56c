//! What a notebook's task is told, and what it holds.

use std::path::PathBuf;

use cellblock_proto::client::{ErrorCode, NotebookInfo};
use cellblock_proto::execution::ExecuteOptions;
use cellblock_proto::id::{ExecutionId, WorkerId};
use cellblock_proto::query::Query;
use cellblock_proto::shim::{Command, ShimState};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::build::build;
use crate::evict::Answer;
use crate::launch::{LaunchError, Launched};
use crate::launches::{Full, Launch, Lease};
use crate::link::{Arrival, LinkError, LinkReader, LinkWriter};
use crate::outbox::{Payload, Responder};
use crate::slots::SlotLease;
use crate::taken::Taken;

/// What others ask of a notebook.
#[derive(Debug)]
pub(crate) enum Message {
    /// Run this, or read it if it is known. Boxed, because an inbox has room for the largest message many times over.
    Execute { execution: ExecutionId, options: Box<ExecuteOptions>, code: Payload, responder: Responder },
    /// Read it.
    Attach { execution: ExecutionId, from_seq: u64, responder: Responder },
    /// Interrupt what runs.
    Interrupt { responder: Responder },
    /// Cancel it.
    Cancel { execution: ExecutionId, responder: Responder },
    /// Answer its question.
    Input { execution: ExecutionId, value: String, responder: Responder },
    /// Answer mine.
    Query { query: Query, code: Payload, responder: Responder },
    /// End the worker.
    Restart { responder: Responder },
    /// Save the variables and end the worker, for its owner.
    Release { responder: Responder },
    /// The same, to make room.
    Evict { reason: String, answer: Answer },
    /// The same, if the worker is of another build.
    Replace { answer: Answer },
    /// Keep the worker, or let it be evicted.
    Pin { pinned: bool, responder: Responder },
    /// Save the variables.
    Save { responder: Responder },
    /// End the worker, and start one at this checkpoint.
    Restore { checkpoint: u64, responder: Responder },
    /// End the worker, and remove all checkpoints.
    Clear { responder: Responder },
    /// End the worker and the task, and remove the files if asked to.
    Close { delete: bool, responder: Responder },
    /// The worker, which is started when there is none.
    Worker { reply: WorkerReply },
    /// The line for lists.
    Info { reply: oneshot::Sender<NotebookInfo> },
    /// The same, with the process id of its worker.
    Look { reply: oneshot::Sender<(NotebookInfo, Option<u32>)> },
    /// Everything.
    Status { responder: Responder },
}

/// Whoever wants to know the worker.
pub(crate) type WorkerReply = oneshot::Sender<Result<LiveWorker, (ErrorCode, String)>>;

/// A worker, as the host knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveWorker {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its own user id; `None` when it has the daemon's.
    pub(crate) uid: Option<u32>,
}

/// A shim that is listened to.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) worker: WorkerId,
    pub(super) reader: LinkReader,
    pub(super) writer: LinkWriter,
    pub(super) taken: Taken,
    pub(super) slot: Option<SlotLease>,
    /// See [`Launched`].
    pub(super) zygote: Option<PathBuf>,
    /// Why another is to take its place.
    pub(super) to_go: Option<ToGo>,
}

/// Why a worker is to be replaced as soon as it has nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ToGo {
    /// It is of this build, which is not ours.
    Build(String),
    /// Its workspace can only be read.
    WorkspaceClosed,
}

/// A shim whose worker has ended, kept until its last events are read.
#[derive(Debug)]
pub(super) struct Retired {
    pub(super) worker: WorkerId,
    pub(super) writer: LinkWriter,
    pub(super) taken: Taken,
    pub(super) until: Instant,
}

/// What a request id of ours to the shim stands for.
#[derive(Debug)]
pub(super) enum Asked {
    Question(Responder),
    /// For a client, and how many had ended then.
    Checkpoint(Responder, u64),
    /// For whoever evicts.
    Save,
    Execute(ExecutionId),
    Input(ExecutionId),
}

/// A shim that outlived the daemon before us, with all it had kept.
#[derive(Debug)]
pub(crate) struct Survivor {
    /// Its socket.
    pub(crate) launched: Launched,
    /// Its events.
    pub(crate) arrivals: Vec<Arrival>,
    /// How it says things stand.
    pub(crate) state: ShimState,
}

impl Survivor {
    /// Whether it is of another build than we are.
    pub(crate) fn is_outdated(&self) -> bool {
        self.state.build != build()
    }
}

#[derive(Debug)]
pub(super) struct Closing {
    pub(super) delete: bool,
    pub(super) responder: Responder,
    pub(super) until: Instant,
}

/// What ended a wait.
pub(super) enum Woken {
    Message(Option<Message>),
    Launch(Result<(Launch, Lease), Full>),
    Launched(Box<Result<Launched, LaunchError>>),
    Read(Result<(), LinkError>),
    Written,
    Readers,
    Time,
}

impl Live {
    pub(super) fn new(launched: Launched) -> Self {
        let Launched { worker, reader, writer, slot, zygote, .. } = launched;
        Live { worker, reader, writer, taken: Taken::default(), slot, zygote, to_go: None }
    }

    pub(super) fn say(&mut self) {
        self.writer.push(&Command::Taken { seq: self.taken.say() }, 0, &[]);
    }
}
