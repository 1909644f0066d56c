//! The normalised form of a pickle stream: one that a small change of the values leaves alone but for one place.
//!
//! A stream as the pickler writes it numbers its memo from the beginning, cuts itself into frames by length,
//! and cuts lists, dicts and sets into batches of 1,000 items. One more string early in a list therefore
//! changes the stream all along. Here
//!
//! - *frames* are left out;
//! - a *reference* to the memo says how many events ago its object was last memoised or referred to (an event
//!   is either). Unlike a distance in memo slots this stays what it is also for what is defined once and used
//!   everywhere, such as the keys of a million dicts: a change is seen by the first reference after it only;
//! - the *seams* between the batches of one container are taken out, and noted in a list at the end.
//!
//! Objects are memoised in order by every pickler, so all ways to say so become `MEMOIZE`, and all references
//! `BINGET`. The numbers of out-of-band buffers are nowhere in a stream: the order says them.
//!
//! ```text
//! opcodes up to STOP, as in a pickle, but: no FRAME; no PUT, BINPUT, LONG_BINPUT; no GET, LONG_BINGET;
//!                     BINGET's argument is a varint: how many events ago, from 1
//! seams               each a varint: bytes of opcodes since the last seam × 4 + kind (0 list, 1 dict, 2 set)
//! length of seams     u64
//! ```
//!
//! Integers are little endian; a *varint* has seven bits in each byte, the lowest first, and the highest bit
//! of all bytes but the last set.

use super::opcodes::{self, Malformed, OTHER_CLOSERS};

/// What ends a batch, by the number of its kind in the list of seams.
pub(super) const BATCH_CLOSERS: [u8; 3] = [opcodes::APPENDS, opcodes::SETITEMS, opcodes::ADDITEMS];

/// Length of what stands behind the seams, in bytes.
pub(super) const FOOTER_BYTES: usize = 8;

/// A stream in the normalised form.
#[derive(Debug)]
pub(super) struct Normalised {
    pub(super) bytes: Vec<u8>,
    /// How many out-of-band buffers it wants.
    pub(super) buffers: usize,
}

/// The normalised form of one pickle, without anything behind it.
pub(super) fn normalise(pickle: &[u8]) -> Result<Normalised, Malformed> {
    let mut out = Vec::with_capacity(pickle.len() + pickle.len() / 64 + 64);
    let mut memo = Memo::default();
    let mut batches = Batches::default();
    let mut buffers = 0;
    // What lies between `copied` and `at` is as it will be, and is copied when something else is to follow.
    let (mut copied, mut at) = (0, 0);
    loop {
        let (opcode, end) = opcodes::read(pickle, at)?;
        match opcode {
            opcodes::MEMOIZE => memo.define(at)?,
            opcodes::BINGET | opcodes::LONG_BINGET | opcodes::GET => {
                out.extend_from_slice(&pickle[copied..at]);
                copied = end;
                out.push(opcodes::BINGET);
                push_varint(&mut out, memo.refer(index(&pickle[at..end], at)?, at)?);
            }
            opcodes::BINPUT | opcodes::LONG_BINPUT | opcodes::PUT => {
                out.extend_from_slice(&pickle[copied..at]);
                copied = end;
                out.push(opcodes::MEMOIZE);
                if index(&pickle[at..end], at)? != memo.last_events.len() {
                    return Err(Malformed { what: "an object memoised out of order", at });
                }
                memo.define(at)?;
            }
            opcodes::FRAME => {
                out.extend_from_slice(&pickle[copied..at]);
                copied = end;
            }
            opcodes::MARK => batches.open(out.len() + at - copied),
            opcodes::APPENDS | opcodes::SETITEMS | opcodes::ADDITEMS => {
                batches.close(opcode, out.len() + at - copied);
            }
            opcodes::NEXT_BUFFER => buffers += 1,
            opcodes::STOP => {
                out.extend_from_slice(&pickle[copied..end]);
                if end != pickle.len() {
                    return Err(Malformed { what: "more than one pickle", at: end });
                }
                break;
            }
            _ if OTHER_CLOSERS.contains(&opcode) => batches.close_other(),
            _ => {}
        }
        at = end;
    }
    take_out(batches.seams, &mut out);
    Ok(Normalised { bytes: out, buffers })
}

