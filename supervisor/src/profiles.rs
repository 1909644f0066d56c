//! Profiles by name: those that are built in, and what the operator's folder has. A file of the same
//! name as a built-in profile replaces it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use cellblock_proto::client::ProfileInfo;
use sandbox_profiles::{BUILTINS, Profile, ProfileError, is_profile_name};

use crate::log::chain;

/// The profile a notebook gets when nobody names one.
pub(crate) const DEFAULT: &str = "default";

/// A profile is a page of text; more is a mistake.
const MAX_BYTES: u64 = 1 << 20;

/// Why there is no such profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfilesError {
    #[error("bad profile name {shown:?}: use 1 to 64 of the characters A-Z a-z 0-9 _ -")]
    Name { shown: String },
    #[error("no profile {name:?}: built in are {}, and --profiles names a folder of others", builtins())]
    NoFolder { name: String },
    #[error("no profile {name:?} in {folder}, and built in are {}", builtins())]
    Unknown { name: String, folder: PathBuf },
    #[error("failed to read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Bad(#[from] ProfileError),
}

fn builtins() -> String {
    BUILTINS.map(|(name, _)| name).join(", ")
}

/// Reads a profile. Nothing is kept: an edit holds from the next worker on.
///
/// # Errors
/// No such profile, or one that does not parse.
pub(crate) fn load(folder: Option<&Path>, name: &str) -> Result<Profile, ProfilesError> {
    if !is_profile_name(name) {
        return Err(ProfilesError::Name { shown: name.chars().take(40).collect() });
    }
    let read = |name: &str| folder.map_or(Ok(None), |folder| read(folder, name));
    match read(name) {
        Ok(Some(text)) => Ok(Profile::parse(name, &text, &read)?),
        Ok(None) => Profile::builtin(name).ok_or_else(|| match folder {
            Some(folder) => ProfilesError::Unknown { name: name.to_owned(), folder: folder.to_owned() },
            None => ProfilesError::NoFolder { name: name.to_owned() },
        }),
        Err(source) => {
            let path = folder.unwrap_or(Path::new("")).join(format!("{name}.toml"));
            Err(ProfilesError::Read { path, source })
        }
    }
}

/// All profiles, sorted by name; those that cannot be used too, with the reason.
///
/// # Errors
/// The operator's folder cannot be read.
pub(crate) fn list(folder: Option<&Path>) -> Result<Vec<ProfileInfo>, ProfilesError> {
    let mut names: BTreeSet<String> = BUILTINS.iter().map(|(name, _)| (*name).to_owned()).collect();
    if let Some(folder) = folder {
        let unreadable = |source| ProfilesError::Read { path: folder.to_owned(), source };
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.file_name();
            // What has no legal name cannot be asked for either: notes, backups of editors.
            let name = file.to_str().and_then(|file| file.strip_suffix(".toml"));
            names.extend(name.filter(|name| is_profile_name(name)).map(str::to_owned));
        }
    }
    Ok(names.into_iter().map(|name| info(folder, name)).collect())
}

fn info(folder: Option<&Path>, name: String) -> ProfileInfo {
    let is_file = |folder: &Path| folder.join(format!("{name}.toml")).symlink_metadata().is_ok();
    let builtin = !folder.is_some_and(is_file);
    let (description, usable) = match load(folder, &name) {
        Ok(profile) => (profile.description, true),
        // One line of a list; opening a notebook with it tells the rest.
        Err(ProfilesError::Bad(error)) => (error.summary(), false),
        Err(error) => (chain(&error), false),
    };
    ProfileInfo { name, description, usable, builtin }
}

fn read(folder: &Path, name: &str) -> io::Result<Option<String>> {
    match read_text(&folder.join(format!("{name}.toml")), MAX_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    }
}

/// The text of an operator's file.
///
/// # Errors
/// It cannot be read, is no file, or has more than `most` bytes.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    // Of a pipe the open would wait for somebody to write.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = String::new();
    file.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
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
    fn files_stand_on_files_and_on_what_is_built_in() {
        let temp = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(temp.path().join(name), text).unwrap();
        put("team.toml", "version = 1\nbase = \"strict\"\n[limits]\nprocesses = 99\n");
        put("mine.toml", "version = 1\nbase = \"team\"\n[limits]\nwall_ms = 7\n");
        let mine = load(Some(temp.path()), "mine").unwrap();
        let strict = Profile::builtin("strict").unwrap();
        assert_eq!((mine.limits.wall_ms, mine.limits.processes), (7, 99));
        assert_eq!(mine.barriers, strict.barriers);
        // A base that is there and cannot be read is not taken for one that is built in.
        std::fs::create_dir(temp.path().join("strict.toml")).unwrap();
        let error = load(Some(temp.path()), "mine").unwrap_err().to_string();
        assert!(error.contains("base \"strict\" cannot be read"), "{error}");
    }

    #[test]
    fn list_has_all_sorted_and_says_what_is_wrong_with_one() {
        let temp = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(temp.path().join(name), text).unwrap();
        put("strict.toml", "version = 1\nbase = \"strict\"\ndescription = \"ours\"\n");
        put("broken.toml", "version = 1\n[limits]\nwall_ms = 0\n");
        put("notes.txt", "");
        put("a b.toml", "");
        let list = list(Some(temp.path())).unwrap();
        let told: Vec<_> = list.iter().map(|info| (&*info.name, info.usable, info.builtin)).collect();
        assert_eq!(
            told,
            [
                ("broken", false, false),
                ("data-science", true, true),
                ("default", true, true),
                ("strict", true, false),
                ("trusted", true, true),
            ]
        );
        assert!(list[0].description.contains("line 3, column 11: limits.wall_ms is 0"), "{list:?}");
        assert_eq!(list[3].description, "ours");
        assert!(super::list(Some(Path::new("/nowhere"))).is_err());
    }

    #[test]
    fn text_without_end_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("big.toml"), vec![b'#'; (2 << 20) + 1]).unwrap();
        assert!(matches!(load(Some(temp.path()), "big"), Err(ProfilesError::Read { .. })));
    }

    #[test]
    fn name_that_leads_out_of_the_folder_is_refused() {
        for name in ["../etc/passwd", "", "a/b", "a\0", "."] {
            assert!(matches!(load(None, name), Err(ProfilesError::Name { .. })), "{name:?}");
        }
    }
}
