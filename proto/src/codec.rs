//! How a frame's meta is written: JSON for everyone, bincode between our own Rust programs.
//!
//! This is the one file that names bincode (unmaintained, see `deny.toml`): replacing it is a
//! change here and nowhere else. Every decode runs under a limit, because a few bytes of bincode
//! can claim a vector of 2^60 elements.

use serde::{Serialize, de::DeserializeOwned};

use crate::frame::{Frame, Kind, Limits};

/// How the meta of a frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Codec {
    /// UTF-8 JSON; absent fields take their defaults.
    Json = 1,
    /// bincode 2, standard configuration (little-endian, variable-length integers).
    Bincode = 2,
}

/// Meta above this never decodes, whatever the frame's own limit was.
const DECODE_LIMIT_BYTES: usize = Limits::DEFAULT.meta_bytes as usize;

impl Codec {
    pub(crate) fn from_wire(byte: u8) -> Option<Self> {
        [Codec::Json, Codec::Bincode].into_iter().find(|codec| *codec as u8 == byte)
    }

    /// Encodes a message.
    ///
    /// # Errors
    /// A value with no wire form (in practice a path that is not UTF-8, in JSON).
    pub fn encode<M: Serialize>(self, message: &M) -> Result<Vec<u8>, CodecError> {
        match self {
            Codec::Json => serde_json::to_vec(message).map_err(CodecError::Json),
            Codec::Bincode => bincode::serde::encode_to_vec(message, config())
                .map_err(|source| CodecError::Encode { source }),
        }
    }

    /// Decodes a message. The whole of `bytes` must be the message.
    ///
    /// # Errors
    /// Bytes that are not such a message, or that go on after it.
    pub fn decode<M: DeserializeOwned>(self, bytes: &[u8]) -> Result<M, CodecError> {
        match self {
            Codec::Json => serde_json::from_slice(bytes).map_err(CodecError::Json),
            Codec::Bincode => {
                let (message, used) = bincode::serde::decode_from_slice(bytes, config())
                    .map_err(|source| CodecError::Decode { source })?;
                if used != bytes.len() {
                    return Err(CodecError::Trailing { extra: bytes.len() - used });
                }
                Ok(message)
            }
        }
    }

    /// Encodes a message as a frame.
    ///
    /// # Errors
    /// As [`Codec::encode`].
    pub fn frame<M: Serialize>(self, kind: Kind, request: u32, message: &M) -> Result<Frame, CodecError> {
        Ok(Frame { kind, codec: self, flags: 0, request, meta: self.encode(message)?, payload: Vec::new() })
    }
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<DECODE_LIMIT_BYTES>()
}

impl Frame {
    /// Decodes the meta by the codec that the header names.
    ///
    /// # Errors
    /// As [`Codec::decode`].
    pub fn message<M: DeserializeOwned>(&self) -> Result<M, CodecError> {
        self.codec.decode(&self.meta)
    }

    /// The same frame with a payload.
    #[must_use]
    pub fn with_payload(mut self, payload: Vec<u8>) -> Self {
        self.payload = payload;
        self
    }

    /// The same frame with a flag set.
    #[must_use]
    pub fn with_flag(mut self, flag: u8) -> Self {
        self.flags |= flag;
        self
    }
}

/// Why a meta has no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// JSON that is not the message, or a message that is not JSON.
    #[error("meta is not the JSON of a known message: {0}")]
    Json(serde_json::Error),
    /// bincode could not write the message.
    #[error("message has no bincode form: {source}")]
    Encode {
        /// What bincode says.
        source: bincode::error::EncodeError,
    },
    /// bincode could not read the message.
    #[error("meta is not the bincode of a known message: {source}")]
    Decode {
        /// What bincode says.
        source: bincode::error::DecodeError,
    },
    /// Bytes after the message.
    #[error("meta goes on for {extra} bytes after the message")]
    Trailing {
        /// How many bytes.
        extra: usize,
    },
}
