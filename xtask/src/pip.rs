//! Filling a virtual environment with exactly the pinned, hashed packages.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{say, show};

/// How much of pip's own words is shown when it fails.
const TOLD_LINES: usize = 15;

/// Makes the environment `folder` and installs `requirements` into it.
///
/// Debian's Python has no ensurepip and refuses a bare `pip install`: the environment is made without pip and filled from
/// outside.
pub(crate) fn make(folder: &Path, python: &Path, pip_python: &Path, requirements: &[PathBuf]) -> Result<()> {
    let mut venv = readable_by_all(python);
    crate::process::run(venv.args(["-m", "venv", "--without-pip"]).arg(folder))?;
    let mut pip = readable_by_all(pip_python);
    pip.args(["-m", "pip", "--python"]).arg(folder.join("bin/python"));
    pip.args([
        "install",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--progress-bar",
        "off",
        "--no-color",
    ]);
    for file in requirements {
        pip.arg("-r").arg(file);
    }
    pip.env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .env("PIP_NO_INPUT", "1")
        .env("PIP_ROOT_USER_ACTION", "ignore");
    // A developer's own search path must not hide a missing package.
    pip.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
    narrate(&mut pip)
}

/// A root with umask 077 would otherwise make an environment that ordinary users cannot read.
fn readable_by_all(program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"umask 022 && exec "$@""#, "sh"]).arg(program);
    command
}

/// Runs pip and says each package as it comes, not the 300 lines pip has to say.
fn narrate(pip: &mut Command) -> Result<()> {
    let shown = show(pip);
    pip.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = pip.spawn().with_context(|| format!("failed to start `{shown}`"))?;
    let stdout = child.stdout.take().context("failed to read from pip")?;
    let mut last = VecDeque::new();
    let mut packages = 0;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("failed to read from pip")?;
        if let Some(package) = line.strip_prefix("Collecting ") {
            packages += 1;
            eprintln!(
                "  {packages:3}  {}",
                package.split_whitespace().next().unwrap_or(package).replace("==", " ")
            );
        } else if line.starts_with("Installing collected") {
            say(format!("unpacking {packages} packages"));
        }
        if last.len() == TOLD_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    let status = child.wait().context("failed to wait for pip")?;
    if !status.success() {
        for line in last {
            eprintln!("  pip: {line}");
        }
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}
