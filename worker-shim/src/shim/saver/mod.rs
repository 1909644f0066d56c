//! Checkpoints, the shim's part: it starts a store process for each, gives worker and store the two ends of a
//! socket, and tells what became of it. It never sees a byte of what is saved.
//!
//! One is taken at a time. An Execution that ends meanwhile is covered by the next, which begins when this one is
//! over and no cell runs: the newest wins.

mod process;
mod restoring;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use cellblock_proto::execution::{Checkpoint, Checkpointing, Death, Outcome};
use cellblock_proto::id::ExecutionId;
use cellblock_proto::shim::{Checkpoints, EventBody};
use cellblock_proto::store::{StoreOrder, StoreReply};
use cellblock_proto::worker::WorkerCommand;
use rustix::fs::{Mode, OFlags};
use rustix::mount::OpenTreeFlags;

use self::process::Store;
use self::restoring::Restoring;
use super::Shim;
use super::executions::Cause;
use crate::sys;

/// How long the end of a worker waits for what is being saved. Whoever ends workers waits a little longer.
pub(super) const END_PATIENCE: Duration = Duration::from_secs(8);

/// How long a store process may take to say what became of what it has.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// Executions without a checkpoint that are told by name.
const MOST_UNSAVED: usize = 100;

/// The folder of checkpoints, and a read-only view of it.
pub struct Places {
    folder: OwnedFd,
    /// What a worker gets a descriptor of it could otherwise make writable (fchmod through a descriptor that only
    /// reads), where it has the files' owner's id.
    view: Option<OwnedFd>,
}

impl Places {
    /// Opens the folder, while there are rights to.
    pub fn open(spec: &Checkpoints) -> io::Result<Places> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Places { folder: rustix::fs::open(&spec.folder, flags, Mode::empty())?, view: None })
    }

    /// Makes the view. To be called where trees can be taken: as host root before it has entered Z, as an ordinary
    /// user after.
    pub fn take_view(&mut self, spec: &Checkpoints) -> io::Result<()> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let view = rustix::mount::open_tree(rustix::fs::CWD, &spec.folder, flags)?;
        let attributes = libc::MOUNT_ATTR_RDONLY
            | libc::MOUNT_ATTR_NOSUID
            | libc::MOUNT_ATTR_NODEV
            | libc::MOUNT_ATTR_NOEXEC;
        sys::mount_setattr(view.as_fd(), false, attributes, None)?;
        self.view = Some(view);
        Ok(())
    }

    /// Both, to be given away.
    pub fn into_files(self) -> Vec<OwnedFd> {
        [self.folder].into_iter().chain(self.view).collect()
    }

    /// From what [`Places::into_files`] gave.
    pub fn from_files(files: impl IntoIterator<Item = OwnedFd>) -> Option<Places> {
        let mut files = files.into_iter();
        Some(Places { folder: files.next()?, view: files.next() })
    }
}

/// The notebook's folder of checkpoints, and what is going on in it.
pub struct Saver {
    spec: Checkpoints,
    places: Places,
    now: Option<Saving>,
    /// Those that have ended since: the next checkpoint is theirs.
    next: Vec<Awaiting>,
    /// A store process that has replied, and removes what is not kept any more.
    tidying: Option<Store>,
    restoring: Option<Restoring>,
    /// Every byte of what the worker has mapped is being read.
    mending: Option<Store>,
    /// What was saved is to be no more, before anything is lost.
    anew: bool,
    /// Something may have changed since the last checkpoint.
    dirty: bool,
    /// Executions that have ended since then; the newest.
    unsaved: VecDeque<ExecutionId>,
    /// The last of them is not to be saved.
    unsavable: bool,
    /// The next is a second one for somebody.
    again: bool,
    /// Why the one failed that a transactional Execution waited for.
    failed: Option<(ExecutionId, String)>,
    /// The worker has ended, and what is being saved of it is waited for until then.
    died: Option<(Death, Instant)>,
    /// The worker is to end when nothing is being saved any more, or by then.
    end: Option<(String, Instant)>,
}

/// A checkpoint that is being written.
struct Saving {
    store: Store,
    pause_us: u64,
    of: Vec<Awaiting>,
    /// How many of those that are not saved are saved with it.
    covers: usize,
    /// What the worker says of it, when it comes to nothing.
    failed: Option<String>,
    /// It is the second, because there was no room for the first.
    again: bool,
}

/// Whoever is told of a checkpoint.
enum Awaiting {
    /// An Execution that has ended, and been told so.
    Ended(ExecutionId),
    /// One whose end is told with it: outputs, Outcome, payload.
    Withheld(ExecutionId, u64, Box<Outcome>, Vec<u8>),
    /// A request of the supervisor's.
    Asked(u32),
    /// A transactional Execution that is to begin.
    Transaction(ExecutionId),
}

