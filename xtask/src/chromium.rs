//! The headless browser in which the tests look at exported pages.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::host;
use crate::process::{in_ci, on_path, run, say};

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const INSTALL: [&str; 5] = ["install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"];

/// A Chromium, installed if we may; `None` was said already and makes the tests that look at pages skip.
///
/// # Errors
/// In continuous integration, where a missing browser is a failure.
pub(crate) fn find() -> Result<Option<PathBuf>> {
    if let Some(chosen) = std::env::var_os("CELLBLOCK_CHROMIUM").filter(|value| !value.is_empty()) {
        return Ok(Some(chosen.into()));
    }
    let installed = || NAMES.into_iter().find_map(on_path);
    if let Some(found) = installed() {
        return Ok(Some(found));
    }
    if host::is_root() && on_path("apt-get").is_some() {
        say("installing Chromium for the tests that look at exported pages (once)");
        if let Err(error) = install() {
            say(format!("{error:#}"));
        }
        if let Some(found) = installed() {
            return Ok(Some(found));
        }
    }
    let sentence = format!("no Chromium on PATH; `apt-get {}` as root installs it", INSTALL.join(" "));
    if in_ci() {
        bail!("{sentence}");
    }
    say(format!("{sentence}; tests that look at exported pages are skipped"));
    Ok(None)
}

fn install() -> Result<()> {
    let apt = |args: &[&str]| {
        run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(args))
    };
    apt(&["update"])?;
    apt(&INSTALL)
}
