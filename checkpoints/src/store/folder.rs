//! The folder `checkpoints/`, and the few things that are ever done to its files.
//!
//! Everything is relative to open directories and follows no symbolic link: what another process makes of the path
//! meanwhile does not matter. A file appears under its name only when it is whole and on the disk
//! ([`Temp::publish`]), is never written again, and goes by unlinking, so that whoever has it mapped keeps what he
//! mapped. The one exception is `FORMAT`, which carries the writer's lock and so must stay the same file.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};

#[cfg(test)]
use super::faults::admit;

/// Something could not be done to a file of the store.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} `{file}` of the checkpoints")]
pub struct FileError {
    /// What was tried: "read", "write", …
    pub doing: &'static str,
    /// The file, relative to the folder.
    pub file: String,
    /// Why it did not work.
    #[source]
    pub source: io::Error,
}

impl FileError {
    /// Whether there is no such file.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// One change of a file; tests count them and let each fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A folder is made.
    Make,
    /// A file is made, under a name that begins with `.`.
    Create,
    /// Bytes are written.
    Write,
    /// A file's bytes are forced to the disk.
    Sync,
    /// A file gets its name.
    Rename,
    /// A folder's names are forced to the disk.
    SyncFolder,
    /// A name is removed.
    Remove,
}

/// How many of `bytes` bytes the step may write, and whether it succeeds after that: all, and yes.
#[cfg(not(test))]
fn admit(_step: Step, _file: &str, bytes: usize) -> (usize, io::Result<()>) {
    (bytes, Ok(()))
}

/// Does `act`, unless a test says otherwise.
fn step<T>(step: Step, file: &str, act: impl FnOnce() -> rustix::io::Result<T>) -> io::Result<T> {
    admit(step, file, 0).1?;
    Ok(act()?)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

fn open(dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // What is made can only be read again: whoever makes it has it open, and nobody writes to it later.
    rustix::fs::openat(dir, name, flags, Mode::RUSR)
}

/// An open directory of the store.
pub(crate) struct Folder {
    fd: OwnedFd,
    /// For messages: empty for the store's own folder, else its name and `/`.
    prefix: &'static str,
}

impl Folder {
    /// The store's own folder: `dir` opened anew, so that nothing is shared with the caller's descriptor.
    pub(crate) fn root(dir: BorrowedFd<'_>) -> Result<Arc<Self>, FileError> {
        let fd = open(dir, ".", DIRECTORY).map_err(|error| FileError {
            doing: "open",
            file: ".".into(),
            source: error.into(),
        })?;
        Ok(Arc::new(Folder { fd, prefix: "" }))
    }

    /// The folder `packs`.
    pub(crate) fn packs(&self) -> Result<Arc<Self>, FileError> {
        self.inner("packs", "packs/")
    }

    /// The folder `manifests`.
    pub(crate) fn manifests(&self) -> Result<Arc<Self>, FileError> {
        self.inner("manifests", "manifests/")
    }

    fn inner(&self, name: &str, prefix: &'static str) -> Result<Arc<Self>, FileError> {
        let fd =
            open(self.fd.as_fd(), name, DIRECTORY).map_err(|error| self.error("open", name, error.into()))?;
        Ok(Arc::new(Folder { fd, prefix }))
    }

    /// Makes the folder `name` where it is not there yet.
    pub(crate) fn make(&self, name: &str) -> Result<(), FileError> {
        let made = step(Step::Make, name, || rustix::fs::mkdirat(&self.fd, name, Mode::RWXU));
        match made {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(self.error("make", name, source))
            }
            _ => Ok(()),
        }
    }

    /// The names in this folder, in no order.
    pub(crate) fn names(&self) -> Result<Vec<String>, FileError> {
        let list = || -> rustix::io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.fd)? {
                // A name that is not UTF-8 is none of ours.
                if let Ok(name) = entry?.file_name().to_str()
                    && name != "."
                    && name != ".."
                {
                    names.push(name.to_owned());
                }
            }
            Ok(names)
        };
        list().map_err(|error| self.error("list", ".", error.into()))
    }

    /// The names in this folder that are numbers, ascending: `7`, but not `07`.
    pub(crate) fn numbers(&self) -> Result<Vec<u64>, FileError> {
        let number = |name: String| name.parse().ok().filter(|number: &u64| number.to_string() == name);
        let mut numbers: Vec<_> = self.names()?.into_iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The lengths of the files in this folder together, in bytes.
    pub(crate) fn used_bytes(&self) -> Result<u64, FileError> {
        let mut sum = 0;
        for name in self.names()? {
            match rustix::fs::statat(&self.fd, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => sum += u64::try_from(stat.st_size).unwrap_or(0),
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(self.error("look at", &name, error.into())),
            }
        }
        Ok(sum)
    }

    /// Removes what a writer left behind that did not come to its end.
    pub(crate) fn remove_temps(&self) -> Result<(), FileError> {
        for name in self.names()?.iter().filter(|name| name.starts_with('.')) {
            self.remove(name)?;
        }
        Ok(())
    }

    /// Opens a regular file for reading.
    pub(crate) fn open(&self, name: &str) -> Result<Readable, FileError> {
        // Nonblocking, or a FIFO of that name would hold us.
        let fd = open(self.fd.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK)
            .map_err(|error| self.error("open", name, error.into()))?;
        self.readable(fd, name)
    }

    fn readable(&self, fd: OwnedFd, name: &str) -> Result<Readable, FileError> {
        let stat = rustix::fs::fstat(&fd).map_err(|error| self.error("look at", name, error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.error("open", name, io::Error::other("it is not a regular file")));
        }
        let file = format!("{}{name}", self.prefix);
        Ok(Readable { fd, file, bytes: u64::try_from(stat.st_size).unwrap_or(0) })
    }

    /// Opens the file `name` for the writer's lock, makes it where it is missing, and takes the lock; `None` when
    /// another writer has it.
    pub(crate) fn lock(&self, name: &str) -> Result<Option<Readable>, FileError> {
        let fd = step(Step::Create, name, || {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
        })
        .map_err(|source| self.error("open", name, source))?;
        let file = self.readable(fd, name)?;
        match rustix::fs::flock(&file.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(self.error("lock", name, error.into())),
        }
    }

    /// Begins a file that will be called `name`.
    pub(crate) fn begin(self: &Arc<Self>, name: &str) -> Result<Temp, FileError> {
        let temp = format!(".{name}");
        // Left by an attempt of this same writer: whoever opened the store removed those of others.
        match rustix::fs::unlinkat(&self.fd, &temp, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(self.error("remove", &temp, error.into())),
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let fd = step(Step::Create, &temp, || open(self.fd.as_fd(), &temp, flags))
            .map_err(|source| self.error("make", &temp, source))?;
        let file = Readable { fd, file: format!("{}{temp}", self.prefix), bytes: 0 };
        Ok(Temp { folder: Arc::clone(self), name: temp, file, published: false })
    }

    /// Writes a whole small file, or puts it in the place of an old one.
    pub(crate) fn put(self: &Arc<Self>, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let mut temp = self.begin(name)?;
        temp.append(bytes)?;
        temp.publish()
    }

    /// Unlinks `name`; that it was not there is no error.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FileError> {
        let removed = step(Step::Remove, name, || rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()));
        match removed {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(self.error("remove", name, source))
            }
            _ => Ok(()),
        }
    }

    /// Forces the names in this folder to the disk.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        step(Step::SyncFolder, self.prefix, || rustix::fs::fsync(&self.fd))
            .map_err(|source| self.error("sync", ".", source))
    }

    fn error(&self, doing: &'static str, name: &str, source: io::Error) -> FileError {
        FileError { doing, file: format!("{}{name}", self.prefix), source }
    }
}

