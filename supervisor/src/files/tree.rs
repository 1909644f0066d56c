//! A workspace as paths see it. The worker may change it at any moment, so nothing is looked at and
//! then opened by its name again: a place is opened first, as a place alone (`O_PATH`, which neither
//! waits for a pipe nor wakes a device), then looked at, and only a file or folder is opened for what
//! it holds, through the place we hold.
//!
//! Invariant: every path a client gives goes through [`Tree::at`] or [`Tree::step`], and so through
//! openat2(2) with `BENEATH`, without links and without crossing into another file system.

use std::collections::BinaryHeap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use cellblock_proto::client::{ErrorCode, FileInfo, FileKind};
use cellblock_proto::frame::Limits;
use cellblock_proto::path;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Refusal;
use crate::removal;

/// Names told of one folder at most.
const MAX_NAMES: usize = 10_000;

/// Names looked at in one folder at most; of so many the first are told, in their order.
const MAX_SEEN: usize = 1_000_000;

/// What the names of one answer may need in it, in bytes: a little less than a frame's meta.
const MAX_LIST_BYTES: usize = Limits::DEFAULT.meta_bytes as usize - 1024;

/// What a name costs in an answer besides itself, in bytes, in JSON, which is the longer form.
const NAME_OVERHEAD_BYTES: usize = 96;

/// How often a file may be there and gone again before we give up.
const MAX_TRIES: usize = 16;

/// Written between two looks at the clock, in bytes.
const WRITE_BYTES: usize = 1 << 20;

/// The place and not what is there.
const PLACE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// For what is opened: nothing waits, e.g. for somebody's lease to end.
const OPEN: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A workspace, and until when we may be at it.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    until: Instant,
}

/// A path, and how it is called in what the client is told.
struct Path<'a> {
    text: &'a str,
    names: Vec<Vec<u8>>,
}

impl<'a> Path<'a> {
    fn parse(text: &'a str) -> Result<Self, Refusal> {
        match path::parse(text) {
            Ok(names) => Ok(Path { text, names }),
            Err(error) => Err(refuse(text, ErrorCode::File, &error.to_string())),
        }
    }

    /// For the kernel.
    fn whole(&self) -> Vec<u8> {
        if self.names.is_empty() { b".".to_vec() } else { self.names.join(&b'/') }
    }

    /// The folder it is in, and its name there.
    fn split(self) -> Result<(Path<'a>, CString), Refusal> {
        let Path { text, mut names } = self;
        let name = names.pop().and_then(|name| CString::new(name).ok());
        let name = name.ok_or_else(|| refuse(text, ErrorCode::File, "it is the workspace itself"))?;
        Ok((Path { text, names }, name))
    }

    fn failed(&self) -> impl Fn(Errno) -> Refusal {
        |error| failed(self.text, error)
    }

    fn wrong(&self, reason: &str) -> Refusal {
        refuse(self.text, ErrorCode::File, reason)
    }
}

impl Tree {
    pub(super) fn new(root: OwnedFd, until: Instant) -> Self {
        Tree { root, until }
    }

    /// The names in a folder, sorted, the first [`MAX_NAMES`] of them; and whether there are more.
    pub(super) fn list(&self, text: &str) -> Result<(Vec<FileInfo>, bool), Refusal> {
        let path = Path::parse(text)?;
        let place = self.at(&path)?;
        let found = rustix::fs::fstat(&place).map_err(path.failed())?;
        if kind(&found) != FileKind::Folder {
            return Err(path.wrong(&format!("it is {}, not a folder", describe(&found))));
        }
        let folder = reopen(&place, OFlags::RDONLY | OFlags::DIRECTORY).map_err(path.failed())?;
        // The last in order is on top, and goes first.
        let mut names: BinaryHeap<(String, CString)> = BinaryHeap::new();
        let mut truncated = false;
        for (seen, entry) in Dir::read_from(&folder).map_err(path.failed())?.enumerate() {
            if seen >= MAX_SEEN {
                truncated = true;
                break;
            }
            self.check_time(text)?;
            let entry = entry.map_err(path.failed())?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            names.push((path::escape(name.to_bytes()), name.to_owned()));
            if names.len() > MAX_NAMES {
                names.pop();
                truncated = true;
            }
        }
        let mut files = Vec::with_capacity(names.len());
        let mut bytes = 0;
        for (name, raw) in names.into_sorted_vec() {
            self.check_time(text)?;
            bytes += NAME_OVERHEAD_BYTES + name.len() + name.matches(['\\', '"']).count();
            if bytes > MAX_LIST_BYTES {
                truncated = true;
                break;
            }
            match rustix::fs::statat(&folder, &raw, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => files.push(info(name, &found)),
                // Gone meanwhile.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(path.failed()(error)),
            }
        }
        Ok((files, truncated))
    }

