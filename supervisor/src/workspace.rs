//! The notebooks' folders: `<state>/notebooks/<id>/workspace`, or `workspace.img` beside where it would
//! be (see `quota.rs`). What lies in a workspace is hostile (links, odd names, any size): it is walked
//! only to be removed, and by `files`, which does so as the workers' own user.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use cellblock_proto::codec::Codec;
use cellblock_proto::id::TenantId;
use rustix::fs::{Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use crate::daemon::{Daemon, Key};
use crate::notebook::LiveWorker;
use crate::process::ProcessError;
use crate::removal;

/// More than settings ever have.
const SETTINGS_BYTES: u64 = 64 << 10;

/// More than the kernel says of any process.
const STATUS_BYTES: u64 = 64 << 10;

/// Why a notebook has no folder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    #[error("no space left on the disk of {path}: make room, or name another with --state-dir")]
    Full { path: PathBuf, source: io::Error },
    #[error("the disk of {path} is read-only: name another folder with --state-dir")]
    ReadOnly { path: PathBuf, source: io::Error },
    #[error("{path} is not a folder of ours (it is a link or a file): move it away")]
    Foreign { path: PathBuf },
    #[error("{path} is an image, which only root can mount: run cellblockd as root")]
    NeedsRoot { path: PathBuf },
    #[error("failed to make the image of a workspace")]
    Image(#[from] ProcessError),
    #[error("failed to {verb} {path}")]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
}

pub(crate) fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WorkspaceError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WorkspaceError::Full { path, source },
        io::ErrorKind::ReadOnlyFilesystem => WorkspaceError::ReadOnly { path, source },
        _ => WorkspaceError::Io { verb, path, source },
    }
}

/// Makes a folder that only we enter, and those above it.
///
/// # Errors
/// A full or read-only disk by name, anything else with the path.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), WorkspaceError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("make the folder", path))
}

/// What an image is called while it is being made.
pub(crate) const UNFINISHED_IMAGE: &str = "workspace.img.new";

/// What is imported, while it is put together.
const UNFINISHED_IMPORT: &str = "import";

/// What is moved out of a notebook's folder, or removed from it, when it is done.
pub(crate) const UNFINISHED: [&str; 2] = [UNFINISHED_IMAGE, UNFINISHED_IMPORT];

/// Where a tenant's notebooks' folders are: those of the daemon itself at the top, those of others apart.
pub(crate) fn notebooks(state: &Path, tenant: &TenantId) -> PathBuf {
    if *tenant == TenantId::operator() {
        return state.join("notebooks");
    }
    tenants(state).join(tenant.as_str()).join("notebooks")
}

/// Where others' folders are.
fn tenants(state: &Path) -> PathBuf {
    state.join("tenants")
}

/// The folders that tenants' notebooks have theirs in, as far as they can be found.
pub(crate) fn all_folders(state: &Path) -> Vec<PathBuf> {
    let others = names_in(&tenants(state)).unwrap_or_default();
    let all = std::iter::once(TenantId::operator()).chain(others);
    all.map(|tenant| notebooks(state, &tenant)).collect()
}

/// All notebooks that have a folder.
///
/// # Errors
/// What the disk says, with the path.
pub(crate) fn all_notebooks(state: &Path) -> Result<Vec<Key>, WorkspaceError> {
    let mut all = Vec::new();
    for tenant in std::iter::once(TenantId::operator()).chain(names_in(&tenants(state))?) {
        let names = names_in(&notebooks(state, &tenant))?;
        all.extend(names.into_iter().map(|notebook| Key { tenant: tenant.clone(), notebook }));
    }
    Ok(all)
}

/// What is in a folder and has a name of that kind; nothing when there is no such folder.
fn names_in<T: FromStr>(folder: &Path) -> Result<Vec<T>, WorkspaceError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("look into", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("look into", folder))?;
        names.extend(entry.file_name().to_str().and_then(|name| name.parse().ok()));
    }
    Ok(names)
}

/// Where a notebook's workspace is, or will be.
pub(crate) fn place(state: &Path, notebook: &Key) -> PathBuf {
    folder(state, notebook).join("workspace")
}

