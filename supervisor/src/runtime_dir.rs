//! Where the daemon lives: its runtime directory, its lock, its socket.
//!
//! ```text
//! <runtime>/cellblockd.sock   the API, 0660
//! <runtime>/cellblockd.lock   held while a daemon lives; says its process id
//! <runtime>/workers/          0700: the anchor's socket and one control socket per shim
//! <runtime>/payload-<build>/  what every worker sees under /cellblock
//! <runtime>/state/            the notebooks of a private daemon that was given no other place
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::removal;
use crate::systemd::Given;

/// Longest path of a Unix socket in bytes: `sun_path` of unix(7) less its final NUL.
const SOCKET_PATH_BYTES: usize = 107;

/// Room that a worker's name needs in its control socket's path; see [`RuntimeDir::worker_name_bytes`].
const LEAST_WORKER_NAME_BYTES: usize = 16;

/// A runtime directory that this process owns until it ends.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    root: PathBuf,
    socket: PathBuf,
    /// The socket is systemd's, which removes it as well.
    given: Option<Given>,
    /// Holds the lock as long as it is open.
    _lock: File,
}

/// Why the daemon has nowhere to live.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeDirError {
    #[error("failed to {verb} {path}")]
    Io { verb: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the socket path {path} has {bytes} bytes, a Unix socket can have {SOCKET_PATH_BYTES}: \
         choose a shorter one with {option}"
    )]
    SocketPath { path: PathBuf, bytes: usize, option: &'static str },
    #[error("{path} is not safe to use: {reason}; choose another with --runtime-dir")]
    Unsafe { path: PathBuf, reason: String },
    #[error(
        "another cellblockd (process {pid}) runs in {root}: stop it, or choose another directory \
         with --runtime-dir"
    )]
    Taken { root: PathBuf, pid: String },
    #[error("another program listens on {path}: stop it, or choose another path with --socket")]
    SocketTaken { path: PathBuf },
    #[error("systemd listens on {given}, and --socket says {path}: leave --socket out")]
    SocketGiven { given: PathBuf, path: PathBuf },
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RuntimeDirError {
    let path = path.to_owned();
    move |source| RuntimeDirError::Io { verb, path, source }
}

/// The directory a daemon of this user uses when nobody names one.
pub(crate) fn default_root(private: bool) -> PathBuf {
    let uid = rustix::process::geteuid();
    let root = if uid.is_root() {
        PathBuf::from("/run/cellblock")
    } else if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        PathBuf::from(dir).join("cellblock")
    } else {
        PathBuf::from(format!("/tmp/cellblock-{uid}"))
    };
    if !private {
        return root;
    }
    // A private daemon must meet neither the system's nor another private one.
    let mut name = root.into_os_string();
    name.push(format!("-{}", std::process::id()));
    PathBuf::from(name)
}

/// The directory for notebooks when nobody names one; `None` for a user without a home.
pub(crate) fn default_state() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/cellblock"));
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state"))).map(|dir| dir.join("cellblock"))
}

impl RuntimeDir {
    /// Makes the directory, takes its lock, and clears what an earlier daemon left of its socket.
    ///
    /// # Errors
    /// A path too long for a socket, a directory that is somebody else's, another daemon in it.
    pub(crate) fn open(root: PathBuf, socket: Option<PathBuf>) -> Result<Self, RuntimeDirError> {
        let dir = RuntimeDir::make(root, socket)?;
        dir.clear_stale_socket()?;
        Ok(dir)
    }

    /// As [`RuntimeDir::open`], with a socket that is there already.
    ///
    /// # Errors
    /// As there, and when `socket` names another.
    pub(crate) fn open_with(
        root: PathBuf,
        socket: Option<PathBuf>,
        given: Given,
    ) -> Result<Self, RuntimeDirError> {
        if let Some(path) = socket.filter(|path| path != given.path()) {
            return Err(RuntimeDirError::SocketGiven { given: given.path().to_owned(), path });
        }
        let dir = RuntimeDir::make(root, Some(given.path().to_owned()))?;
        Ok(RuntimeDir { given: Some(given), ..dir })
    }