    /// At most so many bytes from an offset on, and the size of the whole when it was opened.
    pub(super) fn read(&self, text: &str, offset: u64, bytes: u32) -> Result<(Vec<u8>, u64), Refusal> {
        let path = Path::parse(text)?;
        let place = self.at(&path)?;
        let (file, size) = open_file(&path, &place, OFlags::RDONLY)?;
        // What is not there is not made room for.
        let wanted = size.saturating_sub(offset).min(u64::from(bytes));
        let mut content = vec![0; usize::try_from(wanted).unwrap_or(0)];
        let mut read = 0;
        while read < content.len() {
            self.check_time(text)?;
            match rustix::io::pread(&file, &mut content[read..], offset + read as u64) {
                // It has become shorter.
                Ok(0) => break,
                Ok(count) => read += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(path.failed()(error)),
            }
        }
        content.truncate(read);
        Ok((content, size))
    }

    /// Writes into a file; from 0 on it is made or begun anew, from elsewhere on it goes on.
    pub(super) fn write(&self, text: &str, offset: u64, content: &[u8]) -> Result<(), Refusal> {
        let (path, name) = Path::parse(text)?.split()?;
        let folder = self.make_folders(&path)?;
        let (file, size) = self.file_to_write(&path, &folder, &name, offset == 0)?;
        // A hole would let a few bytes look like a terabyte.
        if offset > size {
            return Err(path.wrong(&format!("it ends at byte {size}, so nothing can be put at {offset}")));
        }
        let mut written = 0;
        while written < content.len() {
            self.check_time(text)?;
            let part = &content[written..content.len().min(written + WRITE_BYTES)];
            match rustix::io::pwrite(&file, part, offset + written as u64) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(path.failed()(error)),
            }
        }
        Ok(())
    }

    /// Removes a file, or a folder with all that is in it.
    pub(super) fn remove(&self, text: &str) -> Result<(), Refusal> {
        let (path, name) = Path::parse(text)?.split()?;
        let folder = self.at(&path)?;
        let removed = match rustix::fs::unlinkat(&folder, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => removal::remove_within(&folder, &name, self.until),
            removed => removed.map_err(io::Error::from),
        };
        removed.map_err(|error| match Errno::from_io_error(&error) {
            Some(error) => path.failed()(error),
            None => late(text),
        })
    }

    /// The place of a path, whatever is there.
    fn at(&self, path: &Path<'_>) -> Result<OwnedFd, Refusal> {
        open_in(&self.root, path.whole(), PLACE, Mode::empty()).map_err(path.failed())
    }

    /// The folder of a name in a folder.
    fn step(folder: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
        open_in(folder, name, PLACE | OFlags::DIRECTORY, Mode::empty())
    }

    /// The folder of a path, and those above it, made where they are missing.
    fn make_folders(&self, path: &Path<'_>) -> Result<OwnedFd, Refusal> {
        let mut folder = Tree::step(&self.root, b".").map_err(path.failed())?;
        for name in &path.names {
            self.check_time(path.text)?;
            let inner = match Tree::step(&folder, name) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&folder, name.as_slice(), Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => Tree::step(&folder, name),
                        Err(error) => Err(error),
                    }
                }
                found => found,
            };
            folder = inner.map_err(path.failed())?;
        }
        Ok(folder)
    }

    /// A file to write into, and its size.
    fn file_to_write(
        &self,
        path: &Path<'_>,
        folder: &OwnedFd,
        name: &CString,
        anew: bool,
    ) -> Result<(OwnedFd, u64), Refusal> {
        for _ in 0..MAX_TRIES {
            self.check_time(path.text)?;
            match open_in(folder, name, PLACE, Mode::empty()) {
                Ok(place) => {
                    let anew = if anew { OFlags::TRUNC } else { OFlags::empty() };
                    return open_file(path, &place, OFlags::WRONLY | anew);
                }
                Err(Errno::NOENT) if anew => {}
                Err(error) => return Err(path.failed()(error)),
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OPEN;
            match open_in(folder, name, flags, Mode::from_raw_mode(0o644)) {
                Ok(file) => return Ok((file, 0)),
                // Somebody was quicker.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(path.failed()(error)),
            }
        }
        Err(refuse(path.text, ErrorCode::Busy, "it comes and goes: try again"))
    }

    fn check_time(&self, text: &str) -> Result<(), Refusal> {
        if Instant::now() < self.until { Ok(()) } else { Err(late(text)) }
    }
}

