//! Profiles by name: the built-in `default`, and what the operator's folder has.

use std::io;
use std::path::{Path, PathBuf};

use sandbox_profiles::{Profile, ProfileError};

/// The profile a notebook gets when nobody names one.
pub(crate) const DEFAULT: &str = "default";

/// A profile is a page of text; more is a mistake.
const MAX_BYTES: u64 = 1 << 20;

/// Why there is no such profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfilesError {
    #[error("bad profile name {shown:?}: use 1 to 64 of the characters A-Z a-z 0-9 _ -")]
    Name { shown: String },
    #[error(
        "no profile {name:?}: there is only `default`, unless --profiles names a folder with {name}.toml"
    )]
    NoFolder { name: String },
    #[error("no profile {name:?} in {folder}")]
    Unknown { name: String, folder: PathBuf },
    #[error("failed to read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Bad(#[from] ProfileError),
}

/// Reads a profile. Nothing is kept: an edit holds from the next worker on.
///
/// # Errors
/// No such profile, or one that does not parse.
pub(crate) fn load(folder: Option<&Path>, name: &str) -> Result<Profile, ProfilesError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !(1..=64).contains(&name.len()) || !name.chars().all(legal) {
        return Err(ProfilesError::Name { shown: name.chars().take(40).collect() });
    }
    let Some(folder) = folder else {
        return match name {
            DEFAULT => Ok(Profile::builtin_default()),
            _ => Err(ProfilesError::NoFolder { name: name.to_owned() }),
        };
    };
    let path = folder.join(format!("{name}.toml"));
    match read(&path) {
        Ok(text) => Ok(Profile::parse(name, &text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match name {
            DEFAULT => Ok(Profile::builtin_default()),
            _ => Err(ProfilesError::Unknown { name: name.to_owned(), folder: folder.to_owned() }),
        },
        Err(source) => Err(ProfilesError::Read { path, source }),
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_is_built_in_and_a_file_of_that_name_replaces_it() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(load(None, DEFAULT).unwrap(), Profile::builtin_default());
        assert_eq!(load(Some(temp.path()), DEFAULT).unwrap(), Profile::builtin_default());
        std::fs::write(temp.path().join("default.toml"), "version = 1\n[limits]\nwall_ms = 7\n").unwrap();
        assert_eq!(load(Some(temp.path()), DEFAULT).unwrap().limits.wall_ms, 7);
    }

    #[test]
    fn name_that_leads_out_of_the_folder_is_refused() {
        for name in ["../etc/passwd", "", "a/b", "a\0", "."] {
            assert!(matches!(load(None, name), Err(ProfilesError::Name { .. })), "{name:?}");
        }
    }
}
