//! The sandbox: executes a plan, one loop per actor, and fails closed at the step that failed.
//!
//! Making the sandbox and starting Python in it are two things: [`Sandbox::make`] ends with an
//! init that has nothing to do, [`Sandbox::start`] gives it a worker.

mod devices;
mod hand;
mod host;
mod inside;
mod overlay;
pub mod quota;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use cellblock_proto::shim::{Checkpoints, StartSpec};
use cellblock_steps::talk::{hear, say};
use cellblock_steps::{StepError, execute_steps};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{DumpableBehavior, Pid, Signal};
use sandbox_profiles::{Action, Actor, Step};
use serde::{Deserialize, Serialize};

pub use hand::Hand;
use hand::Handed;
pub use inside::{attach_at, init_step};

use crate::cgroup::{Folder, Group};
use crate::outer::Outer;
use crate::shim::Places;

/// How long the end of a sandbox may take; measured: 2.4 ms, 23 ms with 201 busy processes.
const END_SECONDS: i64 = 5;

/// How long init may take to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// A best-effort step that did not hold; the report says so.
pub type Missing = (Step, String);

/// A made sandbox: namespaces, root, init.
pub struct Sandbox {
    /// Init, whose end is the end of everything in there.
    init: OwnedFd,
    /// Init's process id as we see it.
    pub init_pid: Pid,
    /// Commands to init, events from it.
    channel: OwnedFd,
    /// Best-effort steps that failed.
    pub missing: Vec<Missing>,
    /// Its cgroups; without any, an empty one.
    pub group: Group,
    /// A folder on the disk that the workspace lies on, when something else bounds that; only looked at.
    pub disk: Option<OwnedFd>,
    /// Who attaches the workspace later; of a spare only.
    hand: Option<Hand>,
}

/// A sandbox while the shim makes it.
pub struct Making<'a> {
    outer: &'a Outer,
    /// The folders that the anchor has made for it.
    groups: &'a [Folder],
    taken: Taken,
    sandbox: Option<Sandbox>,
    disk: Option<OwnedFd>,
    hand: Option<Hand>,
}

impl<'a> Making<'a> {
    fn new(outer: &'a Outer, groups: &'a [Folder]) -> Self {
        Making { outer, groups, taken: Taken::default(), sandbox: None, disk: None, hand: None }
    }
}

/// What was taken from the host, on its way in.
#[derive(Default)]
pub struct Taken {
    /// Trees by the place they go to.
    pub trees: BTreeMap<PathBuf, OwnedFd>,
    /// Contents of small files, likewise.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// The groups that init is to enter.
    pub group: Option<Group>,
}

/// What init tells.
#[derive(Debug, Serialize, Deserialize)]
pub enum InitEvent {
    /// The sandbox is made; these best-effort steps failed, by position in the plan.
    Made {
        /// Position and the kernel's answer.
        missing: Vec<(u32, String)>,
    },
    /// There is no sandbox.
    Failed(StepError),
    /// The worker's process exists; its pidfd came along.
    Started,
    /// Its namespaces, which came along in the order of `join::NAMESPACES`.
    Namespaces,
    /// It knows whose end is its own.
    Adopted,
    /// The tree is where it belongs.
    Attached,
    /// A step of the worker, or its exec, failed; the process ends.
    NotStarted(StepError),
    /// These best-effort steps of the worker failed, by position in the plan. It goes on.
    Lacks {
        /// Position and the kernel's answer.
        missing: Vec<(u32, String)>,
    },
    /// The worker has ended; init ends now.
    Ended {
        /// Exit code, or the signal negated.
        status: i32,
    },
}

/// What init is told.
#[derive(Debug, Serialize, Deserialize)]
pub enum InitCommand {
    /// The id maps are written: go on.
    Go,
    /// Start the worker; its descriptors 0, 1, 2, … came along.
    Start,
    /// SIGINT to everything but init.
    InterruptAll,
    /// SIGKILL to the processes that save.
    EndSaves,
    /// Give your namespaces.
    Namespaces,
    /// The worker is this process, which another has forked into the sandbox.
    Adopt {
        /// Its number in the sandbox.
        pid: i32,
    },
    /// Attach the tree that came along.
    Attach {
        /// Which says where.
        step: Step,
    },
}

impl Sandbox {
    /// Executes the shim's steps and init's.
    pub fn make(spec: &StartSpec, outer: &Outer, groups: &[Folder]) -> Result<Sandbox, StepError> {
        let mut making = Making::new(outer, groups);
        let missing = execute_steps(&spec.steps, Actor::Shim, |step| host::execute(step, spec, &mut making))?;
        let mut sandbox = making.sandbox.ok_or(StepError {
            step: "clone".to_owned(),
            error: "the plan has no such step".to_owned(),
            errno: 0,
        })?;
        drop(making.taken);
        (sandbox.hand, sandbox.disk) = (making.hand, making.disk);
        // Its ids are mapped, for which we had to be dumpable.
        let begin = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(io::Error::from)
            .and_then(|()| say(sandbox.channel.as_fd(), &InitCommand::Go, &[]));
        begin.map_err(|error| lost(&error.to_string()))?;
        sandbox.note(spec, missing)?;
        sandbox.await_made(spec)?;
        // From here on it answers at once.
        let bounded = set_socket_timeout(&sandbox.channel, Timeout::Recv, Some(ANSWER_PATIENCE));
        bounded.map_err(|error| lost(&error.to_string()))?;
        Ok(sandbox)
    }

