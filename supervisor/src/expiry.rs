//! Outputs of ended Executions are kept for some days. Whoever opens a notebook finds none that are older; here those go
//! that nobody comes for: once a day the folders of all notebooks are looked through, some at a time, asleep, closed or
//! awake. Without an old file a folder costs one look at its names.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::daemon::Daemon;
use crate::{spill, workspace};

/// From one walk through all folders to the next.
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// So many folders are looked at in one round: ten thousand in two hours.
const PIECE: usize = 100;

/// A walk through all folders, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    left: Vec<PathBuf>,
    begun: Option<Instant>,
}

impl Walk {
    /// Looks at some more; begins anew a day after it has begun, or `at_once` for who cannot wait.
    pub(crate) async fn go_on(&mut self, daemon: &Arc<Daemon>, at_once: bool) {
        let is_due = self.begun.is_none_or(|begun| at_once || begun.elapsed() >= EVERY);
        let mut left = std::mem::take(&mut self.left);
        if left.is_empty() && !is_due {
            return;
        }
        let begins = left.is_empty();
        if begins {
            self.begun = Some(Instant::now());
        }
        let daemon = Arc::clone(daemon);
        let walked = tokio::task::spawn_blocking(move || {
            if begins {
                let parents = workspace::all_folders(&daemon.state);
                let entries = parents.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
                left = entries.flatten().map(|entry| workspace::outputs_in(&entry.path())).collect();
            }
            let rest = left.len().saturating_sub(PIECE);
            expire(&daemon, &left.split_off(rest));
            left
        });
        // Only a runtime that goes down cancels it.
        self.left = walked.await.unwrap_or_default();
    }
}

fn expire(daemon: &Daemon, folders: &[PathBuf]) {
    let (mut notebooks, mut executions, mut bytes) = (0_u64, 0, 0);
    for folder in folders {
        match spill::expire(folder) {
            Ok((0, _)) => {}
            Ok((count, size)) => {
                (notebooks, executions, bytes) = (notebooks + 1, executions + count, bytes + size);
                daemon.metrics.reconciled("outputs");
            }
            Err(error) => {
                tracing::warn!(path = %folder.display(), %error, "could not look for outputs that are kept no longer");
            }
        }
    }
    if notebooks > 0 {
        let days = spill::DAYS;
        tracing::info!(notebooks, executions, bytes, days, "removing outputs that are kept no longer");
    }
}
