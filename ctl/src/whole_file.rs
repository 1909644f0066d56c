//! Files that appear when they are whole: what was there stays until then.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::fault::Fault;

/// Puts something into a file.
pub(crate) type Fill<'a> = &'a mut dyn FnMut(&mut dyn Write) -> Result<(), Fault>;

/// Writes all or nothing. /dev/stdout and the like cannot be replaced, and are written to.
///
/// # Errors
/// What `fill` says, or the file cannot be made.
pub(crate) fn replace(path: &Path, fill: Fill<'_>) -> Result<(), Fault> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let mut file = File::options().write(true).open(path).map_err(Fault::file("write", path))?;
        return fill(&mut file);
    }
    let file = unfinished(path, fill)?;
    file.persist(path).map_err(|error| Fault::file("write", path)(error.error))?;
    Ok(())
}

/// The same where there is nothing yet.
///
/// # Errors
/// As [`replace`], or there is something.
pub(crate) fn create(path: &Path, fill: Fill<'_>) -> Result<(), Fault> {
    let file = unfinished(path, fill)?;
    file.persist_noclobber(path).map_err(|error| Fault::file("write", path)(error.error))?;
    Ok(())
}

fn unfinished(path: &Path, fill: Fill<'_>) -> Result<tempfile::NamedTempFile, Fault> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".cellctl-")
        // As for any new file: what the umask leaves.
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(Fault::file("write", path))?;
    fill(&mut file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_when_the_new_file_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let whole = |file: &mut dyn Write| file.write_all(b"new").map_err(Fault::Stdout);
        let broken = |file: &mut dyn Write| {
            file.write_all(b"half").map_err(Fault::Stdout)?;
            Err(Fault::Interrupted)
        };
        assert!(create(&path, &mut { broken }).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(&path, "old").unwrap();
        assert!(replace(&path, &mut { broken }).is_err());
        assert!(create(&path, &mut { whole }).is_err(), "it was there");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        replace(&path, &mut { whole }).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
