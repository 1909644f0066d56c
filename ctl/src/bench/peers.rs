//! The peers: the Python that notebooks run, bare, and the same in bubblewrap.
//!
//! They are the one thing here that runs outside of a sandbox, perhaps as root. So no package's code is
//! run (`-S`), no environment's `pyvenv.cfg` is obeyed (the base installation's program is started, which
//! is the same Python), and it must be one that cellblockd shows to its notebooks and that belongs to root
//! or to ourselves: a notebook's word alone starts nothing.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sandbox_profiles::{Action, Step};

/// One read from the pipe; as much as a pipe holds.
const READ_BYTES: usize = 64 << 10;
/// As much of what a peer prints as is kept; the rest is counted.
const KEPT_BYTES: usize = 64;

/// A Python of the host's.
#[derive(Debug)]
pub(super) struct Interpreter {
    program: PathBuf,
    /// The folder that it needs.
    tree: PathBuf,
}

impl Interpreter {
    /// The one that a notebook calls its own, as far as `plan` and its owner bear it out.
    ///
    /// # Errors
    /// It is not to be run here, for the reason given.
    pub(super) fn of(told: &str, plan: &[Step]) -> Result<Self, String> {
        let program = fs::canonicalize(told).map_err(|error| format!("cannot find `{told}`: {error}"))?;
        let shown = program.display();
        let named_so = program.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python"));
        let tree = plan.iter().find_map(|step| match &step.action {
            Action::OpenTree { source, target, writable: false, .. } if source == target => {
                program.starts_with(source).then(|| source.clone())
            }
            _ => None,
        });
        let Some(tree) = tree.filter(|_| named_so) else {
            return Err(format!("`{shown}` is no Python that cellblockd shows to notebooks"));
        };
        let found = fs::metadata(&program).map_err(|error| format!("cannot look at `{shown}`: {error}"))?;
        let (owner, own) = (found.uid(), rustix::process::geteuid().as_raw());
        if owner != 0 && owner != own {
            return Err(format!("`{shown}` belongs to user {owner}: it is run in sandboxes alone"));
        }
        Ok(Interpreter { program, tree })
    }

    /// Bare.
    pub(super) fn bare(&self) -> Vec<OsString> {
        let mut command = vec![self.program.clone().into_os_string()];
        command.extend(["-I", "-S", "-c"].map(OsString::from));
        command
    }

    /// In namespaces and a read-only system, as in `bench/setup.py`; nothing when there is no bubblewrap.
    pub(super) fn in_bubblewrap(&self) -> Option<Vec<OsString>> {
        let path = std::env::var_os("PATH")?;
        let program =
            std::env::split_paths(&path).map(|dir| dir.join("bwrap")).find(|path| path.is_file())?;
        let mut command = vec![program.into_os_string()];
        let mut add = |words: &[&Path]| command.extend(words.iter().map(|word| OsString::from(*word)));
        let words = ["--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr"];
        add(&words.map(Path::new));
        for (link, target) in [("/bin", "usr/bin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64")] {
            if Path::new(link).exists() {
                add(&["--symlink", target, link].map(Path::new));
            }
        }
        add(&["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"].map(Path::new));
        if !self.tree.starts_with("/usr") {
            // Last: what is mounted later covers what it lies below.
            add(&[Path::new("--ro-bind"), &self.tree, &self.tree]);
        }
        command.extend(self.bare());
        Some(command)
    }
}

/// What a peer did.
#[derive(Debug)]
pub(super) struct Ran {
    /// From before its start to its end.
    pub(super) elapsed: Duration,
    /// How it began.
    pub(super) printed: String,
    /// How much it was.
    pub(super) bytes: u64,
}

/// Runs a peer's command with this script to its end.
///
/// # Errors
/// It could not be started, or failed; in words.
pub(super) fn run(command: &[OsString], script: &str) -> Result<Ran, String> {
    let started = Instant::now();
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .arg(script)
        .env_clear()
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C at the terminal is for us: a peer that died of it would look like one that failed.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start `{}`: {error}", Path::new(&command[0]).display()))?;
    let read = count(child.stdout.as_mut().expect("asked for as a pipe"));
    // What it says on its other stream are a few lines at most, which the pipe holds.
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let elapsed = started.elapsed();
    let (bytes, head) = read.map_err(|error| format!("cannot read what it prints: {error}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, words.lines().last().unwrap_or("it says nothing")));
    }
    Ok(Ran { elapsed, printed: String::from_utf8_lossy(&head).into_owned(), bytes })
}

/// How many bytes come until the end, and the first of them.
fn count(stream: &mut impl Read) -> io::Result<(u64, Vec<u8>)> {
    let (mut bytes, mut head, mut buffer) = (0, Vec::new(), vec![0; READ_BYTES]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((bytes, head)),
            Ok(found) => {
                let wanted = found.min(KEPT_BYTES - head.len());
                head.extend_from_slice(&buffer[..wanted]);
                bytes += found as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use sandbox_profiles::{Actor, Barrier, Need};

    use super::*;

    fn shows(source: &Path, target: &Path, writable: bool) -> Step {
        let (source, target) = (source.to_owned(), target.to_owned());
        Step {
            actor: Actor::Shim,
            barrier: Barrier::ReadOnlySystem,
            need: Need::Required,
            action: Action::OpenTree { source, target, writable, devices: false, idmap: false },
            reason: String::new(),
        }
    }

    #[test]
    fn a_notebooks_word_starts_nothing_that_cellblockd_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().canonicalize().unwrap();
        let python = home.join("python3");
        fs::write(&python, "").unwrap();
        fs::write(home.join("reboot"), "").unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink(&python, home.join("link")).unwrap();
        let told = |name: &str, plan: &[Step]| Interpreter::of(home.join(name).to_str().unwrap(), plan);

        let shown = [shows(&home, &home, false)];
        let found = told("link", &shown).unwrap();
        assert_eq!((found.program, found.tree), (python, home.clone()));
        for plan in [vec![], vec![shows(&home, Path::new("/x"), false)], vec![shows(&home, &home, true)]] {
            assert!(told("python3", &plan).unwrap_err().ends_with("shows to notebooks"));
        }
        assert!(told("reboot", &shown).unwrap_err().ends_with("shows to notebooks"));
        assert!(told("missing", &shown).unwrap_err().starts_with("cannot find"));
    }

    #[test]
    fn all_is_counted_and_the_beginning_kept() {
        let mut stream = io::Cursor::new(vec![b'x'; 100_000]);
        assert_eq!(count(&mut stream).unwrap(), (100_000, vec![b'x'; KEPT_BYTES]));
    }

    #[test]
    fn a_peer_that_fails_is_told_by_its_last_word() {
        let command = ["/bin/sh", "-c"].map(OsString::from);
        let ran = run(&command, "echo 2").unwrap();
        assert_eq!((ran.printed.as_str(), ran.bytes), ("2\n", 2));
        assert_eq!(run(&command, "echo no; echo why >&2; exit 3").unwrap_err(), "exit status: 3: why");
        assert!(run(&["/nowhere/python".into()], "").unwrap_err().starts_with("cannot start"));
    }
}
