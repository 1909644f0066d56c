//! Images of workspaces: made, grown, and kept ready for notebooks to come.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use tokio::time::Instant;

use crate::log::chain;
use crate::time::milliseconds;
use crate::workspace::{self, UNFINISHED_IMAGE, WorkspaceError, failed};
use crate::{process, removal};

/// How the name of one ends that is ready.
const READY: &str = ".img";

/// Where the superblock of an ext4 is, and what its blocks are in our images.
const SUPERBLOCK: u64 = 1024;
const BLOCK_BYTES: u64 = 4096;

/// `EXT4_ERROR_FS`
const HAS_ERRORS: u16 = 2;

/// A group of blocks of ext4, and what the last must have at least so that mkfs does not leave it away.
const GROUP_BYTES: u64 = 32768 * BLOCK_BYTES;
const LEAST_GROUP_BYTES: u64 = 2048 * BLOCK_BYTES;

/// What an image takes on the disk that has no files yet.
const EMPTY_IMAGE_BYTES: u64 = 1 << 20;

/// How long the sandbox before may take to write its last files to the disk, and how often we look.
const LET_GO: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A file for each so many bytes: twice as many as mke2fs gives, and a table of a 32nd of the image, of
/// which only what is used takes place on the disk.
const BYTES_PER_INODE: u64 = 8192;
const TABLES_SHARE: u64 = 32;

/// The journal makes an image readable after any end of the machine. A 128th of the image, within these.
const JOURNAL_MIB: (u64, u64) = (4, 64);

/// ext4 keeps a fiftieth, but no more than this, for its own last needs.
const KEPT_SHARE: u64 = 50;
const KEPT_MOST: u64 = 16 << 20;

/// Makes an image, whole or not at all, in place of an empty folder; of one that is ready, when there is.
pub(super) async fn make(
    mkfs: &Path,
    folder: &Path,
    image: &Path,
    bytes: u64,
    owner: u32,
    ready: &Ready,
) -> Result<(), WorkspaceError> {
    let unfinished = image.with_file_name(UNFINISHED_IMAGE);
    let begun = Instant::now();
    let made = async {
        let was_ready = ready.take(bytes, owner, &unfinished);
        if !was_ready {
            fresh(mkfs, &unfinished, bytes, owner).await?;
        }
        let (folder, image, unfinished) = (folder.to_owned(), image.to_owned(), unfinished.clone());
        let put = tokio::task::spawn_blocking(move || put_in_place(&unfinished, &folder, &image));
        let put = put.await;
        put.unwrap_or_else(|error| {
            Err(failed("make", Path::new(UNFINISHED_IMAGE))(io::Error::other(error)))
        })?;
        Ok(was_ready)
    };
    match made.await {
        Ok(was_ready) => {
            let took_ms = milliseconds(begun.elapsed());
            tracing::info!(path = %image.display(), bytes = image_bytes(bytes), was_ready, took_ms, "workspace image made");
            Ok(())
        }
        Err(error) => {
            drop(fs::remove_file(&unfinished));
            Err(error)
        }
    }
}

/// An image at `path`, on the disk.
async fn fresh(mkfs: &Path, path: &Path, bytes: u64, owner: u32) -> Result<(), WorkspaceError> {
    // One that a daemon which was killed meanwhile has left is begun anew.
    let options = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    let file = options.map_err(failed("make", path))?;
    file.set_len(image_bytes(bytes)).map_err(failed("make", path))?;
    let arguments = arguments(bytes, owner);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let lock = file.try_clone().map_err(failed("make", path))?;
    process::on_image(mkfs, &arguments, path, lock).await.map_err(|error| match is_full(path) {
        true => failed("make", path)(io::ErrorKind::StorageFull.into()),
        false => error.into(),
    })?;
    let at = path.to_owned();
    // An image that the machine's end leaves half written would be there and never be mounted.
    let written = tokio::task::spawn_blocking(move || file.sync_data());
    written.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed("write", &at))
}

/// Images that wait for a notebook, as files in a folder of the state directory: taking one is a rename,
/// whoever made it, so that they outlive a daemon and two daemons may share them.
pub(crate) struct Ready {
    folder: PathBuf,
}

impl Ready {
    /// Those of a state directory.
    pub(crate) fn of(state: &Path) -> Self {
        Ready { folder: state.join("images") }
    }

