//! Reading checkpoints: which there are, and what is in them, verified.

use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::chunks::{ChunkError, Chunks, Packs, Place};
use super::damage::Damage;
use super::folder::{FileError, Folder, Readable};
use super::layout;
use super::manifest::{FORMAT, MANIFEST_BYTES, Manifest, ManifestError};
use super::tree::{Found, Root};
use crate::hash::Hash;
use crate::offer::Kind;

/// The file that names the format, and carries the writer's lock.
pub(crate) const FORMAT_FILE: &str = "FORMAT";
/// The file that names the current checkpoint.
pub(crate) const HEAD_FILE: &str = "HEAD";

/// What `FORMAT` holds.
pub(crate) fn format_text() -> String {
    format!("cellblock checkpoints {FORMAT}\n")
}

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It was written by a later version.
    #[error("the checkpoints have format `{found}`, and this version reads {FORMAT}: use a newer cellblock")]
    Format {
        /// The format it has.
        found: String,
    },
    /// Another process writes to it.
    #[error("another process writes to these checkpoints: try again when it is done")]
    Locked,
    /// A file of it cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A checkpoint, or part of one, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none of this number.
    #[error("there is no checkpoint {id}: `checkpoint ls` shows those there are")]
    None {
        /// The number.
        id: u64,
    },
    /// Its manifest is damaged.
    #[error("the manifest of checkpoint {id} cannot be used")]
    Manifest {
        /// The number.
        id: u64,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// A chunk of it is lost.
    #[error("{part} of checkpoint {id} is damaged")]
    Lost {
        /// The number.
        id: u64,
        /// What the chunk belongs to.
        part: Part,
        /// The chunk, and what became of it.
        #[source]
        source: ChunkError,
    },
    /// What was read could not be passed on.
    #[error("cannot pass on the stream of checkpoint {id}")]
    Output {
        /// The number.
        id: u64,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of the store cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What a chunk belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The pickle stream: without it nothing can be restored.
    Stream,
    /// The list of the buffers: without it nothing can be restored.
    Layout,
    /// The buffer of this index, from 0.
    Buffer(usize),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Part::Stream => write!(f, "the stream"),
            Part::Layout => write!(f, "the layout"),
            Part::Buffer(index) => write!(f, "buffer {index}"),
        }
    }
}

/// A run of bytes in a pack. All chunks in it are neighbours, so it is mapped or read in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The number of the pack, for [`Reader::pack`].
    pub pack: u64,
    /// Where it begins, in bytes from the start of the pack; a multiple of 4096.
    pub offset: u64,
    /// Its length in bytes. In its last page zeros follow.
    pub bytes: u64,
}

/// A buffer's length, and where its bytes are, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Its length in bytes: the sum of the extents'.
    pub bytes: u64,
    /// Where it lies; empty for a buffer without bytes.
    pub extents: Vec<Extent>,
}

/// The current checkpoint.
#[derive(Debug)]
pub struct Head {
    /// It; `None` when there is none that is complete.
    pub manifest: Option<Manifest>,
    /// What had to be passed over to find it; empty when all is well.
    pub passed_over: Vec<Damage>,
}

/// The checkpoints of a notebook as they were when this was opened.
///
/// It takes no lock. When another process collects meanwhile, what is lost is told as [`ChunkError::Collected`] or as
/// a missing checkpoint, never as other bytes; then open another.
pub struct Reader {
    pub(crate) root: Arc<Folder>,
    pub(crate) manifests: Arc<Folder>,
    pub(crate) packs: Packs,
    pub(crate) damage: Vec<Damage>,
}

impl Reader {
    /// Opens the checkpoints in the folder `dir`, and reads the indexes of all packs: about 1 ms for 4,096 chunks.
    ///
    /// # Errors
    /// A later format, and folders that cannot be read. Damaged files are no error: see [`Reader::damage`].
    pub fn open(dir: BorrowedFd<'_>) -> Result<Self, OpenError> {
        let root = Folder::root(dir)?;
        let mut damage = Vec::new();
        match root.open(FORMAT_FILE) {
            Ok(format) => damage.extend(check_format(&format)?),
            Err(error) if error.is_missing() => damage.push(Damage::new(FORMAT_FILE, &error)),
            Err(error) => return Err(error.into()),
        }
        Ok(Self::load(root, damage)?)
    }

    /// Loads the indexes of a store whose format has been checked.
    pub(crate) fn load(root: Arc<Folder>, mut damage: Vec<Damage>) -> Result<Self, FileError> {
        let packs = Packs::load(root.packs()?, &mut damage)?;
        Ok(Reader { manifests: root.manifests()?, root, packs, damage })
    }