/// Makes a notebook's workspace and returns its path; what is in it already stays, and where there is an
/// image there is no folder. `owner` is as in [`give`].
///
/// # Errors
/// As [`make_private_dir`]; and a link or file where a folder of ours belongs.
pub(crate) fn open(state: &Path, notebook: &Key, owner: Option<u32>) -> Result<PathBuf, WorkspaceError> {
    let folder = folder(state, notebook);
    let workspace = place(state, notebook);
    if has_image(&image(state, notebook))? {
        return Ok(workspace);
    }
    make_private_dir(&workspace)?;
    for path in [&folder, &workspace] {
        must_be_folder(path)?;
    }
    give(&workspace, owner)?;
    Ok(workspace)
}

/// Where a notebook's image is, when it has one.
pub(crate) fn image(state: &Path, notebook: &Key) -> PathBuf {
    folder(state, notebook).join("workspace.img")
}

/// Whether there is an image at that path.
///
/// # Errors
/// Something else is there.
pub(crate) fn has_image(path: &Path) -> Result<bool, WorkspaceError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(true),
        Ok(_) => Err(WorkspaceError::Foreign { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("look at", path)(error)),
    }
}

/// Makes a notebook's folder of checkpoints, beside its workspace; `owner` is as in [`give`], for the store's
/// processes run as the shims do.
///
/// # Errors
/// As [`make_private_dir`].
pub(crate) fn checkpoints(
    state: &Path,
    notebook: &Key,
    owner: Option<u32>,
) -> Result<PathBuf, WorkspaceError> {
    let path = folder(state, notebook).join("checkpoints");
    make_private_dir(&path)?;
    give(&path, owner)?;
    Ok(path)
}

/// Where what is kept of a notebook's Executions is: cellblockd's alone.
pub(crate) fn outputs(state: &Path, notebook: &Key) -> PathBuf {
    outputs_in(&folder(state, notebook))
}

/// The same, in a notebook's folder.
pub(crate) fn outputs_in(folder: &Path) -> PathBuf {
    folder.join("outputs")
}

/// What is to be known of a notebook while nobody has opened it since the daemon was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The profile it was opened with.
    pub(crate) profile: String,
    /// Whether its worker is not evicted.
    #[serde(default)]
    pub(crate) pinned: bool,
    /// Whether its last worker was evicted, and there has been none since.
    #[serde(default)]
    pub(crate) evicted: bool,
}

/// Keeps them, until [`forget`].
///
/// # Errors
/// What the disk says, with the path.
pub(crate) fn remember(state: &Path, notebook: &Key, settings: &Settings) -> Result<(), WorkspaceError> {
    // Two who open a notebook at the same moment would take the half-made file away from each other.
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = settings_path(state, notebook);
    let next = path.with_extension("new");
    let text = Codec::Json.encode(settings).unwrap_or_default();
    fs::write(&next, text).and_then(|()| fs::rename(&next, &path)).map_err(failed("write", &path))
}

/// Those of a notebook that was not closed; `None` where there are none, or none that make sense.
///
/// # Errors
/// What the disk says, with the path: then nobody knows whether there are some.
pub(crate) fn recall(state: &Path, notebook: &Key) -> Result<Option<Settings>, WorkspaceError> {
    let path = settings_path(state, notebook);
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(SETTINGS_BYTES).read_to_end(&mut text));
    match read {
        Ok(_) => Ok(Codec::Json.decode(&text).ok()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// It is closed.
pub(crate) fn forget(state: &Path, notebook: &Key) {
    // Not there is as good as removed.
    let _ = fs::remove_file(settings_path(state, notebook));
}

fn settings_path(state: &Path, notebook: &Key) -> PathBuf {
    folder(state, notebook).join("notebook.json")
}

/// Makes the folder of a new notebook; whether there was none.
///
/// # Errors
/// What the disk says, with the path.
pub(crate) fn reserve(state: &Path, notebook: &Key) -> Result<bool, WorkspaceError> {
    let path = folder(state, notebook);
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed("make", &path)(error)),
    }
}

/// Where a file that is to be imported is put together.
pub(crate) fn staged_import(state: &Path, notebook: &Key) -> PathBuf {
    folder(state, notebook).join(UNFINISHED_IMPORT)
}

