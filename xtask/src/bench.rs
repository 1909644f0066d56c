//! `cargo xtask bench`: release binaries, and the peers in the dev environment, handed to `bench/run.py`.

use std::process::Command;

use anyhow::Result;

use crate::process::{cargo, run as run_command, say};
use crate::{apt, host, python_env, tree};

/// A peer of the benchmark.
pub(crate) const BWRAP: [&str; 1] = ["bwrap"];
pub(crate) const BWRAP_PACKAGES: [&str; 1] = ["bubblewrap"];

/// # Errors
/// When something cannot be prepared, or the benchmark fails.
pub(crate) fn run(args: &[String]) -> Result<()> {
    host::require_sandboxes()?;
    let worker = python_env::worker_env(None)?;
    let dev = python_env::dev_env(None)?;
    if apt::program(&BWRAP, &BWRAP_PACKAGES, "a peer of the benchmark").is_none() {
        say(format!("no bwrap on PATH; `{}` as root installs it", apt::command(&BWRAP_PACKAGES)));
    }
    say("building (release)");
    run_command(cargo().args(["build", "--release"]))?;
    run_command(cargo().args(["build", "--release", "--package", "cellblock-bench-floor"]))?;
    let mut bench = Command::new(dev);
    bench.current_dir(tree::root()).env("PYTHONPATH", tree::root().join("clients/python/src"));
    bench.arg(tree::root().join("bench/run.py"));
    bench.arg("--bin-dir").arg(tree::target().join("release")).arg("--python").arg(worker).args(args);
    run_command(&mut bench)
}
