//! The only file that starts programs, and there are two kinds. One is the shim's binary, ours: unpacking its
//! payload, looking at what the host can do for workspaces, becoming the anchor. The other is the
//! host's e2fsprogs, on images that no sandbox has mounted. They are exec'd with nothing in between
//! (no `pre_exec`), so that this multi-threaded process never runs code after a fork. Shims are
//! started by the anchor, Python by the shim.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// Unpacking writes a few files, starting the anchor makes a namespace; both take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Checking and growing an image that is full takes minutes on a slow disk, and must not be cut short.
const IMAGE_PATIENCE: Duration = Duration::from_secs(600);

/// Reading and writing as many gigabytes as a notebook may have, on a slow disk.
const STORE_PATIENCE: Duration = Duration::from_secs(1_800);

/// How much of a program's complaint goes into our own.
const COMPLAINT_BYTES: u64 = 4096;

/// Why a program of ours did not do its job.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    #[error("failed to start {program}; is it beside cellblockd, or named by --shim?")]
    Start { program: PathBuf, source: io::Error },
    #[error("{program} {job} failed ({status}): {complaint}")]
    Failed { program: PathBuf, job: &'static str, status: String, complaint: String },
    #[error("{program} {job} did not finish within {} s", patience.as_secs())]
    TimedOut { program: PathBuf, job: &'static str, patience: Duration },
    #[error("failed to write {path}")]
    Log { path: PathBuf, source: io::Error },
}

/// Where the shim's binary is: beside our own, else wherever `PATH` finds it.
pub(crate) fn shim_beside_us() -> PathBuf {
    let name = "cellblock-shim";
    std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join(name)))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

/// Where administrators' programs are, which not every `PATH` names.
const SYSTEM_PROGRAMS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The path of a program of the system, when it is installed.
pub(crate) fn find_system(name: &str) -> Option<PathBuf> {
    let places = SYSTEM_PROGRAMS.iter().map(|folder| Path::new(folder).join(name));
    places.into_iter().find(|path| path.is_file()).or_else(|| find(Path::new(name)).ok())
}

/// The path of a program, looked for on `PATH` when it is a bare name.
pub(crate) fn find(program: &Path) -> Result<PathBuf, ProcessError> {
    if program.components().count() > 1 {
        return Ok(program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.ok_or_else(|| start_error(program, io::Error::from(io::ErrorKind::NotFound)))
}

/// Has the shim write our Python and native code to a folder below `parent` that is named by their
/// content, and returns it; does nothing when they are there.
pub(crate) async fn unpack(shim: &Path, parent: &Path) -> Result<PathBuf, ProcessError> {
    let mut command = command(shim);
    command.arg("--unpack").arg(parent);
    let said = run(shim, "--unpack", command, PATIENCE).await?;
    Ok(parent.join(said.trim()))
}

/// Has the shim look at what this host can do for workspaces below `folder`; a line for each means.
pub(crate) async fn probe_quota(shim: &Path, folder: &Path) -> Result<String, ProcessError> {
    let mut command = command(shim);
    command.arg("--probe-quota").arg(folder);
    run(shim, "--probe-quota", command, PATIENCE).await
}

/// Has the shim do something with checkpoints, as `owner`; returns what it said. `orders` is its standard input.
pub(crate) async fn store(shim: &Path, owner: Option<u32>, orders: OwnedFd) -> Result<String, ProcessError> {
    let mut command = command(shim);
    command.arg("--store").stdin(orders);
    if let Some(owner) = owner {
        command.uid(owner).gid(owner);
    }
    run(shim, "--store", command, STORE_PATIENCE).await
}

/// Runs a program of e2fsprogs on an image. It keeps `lock` open for as long as it runs, even when this
/// process does not.
pub(crate) async fn on_image(
    program: &Path,
    arguments: &[&str],
    image: &Path,
    lock: File,
) -> Result<(), ProcessError> {
    let mut command = command(program);
    // It comes to its end without us too: half-grown, an image is not readable. What it says meanwhile would break
    // with our pipe.
    command.args(arguments).arg(image).stdin(lock).stdout(Stdio::null());
    run_to_its_end(program, "on the image of a workspace", command, IMAGE_PATIENCE).await.map(drop)
}

/// Runs a program to its end and returns what it said.
async fn run(
    program: &Path,
    job: &'static str,
    mut command: Command,
    patience: Duration,
) -> Result<String, ProcessError> {
    command.stdout(Stdio::piped()).kill_on_drop(true);
    run_to_its_end(program, job, command, patience).await
}

/// The same, of one that goes on when nobody waits for it any more.
async fn run_to_its_end(
    program: &Path,
    job: &'static str,
    mut command: Command,
    patience: Duration,
) -> Result<String, ProcessError> {
    let child = command.stderr(Stdio::piped()).spawn().map_err(|source| start_error(program, source))?;
    let output = tokio::time::timeout(patience, child.wait_with_output())
        .await
        .map_err(|_| ProcessError::TimedOut { program: program.to_owned(), job, patience })?
        .map_err(|source| start_error(program, source))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let (program, complaint) = (program.to_owned(), words(&output.stderr));
    Err(ProcessError::Failed { program, job, status: output.status.to_string(), complaint })
}

/// Starts the anchor and returns when it listens. It outlives us, so what it and the shims have to
/// complain about goes to a file: a pipe would break with our death.
pub(crate) async fn start_anchor(
    shim: &Path,
    socket: &Path,
    first_uid: Option<u32>,
    cgroup: &str,
) -> Result<(), ProcessError> {
    let job = "--anchor";
    let log_path = socket.with_file_name("anchor.log");
    let log =
        File::create(&log_path).map_err(|source| ProcessError::Log { path: log_path.clone(), source })?;
    let mut command = command(shim);
    command
        .arg(job)
        .arg("--socket")
        .arg(socket)
        .args(["--cgroup", cgroup])
        .stdout(Stdio::piped())
        .stderr(log);
    if let Some(first_uid) = first_uid {
        command.arg("--first-uid").arg(first_uid.to_string());
    }
    let mut child = command.spawn().map_err(|source| start_error(shim, source))?;
    let mut said = [0; 6];
    let ready = async {
        match child.stdout.as_mut() {
            Some(stdout) => stdout.read_exact(&mut said).await.is_ok(),
            None => false,
        }
    };
    let timed_out = || ProcessError::TimedOut { program: shim.to_owned(), job, patience: PATIENCE };
    if tokio::time::timeout(PATIENCE, ready).await.map_err(|_| timed_out())? && &said == b"ready\n" {
        return Ok(());
    }
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.map_err(|_| timed_out())?;
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    Err(ProcessError::Failed { program: shim.to_owned(), job, status, complaint: complaint(&log_path) })
}

/// Anchor and shims live long and are asked who they are by nobody: nothing of our environment but
/// the search path goes along.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir("/").stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

fn start_error(program: &Path, source: io::Error) -> ProcessError {
    ProcessError::Start { program: program.to_owned(), source }
}

fn complaint(log: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(file) = File::open(log) {
        // What cannot be read cannot be told; the status stands in the message as well.
        let _ = file.take(COMPLAINT_BYTES).read_to_end(&mut text);
    }
    words(&text)
}

fn words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).trim().to_owned();
    if text.is_empty() { "it said nothing".to_owned() } else { text }
}
