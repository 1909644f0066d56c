//! The worker's Python and native code, carried in this binary and unpacked once per build.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// (name, content), made by `build.rs`.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/payload_files.rs"));

/// Writes the payload to `folder`, whole or not at all. A folder that is there already is of this
/// build, because its name carries the build.
pub fn unpack(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let parent = folder.parent().context("the folder to unpack to has no parent")?;
    let name = folder.file_name().context("the folder to unpack to has no name")?;
    let staging = parent.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    for (name, content) in FILES {
        let path = staging.join(name);
        let above = path.parent().unwrap_or(&staging);
        fs::create_dir_all(above).with_context(|| format!("failed to create {}", above.display()))?;
        fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
    }
    // Where the sandbox attaches what set-up made.
    let cache = staging.join("cache");
    fs::create_dir_all(&cache).with_context(|| format!("failed to create {}", cache.display()))?;
    match fs::rename(&staging, folder) {
        Ok(()) => Ok(()),
        // Somebody else was faster with the same content.
        Err(_) if folder.exists() => Ok(fs::remove_dir_all(&staging)?),
        Err(error) => Err(error).with_context(|| format!("failed to move the payload to {}", folder.display())),
    }
}