/// A regular file, open for reading, with the length it had when it was opened.
pub(crate) struct Readable {
    pub(crate) fd: OwnedFd,
    /// For messages.
    pub(crate) file: String,
    pub(crate) bytes: u64,
}

impl Readable {
    /// Fills `into` from `offset`.
    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> Result<(), FileError> {
        read_exact_at(self.fd.as_fd(), into, offset).map_err(|source| self.error("read", source))
    }

    /// The whole file, when it has at most `limit` bytes.
    pub(crate) fn read_all(&self, limit: u64) -> Result<Vec<u8>, FileError> {
        if self.bytes > limit {
            let found = format!("it has {} bytes, more than the {limit} that it may have", self.bytes);
            return Err(self.error("read", io::Error::new(io::ErrorKind::InvalidData, found)));
        }
        let mut bytes = vec![0; self.bytes as usize];
        self.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Writes `text` in the place of what the file holds: only for the file of the lock.
    pub(crate) fn rewrite(&mut self, text: &[u8]) -> Result<(), FileError> {
        let write = || {
            let (admitted, then) = admit(Step::Write, &self.file, text.len());
            rustix::fs::ftruncate(&self.fd, 0)?;
            write_all_at(self.fd.as_fd(), &text[..admitted], 0)?;
            then?;
            step(Step::Sync, &self.file, || rustix::fs::fsync(&self.fd))
        };
        write().map_err(|source| self.error("write", source))?;
        self.bytes = text.len() as u64;
        Ok(())
    }

    fn error(&self, doing: &'static str, source: io::Error) -> FileError {
        FileError { doing, file: self.file.clone(), source }
    }
}

/// A file that is being written; it goes again when it is dropped unpublished.
pub(crate) struct Temp {
    folder: Arc<Folder>,
    name: String,
    /// With the length that has been written.
    pub(crate) file: Readable,
    published: bool,
}

impl Temp {
    /// Writes `bytes` at the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let (admitted, then) = admit(Step::Write, &self.file.file, bytes.len());
        write_all_at(self.file.fd.as_fd(), &bytes[..admitted], self.file.bytes)
            .and(then)
            .map_err(|source| self.file.error("write", source))?;
        self.file.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Forces the file to the disk, gives it its name, and forces that to the disk.
    pub(crate) fn publish(mut self) -> Result<(), FileError> {
        let file = &self.file;
        step(Step::Sync, &file.file, || rustix::fs::fsync(&file.fd))
            .map_err(|source| file.error("sync", source))?;
        let name = &self.name[1..];
        let dir = &self.folder.fd;
        step(Step::Rename, &file.file, || rustix::fs::renameat(dir, &self.name, dir, name))
            .map_err(|source| file.error("rename", source))?;
        self.published = true;
        self.folder.sync()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.published {
            // What remains is removed when the store is opened the next time.
            let _ = self.folder.remove(&self.name);
        }
    }
}

/// Fills `into` from `offset` of `file`.
pub(crate) fn read_exact_at(file: BorrowedFd<'_>, mut into: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !into.is_empty() {
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *into, offset))?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ends before what it should hold"));
        }
        into = &mut into[read..];
        offset += read as u64;
    }
    Ok(())
}

fn write_all_at(file: BorrowedFd<'_>, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))?;
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}