    /// What the names of images that are alike begin with.
    fn kind(bytes: u64, owner: u32) -> String {
        format!("{bytes}-{owner}-")
    }

    /// Where they are.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    fn like(&self, bytes: u64, owner: u32) -> Vec<PathBuf> {
        let kind = Ready::kind(bytes, owner);
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter(|entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| name.starts_with(&kind) && name.ends_with(READY))
        });
        names.map(|entry| entry.path()).collect()
    }

    /// Moves one to `image`; whether there was one.
    fn take(&self, bytes: u64, owner: u32, image: &Path) -> bool {
        self.like(bytes, owner).iter().any(|ready| fs::rename(ready, image).is_ok())
    }

    /// Makes as many as are missing.
    pub(super) async fn fill(
        &self,
        mkfs: &Path,
        bytes: u64,
        owner: u32,
        count: usize,
    ) -> Result<(), WorkspaceError> {
        workspace::make_private_dir(&self.folder)?;
        for _ in self.like(bytes, owner).len()..count {
            let suffix = removal::random_suffix().map_err(failed("make", &self.folder))?;
            let ready = self.folder.join(format!("{}{suffix}{READY}", Ready::kind(bytes, owner)));
            // In what is swept when we are killed meanwhile.
            let making = self.folder.join(format!("{}{suffix}", removal::TRASH));
            workspace::make_private_dir(&making)?;
            let made = fresh(mkfs, &making.join("image"), bytes, owner).await;
            let put = |()| fs::rename(making.join("image"), &ready).map_err(failed("make", &ready));
            let put = made.and_then(put);
            drop(fs::remove_file(making.join("image")));
            fs::remove_dir(&making).map_err(failed("remove", &making))?;
            put?;
        }
        Ok(())
    }
}

/// Whether not even an empty image finds room beside this path.
fn is_full(path: &Path) -> bool {
    let disk = rustix::fs::statvfs(path.parent().unwrap_or(path));
    disk.is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < EMPTY_IMAGE_BYTES)
}

/// Grows an image in which `bytes` do not fit, before it is mounted: a mounted one is grown only by who
/// has CAP_SYS_RESOURCE, which root has not everywhere. One that is larger stays.
pub(super) async fn grow(mkfs: &Path, image: &Path, bytes: u64) -> Result<(), WorkspaceError> {
    let wanted = image_bytes(bytes);
    let file = File::options().read(true).write(true).open(image).map_err(failed("open", image))?;
    if file_system_bytes(&file).map_err(failed("read", image))? >= wanted {
        return Ok(());
    }
    have_alone(&file, image).await?;
    let lock = || file.try_clone().map_err(failed("open", image));
    file.set_len(wanted).map_err(failed("grow", image))?;
    // -p mends what needs no decision, and answers 1 when it has; resize2fs then says what it thinks.
    let checked = process::on_image(&mkfs.with_file_name("e2fsck"), &["-f", "-p"], image, lock()?).await;
    if let Err(error) = checked {
        tracing::info!(path = %image.display(), error = chain(&error), "workspace image checked");
    }
    process::on_image(&mkfs.with_file_name("resize2fs"), &[], image, lock()?).await?;
    tracing::info!(path = %image.display(), bytes = wanted, "workspace image grown");
    Ok(())
}

/// Mends an image of whose file system the kernel has written down that it is damaged, which is so when the disk did
/// not take what belonged to it.
pub(super) async fn mend(mkfs: &Path, image: &Path) -> Result<(), WorkspaceError> {
    let file = File::options().read(true).write(true).open(image).map_err(failed("open", image))?;
    let is_damaged = || is_damaged(&file).map_err(failed("read", image));
    if !is_damaged()? {
        return Ok(());
    }
    have_alone(&file, image).await?;
    let mut answer = Ok(());
    // What needs a decision is decided in favour of a file system that can be used: nobody could be asked.
    for how in ["-p", "-y"] {
        let lock = file.try_clone().map_err(failed("open", image))?;
        answer = process::on_image(&mkfs.with_file_name("e2fsck"), &["-f", how], image, lock).await;
        if !is_damaged()? {
            tracing::warn!(path = %image.display(), "workspace image was damaged, and is mended");
            return Ok(());
        }
    }
    Ok(answer?)
}

