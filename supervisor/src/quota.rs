//! How the size of workspaces is held on this host: chosen once per daemon, then per notebook by what is
//! there already. [`choose`] decides, the rest looks and makes.
//!
//! A project of the disk is preferred: the files stay files. An image is next: a sparse file with an
//! ext4 in it, `workspace.img` beside where the folder would be. Where neither can be had, the shim
//! watches. Nothing is ever moved from one to another.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cellblock_proto::id::NotebookId;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sandbox_profiles::{Quota, Workspace};
use tokio::time::Instant;

use crate::daemon::Daemon;
use crate::host;
use crate::log::chain;
use crate::process;
use crate::workspace::{self, WorkspaceError, failed};

/// Makes the file system in an image.
const MKFS: &str = "mkfs.ext4";

/// What an image is called while it is being made.
const UNFINISHED: &str = "workspace.img.new";

/// `FS_PROJINHERIT_FL`: what is made in the folder gets its project.
const PROJECT_INHERITED: u32 = 0x2000_0000;

/// Where the superblock of an ext4 is, and what its blocks are in our images.
const SUPERBLOCK: u64 = 1024;
const BLOCK_BYTES: u64 = 4096;

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

/// What this host can do, by what was tried and not by names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Means {
    /// The file system of the state directory enforces project quotas; or why not.
    pub(crate) project: Result<(), String>,
    /// There is this `mkfs.ext4`, and loop devices; or why not, and the cure.
    pub(crate) image: Result<PathBuf, (String, &'static str)>,
}

impl Means {
    /// Looks at the host.
    pub(crate) async fn find(shim: &Path, state: &Path) -> Self {
        let nothing =
            |why: &str, cure| Means { project: Err(why.to_owned()), image: Err((why.to_owned(), cure)) };
        if !host::is_rootful() {
            return nothing(
                "an ordinary user can neither set quotas nor mount images",
                "run cellblockd as root",
            );
        }
        match process::probe_quota(shim, state).await {
            Ok(said) => Means::of(&said, process::find_system(MKFS)),
            Err(error) => nothing(&chain(&error), "see the log of cellblockd"),
        }
    }

    /// From the shim's words.
    pub(crate) fn of(said: &str, mkfs: Option<PathBuf>) -> Self {
        let word = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            match line {
                Some("ok") => Ok(()),
                Some(why) => Err(why.to_owned()),
                None => Err("the shim said nothing of it".to_owned()),
            }
        };
        let devices = "give cellblockd /dev/loop-control and loop devices (modprobe loop)";
        let image = match (word("image"), mkfs) {
            (Ok(()), Some(mkfs)) => Ok(mkfs),
            (Ok(()), None) => Err((format!("{MKFS} is not installed"), "apt-get install e2fsprogs")),
            (Err(why), _) => Err((why, devices)),
        };
        Means { project: word("project"), image }
    }
}

impl Means {
    /// How new workspaces are held, why not better, and what would mend it.
    pub(crate) fn account(&self) -> (bool, String, Option<&'static str>) {
        match (&self.project, &self.image) {
            (Ok(()), _) => (true, "workspaces are held by project quota".to_owned(), None),
            (Err(why), Ok(_)) => {
                let text = format!("workspaces are images of their size (no project quota: {why})");
                (true, text, Some("for plain folders instead, mount the disk with prjquota"))
            }
            (Err(why), Err((also, cure))) => {
                let reasons = if why == also { why.clone() } else { format!("{why}; no images: {also}") };
                let text =
                    format!("workspaces are only watched, and can overshoot (no project quota: {reasons})");
                (false, text, Some(cure))
            }
        }
    }
}

/// What is there of a notebook's workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// An image.
    Image,
    /// A folder.
    Folder {
        /// Nothing is in it.
        empty: bool,
        /// It is in a project already.
        in_project: bool,
        /// Its inode number.
        inode: u64,
    },
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice<'a> {
    Project(u32),
    KeepImage(Option<&'a Path>),
    MakeImage(&'a Path),
    Watch,
}

/// Files that are there stay where and what they are; what is new gets the best there is.
fn choose<'a>(found: Found, means: &'a Means) -> Choice<'a> {
    let Found::Folder { empty, in_project, inode } = found else {
        return Choice::KeepImage(means.image.as_deref().ok());
    };
    match (&means.project, Quota::project_id(inode), &means.image) {
        (Ok(()), Some(id), _) if empty || in_project => Choice::Project(id),
        (_, _, Ok(mkfs)) if empty => Choice::MakeImage(mkfs),
        _ => Choice::Watch,
    }
}

