//! Tasks for whoever comes, of which only so many live: the oldest makes room for the newest.

use std::collections::VecDeque;

use tokio::task::AbortHandle;

/// The tasks, the oldest first.
pub(crate) struct Newest {
    most: usize,
    tasks: VecDeque<AbortHandle>,
}

impl Newest {
    /// Of which `most` live at once.
    pub(crate) fn new(most: usize) -> Self {
        Newest { most, tasks: VecDeque::new() }
    }

    /// Spawns one more; the oldest that is not over ends if there are too many now.
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        if self.tasks.len() == self.most {
            self.tasks.retain(|task| !task.is_finished());
        }
        if self.tasks.len() == self.most
            && let Some(oldest) = self.tasks.pop_front()
        {
            oldest.abort();
        }
        self.tasks.push_back(tokio::spawn(task).abort_handle());
    }
}