impl Saver {
    /// Of a notebook's folder.
    pub fn new(spec: Checkpoints, places: Places) -> Saver {
        Saver {
            spec,
            places,
            now: None,
            next: Vec::new(),
            tidying: None,
            restoring: None,
            mending: None,
            anew: false,
            dirty: false,
            unsaved: VecDeque::new(),
            unsavable: false,
            again: false,
            failed: None,
            died: None,
            end: None,
        }
    }

    /// Executions whose end is told when their checkpoint is over.
    pub fn withheld(&self) -> impl Iterator<Item = &ExecutionId> {
        let now = self.now.iter().flat_map(|saving| &saving.of);
        now.chain(&self.next).filter_map(|awaiting| match awaiting {
            Awaiting::Withheld(execution, ..) => Some(execution),
            _ => None,
        })
    }

    /// Where store processes reply, for poll.
    pub fn readable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let saving = self.now.iter().map(|saving| saving.store.readable());
        saving.chain(self.mending.iter().map(Store::readable))
    }

    /// Executions that have ended since the last checkpoint.
    pub fn unsaved(&self) -> Vec<ExecutionId> {
        self.unsaved.iter().cloned().collect()
    }

    /// Whether a checkpoint is being written just now.
    pub fn is_writing(&self) -> bool {
        self.now.is_some()
    }

    /// Whether what has ended last is not to be saved.
    pub fn is_unsavable(&self) -> bool {
        self.unsavable
    }

    /// Whether a worker that has died so is told to have when what is being saved of it is saved.
    pub fn outlive(&mut self, death: &Death) -> bool {
        let waits = self.now.is_some() && self.died.is_none();
        if waits {
            self.died = Some((death.clone(), Instant::now() + END_PATIENCE));
        }
        waits
    }

    /// How the worker died that was outlived.
    pub fn outlived(&mut self) -> Option<Death> {
        self.died.take().map(|(death, _)| death)
    }

    /// Whether there is no worker any more to hear.
    pub fn outlives(&self) -> bool {
        self.died.is_some()
    }

    fn is_saving(&self) -> bool {
        self.now.is_some() || !self.next.is_empty() || self.anew
    }
}

impl Shim {
    /// Tells an end, with the checkpoint that is to be taken after it.
    pub(super) fn conclude(
        &mut self,
        execution: ExecutionId,
        asked: Option<Checkpointing>,
        outputs: u64,
        mut outcome: Outcome,
        payload: Vec<u8>,
    ) {
        let alive = self.worker.is_some() && self.ending.is_none();
        if self.saver.is_none() && asked.is_some_and(|asked| asked != Checkpointing::None) {
            outcome.checkpoint = Some(Checkpoint::Failed { reason: no_checkpoints() });
        }
        let Some(saver) = self.saver.as_mut().filter(|_| alive) else {
            return self.outbox.push(EventBody::Finished { execution, outputs, outcome }, payload);
        };
        saver.dirty = true;
        saver.unsaved.push_back(execution.clone());
        if saver.unsaved.len() > MOST_UNSAVED {
            saver.unsaved.pop_front();
        }
        let when = asked.unwrap_or(saver.spec.when);
        saver.unsavable = when == Checkpointing::None;
        match when {
            Checkpointing::None => {
                self.outbox.push(EventBody::Finished { execution, outputs, outcome }, payload);
            }
            Checkpointing::Background => {
                outcome.checkpoint = Some(Checkpoint::Pending);
                saver.next.push(Awaiting::Ended(execution.clone()));
                self.outbox.push(EventBody::Finished { execution, outputs, outcome }, payload);
            }
            Checkpointing::Wait => {
                saver.next.push(Awaiting::Withheld(execution, outputs, Box::new(outcome), payload));
            }
        }
    }

    /// Saves because the supervisor asks for it.
    pub(super) fn save_for(&mut self, request: u32) {
        let checkpoint = match &mut self.saver {
            Some(saver) if !self.over && self.ending.is_none() => {
                saver.unsavable = false;
                return saver.next.push(Awaiting::Asked(request));
            }
            Some(_) => Checkpoint::Failed { reason: ENDED.to_owned() },
            None => Checkpoint::Failed { reason: no_checkpoints() },
        };
        self.outbox.push_loose(request, EventBody::Saved(checkpoint), Vec::new());
    }

    /// Whether a checkpoint has to be begun before an Execution that is not to be saved: it would have what that does.
    pub(super) fn saves_before(&self, asked: Option<Checkpointing>) -> bool {
        self.saver.as_ref().is_some_and(|saver| {
            asked.unwrap_or(saver.spec.when) == Checkpointing::None && !saver.next.is_empty()
        })
    }

