//! Files of a notebook's workspace, in parts over the connection.

use std::io::{self, Read};
use std::path::Path;

use cellblock_proto::client::{FileInfo, Reply, Request};
use cellblock_proto::id::NotebookId;

use crate::client::{ClientError, Connection, unexpected};
use crate::fault::Fault;

/// What one request carries, in bytes; cellblockd takes 8 MiB at most.
const PART_BYTES: u32 = 4 << 20;

/// The workspace of a notebook that is open. Paths are as `cellblock_proto::path` has them.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    connection: &'a mut Connection,
    notebook: &'a NotebookId,
}

impl<'a> Files<'a> {
    pub(crate) fn of(connection: &'a mut Connection, notebook: &'a NotebookId) -> Self {
        Files { connection, notebook }
    }

    /// The names in a folder, and whether there are more.
    pub(crate) fn list(&mut self, path: &str) -> Result<(Vec<FileInfo>, bool), ClientError> {
        let request = Request::ListFiles { notebook: self.notebook.clone(), path: path.to_owned() };
        match self.connection.ask(&request)?.reply {
            Reply::Files { files, truncated } => Ok((files, truncated)),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives a file to `sink`, part by part: as long as it was when the first was read, or shorter if
    /// it has become so.
    pub(crate) fn read(
        &mut self,
        path: &str,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let (mut offset, mut size) = (0, None);
        loop {
            let (notebook, path) = (self.notebook.clone(), path.to_owned());
            let request = Request::ReadFile { notebook, path, offset, bytes: PART_BYTES };
            let received = self.connection.ask(&request)?;
            let Reply::File { bytes } = received.reply else {
                return Err(unexpected(&received.reply).into());
            };
            let size = *size.get_or_insert(bytes);
            let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
            let part = &received.payload[..received.payload.len().min(left)];
            sink(part)?;
            offset += part.len() as u64;
            if part.is_empty() || offset >= size {
                return Ok(());
            }
        }
    }

    /// Writes a file anew; `from` is what errors of `source` are about. `stop` is asked between
    /// parts.
    pub(crate) fn write(
        &mut self,
        path: &str,
        source: &mut dyn Read,
        from: &Path,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Fault> {
        let mut offset = 0;
        loop {
            if stop() {
                return Err(Fault::Interrupted);
            }
            let mut part = Vec::new();
            let mut limited = Read::take(&mut *source, u64::from(PART_BYTES));
            let count = limited.read_to_end(&mut part).map_err(Fault::file("read", from))? as u64;
            // An empty file is made all the same.
            if count > 0 || offset == 0 {
                self.write_part(path, offset, part)?;
            }
            offset += count;
            if count < u64::from(PART_BYTES) {
                return Ok(());
            }
        }
    }

    fn write_part(&mut self, path: &str, offset: u64, part: Vec<u8>) -> Result<(), ClientError> {
        let request = Request::WriteFile { notebook: self.notebook.clone(), path: path.to_owned(), offset };
        match self.connection.ask_with(&request, part)?.reply {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes an empty folder. There is no request for it: a file makes the folders above it, and
    /// then goes.
    pub(crate) fn make_folder(&mut self, path: &str) -> Result<(), Fault> {
        let inner = format!("{path}/.cellctl-folder");
        self.write(&inner, &mut io::empty(), Path::new(""), &|| false)?;
        Ok(self.remove(&inner)?)
    }

    /// Removes a file, or a folder with all that is in it.
    pub(crate) fn remove(&mut self, path: &str) -> Result<(), ClientError> {
        self.connection.tell(&Request::RemoveFile { notebook: self.notebook.clone(), path: path.to_owned() })
    }
}
