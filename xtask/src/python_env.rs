//! Python environments from the pinned, hashed lists in `python/`: made once, remade when anything they depend on changes.
//!
//! An environment counts as made when its stamp, written last, says what would be written now. A lock keeps parallel runs
//! apart. Nothing is compared by time of change.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::interpreter::{self, Interpreter};
use crate::process::{say, seconds};
use crate::{host, pip, tree};

const WORKER: &[&str] = &["requirements.txt"];
const DEV: &[&str] = &["requirements.txt", "dev-requirements.txt"];

/// Debian's own Python: every user may run it, whatever root's PATH says.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// The interpreter of the environment that notebooks run with.
///
/// # Errors
/// When no usable Python or pip is found, or pip fails; the message says what to install.
pub(crate) fn worker_env(python: Option<&Path>) -> Result<PathBuf> {
    in_target("worker", python, WORKER)
}

/// The interpreter of the environment for checks, tests and peers: the worker's packages, and those of the tools.
///
/// # Errors
/// As [`worker_env`].
pub(crate) fn dev_env(python: Option<&Path>) -> Result<PathBuf> {
    in_target("dev", python, DEV)
}

/// The worker environment that an ordinary user can run when root runs the tests.
///
/// Root's repository and Python may both lie under a home that nobody else may enter. This one is made from the system's
/// Python under `/var/tmp`, in a folder of root's; systemd-tmpfiles clears it there after a month without use.
///
/// # Errors
/// As [`worker_env`], and when somebody else owns that folder.
pub(crate) fn rootless_worker_env() -> Result<PathBuf> {
    if !host::is_root() {
        return worker_env(None);
    }
    let python = interpreter::find(Some(Path::new(SYSTEM_PYTHON)))?;
    let lists = lists(WORKER);
    let id = short_hash(&stamp(Path::new(""), &python, &lists)?);
    let folder = PathBuf::from(format!("/var/tmp/cellblock-test-env-{id}"));
    open_own_folder(&folder)?;
    ensure(&folder.join("worker"), &folder.join("worker.lock"), &python, &lists)
}

fn in_target(name: &str, python: Option<&Path>, names: &[&str]) -> Result<PathBuf> {
    let python = interpreter::find(python)?;
    let parent = tree::target().join("python");
    fs::create_dir_all(&parent).with_context(|| format!("failed to make `{}`", parent.display()))?;
    ensure(&parent.join(name), &parent.join(format!("{name}.lock")), &python, &lists(names))
}

fn lists(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| tree::root().join("python").join(name)).collect()
}

fn ensure(folder: &Path, lock: &Path, python: &Interpreter, lists: &[PathBuf]) -> Result<PathBuf> {
    let lock_file = File::create(lock).with_context(|| format!("failed to open `{}`", lock.display()))?;
    if lock_file.try_lock().is_err() {
        say(format!("waiting for another run that makes {}", tree::short(folder)));
        lock_file.lock().with_context(|| format!("failed to lock `{}`", lock.display()))?;
    }
    let interpreter = folder.join("bin/python");
    let stamp_file = folder.join("cellblock-stamp");
    let wanted = stamp(folder, python, lists)?;
    if fs::read_to_string(&stamp_file).is_ok_and(|found| found == wanted) && interpreter.exists() {
        return Ok(interpreter);
    }
    let pip_python = interpreter::with_pip(python)?;
    let started = Instant::now();
    say(format!(
        "making the Python environment {} with `{}` {} (once; it is kept)",
        tree::short(folder),
        python.path.display(),
        python.version
    ));
    if folder.symlink_metadata().is_ok() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("failed to remove the old `{}`", folder.display()))?;
    }
    pip::make(folder, &python.path, &pip_python, lists)?;
    fs::write(&stamp_file, wanted).with_context(|| format!("failed to write `{}`", stamp_file.display()))?;
    say(format!("{} is ready ({})", tree::short(folder), seconds(started.elapsed())));
    Ok(interpreter)
}

/// Everything that, if it changed, would make another environment; the folder too, because scripts in it name it.
fn stamp(folder: &Path, python: &Interpreter, lists: &[PathBuf]) -> Result<String> {
    let mut text =
        format!("cellblock 1\n{}\n{}\n{}\n", folder.display(), python.path.display(), python.version);
    for list in lists {
        let content =
            fs::read_to_string(list).with_context(|| format!("failed to read `{}`", list.display()))?;
        text.push_str(&content);
    }
    Ok(text)
}

/// FNV-1a: short, the same on every run; it tells environments apart and protects nothing.
fn short_hash(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// `/var/tmp` is everybody's: a folder that another user made there first is refused, not used.
fn open_own_folder(folder: &Path) -> Result<()> {
    // The mode is cut by umask, so a new folder is set right afterwards; one that exists is left as it is and judged.
    if DirBuilder::new().mode(0o755).create(folder).is_ok() {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("failed to set the mode of `{}`", folder.display()))?;
    }
    let meta = folder.symlink_metadata().with_context(|| format!("failed to make `{}`", folder.display()))?;
    if !meta.is_dir() || meta.uid() != host::uid() || meta.mode() & 0o022 != 0 {
        bail!(
            "`{}` is not a folder that only this user can write; remove it and try again",
            folder.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python() -> Interpreter {
        Interpreter { path: "/usr/bin/python3".into(), version: "3.11.2".into() }
    }

    #[test]
    fn another_python_or_folder_is_another_stamp() {
        let folder = Path::new("/a");
        let first = stamp(folder, &python(), &[]).unwrap();
        let newer = Interpreter { version: "3.11.3".into(), ..python() };
        assert_ne!(first, stamp(folder, &newer, &[]).unwrap());
        assert_ne!(first, stamp(Path::new("/b"), &python(), &[]).unwrap());
        assert_eq!(first, stamp(folder, &python(), &[]).unwrap());
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        assert!(open_own_folder(Path::new("/var/tmp")).is_err());
    }

    #[test]
    fn every_package_in_the_lists_is_pinned_and_hashed() {
        for list in lists(DEV) {
            let text = fs::read_to_string(&list).unwrap();
            let mut packages = 0;
            for entry in text.replace("\\\n", " ").lines().filter(|line| !line.starts_with('#')) {
                packages += 1;
                assert!(entry.contains("=="), "not pinned in {}: {entry}", list.display());
                assert!(entry.contains("--hash=sha256:"), "not hashed in {}: {entry}", list.display());
            }
            assert!(packages > 10, "{} is nearly empty", list.display());
        }
    }
}
