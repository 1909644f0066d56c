//! The headless browser in which the tests look at exported pages.

use std::path::PathBuf;

use anyhow::Result;

use crate::apt;

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const PACKAGES: [&str; 2] = ["chromium", "fonts-dejavu-core"];

/// A Chromium, installed if we may; `None` was said already and makes the tests that look at pages skip.
///
/// # Errors
/// In continuous integration, where a missing browser is a failure.
pub(crate) fn find() -> Result<Option<PathBuf>> {
    if let Some(chosen) = std::env::var_os("CELLBLOCK_CHROMIUM").filter(|value| !value.is_empty()) {
        return Ok(Some(chosen.into()));
    }
    apt::program_for_tests(&NAMES, &PACKAGES, "tests that look at exported pages")
}