/// Whether something fits on the disk of the state directory, and not only a last block. What it does not say counts as
/// room: whoever needs it finds out.
pub(crate) fn has_room(state: &Path) -> bool {
    let Ok(disk) = rustix::fs::statvfs(state) else { return true };
    let least = (1 << 20).min(disk.f_blocks.saturating_mul(disk.f_frsize) / 64);
    disk.f_bavail.saturating_mul(disk.f_frsize) >= least && (disk.f_files == 0 || disk.f_ffree > 0)
}

/// Removes a notebook's checkpoints. Nobody may be writing one.
///
/// # Errors
/// What the disk says, with the path.
pub(crate) fn remove_checkpoints(state: &Path, notebook: &Key) -> Result<(), WorkspaceError> {
    let path = folder(state, notebook).join("checkpoints");
    if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    removal::remove_tree(&path).map_err(failed("remove", &path))
}

/// Gives a folder that a worker fills to the first host id of the workers (`None` when rootless):
/// what is made in it is of that id on the disk, so that a set-uid file in it is never host root's.
/// Only the folder itself, which the worker cannot replace; the shim maps the id to its worker.
///
/// # Errors
/// What the disk says, with the path.
pub(crate) fn give(folder: &Path, owner: Option<u32>) -> Result<(), WorkspaceError> {
    match owner {
        Some(_) => lchown(folder, owner, owner).map_err(failed("give to the workers the folder", folder)),
        None => Ok(()),
    }
}

/// A workspace, opened: where `files` begins, and as whom.
#[derive(Debug)]
pub(crate) struct FilesRoot {
    /// The folder that workers see as `/workspace`.
    pub(crate) folder: OwnedFd,
    /// Whose the files in it are on the disk, as in [`give`].
    pub(crate) owner: Option<u32>,
}

/// Opens a notebook's workspace, through its worker when it is an image. Its path is the supervisor's
/// alone, so this may be done with the supervisor's rights; nothing below it may.
///
/// # Errors
/// What the disk says, with the path; a link or file where a folder of ours belongs.
pub(crate) fn root(
    daemon: &Daemon,
    notebook: &Key,
    worker: Option<LiveWorker>,
) -> Result<FilesRoot, WorkspaceError> {
    let image = image(&daemon.state, notebook);
    if let Some(LiveWorker { pid, uid: Some(uid) }) = worker
        && has_image(&image)?
    {
        let folder = root_of_worker(pid, uid).map_err(failed("reach the files in", &image))?;
        return Ok(FilesRoot { folder, owner: Some(uid) });
    }
    let path = place(&daemon.state, notebook);
    must_be_folder(&path)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let folder = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(&path)
        .map_err(failed("open", &path))?;
    Ok(FilesRoot { folder: folder.into(), owner: daemon.anchor.first_uid() })
}

