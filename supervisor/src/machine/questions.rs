//! What can be asked of a [`Machine`]; nothing changes by it.

use cellblock_proto::client::WorkerState;
use cellblock_proto::execution::NameInfo;
use cellblock_proto::id::ExecutionId;

use super::{Machine, Phase, Stage};
use crate::unsaved::Unsaved;

impl Machine {
    /// Whether an Execution of that id exists or has ended not too long ago.
    pub(crate) fn knows(&self, execution: &ExecutionId) -> bool {
        self.jobs.contains_key(execution) || self.remembered.contains(execution)
    }

    /// What the worker is doing.
    pub(crate) fn state(&self) -> WorkerState {
        match self.phase {
            Phase::None => WorkerState::None,
            Phase::Starting { .. } => WorkerState::Starting,
            Phase::Up if self.running().is_some() => WorkerState::Busy,
            Phase::Up if self.turn.is_in_line() => WorkerState::Waiting,
            Phase::Up => WorkerState::Idle,
            Phase::Ending { .. } => WorkerState::Ending,
        }
    }

    /// What runs.
    pub(crate) fn running(&self) -> Option<&ExecutionId> {
        self.order.iter().find(|id| self.jobs.get(id).is_some_and(|job| job.stage == Stage::Running))
    }

    /// Whether something runs, or may have begun.
    pub(crate) fn may_run(&self) -> bool {
        self.leave.is_some()
    }

    /// What waits, in order.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &ExecutionId> {
        self.order.iter().filter(|id| self.jobs.get(id).is_some_and(|job| job.stage != Stage::Running))
    }

    /// How many wait.
    pub(crate) fn waiting_count(&self) -> usize {
        self.order.len() - usize::from(self.running().is_some())
    }

    /// The code of what waits, in bytes.
    pub(crate) fn code_bytes(&self) -> usize {
        self.jobs.values().filter_map(|job| job.code.as_ref()).map(|code| code.len()).sum()
    }

    /// How long until the cell that runs, or is next, has ended, as far as the past tells.
    pub(crate) fn until_next(&self) -> std::time::Duration {
        self.turn.until_next()
    }

    /// Whether nothing is known here that is not on the disk too.
    pub(crate) fn has_nothing_to_tell(&self) -> bool {
        self.jobs.is_empty() && self.notice.is_none() && self.unsaved.is_empty() && self.telling.is_empty()
    }

    /// Executions ended.
    pub(crate) fn ended_count(&self) -> u64 {
        self.ended_count
    }

    /// Executions whose variables went with a worker that has ended, of which nobody has been told. While there is no
    /// worker, some may be in a checkpoint all the same.
    pub(crate) fn untold(&self) -> Unsaved {
        let telling = self.telling.clone();
        match self.phase {
            // What has run since is there to be saved.
            Phase::Up if self.notice.is_none() => Unsaved::default(),
            Phase::Up => telling,
            Phase::None | Phase::Starting { .. } | Phase::Ending { .. } => {
                telling.then(&self.doubtful).then(&self.unsaved)
            }
        }
    }

    /// The names known, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &NameInfo> {
        self.names.iter()
    }

    pub(super) fn lost_names(&self) -> Vec<String> {
        self.names.iter().map(|info| info.name.clone()).collect()
    }
}
