//! Programs that tests need and Debian has.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::host;
use crate::process::{in_ci, on_path, run, say};

/// The first of `names` that is on the path; if none is, installed from `packages` when we may, for `purpose`.
pub(crate) fn program(names: &[&str], packages: &[&str], purpose: &str) -> Option<PathBuf> {
    let installed = || names.iter().find_map(on_path);
    if let Some(found) = installed() {
        return Some(found);
    }
    if host::is_root() && on_path("apt-get").is_some() {
        say(format!("installing {} for {purpose} (once)", packages.join(", ")));
        if let Err(error) = install(packages) {
            say(format!("{error:#}"));
        }
    }
    installed()
}

/// The same for `tests`, which skip without it: that was said already, then.
///
/// # Errors
/// In continuous integration, where a missing program is a failure.
pub(crate) fn program_for_tests(names: &[&str], packages: &[&str], tests: &str) -> Result<Option<PathBuf>> {
    let found = program(names, packages, tests);
    if found.is_none() {
        let sentence = format!("no {} on PATH; `{}` as root installs it", names[0], command(packages));
        if in_ci() {
            bail!("{sentence}");
        }
        say(format!("{sentence}; {tests} are skipped"));
    }
    Ok(found)
}

/// What installs `packages`, as a person would type it.
pub(crate) fn command(packages: &[&str]) -> String {
    format!("apt-get install -y --no-install-recommends {}", packages.join(" "))
}

fn install(packages: &[&str]) -> Result<()> {
    let apt = |args: &[&str]| {
        run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(args))
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}
