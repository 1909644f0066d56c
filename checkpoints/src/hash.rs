//! The name of a chunk: the BLAKE3 hash of its bytes.

use std::fmt;

/// Length of a hash in bytes.
pub const HASH_BYTES: usize = 32;

/// A BLAKE3 hash, 32 bytes. Shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// What stands where there is nothing to hash: the root of an empty blob.
    pub const NONE: Hash = Hash([0; HASH_BYTES]);

    /// The hash of `bytes`.
    #[cfg(feature = "store")]
    pub fn of(bytes: &[u8]) -> Self {
        Hash(*blake3::hash(bytes).as_bytes())
    }

    /// Reads what [`fmt::Display`] writes; `None` for anything else, upper case too.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: &[u8; 2 * HASH_BYTES] = text.as_bytes().try_into().ok()?;
        let mut hash = [0; HASH_BYTES];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Hash(hash))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_as_it_is_written_and_nothing_else_is() {
        let hash = Hash(std::array::from_fn(|i| (i * 9) as u8));
        assert_eq!(Hash::from_hex(&hash.to_string()), Some(hash));
        assert_eq!(Hash::from_hex(&hash.to_string().to_uppercase()), None);
        assert_eq!(Hash::from_hex(&hash.to_string()[1..]), None);
        assert_eq!(Hash::from_hex(&format!("{hash}0")), None);
        assert_eq!(Hash::from_hex(&"é".repeat(32)), None);
    }
}
