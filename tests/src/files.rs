//! Files of a notebook's workspace, as a client asks for them.

use cellblock_proto::client::{FileInfo, FileKind, Reply, Request};

use crate::client::{Answer, Refused};
use crate::notebook::Notebook;

/// More than any file of these tests has, and less than one request may ask for.
const ALL_BYTES: u32 = 1 << 20;

impl Notebook {
    /// The names in a folder, and whether there are more.
    ///
    /// # Errors
    /// The daemon's refusal.
    ///
    /// # Panics
    /// When something else is answered.
    pub fn list_files(&mut self, path: &str) -> Result<(Vec<FileInfo>, bool), Refused> {
        let request = Request::ListFiles { notebook: self.id.clone(), path: path.to_owned() };
        match self.client.ask(&request)? {
            Reply::Files { files, truncated } => Ok((files, truncated)),
            other => panic!("no files: {other:?}"),
        }
    }

    /// Names and kinds in a folder, which has few.
    ///
    /// # Panics
    /// When it cannot be listed.
    pub fn names(&mut self, path: &str) -> Vec<(String, FileKind)> {
        match self.list_files(path) {
            Ok((files, false)) => files.into_iter().map(|file| (file.name, file.kind)).collect(),
            other => panic!("no list of {path:?}: {other:?}"),
        }
    }

    /// A part of a file, and the size of the whole.
    ///
    /// # Errors
    /// The daemon's refusal.
    ///
    /// # Panics
    /// When something else is answered.
    pub fn read_part(&mut self, path: &str, offset: u64, bytes: u32) -> Result<(Vec<u8>, u64), Refused> {
        let (notebook, path) = (self.id.clone(), path.to_owned());
        match self.client.ask_about(&Request::ReadFile { notebook, path, offset, bytes }, &[])? {
            Answer { reply: Reply::File { bytes }, payload, .. } => Ok((payload, bytes)),
            other => panic!("no file: {other:?}"),
        }
    }

    /// A small file.
    ///
    /// # Errors
    /// The daemon's refusal.
    pub fn read_file(&mut self, path: &str) -> Result<Vec<u8>, Refused> {
        self.read_part(path, 0, ALL_BYTES).map(|(content, _)| content)
    }

    /// Writes a file anew.
    ///
    /// # Errors
    /// The daemon's refusal.
    pub fn write_file(&mut self, path: &str, content: &[u8]) -> Result<(), Refused> {
        let request = Request::WriteFile { notebook: self.id.clone(), path: path.to_owned(), offset: 0 };
        self.client.ask_about(&request, content).map(drop)
    }

    /// Removes a file, or a folder with all that is in it.
    ///
    /// # Errors
    /// The daemon's refusal.
    pub fn remove_file(&mut self, path: &str) -> Result<(), Refused> {
        let request = Request::RemoveFile { notebook: self.id.clone(), path: path.to_owned() };
        self.client.ask(&request).map(drop)
    }
}
