//! A cellblockd of our own: started beside us, ended with us, its files in a fresh directory.
//!
//! Its standard input is a pipe that we hold open. However we end, the pipe closes, and the daemon
//! ends with everything below it and removes its directory, which is ours: nothing here needs to run
//! for a clean end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tempfile::TempDir;

/// The first start on a machine fills caches (fonts, bytecode), which takes seconds.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// The daemon ends its workers first: SIGTERM, grace, SIGKILL.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// How often a wait looks whether it is still wanted.
const GLANCE: Duration = Duration::from_millis(200);
/// As much of the daemon's log as is looked at, in bytes.
const LOG_READ_BYTES: usize = 64 << 10;
/// As much of the daemon's log as an error message shows, in bytes.
const LOG_TAIL_BYTES: usize = 4 << 10;
/// Above this length (in bytes) of the temporary directory's name, the sockets' names below it
/// would not fit into the 107 bytes that unix(7) gives them.
const LONGEST_TEMP_BYTES: usize = 40;

/// What a private daemon is started with.
#[derive(Clone, Debug, Default)]
pub struct PrivateOptions {
    /// The interpreter; the daemon's choice when absent.
    pub python: Option<PathBuf>,
    /// The directory of profiles.
    pub profiles: Option<PathBuf>,
}

/// A running cellblockd that ends when this is dropped.
#[derive(Debug)]
pub struct PrivateDaemon {
    child: Child,
    /// Kept open: a daemon that writes to a closed pipe would die of it.
    _stdout: ChildStdout,
    socket: PathBuf,
    log: File,
    /// Goes with us.
    home: TempDir,
}

impl PrivateDaemon {
    /// Starts one and waits until it listens. `unwanted` is asked now and then; when it says yes,
    /// the wait ends.
    ///
    /// # Errors
    /// The program is missing, or it ends or stays silent instead of listening.
    pub fn start(options: &PrivateOptions, unwanted: &dyn Fn() -> bool) -> Result<Self, StartError> {
        let home = make_home()?;
        let program = find_program();
        // A file without a name: there is nothing to remove.
        let log = tempfile::tempfile().map_err(StartError::Home)?;
        let mut command = Command::new(&program);
        command
            .arg("--private")
            .arg("--runtime-dir")
            .arg(home.path())
            // Without it, its state lies in the runtime directory and goes with it.
            .env_remove("CELLBLOCK_STATE_DIR");
        if let Some(cache) = cache_dir() {
            // By environment: a daemon without the option ignores it.
            command.env("CELLBLOCK_CACHE_DIR", cache);
        }
        if let Some(python) = &options.python {
            command.arg("--python").arg(python);
        }
        if let Some(profiles) = &options.profiles {
            command.arg("--profiles").arg(profiles);
        }
        let mut child = command
            // It would be taken for --socket, and so for the socket of the shared daemon.
            .env_remove("CELLBLOCK_SOCKET")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.try_clone().map_err(StartError::Home)?)
            // Ctrl-C at the terminal is for us; the daemon must live to end the cell properly.
            .process_group(0)
            .spawn()
            .map_err(|source| StartError::Spawn { program, source })?;
        let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
        let mut daemon = PrivateDaemon { child, _stdout: stdout, socket: PathBuf::new(), log, home };
        daemon.socket = daemon.wait_until_ready(unwanted)?;
        Ok(daemon)
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The directory of notebooks: below `<id>` is what a notebook sees as `/workspace`, as a folder or in
    /// an image.
    pub fn notebooks_dir(&self) -> PathBuf {
        self.home.path().join("state/notebooks")
    }

    /// The end of what it logged, on lines of its own below a message; empty when it said nothing.
    pub fn log_tail(&self) -> String {
        let mut bytes = Vec::new();
        // The daemon's own writing place in it is the same; it only ever appends to what it wrote.
        let length = self.log.metadata().map_or(0, |log| log.len());
        bytes.resize(usize::try_from(length).unwrap_or(0).min(LOG_READ_BYTES), 0);
        let from = length - bytes.len() as u64;
        let count = self.log.read_at(&mut bytes, from).unwrap_or(0);
        bytes.truncate(count);
        let start = bytes.len().saturating_sub(LOG_TAIL_BYTES);
        let text = String::from_utf8_lossy(&bytes[start..]);
        if text.trim().is_empty() { String::new() } else { format!("\n{}", text.trim_end()) }
    }

    fn wait_until_ready(&mut self, unwanted: &dyn Fn() -> bool) -> Result<PathBuf, StartError> {
        let deadline = Instant::now() + START_PATIENCE;
        let mut line = Vec::new();
        while !line.contains(&b'\n') {
            if unwanted() {
                return Err(StartError::Unwanted);
            }
            if Instant::now() >= deadline {
                return Err(StartError::Silent { seconds: START_PATIENCE.as_secs(), log: self.log_tail() });
            }
            if !readable_within(&self._stdout, GLANCE).map_err(StartError::Home)? {
                continue;
            }
            let mut bytes = [0; 512];
            match self._stdout.read(&mut bytes).map_err(StartError::Home)? {
                0 => return Err(StartError::Ended { log: self.log_tail() }),
                count => line.extend_from_slice(&bytes[..count]),
            }
        }
        let text = String::from_utf8_lossy(&line);
        let first = text.lines().next().unwrap_or_default();
        match first.strip_prefix("ready ") {
            Some(socket) => Ok(PathBuf::from(socket)),
            None => Err(StartError::Ended { log: format!("\n{first}") }),
        }
    }
}

impl Drop for PrivateDaemon {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let ended = Pid::from_raw(self.child.id().cast_signed())
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
            .is_none_or(|pidfd| readable_within(&pidfd, END_PATIENCE).unwrap_or(false));
        if !ended {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Why there is no private daemon.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Its directory or a pipe could not be made.
    #[error("failed to prepare its directory")]
    Home(#[source] io::Error),
    /// The program could not be started.
    #[error("failed to start `{}`", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it listened.
    #[error("it ended before it was ready{log}")]
    Ended {
        /// What it said.
        log: String,
    },
    /// It did not listen in time.
    #[error("it was not ready after {seconds} s{log}")]
    Silent {
        /// How long we waited.
        seconds: u64,
        /// What it said.
        log: String,
    },
    /// We were told to stop.
    #[error("interrupted")]
    Unwanted,
}

impl StartError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            StartError::Spawn { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("install cellblockd beside cellctl or on PATH (`cargo build` makes both)".into())
            }
            StartError::Home(_) => Some("TMPDIR names the place for temporary files".into()),
            _ => None,
        }
    }
}

/// A directory that only we can enter, with a name short enough for sockets below it.
fn make_home() -> Result<TempDir, StartError> {
    let temp = std::env::temp_dir();
    let base = if temp.as_os_str().len() > LONGEST_TEMP_BYTES { PathBuf::from("/tmp") } else { temp };
    tempfile::Builder::new().prefix("cellblock-").tempdir_in(base).map_err(StartError::Home)
}

/// cellblockd beside this program, else wherever PATH has it.
fn find_program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join("cellblockd")))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from("cellblockd"))
}

/// Caches that cost seconds to fill are kept between private daemons.
fn cache_dir() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache"))).map(|base| base.join("cellblock"))
}

fn readable_within(fd: &impl AsFd, patience: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(patience).ok();
    match poll(&mut [PollFd::new(fd, PollFlags::IN)], timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