/// Makes a notebook's workspace, and what holds it to `bytes`; what is there already stays.
///
/// # Errors
/// What the disk or mkfs says; an image where nobody can mount one.
pub(crate) async fn prepare(
    daemon: &Daemon,
    notebook: &NotebookId,
    bytes: u64,
) -> Result<Workspace, WorkspaceError> {
    let owner = daemon.anchor.first_uid();
    let folder = workspace::open(&daemon.state, notebook, owner)?;
    #[cfg(debug_assertions)]
    if crate::weaken::leaves_out(sandbox_profiles::Barrier::WorkspaceQuota) {
        return Ok(Workspace { folder, quota: None });
    }
    let image = workspace::image(&daemon.state, notebook);
    let found = look(folder.clone(), image.clone()).await?;
    let quota = match choose(found, &daemon.means) {
        Choice::Project(id) => Quota::Project { id },
        Choice::KeepImage(_) if owner.is_none() => return Err(WorkspaceError::NeedsRoot { path: image }),
        Choice::KeepImage(mkfs) => {
            if let Some(mkfs) = mkfs
                && let Err(error) = grow(mkfs, &image, bytes).await
            {
                // The report says how much it holds.
                tracing::warn!(path = %image.display(), error = chain(&error), "workspace image not grown");
            }
            Quota::Image { image }
        }
        Choice::MakeImage(mkfs) => {
            make(mkfs, &folder, &image, bytes, owner.unwrap_or(0)).await?;
            Quota::Image { image }
        }
        Choice::Watch => Quota::Watch,
    };
    Ok(Workspace { folder, quota: Some(quota) })
}

/// Whether there are no files to be reached, or made, but with a worker: those of an image are mounted in
/// its sandbox alone, and what is to hold the size of a new workspace is made for its first worker.
///
/// # Errors
/// What the disk says.
pub(crate) async fn needs_worker(daemon: &Daemon, notebook: &NotebookId) -> Result<bool, WorkspaceError> {
    if daemon.anchor.first_uid().is_none() {
        return Ok(false);
    }
    let folder = workspace::place(&daemon.state, notebook);
    let found = match look(folder, workspace::image(&daemon.state, notebook)).await {
        Err(WorkspaceError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(true);
        }
        found => found?,
    };
    let is_new = matches!(found, Found::Folder { empty: true, in_project: false, .. });
    Ok(matches!(found, Found::Image) || (is_new && !matches!(choose(found, &daemon.means), Choice::Watch)))
}

/// What [`prepare`] would come to for a notebook of which nothing is there yet. Nothing is made.
pub(crate) fn planned(daemon: &Daemon, notebook: &NotebookId) -> Workspace {
    // Which inode its folder will have is not known; any stands for it.
    let new = Found::Folder { empty: true, in_project: false, inode: 1 };
    let quota = match choose(new, &daemon.means) {
        Choice::Project(id) => Quota::Project { id },
        Choice::KeepImage(_) | Choice::MakeImage(_) => {
            Quota::Image { image: workspace::image(&daemon.state, notebook) }
        }
        Choice::Watch => Quota::Watch,
    };
    Workspace { folder: workspace::place(&daemon.state, notebook), quota: Some(quota) }
}

/// What there is for a notebook. A folder that had many names is long, and the disk may be slow: not on
/// the runtime's threads.
async fn look(folder: PathBuf, image: PathBuf) -> Result<Found, WorkspaceError> {
    let at = folder.clone();
    let looked = tokio::task::spawn_blocking(move || {
        if workspace::has_image(&image)? { Ok(Found::Image) } else { look_at(&folder) }
    });
    looked.await.map_err(io::Error::other).map_err(failed("look at", &at))?
}

