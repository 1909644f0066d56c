//! Figures as files, in a folder that was not there before: what is in it is ours.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use super::picture::Picture;

/// Most files of one run, and most bytes in them: code can make images without end.
const FILES: usize = 1_000;
const BYTES: usize = 1 << 30;

/// How many folders of a name are tried.
const FOLDERS: usize = 1_000;

/// The files of one run.
#[derive(Debug)]
pub(super) struct Files {
    /// `None`: a new one for temporary files.
    wanted: Option<PathBuf>,
    made: Option<PathBuf>,
    cell: Option<usize>,
    /// Figures of this cell.
    count: usize,
    /// By display id.
    displays: HashMap<String, PathBuf>,
    written: Vec<PathBuf>,
    bytes: usize,
}

impl Files {
    /// Into a folder of this name, or of a like one when it is there.
    pub(super) fn into(folder: PathBuf) -> Self {
        Files { wanted: Some(folder), ..Files::temporary() }
    }

    /// Into a new folder for temporary files, which is left to whoever wants to look.
    pub(super) fn temporary() -> Self {
        Files {
            wanted: None,
            made: None,
            cell: None,
            count: 0,
            displays: HashMap::new(),
            written: Vec::new(),
            bytes: 0,
        }
    }

    pub(super) fn begin_cell(&mut self, number: Option<usize>) {
        self.cell = number;
        self.count = 0;
    }

    pub(super) fn written(&self) -> &[PathBuf] {
        &self.written
    }

    /// Saves a picture. One under an id that was seen before replaces the earlier one.
    pub(super) fn save(&mut self, picture: &Picture<'_>, id: Option<&str>) -> io::Result<PathBuf> {
        self.bytes = self.bytes.saturating_add(picture.bytes.len());
        let extension = picture.kind.extension();
        let known = id.and_then(|id| self.displays.get(id)).cloned();
        if let Some(path) = known.filter(|path| path.extension().is_some_and(|found| found == extension))
            && self.bytes <= BYTES
        {
            fs::write(&path, picture.bytes)?;
            return Ok(path);
        }
        if self.written.len() >= FILES || self.bytes > BYTES {
            let limit = format!("one run saves at most {FILES} figures of {} MiB together", BYTES >> 20);
            return Err(io::Error::other(limit));
        }
        let folder = self.folder()?;
        self.count += 1;
        let name = match (self.cell, self.count) {
            (Some(cell), 1) => format!("cell-{cell}"),
            (Some(cell), count) => format!("cell-{cell}-{count}"),
            (None, count) => format!("figure-{count}"),
        };
        let path = folder.join(format!("{name}.{extension}"));
        OpenOptions::new().write(true).create_new(true).open(&path)?.write_all(picture.bytes)?;
        if let Some(id) = id {
            self.displays.insert(id.to_owned(), path.clone());
        }
        self.written.push(path.clone());
        Ok(path)
    }

    /// The folder, made when the first figure comes.
    fn folder(&mut self) -> io::Result<PathBuf> {
        if let Some(folder) = &self.made {
            return Ok(folder.clone());
        }
        let folder = match &self.wanted {
            None => tempfile::Builder::new().prefix("cellctl-figures-").tempdir()?.keep(),
            Some(wanted) => new_folder(wanted)?,
        };
        self.made = Some(folder.clone());
        Ok(folder)
    }
}

/// Makes a folder of this name, or of it and a number.
fn new_folder(wanted: &std::path::Path) -> io::Result<PathBuf> {
    for number in 1..=FOLDERS {
        let mut name = wanted.as_os_str().to_owned();
        if number > 1 {
            name.push(format!("-{number}"));
        }
        match fs::create_dir(&name) {
            Ok(()) => return Ok(name.into()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                let message = format!("cannot create directory `{}`: {error}", wanted.display());
                return Err(io::Error::new(error.kind(), message));
            }
        }
    }
    Err(io::Error::other(format!("there are {FOLDERS} directories `{}-…` already", wanted.display())))
}

#[cfg(test)]
mod tests {
    use super::super::picture::Kind;
    use super::*;

    fn picture(bytes: &[u8], kind: Kind) -> Picture<'_> {
        Picture { kind, bytes, sides: None }
    }

    #[test]
    fn nothing_is_overwritten_but_what_this_run_wrote() {
        let temp = tempfile::tempdir().unwrap();
        let wanted = temp.path().join("nb_figures");
        fs::create_dir(&wanted).unwrap();
        fs::write(wanted.join("cell-3.png"), "mine").unwrap();
        // A link is no folder of ours either.
        std::os::unix::fs::symlink(&wanted, temp.path().join("nb_figures-2")).unwrap();
        let mut files = Files::into(wanted.clone());
        files.begin_cell(Some(3));
        let saved = |files: &mut Files, bytes: &[u8], kind, id| {
            let path = files.save(&picture(bytes, kind), id).unwrap();
            path.strip_prefix(temp.path()).unwrap().to_string_lossy().into_owned()
        };
        assert_eq!(saved(&mut files, b"1", Kind::Png, None), "nb_figures-3/cell-3.png");
        assert_eq!(saved(&mut files, b"2", Kind::Svg, Some("d")), "nb_figures-3/cell-3-2.svg");
        assert_eq!(saved(&mut files, b"3", Kind::Svg, Some("d")), "nb_figures-3/cell-3-2.svg");
        assert_eq!(saved(&mut files, b"4", Kind::Png, Some("d")), "nb_figures-3/cell-3-3.png");
        files.begin_cell(None);
        assert_eq!(saved(&mut files, b"5", Kind::Jpeg, None), "nb_figures-3/figure-1.jpg");
        assert_eq!(fs::read(wanted.join("cell-3.png")).unwrap(), b"mine");
        assert_eq!(fs::read(temp.path().join("nb_figures-3/cell-3-2.svg")).unwrap(), b"3");
        assert_eq!(files.written().len(), 4);
    }

    #[test]
    fn images_without_end_are_not_all_saved() {
        let temp = tempfile::tempdir().unwrap();
        let mut files = Files::into(temp.path().join("f"));
        let count = (0..FILES + 5).filter(|_| files.save(&picture(b"x", Kind::Png), None).is_ok()).count();
        assert_eq!(count, FILES);
        let mut files = Files { bytes: BYTES, ..Files::into(temp.path().join("g")) };
        assert!(files.save(&picture(b"x", Kind::Png), None).is_err());
    }
}
