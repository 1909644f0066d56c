//! How the size of workspaces is held on this host: chosen once per daemon, then per notebook by what is
//! there already. [`choose`] decides, the rest looks and makes.
//!
//! A project of the disk is preferred: the files stay files. An image is next: a sparse file with an
//! ext4 in it, `workspace.img` beside where the folder would be. Where neither can be had, the shim
//! watches. Nothing is ever moved from one to another.

mod image;

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sandbox_profiles::{Quota, Workspace};

use crate::daemon::{Daemon, Key};
use crate::host;
use crate::log::chain;
use crate::process;
use crate::workspace::{self, WorkspaceError, failed};

pub(crate) use self::image::Ready;
use self::image::{grow, make, mend};

/// Makes the file system in an image.
const MKFS: &str = "mkfs.ext4";

/// `FS_PROJINHERIT_FL`: what is made in the folder gets its project.
const PROJECT_INHERITED: u32 = 0x2000_0000;

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
    notebook: &Key,
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
            if let Some(mkfs) = mkfs {
                if let Err(error) = mend(mkfs, &image).await {
                    // Most of it can be read and written, and whoever needs it finds out.
                    tracing::warn!(path = %image.display(), error = chain(&error), "workspace image not mended");
                }
                if let Err(error) = grow(mkfs, &image, bytes).await {
                    // The report says how much it holds.
                    tracing::warn!(path = %image.display(), error = chain(&error), "workspace image not grown");
                }
            }
            Quota::Image { image }
        }
        Choice::MakeImage(mkfs) => {
            let ready = Ready::of(&daemon.state);
            make(mkfs, &folder, &image, bytes, owner.unwrap_or(0), &ready).await?;
            Quota::Image { image }
        }
        Choice::Watch => Quota::Watch,
    };
    Ok(Workspace { folder, quota: Some(quota) })
}

/// Sees that an image is ready for each of the next `count` notebooks, where new workspaces are images.
///
/// # Errors
/// What the disk or mkfs says.
pub(crate) async fn make_ready(daemon: &Daemon, bytes: u64, count: usize) -> Result<(), WorkspaceError> {
    let (Err(_), Ok(mkfs)) = (&daemon.means.project, &daemon.means.image) else { return Ok(()) };
    let owner = daemon.anchor.first_uid().unwrap_or(0);
    Ready::of(&daemon.state).fill(mkfs, bytes, owner, count).await
}

/// Whether there are no files to be reached, or made, but with a worker: those of an image are mounted in
/// its sandbox alone, and what is to hold the size of a new workspace is made for its first worker.
///
/// # Errors
/// What the disk says.
pub(crate) async fn needs_worker(daemon: &Daemon, notebook: &Key) -> Result<bool, WorkspaceError> {
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
pub(crate) fn planned(daemon: &Daemon, notebook: &Key) -> Workspace {
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

#[cfg(test)]
mod tests {
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
}