/// When each object of the memo was last spoken of.
#[derive(Default)]
struct Memo {
    /// By the object's number.
    last_events: Vec<u32>,
    events: u32,
}

impl Memo {
    #[inline(always)]
    fn define(&mut self, at: usize) -> Result<(), Malformed> {
        self.last_events.push(self.events);
        self.advance(at)
    }

    /// How many events ago the object at `index` was last spoken of.
    #[inline(always)]
    fn refer(&mut self, index: usize, at: usize) -> Result<u64, Malformed> {
        let last = self.last_events.get_mut(index).ok_or(Malformed { what: "a reference to nothing", at })?;
        let distance = self.events - *last;
        *last = self.events;
        self.advance(at)?;
        Ok(u64::from(distance))
    }

    #[inline(always)]
    fn advance(&mut self, at: usize) -> Result<(), Malformed> {
        self.events =
            self.events.checked_add(1).ok_or(Malformed { what: "more than 4,294,967,295 references", at })?;
        Ok(())
    }
}

/// Follows the marks, to tell where a container's next batch follows its last one.
///
/// It need not be right: seams are put back wherever they were taken out. Whoever removes a mark with `POP`, as
/// protocol 0 does, only gets a stream in which a change may go further.
#[derive(Default)]
struct Batches {
    open: Vec<Mark>,
    /// The closer that was seen last, and the position behind it.
    closed: (u8, usize),
    seams: Vec<Seam>,
}

struct Mark {
    position: usize,
    /// The batch closer just before it; 0 when there is none.
    behind: u8,
}

/// A batch closer and the mark behind it, both of one container.
struct Seam {
    /// Of the closer.
    position: usize,
    closer: u8,
}

impl Batches {
    fn open(&mut self, position: usize) {
        let (closer, end) = self.closed;
        self.open.push(Mark { position, behind: if end == position { closer } else { 0 } });
    }

    fn close(&mut self, closer: u8, position: usize) {
        if let Some(mark) = self.open.pop()
            && mark.behind == closer
        {
            self.seams.push(Seam { position: mark.position - 1, closer });
        }
        self.closed = (closer, position + 1);
    }

    fn close_other(&mut self) {
        self.open.pop();
    }
}

/// Takes the seams out of `out`, and appends their list.
fn take_out(mut seams: Vec<Seam>, out: &mut Vec<u8>) {
    // An inner container's are found before those of the container around it.
    seams.sort_unstable_by_key(|seam| seam.position);
    let mut list = Vec::new();
    let (mut read, mut written) = (0, 0);
    for seam in &seams {
        let before = written;
        out.copy_within(read..seam.position, written);
        written += seam.position - read;
        read = seam.position + 2;
        let kind = BATCH_CLOSERS.iter().position(|closer| *closer == seam.closer).unwrap_or_default();
        push_varint(&mut list, ((written - before) as u64) << 2 | kind as u64);
    }
    out.copy_within(read.., written);
    out.truncate(out.len() - 2 * seams.len());
    out.extend_from_slice(&list);
    out.extend_from_slice(&(list.len() as u64).to_le_bytes());
}

/// The memo index that an opcode has for its argument.
#[inline(always)]
fn index(opcode: &[u8], at: usize) -> Result<usize, Malformed> {
    match *opcode {
        [opcodes::GET | opcodes::PUT, ref digits @ .., b'\n'] => {
            let digits = if digits.iter().all(u8::is_ascii_digit) { digits } else { &[] };
            let number = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            number.ok_or(Malformed { what: "a memo index that is no number", at })
        }
        [_, index] => Ok(usize::from(index)),
        [_, a, b, c, d] => Ok(u32::from_le_bytes([a, b, c, d]) as usize),
        _ => Err(Malformed { what: "a memo index of no known length", at }),
    }
}

#[inline(always)]
fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
