//! The sandbox: executes a plan, one loop per actor, and fails closed at the step that failed.
//!
//! Making the sandbox and starting Python in it are two things: [`Sandbox::make`] ends with an
//! init that has nothing to do, [`Sandbox::start`] gives it a worker.

mod devices;
mod host;
mod inside;
pub mod landlock;
mod overlay;
pub mod quota;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use cellblock_proto::shim::{StartFailure, StartSpec};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use sandbox_profiles::{Actor, Need, Step};
use serde::{Deserialize, Serialize};

pub use inside::{init_step, worker_step};

use crate::cgroup::{Folder, Group};
use crate::init;
use crate::outer::Outer;

/// How long the end of a sandbox may take; measured: 2.4 ms, 23 ms with 201 busy processes.
const END_SECONDS: i64 = 5;

/// A step that failed: the one shape of every failure to make a sandbox.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{step}: {error}")]
pub struct StepError {
    /// The step, as `profile explain` prints it.
    pub step: String,
    /// The kernel's answer.
    pub error: String,
    /// Its number, for the cure.
    pub errno: i32,
}

impl StepError {
    pub(crate) fn new(step: &impl ToString, source: &io::Error) -> Self {
        StepError {
            step: step.to_string(),
            error: source.to_string(),
            errno: source.raw_os_error().unwrap_or(0),
        }
    }

    /// The failure as a client sees it.
    pub fn failure(self) -> StartFailure {
        // What we found out ourselves has no number, and rustix knows no error 0.
        let errno = (self.errno != 0).then(|| Errno::from_raw_os_error(self.errno));
        let cure = match errno {
            Some(Errno::PERM | Errno::ACCESS) => {
                Some("run `cellctl doctor`: it names what this host forbids".to_owned())
            }
            Some(Errno::NOSPC) if self.step.contains(".img ") => {
                Some("make room on the disk of the state directory".to_owned())
            }
            Some(Errno::NOSPC) => Some(
                "a limit of namespaces or inodes is used up: see sysctl user.max_user_namespaces".to_owned(),
            ),
            Some(Errno::NOENT) => Some("check that the path exists on the host".to_owned()),
            _ => None,
        };
        StartFailure::Step { step: self.step, error: self.error, cure }
    }
}

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
}

/// A sandbox while the shim makes it.
pub struct Making<'a> {
    outer: &'a Outer,
    /// The folders that the anchor has made for it.
    groups: &'a [Folder],
    taken: Taken,
    sandbox: Option<Sandbox>,
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
}

impl Sandbox {
    /// Executes the shim's steps and init's.
    pub fn make(spec: &StartSpec, outer: &Outer, groups: &[Folder]) -> Result<Sandbox, StepError> {
        let mut making = Making { outer, groups, taken: Taken::default(), sandbox: None };
        let missing = execute_steps(&spec.steps, Actor::Shim, |step| host::execute(step, spec, &mut making))?;
        let mut sandbox = making.sandbox.ok_or(StepError {
            step: "clone".to_owned(),
            error: "the plan has no such step".to_owned(),
            errno: 0,
        })?;
        drop(making.taken);
        sandbox.note(spec, missing)?;
        sandbox.await_made(spec)?;
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
        match init::hear(self.channel.as_fd()).map_err(|error| lost(&error.to_string()))? {
            Some((InitEvent::Made { missing }, _)) => self.note(spec, missing),
            Some((InitEvent::Failed(error), _)) => Err(error),
            Some((other, _)) => Err(lost(&format!("init said {other:?}"))),
            None => Err(lost("init ended without a word")),
        }
    }

    /// Starts the worker with `files` as its descriptors 0, 1, 2, …; returns its pidfd.
    pub fn start(&self, files: &[BorrowedFd<'_>]) -> Result<OwnedFd, StepError> {
        let failed = |error: &io::Error| StepError::new(&"start the worker", error);
        init::say(self.channel.as_fd(), &InitCommand::Start, files).map_err(|error| failed(&error))?;
        match init::hear(self.channel.as_fd()).map_err(|error| failed(&error))? {
            Some((InitEvent::Started, fds)) => {
                fds.into_iter().next().ok_or_else(|| failed(&io::Error::other("init sent no pidfd")))
            }
            Some((InitEvent::NotStarted(error), _)) => Err(error),
            other => Err(failed(&io::Error::other(format!("init said {:?}", other.map(|(event, _)| event))))),
        }
    }

    /// Where init's events come from, for poll.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// The next event of init, `None` when init has ended. To be called when `events` is readable.
    pub fn next_event(&self) -> Option<InitEvent> {
        init::hear(self.channel.as_fd()).ok().flatten().map(|(event, _)| event)
    }

    /// SIGINT to all processes of the sandbox but init.
    pub fn interrupt_all(&self) {
        let _ = init::say(self.channel.as_fd(), &InitCommand::InterruptAll, &[]);
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

/// Executes the steps of one actor; returns the best-effort ones that failed.
pub fn execute_steps(
    steps: &[Step],
    actor: Actor,
    mut execute: impl FnMut(&Step) -> io::Result<()>,
) -> Result<Vec<(u32, String)>, StepError> {
    let mut missing = Vec::new();
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| step.actor == actor) {
        if let Err(error) = execute(step) {
            match step.need {
                Need::Required => return Err(StepError::new(step, &error)),
                Need::BestEffort => missing.push((u32::try_from(at).unwrap_or(u32::MAX), error.to_string())),
            }
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_that_no_system_call_reported_is_told_too() {
        let failed = StepError::new(&"prove", &io::Error::other("a capability is held"));
        let StartFailure::Step { step, error, cure } = failed.failure() else { panic!("another failure") };
        assert_eq!((&*step, &*error, cure), ("prove", "a capability is held", None));
    }
}
