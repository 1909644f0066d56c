//! What a Python needs to run, found by reading files. It is never run to be asked: that would be
//! somebody's site-packages executed outside a sandbox.
//!
//! A virtual environment is its folder and the base installation named by `pyvenv.cfg`; any other
//! Python outside `/usr` is its prefix. What lies below `/usr` is part of the system anyway.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use sandbox_profiles::{Interpreter, Tree};

/// A link in a chain of links and environments; more than this is a circle.
const MAX_HOPS: usize = 16;

/// Places the sandbox covers with its own, so that an interpreter there would not be seen.
const COVERED: [&str; 5] = ["/cellblock", "/dev", "/proc", "/sys", "/workspace"];

/// A Python that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// What the plan wants to know.
    pub(crate) interpreter: Interpreter,
    /// The virtual environment, when it is one.
    pub(crate) environment: Option<PathBuf>,
    /// Folders of installed packages that exist, for telling when they change.
    pub(crate) packages: Vec<PathBuf>,
}

/// Why there is no Python to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InterpreterError {
    #[error("no Python at {path}; name one with --python or CELLBLOCK_PYTHON, or in the profile")]
    Missing { path: PathBuf },
    #[error(
        "no Python at {path} that this user may run: {folder} may not be searched; give permission for that, or \
         name another Python with --python or CELLBLOCK_PYTHON, or in the profile"
    )]
    Closed { path: PathBuf, folder: PathBuf },
    #[error("{path} cannot be executed; name a Python with --python or CELLBLOCK_PYTHON")]
    NotExecutable { path: PathBuf },
    #[error("failed to read {path} while looking for what Python needs")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{path} is a script, not a Python; name the real one with --python, e.g. \
         ~/.pyenv/versions/3.12.1/bin/python3"
    )]
    Script { path: PathBuf },
    #[error("{path} leads nowhere: its links or its pyvenv.cfg go in a circle or to nothing")]
    Circle { path: PathBuf },
    #[error("{path} lies in {covered}, which the sandbox covers with its own; put the environment elsewhere")]
    Covered { path: PathBuf, covered: &'static str },
    #[error(
        "the Python {path} would need {prefix} to be shown to notebooks, which is too much; use one \
         in a folder of its own"
    )]
    TooWide { path: PathBuf, prefix: PathBuf },
}

/// Where to look besides the path itself; taken from the environment once.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// The folders of `PATH`, in order.
    pub(crate) path: Vec<PathBuf>,
    /// The home folder, which is never shown as a whole.
    pub(crate) home: Option<PathBuf>,
    /// Folders that the sandbox covers with its own.
    pub(crate) covered: &'static [&'static str],
}

impl Search {
    /// From our own environment.
    pub(crate) fn from_environment() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Search {
            path: std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect(),
            home: std::env::var_os("HOME").map(PathBuf::from),
            covered: &COVERED,
        }
    }
}

/// Finds what `program` needs; a bare name is searched for in `search.path`.
///
/// # Errors
/// No such program, or one that cannot be shown to a sandbox; the message has the cure.
pub(crate) fn find(program: &Path, search: &Search) -> Result<Found, InterpreterError> {
    let program = locate(program, search)?;
    let program = behind_pyenv(program, search)?;
    if let Some(covered) = search.covered.iter().find(|covered| program.starts_with(covered)) {
        return Err(InterpreterError::Covered { path: program, covered });
    }
    let environment = environment_of(&program);
    // Outside an environment the real path says where the installation is, and any other would
    // need the folder of the link to be shown as well.
    let program = match environment {
        Some(_) => program,
        None => fs::canonicalize(&program).map_err(read_error(&program))?,
    };
    let mut trees = BTreeSet::new();
    collect(&program, search, &mut trees)?;
    let packages = packages(&program, &trees);
    let trees = without_nested(trees).into_iter().map(|path| Tree { source: path.clone(), target: path });
    Ok(Found { interpreter: Interpreter { program, trees: trees.collect() }, environment, packages })
}

fn read_error(path: &Path) -> impl FnOnce(io::Error) -> InterpreterError {
    let path = path.to_owned();
    move |source| InterpreterError::Read { path, source }
}

fn locate(program: &Path, search: &Search) -> Result<PathBuf, InterpreterError> {
    let bare = program.components().count() == 1 && !program.is_absolute();
    let found = if bare {
        let candidates = search.path.iter().map(|dir| dir.join(program));
        candidates.into_iter().find(|path| is_executable(path))
    } else {
        let absolute = std::path::absolute(program).map_err(read_error(program))?;
        let absolute = lexical(&absolute);
        if absolute.is_file() && !is_executable(&absolute) {
            return Err(InterpreterError::NotExecutable { path: absolute });
        }
        absolute.is_file().then_some(absolute)
    };
    found.ok_or_else(|| match closed_folder(program, MAX_HOPS).filter(|_| !bare) {
        Some(folder) => InterpreterError::Closed { path: program.to_owned(), folder },
        None => InterpreterError::Missing { path: program.to_owned() },
    })
}

