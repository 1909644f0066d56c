//! Sums the bytes of a tree that is hostile and in use: any depth, any number of names, moved about
//! meanwhile. It goes on where it stopped, holds one descriptor whatever the depth, and follows no link.
//!
//! The way up is `..`, which leads elsewhere when somebody has moved a folder; then the walk begins
//! anew. Who keeps it from ever coming to its end is taken for one who has something to hide.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

/// A name costs at least so much, for its inode and itself; so that not even empty files are for free.
const NAME_BYTES: u64 = 4096;

/// Files with several names that are remembered, so as to count them once.
const LINKED: usize = 100_000;

/// How deep it goes; what is below counts for itself and not for what is in it, and ends the walk.
const DEPTH: usize = 1_000_000;

/// How often in succession it may begin anew.
const RESTARTS: u32 = 8;

/// The clock is looked at after so many names.
const NAMES_PER_LOOK: u32 = 64;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// One walk over a tree.
pub struct Walk {
    folder: Dir,
    /// The inode of the folder that is being read.
    inode: u64,
    /// The folders above it: inode, and where reading goes on.
    above: Vec<(u64, i64)>,
    bytes: u64,
    linked: HashSet<u64>,
    restarts: u32,
    device: u64,
}

/// What came of one name.
enum Step {
    On,
    Done,
    Lost,
}

impl Walk {
    /// Begins at a root, which may be an `O_PATH` descriptor; `None` when it cannot be read.
    pub fn new(root: &OwnedFd) -> Option<Self> {
        let found = rustix::fs::fstat(root).ok()?;
        let folder = open(root, ".")?;
        let (device, inode) = (found.st_dev, found.st_ino);
        let (above, linked) = (Vec::new(), HashSet::new());
        Some(Walk { folder, inode, above, bytes: blocks(&found), linked, restarts: 0, device })
    }

    /// Walks on until the end of the tree or of the time; the sum when it is the tree's, or more than
    /// `enough` already: whoever makes the tree longer all the time must not keep it from being told.
    /// `u64::MAX` when the tree does not hold still.
    pub fn go_on(&mut self, root: &OwnedFd, until: Instant, enough: u64) -> Option<u64> {
        let mut names = 0_u32;
        loop {
            match self.step() {
                Step::Done => return Some(self.bytes),
                Step::Lost if self.restarts >= RESTARTS => return Some(u64::MAX),
                Step::Lost => {
                    let restarts = self.restarts + 1;
                    // When not even the root can be read any more, there is nothing to hold on to.
                    let Some(anew) = Walk::new(root) else { return Some(u64::MAX) };
                    *self = Walk { restarts, ..anew };
                }
                Step::On if self.bytes > enough => return Some(self.bytes),
                Step::On => {}
            }
            names += 1;
            if names.is_multiple_of(NAMES_PER_LOOK) && Instant::now() >= until {
                return None;
            }
        }
    }

    fn step(&mut self) -> Step {
        let entry = match self.folder.read() {
            Some(Ok(entry)) => entry,
            // A folder that was removed while it was read has nothing more in it.
            Some(Err(_)) | None => return self.up(),
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            return Step::On;
        }
        let Ok(folder) = self.folder.fd() else { return Step::Lost };
        let Ok(found) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { return Step::On };
        if found.st_dev != self.device {
            return Step::On;
        }
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if is_folder || found.st_nlink < 2 || self.linked.len() >= LINKED || self.linked.insert(found.st_ino)
        {
            self.bytes = self.bytes.saturating_add(blocks(&found));
        }
        if is_folder && self.above.len() < DEPTH {
            let here = entry.offset();
            let name = name.to_owned();
            if let Some(inner) = open(folder, name.as_c_str()) {
                self.above.push((self.inode, here));
                self.inode = found.st_ino;
                self.folder = inner;
            }
        }
        Step::On
    }

    fn up(&mut self) -> Step {
        let Some((inode, at)) = self.above.pop() else { return Step::Done };
        let parent = self.folder.fd().ok().and_then(|folder| open(folder, ".."));
        let Some(mut parent) = parent else { return Step::Lost };
        let same = parent.stat().is_ok_and(|found| found.st_ino == inode && found.st_dev == self.device);
        if !same || parent.seek(at).is_err() {
            return Step::Lost;
        }
        (self.folder, self.inode) = (parent, inode);
        Step::On
    }
}