    fn make(root: PathBuf, socket: Option<PathBuf>) -> Result<Self, RuntimeDirError> {
        let option = if socket.is_some() { "--socket" } else { "--socket or --runtime-dir" };
        let socket = socket.unwrap_or_else(|| root.join("cellblockd.sock"));
        let bytes = socket.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES {
            return Err(RuntimeDirError::SocketPath { path: socket, bytes, option });
        }
        make_root(&root)?;
        let workers = root.join("workers");
        make_dir(&workers, 0o700)?;
        let lock = lock(&root)?;
        let dir = RuntimeDir { root, socket, given: None, _lock: lock };
        if dir.worker_name_bytes() < LEAST_WORKER_NAME_BYTES {
            let path = workers.join(format!("{}.sock", "x".repeat(LEAST_WORKER_NAME_BYTES)));
            let bytes = path.as_os_str().len();
            return Err(RuntimeDirError::SocketPath { path, bytes, option: "--runtime-dir" });
        }
        Ok(dir)
    }

    /// The API's socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where anchor and shims listen.
    pub(crate) fn workers(&self) -> PathBuf {
        self.root.join("workers")
    }

    /// Below it, our own Python and native code as the shim unpacks it, a folder per content.
    pub(crate) fn payloads(&self) -> PathBuf {
        self.root.join("payload")
    }

    /// The notebooks' files of a private daemon that was given no other place.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The anchor's socket.
    pub(crate) fn anchor_socket(&self) -> PathBuf {
        self.workers().join("anchor.sock")
    }

    /// A shim's control socket.
    pub(crate) fn worker_socket(&self, worker: &str) -> PathBuf {
        self.workers().join(format!("{worker}.sock"))
    }

    /// Removes what a shim that is no more has left: it has no rights in our folder itself.
    pub(crate) fn remove_worker_socket(&self, worker: &str) {
        let path = self.worker_socket(worker);
        remove_logged(&path, fs::remove_file(&path));
    }

    /// How long a worker's name may be for its control socket to have a legal path.
    pub(crate) fn worker_name_bytes(&self) -> usize {
        SOCKET_PATH_BYTES.saturating_sub(self.worker_socket("").as_os_str().len())
    }

    /// Binds the API's socket, which members of `group` can connect to; whose a given one is has been
    /// decided.
    ///
    /// # Errors
    /// Whatever bind(2), chown(2) and chmod(2) say, with the path.
    pub(crate) fn bind(&self, group: Option<u32>) -> Result<tokio::net::UnixListener, RuntimeDirError> {
        if let Some(given) = &self.given {
            return given.listener().map_err(failed("listen on", &self.socket));
        }
        let listener =
            tokio::net::UnixListener::bind(&self.socket).map_err(failed("listen on", &self.socket))?;
        if group.is_some() {
            chown(&self.socket, None, group).map_err(failed("set the group of", &self.socket))?;
        }
        // Others who can connect are told who may: each peer's uid is checked.
        fs::set_permissions(&self.socket, fs::Permissions::from_mode(0o660))
            .map_err(failed("set the mode of", &self.socket))?;
        Ok(listener)
    }

    /// Removes the socket, so that a client sees at once that nobody is there.
    pub(crate) fn remove_socket(&self) {
        if self.given.is_some() {
            return;
        }
        remove_logged(&self.socket, fs::remove_file(&self.socket));
    }

