//! Finds the marks in what a pipe brings.

use std::collections::VecDeque;

use cellblock_proto::worker::MARK_BYTES;
use memchr::memmem::Finder;

use super::Item;

const NONCE_BYTES: usize = 16;

/// Splits a pipe's bytes at its marks. A mark is written whole but may be read in two parts, so the
/// end of what was read is held back while it could be the beginning of one.
pub struct Splitter {
    nonce: [u8; NONCE_BYTES],
    finder: Finder<'static>,
    held: Vec<u8>,
}

impl Splitter {
    /// A splitter for marks with this nonce.
    pub fn new(nonce: [u8; NONCE_BYTES]) -> Self {
        Splitter { nonce, finder: Finder::new(&nonce).into_owned(), held: Vec::new() }
    }

    /// Takes bytes, gives items.
    pub fn feed(&mut self, bytes: &[u8], items: &mut VecDeque<Item>) {
        let joined;
        let mut rest = if self.held.is_empty() {
            bytes
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(bytes);
            joined = held;
            &joined[..]
        };
        while let Some(at) = self.finder.find(rest) {
            let Some(mark) = rest.get(at..at + MARK_BYTES) else {
                push_text(&rest[..at], items);
                self.held = rest[at..].to_vec();
                return;
            };
            push_text(&rest[..at], items);
            let mut number = [0; 8];
            number.copy_from_slice(&mark[NONCE_BYTES..]);
            items.push_back(Item::Mark(u64::from_le_bytes(number)));
            rest = &rest[at + MARK_BYTES..];
        }
        let hold = self.possible_beginning(rest);
        push_text(&rest[..rest.len() - hold], items);
        self.held = rest[rest.len() - hold..].to_vec();
    }

    /// Whether something is held back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Gives what is held back as text, when nothing follows it.
    pub fn release(&mut self, items: &mut VecDeque<Item>) {
        push_text(&std::mem::take(&mut self.held), items);
    }

    /// How many bytes at the end could be the beginning of a nonce.
    fn possible_beginning(&self, bytes: &[u8]) -> usize {
        let most = bytes.len().min(NONCE_BYTES - 1);
        (1..=most).rev().find(|length| bytes.ends_with(&self.nonce[..*length])).unwrap_or(0)
    }
}

fn push_text(bytes: &[u8], items: &mut VecDeque<Item>) {
    if bytes.is_empty() {
        return;
    }
    match items.back_mut() {
        Some(Item::Text(text)) => text.extend_from_slice(bytes),
        _ => items.push_back(Item::Text(bytes.to_vec())),
    }
}