fn open(folder: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> Option<Dir> {
    let inner = rustix::fs::openat(folder, name, OFlags::RDONLY | FOLDER, Mode::empty()).ok()?;
    Dir::new(inner).ok()
}

fn blocks(found: &Stat) -> u64 {
    u64::try_from(found.st_blocks).unwrap_or(0).saturating_mul(512).max(NAME_BYTES)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn root(path: &Path) -> OwnedFd {
        rustix::fs::open(path, OFlags::PATH | FOLDER, Mode::empty()).unwrap()
    }

    fn sum(path: &Path) -> u64 {
        let root = root(path);
        Walk::new(&root).unwrap().go_on(&root, Instant::now() + Duration::from_secs(20), u64::MAX).unwrap()
    }

    #[test]
    fn every_file_counts_once_by_its_blocks_and_links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("big"), vec![1; 4 << 20]).unwrap();
        let empty = sum(temp.path());
        for number in 0..200 {
            fs::create_dir_all(temp.path().join(format!("{number}/a/b"))).unwrap();
            fs::write(temp.path().join(format!("{number}/a/b/file")), vec![1; 20_000]).unwrap();
        }
        let files = sum(temp.path());
        assert!(files >= empty + 200 * (20_000 + 3 * NAME_BYTES), "{files}");
        assert!(files <= empty + 200 * (24_576 + 3 * NAME_BYTES) + 64 * NAME_BYTES, "{files}");
        for number in 0..10 {
            fs::hard_link(temp.path().join("0/a/b/file"), temp.path().join(format!("link{number}"))).unwrap();
        }
        symlink(outside.path(), temp.path().join("outside")).unwrap();
        symlink(outside.path().join("big"), temp.path().join("big")).unwrap();
        let sparse = fs::File::create(temp.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        assert!(sum(temp.path()) <= files + 64 * NAME_BYTES);
    }

    #[test]
    fn walk_is_cut_into_pieces_and_comes_to_the_same_sum() {
        let temp = tempfile::tempdir().unwrap();
        for number in 0..500 {
            fs::write(temp.path().join(number.to_string()), "x").unwrap();
        }
        let root = root(temp.path());
        let mut walk = Walk::new(&root).unwrap();
        let mut pieces = 0;
        let found = loop {
            pieces += 1;
            if let Some(found) = walk.go_on(&root, Instant::now(), u64::MAX) {
                break found;
            }
        };
        assert_eq!(found, sum(temp.path()));
        assert!(pieces > 5, "{pieces}");
    }

    #[test]
    fn deep_tree_takes_one_descriptor_and_a_tree_that_moves_is_begun_anew() {
        let temp = tempfile::tempdir().unwrap();
        let mut at = root(temp.path());
        for _ in 0..1_000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::PATH | FOLDER, Mode::empty()).unwrap();
        }
        assert!(sum(temp.path()) >= 1_000 * NAME_BYTES);
        // Stopped deep inside, and what it is in goes elsewhere.
        fs::create_dir(temp.path().join("e")).unwrap();
        let root = root(temp.path());
        let mut walk = Walk::new(&root).unwrap();
        assert_eq!(walk.go_on(&root, Instant::now(), u64::MAX), None);
        fs::rename(temp.path().join("d"), temp.path().join("e/d")).unwrap();
        let found = walk.go_on(&root, Instant::now() + Duration::from_secs(20), u64::MAX).unwrap();
        assert_eq!(found, sum(temp.path()));
        fs::rename(temp.path().join("e/d"), temp.path().join("d")).unwrap();
        while fs::remove_dir_all(temp.path().join("d")).is_err() {}
    }

    #[test]
    fn what_is_too_much_is_told_before_the_end_of_the_tree() {
        let temp = tempfile::tempdir().unwrap();
        for name in 0..100 {
            fs::write(temp.path().join(name.to_string()), [1; 10_000]).unwrap();
        }
        let root = root(temp.path());
        let (whole, later) = (sum(temp.path()), Instant::now() + Duration::from_secs(20));
        let found = Walk::new(&root).unwrap().go_on(&root, later, whole / 2).unwrap();
        assert!(found > whole / 2 && found < whole, "{found} of {whole}");
    }

    #[test]
    fn tree_that_never_holds_still_is_too_much() {
        let temp = tempfile::tempdir().unwrap();
        for folder in ["a/inner", "b"] {
            fs::create_dir_all(temp.path().join(folder)).unwrap();
        }
        for number in 0..1_000 {
            fs::write(temp.path().join("a/inner").join(number.to_string()), "").unwrap();
        }
        let root = root(temp.path());
        let mut walk = Walk::new(&root).unwrap();
        let (mut from, mut to) = ("a", "b");
        let mut moves = 0;
        for _ in 0..10_000 {
            if let Some(found) = walk.go_on(&root, Instant::now(), u64::MAX) {
                assert_eq!(found, u64::MAX);
                return;
            }
            // Once in each walk: moved twice it would be back.
            if walk.above.len() == 2 && walk.restarts == moves {
                moves += 1;
                fs::rename(temp.path().join(from).join("inner"), temp.path().join(to).join("inner")).unwrap();
                (from, to) = (to, from);
            }
        }
        panic!("it never ended");
    }
}
