//! What a process does to become a worker, and how it talks with its shim meanwhile. Shared by the shim's
//! init, which forks and execs Python, and by the worker's native library, which a zygote forks with.

pub mod join;
pub mod landlock;
pub mod sys;
pub mod talk;
mod worker;

use std::io;

use cellblock_proto::shim::StartFailure;
use rustix::io::Errno;
use sandbox_profiles::{Actor, Need, Step};
use serde::{Deserialize, Serialize};

pub use worker::worker_step;

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
    /// From the step and what the kernel said.
    pub fn new(step: &impl ToString, source: &io::Error) -> Self {
        // Of a socket that has a timeout; the kernel's words for it help nobody.
        let is_late = source.kind() == io::ErrorKind::WouldBlock;
        StepError {
            step: step.to_string(),
            error: if is_late { "no answer came in time".to_owned() } else { source.to_string() },
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
