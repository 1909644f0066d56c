//! Tools that come neither with Rust nor from the workspace: installed once, kept in the user's cache.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::{cargo, is_executable, on_path, run, say};

const CARGO_DENY_VERSION: &str = "0.20.2";

/// cargo-deny: from PATH, else from the cache, else installed there.
///
/// # Errors
/// When it has to be installed and cannot be.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    let root = cache()?.join("cellblock/tools");
    let kept = root.join("bin/cargo-deny");
    if let Some(found) = on_path("cargo-deny") {
        return Ok(found);
    }
    if !is_executable(&kept) {
        say(format!(
            "installing cargo-deny {CARGO_DENY_VERSION} into `{}` (once; some minutes)",
            root.display()
        ));
        let mut install = cargo();
        // A build folder of its own: the lints' flags of this workspace are none of its business. Without optimisation: it
        // runs for seconds, and is built anew in each run of CI.
        install.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
        install.args([
            "install",
            "--locked",
            "--quiet",
            "--debug",
            "cargo-deny",
            "--version",
            CARGO_DENY_VERSION,
            "--root",
        ]);
        run(install.arg(&root))?;
    }
    Ok(kept)
}

fn cache() -> Result<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    named.or_else(home).context("failed to find a cache folder: neither XDG_CACHE_HOME nor HOME is set")
}