    /// Whether a transactional Execution may begin: what there is can be had back. Has it saved first where it cannot,
    /// and gives the reason when that has failed.
    pub(super) fn may_begin_transaction(&mut self, execution: &ExecutionId) -> Result<bool, String> {
        let Some(saver) = &mut self.saver else { return Err(no_checkpoints()) };
        if let Some((_, reason)) = saver.failed.take_if(|(failed, _)| failed == execution) {
            return Err(reason);
        }
        if saver.is_saving() {
            return Ok(false);
        }
        if saver.dirty {
            saver.next.push(Awaiting::Transaction(execution.clone()));
            self.save_next();
            return Ok(false);
        }
        Ok(true)
    }

    /// The kernel has ended a process for want of memory: the first that it ends is the one that saves, which has asked
    /// for that (see `snapshot.py`). Its store need not know yet: a worker that runs a cell holds its socket too.
    pub(super) fn notice_a_killed_save(&mut self) {
        let saving = self.saver.as_ref().and_then(|saver| saver.now.as_ref());
        if saving.is_some_and(|saving| saving.pause_us > 0 && !saving.store.has_replied(Duration::ZERO)) {
            self.forgive_a_kill();
            self.make_room();
        }
    }

    /// The memory limit is met, and it may be because of what a save has copied: gives that up before anything of the
    /// user's is ended. Whether there was one.
    pub(super) fn make_room(&mut self) -> bool {
        let Some(saving) = self.saver.as_mut().and_then(|saver| saver.now.take()) else { return false };
        if let Some(sandbox) = &self.sandbox {
            sandbox.end_saves();
        }
        drop(saving.store);
        self.save_when_there_is_room(saving.of, saving.again);
        true
    }

    /// Once more, when no cell runs: what is not written to is not copied.
    fn save_when_there_is_room(&mut self, of: Vec<Awaiting>, again: bool) {
        if again {
            let reason = "the memory limit leaves no room for it beside what runs".to_owned();
            return self.saved(of, &Checkpoint::Failed { reason });
        }
        let Some(saver) = &mut self.saver else { return };
        (saver.dirty, saver.again) = (true, true);
        saver.next.splice(..0, of);
    }

    /// Begins a checkpoint when one is due: none is being written, and no cell runs.
    pub(super) fn save_next(&mut self) {
        let idle = self.executions.running.is_none() && self.ready.is_some() && self.ending.is_none();
        let restoring = self.is_restoring() || self.saver.as_ref().is_some_and(Saver::outlives);
        let Some(saver) = self.saver.as_mut().filter(|saver| idle && !restoring && saver.now.is_none())
        else {
            return;
        };
        if !saver.is_saving() {
            return;
        }
        let of = std::mem::take(&mut saver.next);
        (saver.anew, saver.dirty) = (false, false);
        let execution = self.newest.clone().unwrap_or_default();
        let order = StoreOrder::Save { keep: saver.spec.keep, seconds: saver.spec.seconds };
        match Store::start(&order, saver.places.folder.as_fd(), self.program.as_fd()) {
            Ok((store, socket)) => {
                let covers = saver.unsaved.len();
                let again = std::mem::take(&mut saver.again);
                saver.now = Some(Saving { store, pause_us: 0, of, covers, failed: None, again });
                self.tell_worker_with(&WorkerCommand::Snapshot { execution }, socket.as_fd());
            }
            Err(error) => {
                let reason = format!("no store process could be started: {error}");
                self.saved(of, &Checkpoint::Failed { reason });
            }
        }
    }

    /// The worker has forked, or has written all itself.
    pub(super) fn snapshot_taken(&mut self, pause_us: u64, failed: Option<String>) {
        if let Some(saving) = self.saver.as_mut().and_then(|saver| saver.now.as_mut()) {
            // A fork that came to nothing has cost its pause as well.
            saving.pause_us = saving.pause_us.saturating_add(pause_us);
            saving.failed = saving.failed.take().or(failed);
        }
    }

    /// Store processes have replied, or ended.
    pub(super) fn hear_stores(&mut self, ready: &[bool]) {
        let Some(saver) = &self.saver else { return };
        let saving = usize::from(saver.now.is_some());
        if saving == 1 && ready.first() == Some(&true) {
            self.hear_saving();
        }
        if ready.get(saving) == Some(&true) {
            self.hear_mending();
        }
    }