    /// Removes everything this daemon made here; for a private one, whose workers are gone. An
    /// operator may have named the folder of the state; then it is not ours to remove.
    pub(crate) fn remove(&self, with_state: bool) {
        self.remove_socket();
        let state = with_state.then(|| self.state());
        for dir in [self.workers(), self.payloads()].into_iter().chain(state) {
            // Workers have made what is in the state.
            remove_logged(&dir, removal::remove_tree(&dir));
        }
        removal::sweep(&self.root);
        let lock = self.root.join("cellblockd.lock");
        remove_logged(&lock, fs::remove_file(&lock));
        // Not recursive: what else lies in there is not ours.
        match fs::remove_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            result => remove_logged(&self.root, result),
        }
    }

    fn clear_stale_socket(&self) -> Result<(), RuntimeDirError> {
        // With --socket it may be the socket of a daemon in another runtime directory.
        match UnixStream::connect(&self.socket) {
            Ok(_) => Err(RuntimeDirError::SocketTaken { path: self.socket.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(_) => {
                use std::os::unix::fs::FileTypeExt;
                let found = fs::symlink_metadata(&self.socket).map_err(failed("look at", &self.socket))?;
                if !found.file_type().is_socket() {
                    let reason = "it exists and is not a socket".to_owned();
                    return Err(RuntimeDirError::Unsafe { path: self.socket.clone(), reason });
                }
                fs::remove_file(&self.socket).map_err(failed("remove the stale socket", &self.socket))
            }
        }
    }
}

fn remove_logged(path: &Path, result: io::Result<()>) {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "could not remove a runtime file");
        }
        _ => {}
    }
}

/// Open to others only for root, whose clients are other users; the socket's mode and the check of
/// the peer's uid decide who is served.
fn make_root(root: &Path) -> Result<(), RuntimeDirError> {
    let uid = rustix::process::geteuid();
    make_dir(root, if uid.is_root() { 0o755 } else { 0o700 })?;
    // The directory may lie in /tmp, where anybody can have made it before us.
    let found = fs::symlink_metadata(root).map_err(failed("look at", root))?;
    let reason = if !found.is_dir() {
        "it is not a directory (a symbolic link does not count)".to_owned()
    } else if found.uid() != uid.as_raw() {
        format!("it belongs to user {}", found.uid())
    } else if found.mode() & 0o022 != 0 {
        format!("others can write it (mode {:o})", found.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(RuntimeDirError::Unsafe { path: root.to_owned(), reason })
}

fn make_dir(path: &Path, mode: u32) -> Result<(), RuntimeDirError> {
    match DirBuilder::new().mode(mode).recursive(true).create(path) {
        Ok(()) => Ok(()),
        // A dangling link: the check that follows says so.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("make the directory", path)(error)),
    }
}

fn lock(root: &Path) -> Result<File, RuntimeDirError> {
    let path = root.join("cellblockd.lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(&path)
        .map_err(failed("open", &path))?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(failed("lock", &path)(error.into()));
        }
        let mut pid = String::new();
        // Only for the message; the holder may be about to write it.
        let _ = (&file).take(20).read_to_string(&mut pid);
        let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
        return Err(RuntimeDirError::Taken { root: root.to_owned(), pid });
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(failed("write", &path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_daemon_is_told_the_pid_of_the_first() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("run");
        let _first = RuntimeDir::open(root.clone(), None).unwrap();
        let error = RuntimeDir::open(root, None).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    }

    #[test]
    fn socket_path_too_long_is_refused_with_length_and_cure() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("s".repeat(120));
        let length = socket.as_os_str().len();
        let error = RuntimeDir::open(temp.path().join("run"), Some(socket)).unwrap_err().to_string();
        assert!(error.contains(&format!("{length} bytes")) && error.contains("--socket"), "{error}");
    }

    #[test]
    fn stale_socket_is_removed_and_a_live_one_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("api.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = RuntimeDir::open(temp.path().join("one"), Some(socket.clone())).unwrap_err();
        assert!(matches!(error, RuntimeDirError::SocketTaken { .. }), "{error}");
        drop(listener);
        RuntimeDir::open(temp.path().join("two"), Some(socket.clone())).unwrap();
        assert!(!socket.exists());
    }

    #[test]
    fn directory_that_others_can_write_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("run");
        fs::create_dir(&root).unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o777)).unwrap();
        let error = RuntimeDir::open(root, None).unwrap_err();
        assert!(matches!(error, RuntimeDirError::Unsafe { .. }), "{error}");
    }
}
