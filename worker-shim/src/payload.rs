//! The worker's Python and native code, carried in this binary and unpacked once per build.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;

use anyhow::Context;

/// (name, content), made by `build.rs`.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/payload_files.rs"));

/// Writes the payload to a folder below `parent`, whole or not at all, and prints the folder's name.
/// One that is there already has this content, because its name says so.
pub fn unpack(parent: &Path) -> anyhow::Result<()> {
    // Workers are nobody on the host and must read it, whatever the daemon's own mask is.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let name = content_name();
    if !parent.join(&name).exists() {
        write_whole(parent, &name)?;
    }
    writeln!(std::io::stdout(), "{name}").context("failed to say where the payload is")
}

/// Not for security: whoever can write where payloads lie can write anything.
fn content_name() -> String {
    let mut hasher = DefaultHasher::new();
    FILES.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn write_whole(parent: &Path, folder: &str) -> anyhow::Result<()> {
    let staging = parent.join(format!(".{folder}.{}", std::process::id()));
    for (name, content) in FILES {
        let path = staging.join(name);
        let above = path.parent().unwrap_or(&staging);
        fs::create_dir_all(above).with_context(|| format!("failed to create {}", above.display()))?;
        fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
    }
    // Where the sandbox attaches what set-up made.
    let cache = staging.join("cache");
    fs::create_dir_all(&cache).with_context(|| format!("failed to create {}", cache.display()))?;
    let folder = parent.join(folder);
    match fs::rename(&staging, &folder) {
        Ok(()) => Ok(()),
        // Somebody else was faster with the same content.
        Err(_) if folder.exists() => Ok(fs::remove_dir_all(&staging)?),
        Err(error) => {
            Err(error).with_context(|| format!("failed to move the payload to {}", folder.display()))
        }
    }
}