    /// Keeps which best-effort steps failed.
    pub fn note(&mut self, spec: &StartSpec, missing: Vec<(u32, String)>) -> Result<(), StepError> {
        for (at, error) in missing {
            let step = spec
                .steps
                .get(at as usize)
                .ok_or_else(|| lost("a step was named that is not in the plan"))?;
            self.missing.push((step.clone(), error));
        }
        Ok(())
    }

    fn await_made(&mut self, spec: &StartSpec) -> Result<(), StepError> {
        match hear(self.channel.as_fd()).map_err(|error| lost(&error.to_string()))? {
            Some((InitEvent::Made { missing }, _)) => self.note(spec, missing),
            Some((InitEvent::Failed(error), _)) => Err(error),
            Some((other, _)) => Err(lost(&format!("init said {other:?}"))),
            None => Err(lost("init ended without a word")),
        }
    }

    /// Starts the worker with `files` as its descriptors 0, 1, 2, …; returns its pidfd.
    pub fn start(&self, files: &[BorrowedFd<'_>]) -> Result<OwnedFd, StepError> {
        let failed = |error: &io::Error| StepError::new(&"start the worker", error);
        say(self.channel.as_fd(), &InitCommand::Start, files).map_err(|error| failed(&error))?;
        match hear(self.channel.as_fd()).map_err(|error| failed(&error))? {
            Some((InitEvent::Started, fds)) => {
                fds.into_iter().next().ok_or_else(|| failed(&io::Error::other("init sent no pidfd")))
            }
            Some((InitEvent::NotStarted(error), _)) => Err(error),
            other => Err(failed(&io::Error::other(format!("init said {:?}", other.map(|(event, _)| event))))),
        }
    }

    /// What a worker joins that is not init's child, in the order of `join::NAMESPACES`.
    pub fn namespaces(&self) -> io::Result<Vec<OwnedFd>> {
        match self.ask(&InitCommand::Namespaces, &[])? {
            (InitEvent::Namespaces, files) => Ok(files),
            (other, _) => Err(io::Error::other(format!("init said {other:?}"))),
        }
    }

    /// Tells init which process is the worker, by its number in the sandbox.
    pub fn adopt(&self, pid: i32) -> io::Result<()> {
        match self.ask(&InitCommand::Adopt { pid }, &[])? {
            (InitEvent::Adopted, _) => Ok(()),
            (other, _) => Err(io::Error::other(format!("init said {other:?}"))),
        }
    }

    /// Executes the steps by which a spare gets its workspace: the shim's are its hand's, which has the
    /// rights that the shim has given up and ends with this; what it has taken, init attaches.
    /// With them it opens the notebook's checkpoints, when there are any.
    pub fn attach(
        &mut self,
        steps: &[Step],
        checkpoints: Option<&Checkpoints>,
    ) -> Result<Option<Places>, StepError> {
        let hand = self.hand.take().ok_or_else(|| lost("there is no hand to attach a workspace with"))?;
        let Handed { mut trees, disk, places } = hand.take(steps, checkpoints)?;
        self.disk = disk;
        for step in steps.iter().filter(|step| step.actor == Actor::Init) {
            let Action::Attach { target } = &step.action else { continue };
            let failed = |error: &io::Error| StepError::new(step, error);
            let tree = trees.remove(target).ok_or_else(|| failed(&io::Error::other("it was not taken")))?;
            let attach = InitCommand::Attach { step: step.clone() };
            match self.ask(&attach, &[tree.as_fd()]).map_err(|error| failed(&error))? {
                (InitEvent::Attached, _) => {}
                (InitEvent::Failed(error), _) => return Err(error),
                (other, _) => return Err(failed(&io::Error::other(format!("init said {other:?}")))),
            }
        }
        Ok(places)
    }

    fn ask(&self, command: &InitCommand, files: &[BorrowedFd<'_>]) -> io::Result<(InitEvent, Vec<OwnedFd>)> {
        say(self.channel.as_fd(), command, files)?;
        hear(self.channel.as_fd())?.ok_or_else(|| io::Error::other("init has ended"))
    }

    /// Where init's events come from, for poll.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// The next event of init, `None` when init has ended. To be called when `events` is readable.
    pub fn next_event(&self) -> Option<InitEvent> {
        hear(self.channel.as_fd()).ok().flatten().map(|(event, _)| event)
    }

    /// Ends the processes that save what the worker had.
    pub fn end_saves(&self) {
        let _ = say(self.channel.as_fd(), &InitCommand::EndSaves, &[]);
    }

    /// SIGINT to all processes of the sandbox but init.
    pub fn interrupt_all(&self) {
        let _ = say(self.channel.as_fd(), &InitCommand::InterruptAll, &[]);
    }

    /// Ends everything in the sandbox; does not wait.
    pub fn kill(&self) {
        // Both: the group's kill stops forks at once, but a process that a hostile v1 host let out of
        // the group still belongs to init.
        self.group.kill();
        let _ = rustix::process::pidfd_send_signal(&self.init, Signal::KILL);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.kill();
        // Init ends when all in its pid namespace have; one that is stuck in the kernel can keep it.
        // Then the anchor's parentage outlives us, and this process does not hang with it.
        let mut ended = [PollFd::new(&self.init, PollFlags::IN)];
        let patience = Timespec { tv_sec: END_SECONDS, tv_nsec: 0 };
        let _ = rustix::io::retry_on_intr(|| rustix::event::poll(&mut ended, Some(&patience)));
        let _ = rustix::process::waitpid(Some(self.init_pid), rustix::process::WaitOptions::NOHANG);
    }
}

fn lost(error: &str) -> StepError {
    StepError { step: "make the sandbox".to_owned(), error: error.to_owned(), errno: 0 }
}
