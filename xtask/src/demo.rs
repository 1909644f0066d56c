//! `cargo xtask demo`: from an empty clone to executed notebooks, with nothing to prepare.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run as run_command, say, seconds};
use crate::{host, python_env, tree};

/// # Errors
/// When the host cannot make sandboxes, something cannot be built, or a notebook does not run to its end.
pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    host::require_sandboxes()?;
    let notebooks = notebooks()?;
    let python = python_env::worker_env(None)?;

    let building = Instant::now();
    say("building cellblock (release; a first build takes some minutes)");
    run_command(cargo().args(["build", "--release"]))?;
    say(format!("built ({})", seconds(building.elapsed())));

    let running = Instant::now();
    let results = tree::target().join("demo");
    let mut cellctl = Command::new(tree::target().join("release/cellctl"));
    cellctl.current_dir(tree::root()).arg("run").arg("--python").arg(&python).arg("--out-dir").arg(&results);
    cellctl.args(["--format", "ipynb", "--format", "html", "--report"]).args(&notebooks);
    run_command(&mut cellctl)?;

    eprintln!();
    say(format!(
        "{} notebooks ran in {} ({} with building); open them in a browser:",
        notebooks.len(),
        seconds(running.elapsed()),
        seconds(started.elapsed())
    ));
    for notebook in &notebooks {
        let page = results.join(notebook.with_extension("html").file_name().unwrap_or_default());
        eprintln!("  {}", page.display());
    }
    Ok(())
}

fn notebooks() -> Result<Vec<PathBuf>> {
    let folder = tree::root().join("examples");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("failed to list `{}`", folder.display()))?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut found = paths.with_context(|| format!("failed to list `{}`", folder.display()))?;
    found.retain(|path| path.extension().is_some_and(|extension| extension == "ipynb"));
    found.sort();
    if found.is_empty() {
        bail!("no notebooks in `{}`", folder.display());
    }
    Ok(found)
}
