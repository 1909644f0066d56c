//! Removing trees that workers have made. They may be hostile: 60,000 folders deep (a recursive walk
//! overflows its stack, a path to the bottom is longer than the kernel takes), of mode 000, full of
//! links.
//!
//! So nothing descends. The tree is moved into a trash folder beside it, and each folder in the trash
//! has its files unlinked and its sub-folders moved up into the trash under a number, until none is
//! left. That takes a handful of descriptors and no stack, whatever the tree looks like. Below a place
//! where a worker may be at work all the while, the tree is its own trash ([`remove_within`]).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;

/// How a name that a worker chose is opened.
pub(crate) const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// How a trash folder's name begins; no notebook can be called that.
pub(crate) const TRASH: &str = ".trash-";

/// How often a folder is read anew because something is still in it: file systems may skip entries
/// while others are removed, but only something that still writes keeps a folder full.
const MAX_PASSES: usize = 1000;

/// Opens the folder itself and never what a link of that name leads to.
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a folder and all that is in it, following no link; the path's last part must be no link
/// either. It is gone from its place at once, or not at all.
///
/// # Errors
/// What the disk says. Then the rest lies in a trash folder beside it, for [`sweep`].
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let (parent, name) = (path.parent().ok_or_else(invalid)?, path.file_name().ok_or_else(invalid)?);
    let parent = openat(CWD, parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // A folder that is not writable cannot be moved, not even by its owner. Looked at before there
    // is a trash folder, so that a tree that is not there leaves none.
    make_accessible(&parent, name)?;
    let trash_name = format!("{TRASH}{}", random_suffix()?);
    mkdirat(&parent, trash_name.as_str(), Mode::RWXU)?;
    let moved = open(&parent, trash_name.as_str(), OFlags::RDONLY | FOLDER)
        .and_then(|trash| renameat(&parent, name, &trash, "0").map(|()| trash));
    let emptied = match moved {
        Ok(trash) => empty(&trash),
        Err(error) => Err(error.into()),
    };
    let removed = unlinkat(&parent, trash_name.as_str(), AtFlags::REMOVEDIR);
    emptied.and(removed.map_err(io::Error::from))
}

/// Removes the trash that a daemon which was killed meanwhile has left in a folder.
pub(crate) fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(TRASH.as_bytes()) {
            continue;
        }
        let path = entry.path();
        match remove_tree(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "removed what an earlier daemon had left"),
            // Another daemon may be at it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "could not remove trash"),
        }
    }
}

/// Removes a folder and all that is in it, where a worker may be at work: nothing is made (the disk
/// may be full), nothing but the folder's own content is touched, and it ends in time. When it does
/// not come to its end, what is left is where it was.
///
/// # Errors
/// What the disk says; `TimedOut` when there is always more.
pub(crate) fn remove_within(parent: &OwnedFd, name: &CStr, until: Instant) -> io::Result<()> {
    make_accessible(parent, name)?;
    // Names of their own, so that what is moved up does not meet what is there.
    let mut places =
        Places { prefix: format!(".removed-{}-", random_suffix()?), next: 0, until: Some(until) };
    loop {
        let folder = open(parent, name, OFlags::RDONLY | FOLDER)?;
        let mut is_empty = true;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let inner = entry.file_name();
            if inner == c"." || inner == c".." {
                continue;
            }
            is_empty = false;
            places.check_time()?;
            if entry.file_type() != FileType::Directory && unlink(&folder, inner)? {
                continue;
            }
            match remove_flat(&folder, inner, &mut places) {
                // Listed once more after it had been moved or removed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        if !is_empty {
            continue;
        }
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) => places.check_time()?,
            removed => return Ok(removed?),
        }
    }
}

/// Where sub-folders are moved to, and until when.
struct Places {
    prefix: String,
    next: u64,
    until: Option<Instant>,
}

impl Places {
    fn name(&self, number: u64) -> String {
        format!("{}{number}", self.prefix)
    }

    fn check_time(&self) -> io::Result<()> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

/// Removes the folders "0", "1", … of the trash; those inside them become the next numbers.
fn empty(trash: &OwnedFd) -> io::Result<()> {
    let mut places = Places { prefix: String::new(), next: 1, until: None };
    let mut number = 0_u64;
    while number < places.next {
        remove_flat(trash, places.name(number).as_str(), &mut places)?;
        number += 1;
    }
    Ok(())
}

/// Removes a folder of the trash; its sub-folders are moved up.
fn remove_flat(trash: &OwnedFd, name: impl rustix::path::Arg + Copy, places: &mut Places) -> io::Result<()> {
    make_accessible(trash, name)?;
    for _ in 0..MAX_PASSES {
        let folder = open(trash, name, OFlags::RDONLY | FOLDER)?;
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let inner = entry.file_name();
            if inner == c"." || inner == c".." {
                continue;
            }
            places.check_time()?;
            if !(entry.file_type() != FileType::Directory && unlink(&folder, inner)?) {
                make_accessible(&folder, inner)?;
                renameat(&folder, inner, trash, places.name(places.next))?;
                places.next += 1;
            }
        }
        match unlinkat(trash, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) => {}
            removed => return Ok(removed?),
        }
    }
    Err(Errno::NOTEMPTY.into())
}