/// The one way into a workspace.
fn open_in(
    folder: &OwnedFd,
    path: impl rustix::path::Arg + Clone,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    for _ in 0..MAX_TRIES {
        match rustix::fs::openat2(folder, path.clone(), flags, mode, removal::RESOLVE) {
            // A folder on the way was being moved, or a signal came.
            Err(Errno::AGAIN | Errno::INTR) => {}
            opened => return opened,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens the file at a place, unless it is something else, and says its size.
fn open_file(path: &Path<'_>, place: &OwnedFd, flags: OFlags) -> Result<(OwnedFd, u64), Refusal> {
    let found = rustix::fs::fstat(place).map_err(path.failed())?;
    if kind(&found) != FileKind::File {
        return Err(path.wrong(&format!("it is {}, not a file", describe(&found))));
    }
    let file = reopen(place, flags).map_err(path.failed())?;
    let size = rustix::fs::fstat(&file).map_err(path.failed())?.st_size;
    Ok((file, u64::try_from(size).unwrap_or(0)))
}

/// Opens what a place holds. The place is ours, whatever its name leads to by now.
fn reopen(place: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(format!("/proc/self/fd/{}", place.as_raw_fd()), flags | OPEN, Mode::empty())
}

fn kind(found: &Stat) -> FileKind {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Folder,
        FileType::Symlink => FileKind::Link,
        _ => FileKind::Special,
    }
}

fn describe(found: &Stat) -> &'static str {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => "a file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a link, and links are not followed",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}

fn info(name: String, found: &Stat) -> FileInfo {
    let kind = kind(found);
    let bytes = if kind == FileKind::File { u64::try_from(found.st_size).unwrap_or(0) } else { 0 };
    // The worker sets times as it likes; the farthest ones stay what they are, about.
    let seconds = i128::from(found.st_mtime) * 1000;
    let modified_ms = seconds + i128::from(found.st_mtime_nsec) / 1_000_000;
    let nearest = if modified_ms < 0 { i64::MIN } else { i64::MAX };
    FileInfo { name, kind, bytes, modified_ms: i64::try_from(modified_ms).unwrap_or(nearest) }
}

fn failed(text: &str, error: Errno) -> Refusal {
    let (code, reason) = match error {
        Errno::NOENT => (ErrorCode::File, "no such file or folder"),
        Errno::LOOP => (ErrorCode::File, "a link is on the way, and links are not followed"),
        Errno::NOTDIR => (ErrorCode::File, "something on the way is no folder"),
        Errno::XDEV => (ErrorCode::File, "it lies outside of the workspace"),
        Errno::ACCESS | Errno::PERM => (
            ErrorCode::File,
            "its mode, or that of a folder on the way, keeps its owner out: change it by chmod",
        ),
        Errno::NAMETOOLONG => (ErrorCode::File, "it is longer than the disk allows"),
        Errno::TXTBSY => (ErrorCode::File, "it is a program that is being run"),
        Errno::FBIG => (ErrorCode::File, "it would be larger than a file may be"),
        Errno::EXIST | Errno::NOTEMPTY | Errno::STALE | Errno::BUSY | Errno::AGAIN => {
            (ErrorCode::Busy, "it is in use, or changes all the while: try again")
        }
        Errno::NOSPC | Errno::DQUOT => (ErrorCode::Storage, "the workspace is full: remove something"),
        Errno::ROFS => (ErrorCode::Storage, "the disk is read-only"),
        error => return refuse(text, ErrorCode::Storage, &error.to_string()),
    };
    refuse(text, code, reason)
}

fn late(text: &str) -> Refusal {
    refuse(text, ErrorCode::Busy, "it takes too long; what has been done stays done: ask again")
}

fn refuse(text: &str, code: ErrorCode, reason: &str) -> Refusal {
    const SHOWN: usize = 300;
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let shown: String = text.chars().take(SHOWN).map(clean).collect();
    let more = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
    (code, format!("workspace file `{shown}{more}`: {reason}"))
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