/// The folder on the way to `path`, through its links, that we may not search.
fn closed_folder(path: &Path, hops: usize) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    let mut steps: Vec<&Path> = path.ancestors().collect();
    steps.reverse();
    for step in steps {
        let folder = step.parent().unwrap_or(Path::new("/"));
        match fs::symlink_metadata(step) {
            Ok(found) if found.is_symlink() => {
                let rest = path.strip_prefix(step).ok()?;
                let behind = lexical(&folder.join(fs::read_link(step).ok()?).join(rest));
                return closed_folder(&behind, hops.checked_sub(1)?);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Some(folder.to_owned()),
            Err(_) => return None,
        }
    }
    None
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// pyenv puts scripts named `python3` first in `PATH`; which Python they mean stands in
/// `<root>/version`.
fn behind_pyenv(program: PathBuf, search: &Search) -> Result<PathBuf, InterpreterError> {
    let mut start = [0; 2];
    let mut file = fs::File::open(&program).map_err(read_error(&program))?;
    if file.read_exact(&mut start).is_err() || &start != b"#!" {
        return Ok(program);
    }
    let script = || InterpreterError::Script { path: program.clone() };
    let shims = program.parent().filter(|dir| dir.ends_with("shims")).ok_or_else(script)?;
    let root = shims.parent().ok_or_else(script)?;
    let name = program.file_name().ok_or_else(script)?;
    let versions = fs::read_to_string(root.join("version")).unwrap_or_else(|_| "system".to_owned());
    for version in versions.split_whitespace() {
        // A version is a folder's name; anything else is not pyenv's.
        if version == "system"
            || !matches!(Path::new(version).components().next(), Some(Component::Normal(_)))
        {
            continue;
        }
        let real = root.join("versions").join(version).join("bin").join(name);
        if is_executable(&real) {
            return Ok(real);
        }
    }
    let others = search.path.iter().filter(|dir| *dir != shims).map(|dir| dir.join(name));
    let is_binary = |path: &PathBuf| {
        let mut start = [0; 2];
        let opened = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
        is_executable(path) && opened.is_ok() && &start != b"#!"
    };
    others.into_iter().find(is_binary).ok_or_else(script)
}

/// The environment that a program in its `bin` belongs to.
fn environment_of(program: &Path) -> Option<PathBuf> {
    let root = program.parent()?.parent()?;
    root.join("pyvenv.cfg").is_file().then(|| root.to_owned())
}

/// Adds the folders that a program needs: its own, those its links lead through, its base's.
fn collect(program: &Path, search: &Search, trees: &mut BTreeSet<PathBuf>) -> Result<(), InterpreterError> {
    let mut waiting = vec![program.to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(program) = waiting.pop() {
        if !seen.insert(program.clone()) {
            continue;
        }
        if seen.len() > MAX_HOPS {
            return Err(InterpreterError::Circle { path: program });
        }
        if let Some(root) = environment_of(&program) {
            let config = root.join("pyvenv.cfg");
            let text = fs::read_to_string(&config).map_err(read_error(&config))?;
            if let Some(home) = config_value(&text, "home") {
                let name = program.file_name().map_or_else(|| "python3".into(), ToOwned::to_owned);
                let base = Path::new(home).join(name);
                // The base may have only python3.N of the names; its folder is what matters.
                waiting.push(if base.exists() { base } else { Path::new(home).join("python3") });
            }
            trees.insert(root);
        } else {
            add_prefix(&program, search, trees)?;
        }
        match fs::read_link(&program) {
            Ok(target) => {
                let folder = program.parent().unwrap_or(Path::new("/"));
                waiting.push(lexical(&folder.join(target)));
            }
            Err(_) if program.exists() => {}
            Err(_) => {
                return Err(match closed_folder(&program, MAX_HOPS) {
                    Some(folder) => InterpreterError::Closed { path: program, folder },
                    None => InterpreterError::Circle { path: program },
                });
            }
        }
    }
    Ok(())
}

fn add_prefix(
    program: &Path,
    search: &Search,
    trees: &mut BTreeSet<PathBuf>,
) -> Result<(), InterpreterError> {
    let folder = program.parent().unwrap_or(Path::new("/"));
    let prefix = folder.parent().unwrap_or(Path::new("/"));
    if is_system(folder) {
        return Ok(());
    }
    let too_wide = || InterpreterError::TooWide { path: program.to_owned(), prefix: prefix.to_owned() };
    let is_home = search.home.as_deref().is_some_and(|home| home.starts_with(prefix));
    // `/opt/bin/python3` has the prefix `/opt`; `/srv/python3` would have `/`.
    if is_home || prefix.components().count() < 2 || !folder.ends_with("bin") {
        return Err(too_wide());
    }
    trees.insert(prefix.to_owned());
    Ok(())
}

/// Whether every sandbox has it: below `/usr`, or in the root's `bin` and `lib` that belong to it.
fn is_system(path: &Path) -> bool {
    ["/usr", "/bin", "/sbin", "/lib", "/lib64"].iter().any(|system| path.starts_with(system))
}

fn config_value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim().eq_ignore_ascii_case(key)).then(|| value.trim())
    })
}

/// The path without `.` and `..`, by text alone.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

/// Sorted, so that what contains another comes first; what is contained is there already.
fn without_nested(trees: BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = Vec::new();
    for tree in trees {
        if !kept.iter().any(|outer| tree.starts_with(outer)) {
            kept.push(tree);
        }
    }
    kept
}

fn packages(program: &Path, trees: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let mut prefixes: BTreeSet<PathBuf> = trees.clone();
    if program.starts_with("/usr") || trees.iter().any(|tree| tree.join("pyvenv.cfg").is_file()) {
        prefixes.extend(["/usr", "/usr/local"].map(PathBuf::from));
    }
    let mut found = Vec::new();
    for lib in prefixes.iter().map(|prefix| prefix.join("lib")) {
        let Ok(entries) = fs::read_dir(&lib) else { continue };
        for entry in entries.flatten().filter(|e| e.file_name().as_encoded_bytes().starts_with(b"python3")) {
            let folders = ["site-packages", "dist-packages"].map(|name| entry.path().join(name));
            found.extend(folders.into_iter().filter(|folder| folder.is_dir()));
        }
    }
    found.sort();
    found
}

#[cfg(test)]
#[path = "interpreter_tests.rs"]
mod tests;
