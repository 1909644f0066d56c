//! Where things are: the repository, the build folder, and the source files in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result};

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    // cargo sets the variable when it runs us; the built-in value serves a binary that was started directly.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = PathBuf::from(package);
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
});

/// The repository's folder.
pub(crate) fn root() -> &'static Path {
    &ROOT
}

/// Cargo's build folder, the only place in the repository that tasks write to.
pub(crate) fn target() -> PathBuf {
    // join() with an absolute path gives that path.
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// A path as a person in the repository's folder would write it.
pub(crate) fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Every file of the source tree with one of these extensions, sorted.
///
/// Skipped are hidden folders, build folders and Python environments; git is not asked, so that an unpacked archive works too.
pub(crate) fn sources(extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("failed to list `{}`", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("failed to list `{}`", folder.display()))?;
            let path = entry.path();
            let kind =
                entry.file_type().with_context(|| format!("failed to look at `{}`", path.display()))?;
            if kind.is_dir() && !is_skipped(&path) {
                folders.push(path);
            } else if kind.is_file()
                && extensions.iter().any(|wanted| path.extension().is_some_and(|e| e == *wanted))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_skipped(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.')
        || name == "target"
        || name == "__pycache__"
        || folder == target()
        || folder.join("pyvenv.cfg").exists()
}
