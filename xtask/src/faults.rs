//! Checkpoints that are broken on purpose, a short run: `tests/faults` says what is done and what must hold.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{run as run_command, say};
use crate::test::{Variables, with};
use crate::{python_env, tree};

/// About half a minute. The long run is in the module's own documentation.
const SHORT: [&str; 8] = ["--seed", "1", "--checkpoints", "40", "--disk-steps", "8", "--damages", "1"];

/// # Errors
/// When something did not hold.
pub(crate) fn run(variables: &Variables) -> Result<()> {
    if std::fs::metadata("/proc/self").context("/proc must be there")?.uid() != 0 {
        say("checkpoints are not broken on purpose: that needs root");
        return Ok(());
    }
    let root = tree::root();
    let mut command = Command::new(python_env::dev_env(None)?);
    command.current_dir(root).env("PYTHONPATH", root.join("clients/python/src"));
    command.args(["-m", "tests.faults.checkpoints"]).args(SHORT);
    run_command(with(&mut command, variables))
}
