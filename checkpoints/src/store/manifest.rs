//! The manifest: one checkpoint, told by a JSON document and the document's hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::layout::{self, BUFFER_BYTES};
use super::tree::Root;
use super::worker_part::{LeftOut, Name, PartError, WorkerPart};
use crate::hash::Hash;

/// Version of the format, in `FORMAT` and in every manifest.
pub const FORMAT: u32 = 1;

/// Longest stream, in bytes. Equal chunks of it cost a store nothing, but whoever opens it has all of it in memory.
pub const MOST_STREAM_BYTES: u64 = 1 << 30;

/// Longest manifest, in bytes: the worker's part, written anew, and what the store adds.
pub const MANIFEST_BYTES: usize = 40 << 20;

/// One checkpoint.
///
/// Its file is the JSON document, a line feed, and the line `blake3 <hash of all before this line>`. Readers pass over
/// fields that they do not know; as nobody writes a manifest again, those stay for whoever does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Its number, that of its file.
    pub id: u64,
    /// The checkpoint that was restored or taken last before this one.
    pub parent: Option<u64>,
    /// When it was taken, in milliseconds since 1970.
    pub created_ms: u64,
    /// The Execution after which it was taken.
    pub execution: String,
    /// Python's version.
    pub python: String,
    /// Packages and their versions.
    pub packages: BTreeMap<String, String>,
    /// The variables in it.
    pub names: Vec<Name>,
    /// What is not in it.
    pub left_out: Vec<LeftOut>,
    /// The pickle stream, normalised.
    pub stream: Root,
    /// The buffers that the stream refers to.
    pub layout: Layout,
    /// Hash over stream and layout: two checkpoints that have the same hold the same.
    pub fingerprint: Hash,
    /// Where it comes from, when it was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// The buffers of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// How many there are.
    pub buffers: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// The list of them, 44 bytes a buffer.
    pub blob: Root,
}

/// Where an imported checkpoint comes from. For people: nothing is looked up by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The notebook's name there.
    pub notebook: String,
    /// The checkpoint's number there.
    pub id: u64,
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The last line is not there, or tells another hash.
    #[error("it does not have the hash that its last line tells")]
    Hash,
    /// Not a manifest's JSON.
    #[error("its JSON is not a manifest's")]
    Json(#[source] serde_json::Error),
    /// Written by a later version.
    #[error("it has format {found}, and this version reads {FORMAT}: use a newer cellblock")]
    Format {
        /// The format it has.
        found: u32,
    },
    /// A number in it cannot be.
    #[error("its {field} cannot be")]
    Field {
        /// Which.
        field: &'static str,
    },
    /// What the worker said cannot be.
    #[error(transparent)]
    Part(#[from] PartError),
}

/// All that is read before it is known whether the rest can be.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Manifest {
    /// Puts a manifest together.
    pub(crate) fn new(part: WorkerPart, stream: Root, layout: Layout) -> Self {
        let WorkerPart { execution, python, packages, names, left_out } = part;
        let fingerprint = fingerprint(&stream, &layout);
        Manifest {
            format: FORMAT,
            id: 0,
            parent: None,
            created_ms: 0,
            execution,
            python,
            packages,
            names,
            left_out,
            stream,
            layout,
            fingerprint,
            origin: None,
        }
    }

    /// The manifest's file.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut file = serde_json::to_vec(self)?;
        file.push(b'\n');
        let hash = Hash::of(&file);
        file.extend(format!("blake3 {hash}\n").bytes());
        Ok(file)
    }

    /// Reads a manifest's file.
    ///
    /// # Errors
    /// Whatever is not as a store writes it.
    pub(crate) fn decode(file: &[u8]) -> Result<Self, ManifestError> {
        let (document, line) =
            file.split_at_checked(file.len().wrapping_sub(LAST_LINE_BYTES)).ok_or(ManifestError::Hash)?;
        if line != format!("blake3 {}\n", Hash::of(document)).as_bytes() {
            return Err(ManifestError::Hash);
        }
        let Version { format } = serde_json::from_slice(document).map_err(ManifestError::Json)?;
        if format != FORMAT {
            return Err(ManifestError::Format { found: format });
        }
        let manifest: Manifest = serde_json::from_slice(document).map_err(ManifestError::Json)?;
        manifest.checked()
    }

    fn checked(mut self) -> Result<Self, ManifestError> {
        let Layout { buffers, bytes, blob } = self.layout;
        let field = |field, holds: bool| if holds { Ok(()) } else { Err(ManifestError::Field { field }) };
        field("id", self.id > 0)?;
        field("parent", self.parent.is_none_or(|parent| parent > 0 && parent < self.id))?;
        field("stream", self.stream.is_possible() && (1..=MOST_STREAM_BYTES).contains(&self.stream.bytes))?;
        field("number of buffers", buffers <= layout::MOST_BUFFERS)?;
        field("layout", blob.is_possible() && blob.bytes == buffers * BUFFER_BYTES as u64)?;
        field("bytes of buffers", bytes <= layout::MOST_BYTES)?;
        field("fingerprint", self.fingerprint == fingerprint(&self.stream, &self.layout))?;
        let part = WorkerPart {
            execution: self.execution,
            python: self.python,
            packages: self.packages,
            names: self.names,
            left_out: self.left_out,
        };
        let WorkerPart { execution, python, packages, names, left_out } = part.checked()?;
        (self.execution, self.python, self.packages) = (execution, python, packages);
        (self.names, self.left_out) = (names, left_out);
        Ok(self)
    }
}