/// Twelve characters that nobody else has.
pub(crate) fn random_suffix() -> io::Result<String> {
    let mut random = [0; 6];
    rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Opens a name in a folder: never what a link leads to, never what is mounted there.
fn open(folder: &OwnedFd, name: impl rustix::path::Arg, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    openat2(folder, name, flags, Mode::empty(), RESOLVE)
}

/// Whether it is gone; `false` when it is a folder. Not every file system says so beforehand.
fn unlink(folder: &OwnedFd, name: &CStr) -> io::Result<bool> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives ourselves all rights to a folder. A folder that may not be read cannot be opened for
/// fchmod(2), and fchmodat(2) follows links; so its name is opened without rights, as what it is.
fn make_accessible(parent: &OwnedFd, name: impl rustix::path::Arg) -> io::Result<()> {
    let place = open(parent, name, OFlags::PATH | FOLDER)?;
    let found = rustix::fs::fstat(&place)?;
    if Mode::from_raw_mode(found.st_mode).contains(Mode::RWXU) {
        return Ok(());
    }
    let by_number = format!("/proc/self/fd/{}", place.as_raw_fd());
    Ok(rustix::fs::chmod(by_number, Mode::RWXU)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A chain of folders too deep for any path.
    fn dig(top: &Path, depth: usize) {
        let mut at = openat(CWD, top, OFlags::RDONLY | FOLDER, Mode::empty()).unwrap();
        for _ in 0..depth {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = openat(&at, "d", OFlags::RDONLY | FOLDER, Mode::empty()).unwrap();
        }
    }

    type Remove = fn(&Path) -> io::Result<()>;

    /// As [`remove_tree`], but in its place.
    fn in_its_place(path: &Path) -> io::Result<()> {
        let parent: OwnedFd = fs::File::open(path.parent().unwrap())?.into();
        let name = std::ffi::CString::new(path.file_name().unwrap().as_encoded_bytes()).unwrap();
        remove_within(&parent, &name, Instant::now() + std::time::Duration::from_secs(60))
    }

    fn on_a_small_stack(path: &Path, remove: Remove) -> io::Result<()> {
        let path = path.to_owned();
        // The allocator alone takes tens of KiB where it is not optimised; 50 bytes for each of the folders are more.
        let small = std::thread::Builder::new().stack_size(256 << 10);
        small.spawn(move || remove(&path)).unwrap().join().unwrap()
    }

    #[test]
    fn deep_shut_and_linked_tree_is_removed_and_nothing_else() {
        for remove in [remove_tree as Remove, in_its_place] {
            check_removal(remove);
        }
    }

    fn check_removal(remove: Remove) {
        let temp = tempfile::tempdir().unwrap();
        let precious = temp.path().join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("file"), "").unwrap();
        let mode = fs::metadata(&precious).unwrap().permissions();
        let tree = temp.path().join("tree");
        for folder in ["shut/inner", "wide"] {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        for number in 0..300 {
            fs::write(tree.join("wide").join(number.to_string()), "").unwrap();
            fs::create_dir(tree.join("wide").join(format!("d{number}"))).unwrap();
        }
        symlink(&precious, tree.join("link")).unwrap();
        symlink(&precious, tree.join("shut/inner/link")).unwrap();
        symlink("nowhere", tree.join("dangling")).unwrap();
        dig(&tree, 5_000);
        for folder in ["shut/inner", "shut", ""] {
            fs::set_permissions(tree.join(folder), fs::Permissions::from_mode(0o0)).unwrap();
        }
        on_a_small_stack(&tree, remove).unwrap();
        let left: Vec<_> = fs::read_dir(temp.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["precious"]);
        assert!(precious.join("file").exists());
        assert_eq!(fs::metadata(&precious).unwrap().permissions(), mode);
    }

    #[test]
    fn link_at_the_top_and_nothing_at_all_are_errors_that_leave_no_trash() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("precious")).unwrap();
        symlink("precious", temp.path().join("link")).unwrap();
        remove_tree(&temp.path().join("link")).unwrap_err();
        let missing = remove_tree(&temp.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
    }

    #[test]
    fn removal_in_its_place_ends_in_time_and_takes_no_link_for_a_folder() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join("tree/inner")).unwrap();
        symlink("tree", temp.path().join("link")).unwrap();
        in_its_place(&temp.path().join("link")).unwrap_err();
        let parent: OwnedFd = fs::File::open(temp.path()).unwrap().into();
        let late = remove_within(&parent, c"tree", Instant::now()).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(temp.path().join("tree").is_dir());
        in_its_place(&temp.path().join("tree")).unwrap();
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn trash_of_a_daemon_that_was_killed_is_swept_and_the_rest_stays() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir_all(temp.path().join(".trash-00/17/inner")).unwrap();
        fs::create_dir(temp.path().join("notebook")).unwrap();
        sweep(temp.path());
        let left: Vec<_> = fs::read_dir(temp.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["notebook"]);
    }
}
