//! What is broken on purpose, short runs: `tests/faults` and `tests/chaos` say what is done and what must hold.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{run as run_command, say};
use crate::test::{Variables, with};
use crate::{python_env, tree};

/// About half a minute. The long run is in the module's own documentation.
const CHECKPOINTS: [&str; 8] = ["--seed", "1", "--checkpoints", "40", "--disk-steps", "8", "--damages", "1"];

/// About as long; of these, too, the long run is in the module's own documentation.
const CHAOS: [&str; 6] = ["--seed", "1", "--minutes", "0.4", "--notebooks", "10"];

/// # Errors
/// When something did not hold.
pub(crate) fn checkpoints(variables: &Variables) -> Result<()> {
    run("tests.faults.checkpoints", &CHECKPOINTS, variables)
}

/// # Errors
/// When something did not hold.
pub(crate) fn chaos(variables: &Variables) -> Result<()> {
    run("tests.chaos.run", &CHAOS, variables)
}

fn run(module: &str, arguments: &[&str], variables: &Variables) -> Result<()> {
    if std::fs::metadata("/proc/self").context("/proc must be there")?.uid() != 0 {
        say(format!("{module} is left out: it needs root"));
        return Ok(());
    }
    let root = tree::root();
    let mut command = Command::new(python_env::dev_env(None)?);
    command.current_dir(root).env("PYTHONPATH", root.join("clients/python/src"));
    command.args(["-m", module]).args(arguments);
    run_command(with(&mut command, variables))
}