fn look_at(folder: &Path) -> Result<Found, WorkspaceError> {
    let io = |error: rustix::io::Errno| failed("look at", folder)(error.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::open(folder, flags, Mode::empty()).map_err(io)?;
    // A file system without such flags has no projects either.
    let flags = rustix::fs::ioctl_getflags(&place).map_or(0, |flags| flags.bits());
    let inode = rustix::fs::fstat(&place).map_err(io)?.st_ino;
    let own = |name: &std::ffi::CStr| name == c"." || name == c"..";
    let mut names = rustix::fs::Dir::read_from(&place).map_err(io)?;
    let empty = names.all(|entry| entry.is_ok_and(|entry| own(entry.file_name())));
    Ok(Found::Folder { empty, in_project: flags & PROJECT_INHERITED != 0, inode })
}

/// Makes an image, whole or not at all, in place of an empty folder.
async fn make(
    mkfs: &Path,
    folder: &Path,
    image: &Path,
    bytes: u64,
    owner: u32,
) -> Result<(), WorkspaceError> {
    let unfinished = image.with_file_name(UNFINISHED);
    let begun = Instant::now();
    let size = image_bytes(bytes);
    let made = async {
        // One that a daemon which was killed meanwhile has left is begun anew.
        let options = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&unfinished);
        let file = options.map_err(failed("make", &unfinished))?;
        file.set_len(size).map_err(failed("make", &unfinished))?;
        let arguments = arguments(bytes, owner);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let lock = file.try_clone().map_err(failed("make", &unfinished))?;
        process::on_image(mkfs, &arguments, &unfinished, lock).await.map_err(|error| {
            match is_full(&unfinished) {
                true => failed("make", &unfinished)(io::ErrorKind::StorageFull.into()),
                false => error.into(),
            }
        })?;
        let (folder, image, unfinished) = (folder.to_owned(), image.to_owned(), unfinished.clone());
        let put = tokio::task::spawn_blocking(move || put_in_place(&file, &unfinished, &folder, &image));
        put.await.unwrap_or_else(|error| Err(failed("make", Path::new(UNFINISHED))(io::Error::other(error))))
    };
    let made = made.await;
    match &made {
        Ok(()) => {
            let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(path = %image.display(), bytes = size, took_ms, "workspace image made");
        }
        Err(_) => drop(fs::remove_file(&unfinished)),
    }
    made
}

/// Whether not even an empty image finds room beside this path.
fn is_full(path: &Path) -> bool {
    let disk = rustix::fs::statvfs(path.parent().unwrap_or(path));
    disk.is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < EMPTY_IMAGE_BYTES)
}

