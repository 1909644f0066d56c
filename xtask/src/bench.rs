//! `cargo xtask bench`: release binaries, and the peers in the dev environment, handed to `bench/run.py`.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{cargo, run as run_command, say};
use crate::{host, python_env, tree};

/// # Errors
/// When something cannot be prepared, or the benchmark fails.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let script = tree::root().join("bench/run.py");
    if !script.is_file() {
        bail!("there is no `{}` yet", tree::short(&script));
    }
    host::require_sandboxes()?;
    let worker = python_env::worker_env(None)?;
    let dev = python_env::dev_env(None)?;
    say("building (release)");
    run_command(cargo().args(["build", "--release"]))?;
    let mut bench = Command::new(dev);
    bench.current_dir(tree::root()).env("PYTHONPATH", tree::root().join("clients/python/src")).arg(script);
    bench.arg("--bin-dir").arg(tree::target().join("release")).arg("--python").arg(worker).args(args);
    run_command(&mut bench)
}
