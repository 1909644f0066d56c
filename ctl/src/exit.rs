//! The ways cellctl can end, by name.

use std::process::ExitCode;

use cellblock_proto::execution::End;

/// How cellctl ended; the numbers are a promise to scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The user's code raised an exception.
    Raised = 1,
    /// The command line or a file named on it makes no sense, or who asks may not.
    Usage = 2,
    /// No cellblockd could be reached or started, or it does not take the request now.
    NoSupervisor = 3,
    /// Code was stopped because its wall time was over.
    TimedOut = 4,
    /// The worker died, or a limit of the profile was reached.
    WorkerDied = 5,
    /// Somebody interrupted or cancelled it.
    Interrupted = 6,
    /// `selftest`: an attack was not contained.
    NotContained = 7,
    /// A checkpoint could not be taken, or is not whole.
    CheckpointLost = 8,
    /// Anything else; a fault of ours or of the machine.
    Internal = 70,
}

/// For `cellctl --help`.
pub(crate) const EXIT_HELP: &str = "\
Exit codes:
  0   done
  1   the code raised an exception
  2   the command line, or a file named on it, makes no sense, or is not allowed
  3   no cellblockd could be reached or started, or it cannot do it now: it is busy,
      does not evict a worker, is going down, or is of another version
  4   timed out
  5   the worker died, or a limit of the profile was reached
  6   interrupted or cancelled
  7   selftest: an attack was not contained
  8   checkpoint: none could be taken, or one is not whole
  70  an internal fault";

impl Exit {
    /// What the end of an Execution means for the program's.
    pub fn of(end: &End) -> Exit {
        match end {
            End::Ok => Exit::Ok,
            End::Error { .. } => Exit::Raised,
            End::TimedOut { .. } => Exit::TimedOut,
            End::LimitHit { .. } | End::WorkerDied(_) => Exit::WorkerDied,
            End::Interrupted | End::Cancelled { .. } => Exit::Interrupted,
        }
    }

    /// This one, unless it is `Ok`: of several files the first that failed decides.
    #[must_use]
    pub fn or(self, next: Exit) -> Exit {
        if self == Exit::Ok { next } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use cellblock_proto::execution::{Death, Limit};

    use super::*;

    #[test]
    fn every_end_has_its_exit_code() {
        let error = End::Error { name: "ValueError".into(), value: "no".into() };
        let limit = End::LimitHit { limit: Limit::Memory, allowed: 1, reached: 2 };
        let table = [
            (End::Ok, 0),
            (error, 1),
            (End::TimedOut { limit_ms: 1 }, 4),
            (limit, 5),
            (End::WorkerDied(Death::ShimLost), 5),
            (End::Interrupted, 6),
            (End::Cancelled { reason: "closed".into() }, 6),
        ];
        for (end, code) in table {
            assert_eq!(Exit::of(&end) as u8, code, "{end:?}");
        }
    }

    #[test]
    fn help_names_every_exit_code() {
        use Exit::*;
        for exit in [
            Ok,
            Raised,
            Usage,
            NoSupervisor,
            TimedOut,
            WorkerDied,
            Interrupted,
            NotContained,
            CheckpointLost,
            Internal,
        ] {
            assert!(EXIT_HELP.contains(&format!("\n  {:<3} ", exit as u8)), "{exit:?}");
        }
    }

    #[test]
    fn first_failure_decides_among_several() {
        assert_eq!(Exit::Ok.or(Exit::Raised).or(Exit::TimedOut), Exit::Raised);
    }
}