/// Grows an image in which `bytes` do not fit, before it is mounted: a mounted one is grown only by who
/// has CAP_SYS_RESOURCE, which root has not everywhere. One that is larger stays.
async fn grow(mkfs: &Path, image: &Path, bytes: u64) -> Result<(), WorkspaceError> {
    let wanted = image_bytes(bytes);
    let file = File::options().read(true).write(true).open(image).map_err(failed("open", image))?;
    if file_system_bytes(&file).map_err(failed("read", image))? >= wanted {
        return Ok(());
    }
    // The sandbox before may still be writing its last files; who holds the lock has the image alone.
    let end = Instant::now() + LET_GO;
    while let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != Errno::WOULDBLOCK || Instant::now() >= end {
            return Err(failed("lock", image)(error.into()));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
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

/// How large the ext4 in an image is, by its superblock: the count of blocks, low half and high half.
fn file_system_bytes(image: &File) -> io::Result<u64> {
    let half = |offset: u64| {
        let mut bytes = [0; 4];
        image.read_exact_at(&mut bytes, SUPERBLOCK + offset).map(|()| u64::from(u32::from_le_bytes(bytes)))
    };
    Ok((half(0x150)? << 32 | half(0x4)?).saturating_mul(BLOCK_BYTES))
}

fn put_in_place(file: &File, unfinished: &Path, folder: &Path, image: &Path) -> Result<(), WorkspaceError> {
    // An image that the machine's end leaves half written would be there and never be mounted.
    file.sync_data().map_err(failed("write", unfinished))?;
    // Whoever puts a file there between our look and now keeps the notebook from having an image.
    fs::remove_dir(folder).map_err(failed("replace by an image the folder", folder))?;
    fs::rename(unfinished, image).map_err(failed("make", image))?;
    let parent = folder.parent().unwrap_or(folder);
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed("write", parent))
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

    fn means(project: bool, image: bool) -> Means {
        Means {
            project: project.then_some(()).ok_or_else(|| "no".to_owned()),
            image: image.then(|| PathBuf::from("/sbin/mkfs.ext4")).ok_or_else(|| ("no".to_owned(), "")),
        }
    }

    fn folder(empty: bool, in_project: bool, inode: u64) -> Found {
        Found::Folder { empty, in_project, inode }
    }

    #[test]
    fn new_workspace_gets_the_best_there_is() {
        let new = folder(true, false, 77);
        let mkfs = Path::new("/sbin/mkfs.ext4");
        assert_eq!(choose(new, &means(true, true)), Choice::Project(77));
        assert_eq!(choose(new, &means(false, true)), Choice::MakeImage(mkfs));
        assert_eq!(choose(new, &means(false, false)), Choice::Watch);
    }

    #[test]
    fn inode_number_that_is_no_project_gets_an_image() {
        for inode in [0, 1 << 31, 1 << 40] {
            let all = means(true, true);
            let choice = choose(folder(true, false, inode), &all);
            assert!(matches!(choice, Choice::MakeImage(_)), "{inode}: {choice:?}");
        }
    }

    #[test]
    fn what_has_files_stays_what_it_is() {
        for means in [means(true, true), means(false, true), means(true, false), means(false, false)] {
            let kept = choose(Found::Image, &means);
            assert_eq!(kept, Choice::KeepImage(means.image.as_deref().ok()));
            assert_eq!(choose(folder(false, false, 77), &means), Choice::Watch);
        }
        assert_eq!(choose(folder(false, true, 77), &means(true, true)), Choice::Project(77));
        assert_eq!(choose(folder(false, true, 77), &means(false, true)), Choice::Watch);
    }

    #[test]
    fn shims_words_become_means_and_each_lack_has_its_own_cure() {
        let mkfs = || Some(PathBuf::from("/sbin/mkfs.ext4"));
        let best = Means::of("project ok\nimage ok\n", mkfs());
        assert_eq!((best.project, best.image), (Ok(()), Ok("/sbin/mkfs.ext4".into())));
        let none = Means::of("project no quota\nimage /dev/loop-control: no\n", mkfs());
        assert_eq!(none.project, Err("no quota".to_owned()));
        assert!(none.image.unwrap_err().1.contains("modprobe loop"));
        let no_program = Means::of("project ok\nimage ok\n", None).image.unwrap_err();
        assert_eq!(no_program.1, "apt-get install e2fsprogs");
        assert!(Means::of("", mkfs()).project.is_err());
    }

    #[tokio::test]
    async fn image_replaces_an_empty_folder_whole_and_a_failure_leaves_the_folder() {
        let Some(mkfs) = process::find_system(MKFS) else { return };
        let temp = tempfile::tempdir().unwrap();
        let (folder, image) = (temp.path().join("workspace"), temp.path().join("workspace.img"));
        fs::create_dir(&folder).unwrap();
        fs::write(temp.path().join(UNFINISHED), "of a daemon that was killed").unwrap();
        make(Path::new("/bin/false"), &folder, &image, 8 << 20, 0).await.unwrap_err();
        let names =
            |path: &Path| fs::read_dir(path).unwrap().flatten().map(|e| e.file_name()).collect::<Vec<_>>();
        assert_eq!(names(temp.path()), ["workspace"]);
        fs::write(folder.join("file"), "").unwrap();
        make(&mkfs, &folder, &image, 8 << 20, 0).await.unwrap_err();
        assert_eq!(names(temp.path()), ["workspace"]);
        fs::remove_file(folder.join("file")).unwrap();
        make(&mkfs, &folder, &image, 8 << 20, 0).await.unwrap();
        assert_eq!(names(temp.path()), ["workspace.img"]);
        let found = fs::metadata(&image).unwrap();
        assert!(found.len() == image_bytes(8 << 20) && found.mode() & 0o777 == 0o600);
        assert!(found.blocks() * 512 < 1 << 20, "it is sparse: {}", found.blocks());
        // Of 117 and 118 MiB the last group would be too small.
        for mib in [8, 117, 118, 1024] {
            fs::remove_file(&image).unwrap();
            fs::create_dir(&folder).unwrap();
            make(&mkfs, &folder, &image, mib << 20, 0).await.unwrap();
            let made = file_system_bytes(&File::open(&image).unwrap()).unwrap();
            assert_eq!(made, image_bytes(mib << 20), "of {mib} MiB");
        }
    }
}