    /// What was found damaged when the store was opened: packs, and `FORMAT`.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The numbers of all checkpoints, oldest first, also of those whose manifest is damaged.
    ///
    /// A manifest can have megabytes: who shows them all takes one [`Reader::manifest`] at a time.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn ids(&self) -> Result<Vec<u64>, FileError> {
        self.manifests.numbers()
    }

    /// The manifest of checkpoint `id`, verified by its own hash.
    ///
    /// # Errors
    /// There is none, or it cannot be used.
    pub fn manifest(&self, id: u64) -> Result<Manifest, ReadError> {
        self.manifest_file(id).map(|(manifest, _)| manifest)
    }

    /// The manifest of checkpoint `id`, and the hash of its file.
    pub(crate) fn manifest_file(&self, id: u64) -> Result<(Manifest, Hash), ReadError> {
        let file = match self.manifests.open(&id.to_string()) {
            Err(error) if error.is_missing() => return Err(ReadError::None { id }),
            file => file?.read_all(MANIFEST_BYTES as u64)?,
        };
        let manifest = Manifest::decode(&file).map_err(|source| ReadError::Manifest { id, source })?;
        if manifest.id != id {
            return Err(ReadError::Manifest { id, source: ManifestError::Field { field: "id" } });
        }
        Ok((manifest, Hash::of(&file)))
    }

    /// The current checkpoint: the one that `HEAD` names when it is complete, else the newest complete one.
    ///
    /// Complete: the manifest, the layout and all recipes are verified, and every chunk is in a readable pack. The
    /// bytes of the chunks are verified by [`Reader::stream`] and [`Reader::verify`].
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn head(&self) -> Result<Head, FileError> {
        let mut passed_over = Vec::new();
        let mut ids = self.ids()?;
        ids.reverse();
        match self.head_file() {
            Ok(Some((id, hash))) => match self.complete(id) {
                Ok((manifest, found)) if found == hash => {
                    return Ok(Head { manifest: Some(manifest), passed_over });
                }
                Ok(_) => passed_over.push(Damage {
                    file: HEAD_FILE.into(),
                    what: format!("it tells another hash than that of `manifests/{id}`"),
                }),
                Err(error) => {
                    passed_over.push(Damage::new(format!("manifests/{id}"), &error));
                    ids.retain(|other| *other != id);
                }
            },
            Ok(None) if ids.is_empty() => {}
            Ok(None) => passed_over.push(Damage { file: HEAD_FILE.into(), what: "it is missing".into() }),
            Err(damage) => passed_over.push(damage),
        }
        for id in ids {
            match self.complete(id) {
                Ok((manifest, _)) => return Ok(Head { manifest: Some(manifest), passed_over }),
                Err(error) => passed_over.push(Damage::new(format!("manifests/{id}"), &error)),
            }
        }
        Ok(Head { manifest: None, passed_over })
    }

    /// What `HEAD` says; `None` when there is none.
    pub(crate) fn head_file(&self) -> Result<Option<(u64, Hash)>, Damage> {
        let text = match self.root.open(HEAD_FILE).and_then(|file| file.read_all(128)) {
            Err(error) if error.is_missing() => return Ok(None),
            text => text.map_err(|error| Damage::new(HEAD_FILE, &error))?,
        };
        let fields = str::from_utf8(&text).ok().and_then(|text| {
            let (id, hash) = text.strip_suffix('\n')?.split_once(' ')?;
            Some((id.parse().ok()?, Hash::from_hex(hash)?))
        });
        fields
            .map(Some)
            .ok_or(Damage { file: HEAD_FILE.into(), what: "it is not a number and a hash".into() })
    }

    /// Whether the checkpoint is complete, see [`Reader::head`].
    ///
    /// # Errors
    /// It is not there, or what of it is lost.
    pub fn check(&self, id: u64) -> Result<(), ReadError> {
        self.complete(id).map(drop)
    }

    /// What packs and manifests take of the disk, in bytes.
    ///
    /// # Errors
    /// The folders cannot be read.
    pub fn used_bytes(&self) -> Result<u64, FileError> {
        Ok(self.manifests.used_bytes()? + self.packs.folder().used_bytes()?)
    }

    /// The manifest of a checkpoint of which no chunk is missing, and the hash of its file.
    pub(crate) fn complete(&self, id: u64) -> Result<(Manifest, Hash), ReadError> {
        let (manifest, hash) = self.manifest_file(id)?;
        match self.walk(&manifest, &mut |_, _| {}).into_iter().next() {
            Some((part, source)) => Err(ReadError::Lost { id, part, source }),
            None => Ok((manifest, hash)),
        }
    }

    /// Writes the normalised stream into `into`, each chunk after it has been verified.
    ///
    /// # Errors
    /// A chunk that is lost, and whatever `into` says. What was written before is then of no use.
    pub fn stream(&self, manifest: &Manifest, into: &mut impl Write) -> Result<(), ReadError> {
        let id = manifest.id;
        let lost = |source| ReadError::Lost { id, part: Part::Stream, source };
        for place in manifest.stream.leaves(&self.packs, Kind::Other).map_err(lost)? {
            let chunk = self.packs.read(&place).map_err(lost)?;
            into.write_all(&chunk).map_err(|source| ReadError::Output { id, source })?;
        }
        Ok(())
    }

    /// Where the buffers lie, in order: for each, its extents, or which chunk of it is lost.
    ///
    /// The layout and the recipes are verified, the bytes are not: [`Reader::verify`] does that.
    ///
    /// # Errors
    /// The layout is damaged, so that not even the number of buffers is known.
    pub fn extents(&self, manifest: &Manifest) -> Result<Vec<Result<Buffer, ReadError>>, ReadError> {
        let roots = buffers(manifest, &self.packs).map_err(|source| self.lost_layout(manifest, source))?;
        let buffer = |(index, root): (usize, Root)| {
            let places = root.leaves(&self.packs, Kind::Buffer).map_err(|source| ReadError::Lost {
                id: manifest.id,
                part: Part::Buffer(index),
                source,
            })?;
            Ok(Buffer { bytes: root.bytes, extents: runs(&places) })
        };
        Ok(roots.into_iter().enumerate().map(buffer).collect())
    }

    /// The file of a pack that [`Reader::extents`] names, for reading. It is never written again: it can be mapped.
    ///
    /// # Errors
    /// [`ChunkError::Collected`], and what opening a file gives.
    pub fn pack(&self, pack: u64) -> Result<OwnedFd, ChunkError> {
        let file: Arc<Readable> = self.packs.file(pack)?;
        file.fd.try_clone().map_err(|source| {
            ChunkError::File(FileError { doing: "duplicate", file: file.file.clone(), source })
        })
    }

    fn lost_layout(&self, manifest: &Manifest, source: ChunkError) -> ReadError {
        ReadError::Lost { id: manifest.id, part: Part::Layout, source }
    }

    /// Tells `each` of all chunks of a checkpoint, recipes included, and returns those that cannot be had.
    pub(crate) fn walk(
        &self,
        manifest: &Manifest,
        each: &mut dyn FnMut(Part, Place),
    ) -> Vec<(Part, ChunkError)> {
        walk(manifest, &self.packs, each)
    }
}

