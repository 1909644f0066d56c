//! Where a pickle's opcodes begin and end: protocols 0 to 5, as `pickletools` in CPython's library describes
//! them.

use std::fmt;

use memchr::memchr;

pub(super) const MARK: u8 = b'(';
pub(super) const STOP: u8 = b'.';
pub(super) const APPENDS: u8 = b'e';
pub(super) const SETITEMS: u8 = b'u';
pub(super) const ADDITEMS: u8 = 0x90;
pub(super) const GET: u8 = b'g';
pub(super) const BINGET: u8 = b'h';
pub(super) const LONG_BINGET: u8 = b'j';
pub(super) const PUT: u8 = b'p';
pub(super) const BINPUT: u8 = b'q';
pub(super) const LONG_BINPUT: u8 = b'r';
pub(super) const PROTO: u8 = 0x80;
pub(super) const MEMOIZE: u8 = 0x94;
pub(super) const FRAME: u8 = 0x95;
pub(super) const NEXT_BUFFER: u8 = 0x97;

/// `POP_MARK`, `DICT`, `INST`, `LIST`, `OBJ`, `TUPLE` and `FROZENSET`: what else takes everything from a mark
/// on.
pub(super) const OTHER_CLOSERS: [u8; 7] = [b'1', b'd', b'i', b'l', b'o', b't', 0x91];

/// A stream that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) what: &'static str,
    /// Byte of the stream.
    pub(super) at: usize,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} of the stream", self.what, self.at)
    }
}

/// The opcode at `at`, and where the next one begins, which is at most the stream's end.
#[inline(always)]
pub(super) fn read(stream: &[u8], at: usize) -> Result<(u8, usize), Malformed> {
    let opcode = *stream.get(at).ok_or(Malformed { what: "no further opcode", at })?;
    let shape = SHAPES[opcode as usize];
    let end = if shape < COUNTED { at + shape as usize } else { read_variable(stream, at, shape)? };
    if end > stream.len() {
        return Err(Malformed { what: "an opcode without the end of its argument", at });
    }
    Ok((opcode, end))
}

/// The end of an opcode whose argument says how long it is.
#[inline(always)]
fn read_variable(stream: &[u8], at: usize, shape: u8) -> Result<usize, Malformed> {
    let argument = at + 1;
    match shape {
        COUNTED_1 => Ok(argument + 1 + stream.get(argument).map_or(0, |count| *count as usize)),
        COUNTED_4 => counted::<4>(stream, argument),
        COUNTED_8 => counted::<8>(stream, argument),
        LINE => line(stream, argument),
        LINES => line(stream, line(stream, argument)?),
        _ => Err(Malformed { what: "an unknown opcode", at }),
    }
}

#[inline(always)]
fn counted<const N: usize>(stream: &[u8], argument: usize) -> Result<usize, Malformed> {
    let field =
        stream.get(argument..argument + N).ok_or(Malformed { what: "half a length", at: argument })?;
    let mut count = [0; 8];
    count[..N].copy_from_slice(field);
    // A length that no address space holds is one that goes past the end, too.
    usize::try_from(u64::from_le_bytes(count))
        .ok()
        .and_then(|count| (argument + N).checked_add(count))
        .ok_or(Malformed { what: "an impossible length", at: argument })
}

fn line(stream: &[u8], from: usize) -> Result<usize, Malformed> {
    let rest = stream.get(from..).unwrap_or_default();
    memchr(b'\n', rest)
        .map(|found| from + found + 1)
        .ok_or(Malformed { what: "a line without its end", at: from })
}

/// Shapes from here on are of a variable length; below is the length of the opcode with its argument, in bytes.
const COUNTED: u8 = 16;
/// A length of one byte, and as many bytes.
const COUNTED_1: u8 = COUNTED;
/// The same with a length of four bytes.
const COUNTED_4: u8 = COUNTED + 1;
/// The same with a length of eight bytes.
const COUNTED_8: u8 = COUNTED + 2;
/// Text to the end of the line.
const LINE: u8 = COUNTED + 3;
/// Two lines of text.
const LINES: u8 = COUNTED + 4;
const UNKNOWN: u8 = COUNTED + 5;

static SHAPES: [u8; 256] = {
    let groups: [(u8, &[u8]); 10] = [
        (1, b"().012NQR]abdelostu}\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98"),
        (2, b"Khq\x80\x82"),
        (3, b"M\x83"),
        (5, b"Jjr\x84"),
        (9, b"G\x95"),
        (COUNTED_1, b"CU\x8a\x8c"),
        (COUNTED_4, b"BTX\x8b"),
        (COUNTED_8, b"\x8d\x8e\x96"),
        (LINE, b"FILPSVgp"),
        (LINES, b"ci"),
    ];
    let mut shapes = [UNKNOWN; 256];
    let mut group = 0;
    while group < groups.len() {
        let (shape, opcodes) = groups[group];
        let mut index = 0;
        while index < opcodes.len() {
            shapes[opcodes[index] as usize] = shape;
            index += 1;
        }
        group += 1;
    }
    shapes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_of_protocol_5_is_known() {
        // `len(pickletools.opcodes)` of CPython 3.8 and later.
        assert_eq!(SHAPES.iter().filter(|shape| **shape != UNKNOWN).count(), 68);
    }

    #[test]
    fn an_argument_past_the_end_is_refused() {
        for stream in
            [&b"K"[..], b"\x8c\x02a", b"X\x02\0\0", b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", b"cmodule\nname"]
        {
            assert!(read(stream, 0).is_err(), "{stream:?}");
        }
        assert_eq!(read(b"cmodule\nname\n.", 0), Ok((b'c', 13)));
    }
}
