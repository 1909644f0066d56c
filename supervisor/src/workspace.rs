//! The notebooks' folders: `<state>/notebooks/<id>/workspace`. What lies in a workspace is hostile
//! (links, odd names, any size): it is walked only to be removed, and by `files`, which does so as the
//! workers' own user.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};

use cellblock_proto::id::NotebookId;
use rustix::fs::OFlags;

use crate::daemon::Daemon;
use crate::removal;

/// Why a notebook has no folder.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    #[error("no space left on the disk of {path}: make room, or name another with --state-dir")]
    Full { path: PathBuf, source: io::Error },
    #[error("the disk of {path} is read-only: name another folder with --state-dir")]
    ReadOnly { path: PathBuf, source: io::Error },
    #[error("{path} is not a folder of ours (it is a link or a file): move it away")]
    Foreign { path: PathBuf },
    #[error("failed to {verb} {path}")]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WorkspaceError {
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

/// Where all notebooks' folders are.
pub(crate) fn notebooks(state: &Path) -> PathBuf {
    state.join("notebooks")
}

/// Makes a notebook's workspace and returns its path; what is in it already stays. `owner` is as in
/// [`give`].
///
/// # Errors
/// As [`make_private_dir`]; and a link or file where a folder of ours belongs.
pub(crate) fn open(
    state: &Path,
    notebook: &NotebookId,
    owner: Option<u32>,
) -> Result<PathBuf, WorkspaceError> {
    let folder = folder(state, notebook);
    let workspace = folder.join("workspace");
    make_private_dir(&workspace)?;
    for path in [&folder, &workspace] {
        must_be_folder(path)?;
    }
    give(&workspace, owner)?;
    Ok(workspace)
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

/// Opens a notebook's workspace. Its path is the supervisor's alone, so this may be done with the
/// supervisor's rights; nothing below it may.
///
/// # Errors
/// What the disk says, with the path; a link or file where a folder of ours belongs.
pub(crate) fn root(daemon: &Daemon, notebook: &NotebookId) -> Result<FilesRoot, WorkspaceError> {
    let path = folder(&daemon.state, notebook).join("workspace");
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
pub(crate) fn remove(state: &Path, notebook: &NotebookId) -> Result<(), WorkspaceError> {
    let folder = folder(state, notebook);
    if fs::symlink_metadata(&folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    must_be_folder(&folder)?;
    removal::remove_tree(&folder).map_err(failed("remove", &folder))
}

/// Whether a notebook of that name has files.
pub(crate) fn exists(state: &Path, notebook: &NotebookId) -> bool {
    fs::symlink_metadata(folder(state, notebook)).is_ok()
}

fn folder(state: &Path, notebook: &NotebookId) -> PathBuf {
    notebooks(state).join(notebook.as_str())
}

fn must_be_folder(path: &Path) -> Result<(), WorkspaceError> {
    let found = fs::symlink_metadata(path).map_err(failed("look at", path))?;
    if found.is_dir() { Ok(()) } else { Err(WorkspaceError::Foreign { path: path.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn id() -> NotebookId {
        "mine".parse().unwrap()
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
