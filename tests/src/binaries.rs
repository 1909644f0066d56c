//! Where the programs under test are.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::setup::{Who, optional, we_are_root};

const PROGRAMS: [&str; 3] = ["cellblockd", "cellblock-shim", "cellctl"];

/// Copies of earlier builds are removed when they are older than any test run.
const KEEP: Duration = Duration::from_secs(2 * 3600);

/// The folder of the programs, as `who` can run them.
///
/// # Panics
/// When they have not been built.
pub fn folder(who: Who) -> PathBuf {
    let built = optional("CELLBLOCK_BIN_DIR").unwrap_or_else(beside_this_test);
    for program in PROGRAMS {
        let path = built.join(program);
        assert!(path.is_file(), "{} is missing: run `cargo build` first", path.display());
    }
    if who == Who::Root || !we_are_root() { built } else { readable_copy(&built) }
}

/// `target/debug`, from `target/debug/deps/it-…`.
fn beside_this_test() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    own.ancestors().nth(2).expect("cargo puts tests two folders down").to_owned()
}

/// The build folder may lie where an ordinary user cannot go, so he gets a copy of each build.
fn readable_copy(built: &Path) -> PathBuf {
    let copies = Path::new("/var/tmp/cellblock-test-bin");
    fs::create_dir_all(copies).expect("/var/tmp can be written");
    let owner = fs::metadata(copies).expect("just made").uid();
    assert_eq!(owner, 0, "{} belongs to user {owner}: remove it", copies.display());
    let mut hasher = DefaultHasher::new();
    for program in PROGRAMS {
        let found = fs::metadata(built.join(program)).expect("checked above");
        (found.ino(), found.size(), found.mtime(), found.mtime_nsec()).hash(&mut hasher);
    }
    let copy = copies.join(format!("{:016x}", hasher.finish()));
    if copy.is_dir() {
        return copy;
    }
    remove_old(copies);
    let making = tempfile::Builder::new().prefix(".making-").tempdir_in(copies).expect("a new folder");
    for program in PROGRAMS {
        let target = making.path().join(program);
        fs::copy(built.join(program), &target).expect("a copy of a program");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).expect("our own file");
    }
    fs::set_permissions(making.path(), fs::Permissions::from_mode(0o755)).expect("our own folder");
    // Another test may have been quicker; the copies are the same, and ours goes.
    if fs::rename(making.path(), &copy).is_ok() {
        let _ = making.keep();
    }
    assert!(copy.is_dir(), "no copy at {}", copy.display());
    copy
}

fn remove_old(copies: &Path) {
    for entry in fs::read_dir(copies).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > KEEP) {
            // Somebody else may be removing it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