/// Removes a notebook's files.
///
/// # Errors
/// What the disk says, with the path.
pub(crate) fn remove(state: &Path, notebook: &Key) -> Result<(), WorkspaceError> {
    let folder = folder(state, notebook);
    if fs::symlink_metadata(&folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    must_be_folder(&folder)?;
    removal::remove_tree(&folder).map_err(failed("remove", &folder))
}

/// Whether a notebook of that name has files.
pub(crate) fn exists(state: &Path, notebook: &Key) -> bool {
    fs::symlink_metadata(folder(state, notebook)).is_ok()
}

/// The workspace as a live worker sees it: the way to the files in an image, which is mounted nowhere
/// else. `uid` is the worker's own on the host, which no other process has while it lives; a process id
/// can be another's by now, and what it calls its root is its own affair then.
///
/// # Errors
/// The worker has ended, or the process is not it.
fn root_of_worker(pid: u32, uid: u32) -> io::Result<OwnedFd> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The folder of a process stays that process's: when it has ended, nothing is found in it.
    let process = rustix::fs::open(format!("/proc/{pid}"), folder, Mode::empty())?;
    let status = openat(&process, "status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = String::new();
    File::from(status).take(STATUS_BYTES).read_to_string(&mut text)?;
    let uids = text.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    if uids.split_ascii_whitespace().map(str::parse).collect::<Vec<_>>() != vec![Ok(uid); 4] {
        return Err(io::Error::other(format!(
            "process {pid} is not the worker with uid {uid}: it has ended"
        )));
    }
    // `root` is a link of the kernel's, and what the worker's root holds was made by init, read-only.
    Ok(openat(&process, "root/workspace", folder | OFlags::NOFOLLOW, Mode::empty())?)
}

/// What is kept of a notebook.
pub(crate) fn folder(state: &Path, notebook: &Key) -> PathBuf {
    notebooks(state, &notebook.tenant).join(notebook.as_str())
}

fn must_be_folder(path: &Path) -> Result<(), WorkspaceError> {
    let found = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    if found.is_dir() { Ok(()) } else { Err(WorkspaceError::Foreign { path: path.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn id() -> Key {
        Key::own("mine".parse().unwrap())
    }

    #[test]
    fn workspace_is_made_once_private_and_kept() {
        let temp = tempfile::tempdir().unwrap();
        let path = open(temp.path(), &id(), None).unwrap();
        fs::write(path.join("file"), "kept").unwrap();
        assert_eq!(open(temp.path(), &id(), None).unwrap(), path);
        assert!(path.join("file").exists());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn workspace_that_was_roots_is_given_to_the_workers_and_the_folder_above_is_not() {
        use std::os::unix::fs::MetadataExt;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let path = open(temp.path(), &id(), None).unwrap();
        open(temp.path(), &id(), Some(70_000)).unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (70_000, 70_000, 0o700));
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().uid(), 0);
        remove(temp.path(), &id()).unwrap();
    }

    #[test]
    fn root_of_a_worker_is_given_for_the_right_process_only() {
        let own = rustix::process::geteuid().as_raw();
        let pid = std::process::id();
        assert_eq!(root_of_worker(pid, own + 1).unwrap_err().kind(), io::ErrorKind::Other);
        // Of the right user, but it has no workspace in its root.
        let missing = root_of_worker(pid, own).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound, "{missing}");
        assert_eq!(root_of_worker(u32::MAX, own).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// As root, because only root can give a process another root.
    #[tokio::test]
    async fn root_of_a_worker_is_where_its_files_are_until_it_ends() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        for folder in ["upper/workspace", "work", "root"] {
            fs::create_dir_all(temp.path().join(folder)).unwrap();
        }
        fs::write(temp.path().join("upper/workspace/file"), "here").unwrap();
        let script = "cd \"$1\" && mount -t tmpfs none work && mkdir work/u work/w && cp -r upper/workspace work/u \
                      && mount -t overlay -o lowerdir=/,upperdir=work/u,workdir=work/w none root \
                      && exec chroot root sh -c 'echo ready && exec sleep 100'";
        let mut command = tokio::process::Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(temp.path());
        command.stdout(std::process::Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut ready = [0; 6];
        let mut stdout = child.stdout.take().unwrap();
        tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut ready).await.unwrap();
        let pid = child.id().unwrap();
        let root = root_of_worker(pid, 0).unwrap();
        let file = openat(&root, "file", OFlags::RDONLY, Mode::empty()).unwrap();
        assert_eq!(io::read_to_string(File::from(file)).unwrap(), "here");
        assert!(root_of_worker(pid, 1).unwrap_err().to_string().contains("not the worker"));
        child.kill().await.unwrap();
        root_of_worker(pid, 0).unwrap_err();
    }

    #[test]
    fn removing_follows_no_link_inside_and_refuses_a_link_at_the_top() {
        let temp = tempfile::tempdir().unwrap();
        let precious = temp.path().join("precious");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("file"), "").unwrap();
        let path = open(temp.path(), &id(), None).unwrap();
        symlink(&precious, path.join("link")).unwrap();
        remove(temp.path(), &id()).unwrap();
        assert!(!exists(temp.path(), &id()));
        symlink(&precious, temp.path().join("notebooks/mine")).unwrap();
        assert!(matches!(remove(temp.path(), &id()), Err(WorkspaceError::Foreign { .. })));
        assert!(precious.join("file").exists());
    }
}