/// See [`Reader::walk`].
pub(crate) fn walk(
    manifest: &Manifest,
    chunks: &impl Chunks,
    each: &mut dyn FnMut(Part, Place),
) -> Vec<(Part, ChunkError)> {
    let mut losses = Vec::new();
    let mut visit = |part: Part, root: &Root, kind: Kind| {
        root.walk(chunks, kind, &mut |found| match found {
            Found::Leaf(place) | Found::Recipe(place) => each(part, place),
            Found::Loss(loss) => losses.push((part, loss)),
        });
    };
    visit(Part::Stream, &manifest.stream, Kind::Other);
    visit(Part::Layout, &manifest.layout.blob, Kind::Other);
    match buffers(manifest, chunks) {
        Ok(roots) => {
            for (index, root) in roots.iter().enumerate() {
                visit(Part::Buffer(index), root, Kind::Buffer);
            }
        }
        // The walk over the layout has looked for its chunks, but not read them.
        Err(_) if losses.iter().any(|(part, _)| *part == Part::Layout) => {}
        Err(loss) => losses.push((Part::Layout, loss)),
    }
    losses
}

/// The roots of a checkpoint's buffers.
fn buffers(manifest: &Manifest, chunks: &impl Chunks) -> Result<Vec<Root>, ChunkError> {
    let blob = &manifest.layout.blob;
    let mut bytes = Vec::new();
    for place in blob.leaves(chunks, Kind::Other)? {
        bytes.extend(chunks.read(&place)?);
    }
    let roots = layout::decode(&bytes);
    let expected = manifest.layout.bytes;
    match roots.iter().try_fold(0u64, |sum, root| sum.checked_add(root.bytes)) {
        Some(sum) if sum == expected => Ok(roots),
        sum => Err(ChunkError::Length { hash: blob.hash, found: sum.unwrap_or(u64::MAX), expected }),
    }
}

/// The places as extents, neighbours joined.
fn runs(places: &[Place]) -> Vec<Extent> {
    let mut runs: Vec<Extent> = Vec::new();
    for Place { pack, entry } in places {
        let bytes = u64::from(entry.stored);
        match runs.last_mut() {
            Some(run) if run.pack == *pack && run.offset + run.bytes == entry.offset => run.bytes += bytes,
            _ => runs.push(Extent { pack: *pack, offset: entry.offset, bytes }),
        }
    }
    runs
}

/// Looks at the text of `FORMAT`. Damage that cannot be a later format does not keep anybody from his checkpoints.
pub(crate) fn check_format(format: &Readable) -> Result<Option<Damage>, OpenError> {
    let text = format.read_all(64).unwrap_or_default();
    if text == format_text().as_bytes() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&text);
    let version = text.strip_prefix("cellblock checkpoints ").and_then(|rest| rest.strip_suffix('\n'));
    match version.filter(|version| version.parse::<u32>().is_ok()) {
        Some(found) => Err(OpenError::Format { found: found.into() }),
        None => Ok(Some(Damage { file: FORMAT_FILE.into(), what: "it does not name a format".into() })),
    }
}