/// Length of the last line: `blake3 `, 64 digits, a line feed.
const LAST_LINE_BYTES: usize = 7 + 64 + 1;

fn fingerprint(stream: &Root, layout: &Layout) -> Hash {
    let mut bytes = Vec::new();
    for root in [stream, &layout.blob] {
        bytes.extend(root.bytes.to_le_bytes());
        bytes.extend(root.chunks.to_le_bytes());
        bytes.extend(root.hash.0);
    }
    Hash::of(&bytes)
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Hash::from_hex(&text)
            .ok_or_else(|| serde::de::Error::custom("a hash is 64 lower-case hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(document: &str) -> Vec<u8> {
        let document = format!("{document}\n");
        format!("{document}blake3 {}\n", Hash::of(document.as_bytes())).into_bytes()
    }

    /// As other programs read it, with a field that is not ours.
    const GOLDEN: &str = concat!(
        r#"{"format":1,"id":7,"parent":3,"created_ms":1767225600000,"execution":"e-9","python":"3.13.0","#,
        r#""packages":{"numpy":"2.3.5"},"names":[{"name":"x","type":"int","bytes":28},"#,
        r#"{"name":"y","type":"list","bytes":null}],"left_out":[{"path":"k","type":"lock","reason":"a lock"}],"#,
        r#""stream":{"bytes":9,"chunks":1,"depth":0,"#,
        r#""hash":"0101010101010101010101010101010101010101010101010101010101010101"},"#,
        r#""layout":{"buffers":0,"bytes":0,"blob":{"bytes":0,"chunks":0,"depth":0,"#,
        r#""hash":"0000000000000000000000000000000000000000000000000000000000000000"}},"#,
        r#""fingerprint":"71413e3bfb80389f0b6d3419dcfa18eaca3e16e89bf174d76b9dc1a038ff85c7"}"#,
    );

    #[test]
    fn a_manifest_is_this_text() {
        let manifest = Manifest::decode(&sealed(GOLDEN)).unwrap();
        assert_eq!((manifest.id, manifest.parent, manifest.names.len()), (7, Some(3), 2));
        assert_eq!(manifest.encode().unwrap(), sealed(GOLDEN));
        let later = GOLDEN.replace(r#""python""#, r#""gpu":[{}],"python""#);
        assert_eq!(Manifest::decode(&sealed(&later)).unwrap(), manifest, "unknown fields are passed over");
    }

    #[test]
    fn numbers_that_cannot_be_are_refused_by_name() {
        for (old, new, says) in [
            (
                r#""format":1"#,
                r#""format":2"#,
                "it has format 2, and this version reads 1: use a newer cellblock",
            ),
            (r#""id":7"#, r#""id":0"#, "its id cannot be"),
            (r#""parent":3"#, r#""parent":7"#, "its parent cannot be"),
            (r#""bytes":9,"chunks":1"#, r#""bytes":9,"chunks":10"#, "its stream cannot be"),
            (
                r#""bytes":9,"chunks":1,"depth":0"#,
                r#""bytes":9,"chunks":1,"depth":1"#,
                "its stream cannot be",
            ),
            (r#""bytes":9,"#, r#""bytes":18446744073709551615,"#, "its stream cannot be"),
            (r#""buffers":0"#, r#""buffers":18446744073709551615"#, "its number of buffers cannot be"),
            (r#""buffers":0"#, r#""buffers":1"#, "its layout cannot be"),
            (
                r#""buffers":0,"bytes":0"#,
                r#""buffers":0,"bytes":1099511627777"#,
                "its bytes of buffers cannot be",
            ),
            (r#""hash":"01"#, r#""hash":"02"#, "its fingerprint cannot be"),
            (r#""name":"y""#, r#""name":"x""#, "name \"x\" is there twice: leave it out"),
        ] {
            let error = Manifest::decode(&sealed(&GOLDEN.replacen(old, new, 1))).unwrap_err();
            assert_eq!(error.to_string(), says);
        }
        assert!(matches!(Manifest::decode(b""), Err(ManifestError::Hash)));
        assert!(matches!(Manifest::decode(&sealed(GOLDEN)[1..]), Err(ManifestError::Hash)));
    }

    proptest! {
        /// A hostile file can have the right hash, so the text behind it may be anything.
        #[test]
        fn a_changed_text_with_the_right_hash_is_refused_or_sound(
            at in 0..GOLDEN.len(), bytes in proptest::collection::vec(prop_oneof![any::<u8>(), b'0'..=b'9'], 0..4),
        ) {
            let mut document = GOLDEN.as_bytes().to_vec();
            let end = (at + bytes.len()).min(document.len());
            document.splice(at..end, bytes);
            if let Ok(document) = String::from_utf8(document)
                && let Ok(manifest) = Manifest::decode(&sealed(&document))
            {
                prop_assert!(manifest.stream.is_possible() && manifest.layout.blob.is_possible());
                prop_assert_eq!(Manifest::decode(&manifest.encode().unwrap()).unwrap(), manifest);
            }
        }
    }
}
