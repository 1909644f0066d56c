//! Back from the normalised form of a stream to a pickle: see `normalise` for what the form is.
//!
//! What is read here comes from a store, and may be anything. It is checked as far as memory is concerned:
//! nothing is read out of bounds, and what is written is at most some three times as long. Whether it is a
//! good pickle, the unpickler says.

use super::normalise::{BATCH_CLOSERS, FOOTER_BYTES};
use super::opcodes::{self, Malformed};

/// Length at which a frame is closed, and of arguments that stand outside of any, in bytes: as CPython's
/// pickler has it.
const FRAME_BYTES: usize = 64 << 10;

const FRAME_HEADER_BYTES: usize = 9;

/// The pickle whose normalised form this is; it may be framed in another way than the one that was normalised.
pub(super) fn denormalise(normalised: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (opcodes, mut seams) = split(normalised)?;
    let mut seam = seams.next()?;
    let mut memo = Memo::default();
    let mut out = Framed { bytes: Vec::with_capacity(opcodes.len() + opcodes.len() / 64 + 64), frame: None };
    // What lies between `copied` and `at` goes into the pickle as it is.
    let (mut copied, mut at) = (0, 0);
    loop {
        while at >= seam.position {
            if at > seam.position {
                return Err(Malformed { what: "a seam inside of an opcode", at });
            }
            out.extend(&opcodes[copied..at]);
            copied = at;
            out.extend(&[seam.closer, opcodes::MARK]);
            seam = seams.next()?;
        }
        if opcodes.get(at) == Some(&opcodes::BINGET) {
            let (distance, end) = read_varint(opcodes, at + 1)?;
            let index = memo.refer(distance, at)?;
            out.extend(&opcodes[copied..at]);
            out.reference(index);
            (copied, at) = (end, end);
            continue;
        }
        let (opcode, end) = opcodes::read(opcodes, at)?;
        if out.is_full(end - copied) {
            out.extend(&opcodes[copied..at]);
            copied = at;
            out.close_frame();
        }
        match opcode {
            opcodes::MEMOIZE => memo.define(at)?,
            opcodes::STOP => {
                if end != opcodes.len() {
                    return Err(Malformed { what: "opcodes behind the last one", at: end });
                }
                break;
            }
            opcodes::PROTO if at == 0 => {
                out.bytes.extend_from_slice(&opcodes[..end]);
                copied = end;
            }
            opcodes::GET
            | opcodes::LONG_BINGET
            | opcodes::PUT
            | opcodes::BINPUT
            | opcodes::LONG_BINPUT
            | opcodes::FRAME => return Err(Malformed { what: "an opcode of no normalised stream", at }),
            _ if end - at > FRAME_BYTES => {
                out.close_frame();
                out.bytes.extend_from_slice(&opcodes[copied..end]);
                copied = end;
            }
            _ => {}
        }
        at = end;
    }
    out.extend(&opcodes[copied..]);
    out.close_frame();
    if seam.position != usize::MAX {
        return Err(Malformed { what: "a seam behind the last opcode", at });
    }
    Ok(out.bytes)
}

/// The opcodes, and the seams to be put into them.
fn split(normalised: &[u8]) -> Result<(&[u8], Seams<'_>), Malformed> {
    let no_seams = Malformed { what: "no list of seams", at: normalised.len() };
    let (rest, footer) = normalised.split_last_chunk::<FOOTER_BYTES>().ok_or(no_seams)?;
    let list_bytes = usize::try_from(u64::from_le_bytes(*footer)).ok();
    let middle = list_bytes.and_then(|bytes| rest.len().checked_sub(bytes)).ok_or(no_seams)?;
    let (opcodes, list) = rest.split_at(middle);
    Ok((opcodes, Seams { list, read: 0, position: 0 }))
}

/// The list of seams, read as they are needed.
struct Seams<'a> {
    list: &'a [u8],
    read: usize,
    position: usize,
}

struct Seam {
    /// Where in the opcodes it belongs; `usize::MAX` is behind all others.
    position: usize,
    closer: u8,
}

impl Seams<'_> {
    fn next(&mut self) -> Result<Seam, Malformed> {
        if self.read == self.list.len() {
            return Ok(Seam { position: usize::MAX, closer: 0 });
        }
        let bad = Malformed { what: "an impossible seam", at: self.position };
        let (value, end) = read_varint(self.list, self.read).map_err(|_| bad)?;
        self.read = end;
        let distance = usize::try_from(value >> 2).map_err(|_| bad)?;
        self.position = self.position.checked_add(distance).ok_or(bad)?;
        let closer = *BATCH_CLOSERS.get(value as usize & 3).ok_or(bad)?;
        Ok(Seam { position: self.position, closer })
    }
}

/// Which object each event was about.
#[derive(Default)]
struct Memo {
    /// The object's number, by the event's.
    events: Vec<u32>,
    objects: u32,
}

impl Memo {
    #[inline(always)]
    fn define(&mut self, at: usize) -> Result<(), Malformed> {
        self.events.push(self.objects);
        self.objects =
            self.objects.checked_add(1).ok_or(Malformed { what: "more than 4,294,967,295 objects", at })?;
        Ok(())
    }

    /// The number of the object that was last spoken of so many events ago.
    #[inline(always)]
    fn refer(&mut self, distance: u64, at: usize) -> Result<u32, Malformed> {
        let nothing = Malformed { what: "a reference to nothing", at };
        let event = (self.events.len() as u64).checked_sub(distance).ok_or(nothing)?;
        let object = *self.events.get(event as usize).ok_or(nothing)?;
        self.events.push(object);
        Ok(object)
    }
}

/// A pickle in the making. An unpickler reads a frame at a time, where it would else read each opcode by
/// itself.
struct Framed {
    bytes: Vec<u8>,
    /// Where the open frame's header is.
    frame: Option<usize>,
}

impl Framed {
    #[inline(always)]
    fn extend(&mut self, bytes: &[u8]) {
        if self.frame.is_none() && !bytes.is_empty() {
            self.frame = Some(self.bytes.len());
            self.bytes.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        }
        self.bytes.extend_from_slice(bytes);
    }

    #[inline(always)]
    fn reference(&mut self, index: u32) {
        match u8::try_from(index) {
            Ok(index) => self.extend(&[opcodes::BINGET, index]),
            Err(_) => {
                let [a, b, c, d] = index.to_le_bytes();
                self.extend(&[opcodes::LONG_BINGET, a, b, c, d]);
            }
        }
    }

    /// Whether so many bytes more are too many for the open frame.
    #[inline(always)]
    fn is_full(&self, more: usize) -> bool {
        let content = self.frame.map_or(self.bytes.len(), |start| start + FRAME_HEADER_BYTES);
        self.bytes.len() - content + more > FRAME_BYTES
    }

    fn close_frame(&mut self) {
        if let Some(start) = self.frame.take() {
            let length = (self.bytes.len() - start - FRAME_HEADER_BYTES) as u64;
            self.bytes[start] = opcodes::FRAME;
            self.bytes[start + 1..start + FRAME_HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
        }
    }
}

#[inline(always)]
fn read_varint(bytes: &[u8], at: usize) -> Result<(u64, usize), Malformed> {
    let mut value = 0;
    for (index, byte) in bytes.get(at..).unwrap_or_default().iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, at + index + 1));
        }
    }
    Err(Malformed { what: "a number without its end", at })
}
