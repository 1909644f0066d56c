//! Which Python a virtual environment is made from, and which pip fills it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{all_on_path, is_executable, on_path, output};

/// The oldest Python with wheels for the pinned packages.
const OLDEST: (u32, u32) = (3, 11);

/// `pip --python` appeared in 22.3; it fills an environment that holds no pip of its own.
const OLDEST_PIP: (u32, u32) = (22, 3);

/// A Python found on this machine.
#[derive(Debug)]
pub(crate) struct Interpreter {
    /// The program itself, not a shell script in front of it.
    pub(crate) path: PathBuf,
    /// Full version, such as `3.11.7`.
    pub(crate) version: String,
}

/// The Python that was asked for, or the first on PATH that is new enough.
///
/// # Errors
/// One sentence that says what to install or set.
pub(crate) fn find(wanted: Option<&Path>) -> Result<Interpreter> {
    let from_variable =
        std::env::var_os("CELLBLOCK_PYTHON").filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = wanted.map(Path::to_path_buf).or(from_variable) {
        return open(&path).with_context(|| format!("failed to use the chosen Python `{}`", path.display()));
    }
    let mut refused = None;
    for name in ["python3", "python3.13", "python3.12", "python3.11"] {
        let Some(path) = on_path(name) else { continue };
        match open(&path) {
            Ok(found) => return Ok(found),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    match refused {
        Some(error) => Err(error.context(
            "failed to find a usable Python on PATH; CELLBLOCK_PYTHON=/path/to/python3 chooses one",
        )),
        None => bail!("no python3 on PATH; `apt-get install python3 python3-pip` installs it"),
    }
}

fn open(path: &Path) -> Result<Interpreter> {
    // A bare name is one on PATH, as for a shell.
    let named = if path.components().count() == 1 { on_path(path) } else { None };
    let path = named.as_deref().unwrap_or(path);
    if !is_executable(path) {
        bail!("`{}` is not a program", path.display());
    }
    // A version manager's python3 is a shell script; sys.executable is the program behind it.
    let script = "import sys, importlib.util as u\n\
                  print(sys.executable)\n\
                  print('%d.%d.%d' % sys.version_info[:3])\n\
                  print(u.find_spec('venv') is not None)";
    let told = output(Command::new(path).args(["-I", "-c", script]))?;
    let [executable, version, has_venv] = told.lines().collect::<Vec<_>>()[..] else {
        bail!("`{}` does not answer like a Python", path.display());
    };
    if numbers(version) < OLDEST {
        bail!("`{executable}` is Python {version}; cellblock needs {}.{} or newer", OLDEST.0, OLDEST.1);
    }
    if has_venv != "True" {
        bail!("`{executable}` has no venv module; `apt-get install python3-venv` installs it");
    }
    Ok(Interpreter { path: executable.into(), version: version.to_owned() })
}

/// A Python whose pip can fill another environment: this one's, else any other's on PATH.
///
/// # Errors
/// One sentence with the command that installs pip.
pub(crate) fn with_pip(chosen: &Interpreter) -> Result<PathBuf> {
    let others = ["python3", "python3.13", "python3.12", "python3.11"].into_iter().flat_map(all_on_path);
    let mut all = std::iter::once(chosen.path.clone()).chain(others);
    all.find(|python| has_pip(python)).with_context(|| {
        format!(
            "no python3 on this machine has pip {}.{} or newer; `apt-get install python3-pip` installs it",
            OLDEST_PIP.0, OLDEST_PIP.1
        )
    })
}

fn has_pip(python: &Path) -> bool {
    // Prints "pip 23.0.1 from ... (python 3.11)".
    let told = output(Command::new(python).args(["-m", "pip", "--version"]));
    told.is_ok_and(|text| {
        text.split_whitespace().nth(1).is_some_and(|version| numbers(version) >= OLDEST_PIP)
    })
}

/// Major and minor number; what does not parse counts as 0.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(numbers("3.9.18") < OLDEST);
        assert!(numbers("3.11.2") >= OLDEST);
        assert!(numbers("23.0.1") >= OLDEST_PIP);
        assert!(numbers("20.3.4") < OLDEST_PIP);
    }

    #[test]
    fn a_program_that_is_no_python_is_refused() {
        assert!(open(Path::new("/bin/true")).is_err());
    }
}