/// Locks an image. The sandbox before may still be writing its last files; who holds the lock has the image alone.
async fn have_alone(file: &File, image: &Path) -> Result<(), WorkspaceError> {
    let end = Instant::now() + LET_GO;
    while let Err(error) = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        if error != Errno::WOULDBLOCK || Instant::now() >= end {
            return Err(failed("lock", image)(error.into()));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Whether the kernel has found something wrong with the ext4 in an image, by its superblock's state.
fn is_damaged(image: &File) -> io::Result<bool> {
    let mut state = [0; 2];
    image.read_exact_at(&mut state, SUPERBLOCK + 0x3a)?;
    Ok(u16::from_le_bytes(state) & HAS_ERRORS != 0)
}

/// How large the ext4 in an image is, by its superblock: the count of blocks, low half and high half.
fn file_system_bytes(image: &File) -> io::Result<u64> {
    let half = |offset: u64| {
        let mut bytes = [0; 4];
        image.read_exact_at(&mut bytes, SUPERBLOCK + offset).map(|()| u64::from(u32::from_le_bytes(bytes)))
    };
    Ok((half(0x150)? << 32 | half(0x4)?).saturating_mul(BLOCK_BYTES))
}

fn put_in_place(unfinished: &Path, folder: &Path, image: &Path) -> Result<(), WorkspaceError> {
    // Whoever puts a file there between our look and now keeps the notebook from having an image.
    fs::remove_dir(folder).map_err(failed("replace by an image the folder", folder))?;
    fs::rename(unfinished, image).map_err(failed("make", image))?;
    let parent = folder.parent().unwrap_or(folder).to_owned();
    // Nobody waits for it: what it saves from the machine's end is a notebook that has no file yet.
    std::thread::spawn(move || File::open(parent).and_then(|parent| parent.sync_all()));
    Ok(())
}

fn journal_mib(bytes: u64) -> u64 {
    (bytes >> 27).clamp(JOURNAL_MIB.0, JOURNAL_MIB.1)
}

/// The size of an image in which `bytes` fit.
fn image_bytes(bytes: u64) -> u64 {
    let content = bytes.saturating_add(journal_mib(bytes) << 20).saturating_add(1 << 20);
    let kept = (bytes / (KEPT_SHARE - 1)).min(KEPT_MOST);
    let content = content.saturating_add(kept);
    // A little more for the bitmaps and descriptors of each 128 MiB.
    let whole = content.saturating_add(content / (TABLES_SHARE - 1)).saturating_add(content / 4096);
    // mkfs leaves a last group away that is hardly larger than its own tables (1076 blocks): the file system
    // would be smaller than the image, and look as if it had to be grown for ever.
    let last_group = whole % GROUP_BYTES;
    let whole = if (1..LEAST_GROUP_BYTES).contains(&last_group) {
        whole - last_group + LEAST_GROUP_BYTES
    } else {
        whole
    };
    // ext4 has at most 2^32 blocks of 4096 bytes without more options; nobody has such a disk.
    (whole - whole % BLOCK_BYTES).min(1 << 43)
}

/// All that the host's own configuration could say otherwise is said: the same image everywhere.
fn arguments(bytes: u64, owner: u32) -> Vec<String> {
    let features = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
                    huge_file,dir_nlink,extra_isize,metadata_csum";
    // The file is new and sparse: its tables need not be written, now or later.
    let extended = format!("lazy_itable_init=1,lazy_journal_init=1,root_owner={owner}:{owner}");
    let journal = format!("size={}", journal_mib(bytes));
    let inodes = BYTES_PER_INODE.to_string();
    [
        "-q", "-F", "-b", "4096", "-I", "256", "-i", &inodes, "-m", "0", "-O", features, "-J", &journal,
        "-E", &extended,
    ]
    .map(str::to_owned)
    .to_vec()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn mkfs() -> PathBuf {
        process::find_system("mkfs.ext4").expect("mkfs.ext4 is there: install e2fsprogs")
    }

    #[tokio::test]
    async fn image_replaces_an_empty_folder_whole_and_a_failure_leaves_the_folder() {
        let mkfs = mkfs();
        let temp = tempfile::tempdir().unwrap();
        let (folder, image) = (temp.path().join("workspace"), temp.path().join("workspace.img"));
        let none = Ready::of(Path::new("/nowhere"));
        fs::create_dir(&folder).unwrap();
        fs::write(temp.path().join(UNFINISHED_IMAGE), "of a daemon that was killed").unwrap();
        make(Path::new("/bin/false"), &folder, &image, 8 << 20, 0, &none).await.unwrap_err();
        let names =
            |path: &Path| fs::read_dir(path).unwrap().flatten().map(|e| e.file_name()).collect::<Vec<_>>();
        assert_eq!(names(temp.path()), ["workspace"]);
        fs::write(folder.join("file"), "").unwrap();
        make(&mkfs, &folder, &image, 8 << 20, 0, &none).await.unwrap_err();
        assert_eq!(names(temp.path()), ["workspace"]);
        fs::remove_file(folder.join("file")).unwrap();
        make(&mkfs, &folder, &image, 8 << 20, 0, &none).await.unwrap();
        assert_eq!(names(temp.path()), ["workspace.img"]);
        let found = fs::metadata(&image).unwrap();
        assert!(found.len() == image_bytes(8 << 20) && found.mode() & 0o777 == 0o600);
        assert!(found.blocks() * 512 < 1 << 20, "it is sparse: {}", found.blocks());
        // Of 117 and 118 MiB the last group would be too small.
        for mib in [8, 117, 118, 1024] {
            fs::remove_file(&image).unwrap();
            fs::create_dir(&folder).unwrap();
            make(&mkfs, &folder, &image, mib << 20, 0, &none).await.unwrap();
            let made = file_system_bytes(&File::open(&image).unwrap()).unwrap();
            assert_eq!(made, image_bytes(mib << 20), "of {mib} MiB");
        }
    }

    #[tokio::test]
    async fn image_whose_file_system_is_damaged_is_mended() {
        let mkfs = mkfs();
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("workspace.img");
        fresh(&mkfs, &path, 8 << 20, 7).await.unwrap();
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        let damage = async || {
            let debugfs = mkfs.with_file_name("debugfs");
            let arguments = ["-w", "-R", "set_super_value state 2"];
            process::on_image(&debugfs, &arguments, &path, open()).await.unwrap();
        };
        // A whole one is not touched.
        let before = fs::read(&path).unwrap();
        mend(Path::new("/nowhere/mkfs.ext4"), &path).await.unwrap();
        assert!(!is_damaged(&open()).unwrap() && fs::read(&path).unwrap() == before);
        damage().await;
        assert!(is_damaged(&open()).unwrap());
        // Who cannot mend it says why.
        mend(Path::new("/nowhere/mkfs.ext4"), &path).await.unwrap_err();
        mend(&mkfs, &path).await.unwrap();
        assert!(!is_damaged(&open()).unwrap());
        let checked = process::on_image(&mkfs.with_file_name("e2fsck"), &["-f", "-n"], &path, open()).await;
        checked.unwrap();
    }

    #[tokio::test]
    async fn image_that_is_ready_is_taken_once_and_only_for_its_size_and_owner() {
        let mkfs = mkfs();
        let temp = tempfile::tempdir().unwrap();
        let ready = Ready::of(temp.path());
        ready.fill(&mkfs, 8 << 20, 7, 2).await.unwrap();
        ready.fill(&mkfs, 8 << 20, 7, 2).await.unwrap();
        assert_eq!(ready.like(8 << 20, 7).len(), 2);
        ready.fill(Path::new("/bin/false"), 8 << 20, 7, 3).await.unwrap_err();
        assert_eq!(fs::read_dir(temp.path().join("images")).unwrap().count(), 2, "nothing unfinished stays");
        let taken = |name: &str| temp.path().join(name);
        assert!(!ready.take(9 << 20, 7, &taken("a")) && !ready.take(8 << 20, 8, &taken("a")));
        assert!(ready.take(8 << 20, 7, &taken("a")) && ready.take(8 << 20, 7, &taken("b")));
        assert!(!ready.take(8 << 20, 7, &taken("c")));
        let uuid = |name: &str| {
            let mut bytes = [0; 16];
            File::open(taken(name)).unwrap().read_exact_at(&mut bytes, SUPERBLOCK + 0x68).unwrap();
            bytes
        };
        assert_ne!(uuid("a"), uuid("b"));
        // With one, mkfs is not needed.
        ready.fill(&mkfs, 8 << 20, 0, 1).await.unwrap();
        fs::create_dir(taken("workspace")).unwrap();
        let image = taken("workspace.img");
        make(Path::new("/bin/false"), &taken("workspace"), &image, 8 << 20, 0, &ready).await.unwrap();
        assert_eq!(file_system_bytes(&File::open(&image).unwrap()).unwrap(), image_bytes(8 << 20));
    }
}