    fn hear_saving(&mut self) {
        let Some(saver) = &mut self.saver else { return };
        let Some(Saving { store, pause_us, of, covers, failed, .. }) = saver.now.take() else { return };
        let checkpoint = match store.reply() {
            StoreReply::Saved { checkpoint: id, written_bytes, left_out, left_out_count } => {
                saver.tidying = Some(store);
                saver.unsaved.drain(..covers.min(saver.unsaved.len()));
                match left_out_count {
                    0 => Checkpoint::Saved { id, written_bytes, pause_us },
                    _ => Checkpoint::Partial { id, written_bytes, pause_us, left_out, left_out_count },
                }
            }
            StoreReply::Failed { reason } => Checkpoint::Failed { reason: failed.unwrap_or(reason) },
            _ => Checkpoint::Failed { reason: "the store process said something else".to_owned() },
        };
        self.saved(of, &checkpoint);
    }

    fn saved(&mut self, of: Vec<Awaiting>, checkpoint: &Checkpoint) {
        if let (Checkpoint::Failed { reason }, Some(saver)) = (checkpoint, &mut self.saver) {
            saver.dirty = true;
            let waits = of.iter().find_map(|awaiting| match awaiting {
                Awaiting::Transaction(execution) => Some(execution.clone()),
                _ => None,
            });
            saver.failed = waits.map(|execution| (execution, reason.clone()));
        }
        for awaiting in of {
            let checkpoint = checkpoint.clone();
            match awaiting {
                Awaiting::Withheld(execution, outputs, mut outcome, payload) => {
                    outcome.checkpoint = Some(checkpoint);
                    self.outbox.push(EventBody::Finished { execution, outputs, outcome: *outcome }, payload);
                }
                Awaiting::Ended(execution) => {
                    self.outbox.push(EventBody::Checkpoint { execution, checkpoint }, Vec::new());
                }
                Awaiting::Asked(request) => {
                    self.outbox.push_loose(request, EventBody::Saved(checkpoint), Vec::new());
                }
                Awaiting::Transaction(_) => {}
            }
        }
    }

    /// The worker is to end. What is being saved is saved first, unless something runs: that may never end.
    pub(super) fn end(&mut self, reason: String) {
        if self.ending.is_some() || self.over {
            return;
        }
        let idle = self.executions.running.is_none() && self.ready.is_some() && !self.is_restoring();
        match self.saver.as_mut().filter(|saver| idle && saver.is_saving()) {
            Some(saver) => {
                saver.end.get_or_insert((reason, Instant::now() + END_PATIENCE));
            }
            None => self.end_now(reason),
        }
    }

    pub(super) fn end_now(&mut self, reason: String) {
        self.ending = Some(Cause::Ended(reason));
        self.kill();
    }

    /// Whether it is to end, so that nothing begins any more.
    pub(super) fn is_to_end(&self) -> bool {
        let saver_is = self.saver.as_ref().is_some_and(|saver| saver.end.is_some() || saver.outlives());
        saver_is || self.retiring.is_some()
    }

    /// Ends it when that has been waited for.
    pub(super) fn end_clock(&mut self, now: Instant) -> Option<Instant> {
        let saver = self.saver.as_mut()?;
        if let Some((death, until)) = saver.died.clone() {
            if self.ending.is_none() && saver.now.is_some() && now < until {
                return Some(until);
            }
            self.worker_ended(death);
            return None;
        }
        let (_, until) = saver.end.as_ref()?;
        if self.ending.is_none() && saver.is_saving() && now < *until {
            return Some(*until);
        }
        if let Some((reason, _)) = saver.end.take()
            && self.ending.is_none()
        {
            self.end_now(reason);
        }
        None
    }

    /// The worker is gone, and with it whatever was not saved yet.
    pub(super) fn give_up_saving(&mut self) {
        // What the store has got whole it publishes: its reply says so. Who holds its socket open, wherever, does
        // not hold us up.
        let saving = self.saver.as_ref().and_then(|saver| saver.now.as_ref());
        if saving.is_some_and(|saving| saving.store.has_replied(LAST_PATIENCE)) {
            self.hear_saving();
        }
        let Some(saver) = &mut self.saver else { return };
        (saver.restoring, saver.mending, saver.end) = (None, None, None);
        let mut of = saver.now.take().map_or_else(Vec::new, |saving| saving.of);
        of.append(&mut saver.next);
        self.saved(of, &Checkpoint::Failed { reason: ENDED.to_owned() });
    }

    fn tell_worker_with(&mut self, command: &WorkerCommand, socket: BorrowedFd<'_>) {
        let Some(worker) = &self.worker else { return };
        if let Err(detail) = worker.give(command, socket) {
            self.protocol_broken(detail);
        }
    }
}

const ENDED: &str = "the worker ended before its variables were saved";

fn no_checkpoints() -> String {
    "the profile has no checkpoints: set `when` in its table [checkpoints]".to_owned()
}
