//! Makes one order out of two pipes and a frame channel.
//!
//! From an unmarked socket beside pipes the true order cannot be had. So the worker writes a mark
//! into both pipes right after each frame, and wherever the order between the pipes matters, and this
//! module puts the pieces together: what stands before mark n in either pipe comes first, then the
//! frame that bears n, then what stands after.
//!
//! A mark may or may not belong to a frame. Which, is known without waiting: the worker sends the
//! frame before its mark, so whoever has read a mark finds its frame in the socket already. Hence
//! the one rule for callers: *read the pipes first, the socket after*, and say when the socket is empty
//! ([`Sequencer::heard_out`]): what stands behind a mark that was read later than that waits, for the mark's
//! frame may be in the socket. And a frame whose mark is not there yet has its place all the same once both
//! pipes have been read empty: all text before it was written before it was sent ([`Sequencer::take_all`]).
//!
//! Invariant: no I/O and no clock in here; bytes go in, pieces come out.

mod splitter;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use cellblock_proto::execution::StreamName;
use cellblock_proto::worker::WorkerEventBody;

pub use splitter::Splitter;

/// A frame of the worker, waiting for its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Pending {
    /// The mark it bears; 0 for none.
    pub mark: u64,
    /// The request it answers; 0 for none.
    pub request: u32,
    /// What it says.
    pub body: WorkerEventBody,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// A piece of the one order.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text, as it was written.
    Text(StreamName, Vec<u8>),
    /// A frame.
    Frame(Pending),
}

/// What one pipe holds, split at its marks.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// Bytes between marks.
    Text(Vec<u8>),
    /// A mark's number.
    Mark(u64),
}

/// The two pipes and the channel, as far as they have been read and not yet been put in order.
pub struct Sequencer {
    pipes: [Pipe; 2],
    frames: VecDeque<Pending>,
    /// The last mark up to which all frames are here.
    heard: u64,
}

struct Pipe {
    name: StreamName,
    splitter: Splitter,
    items: VecDeque<Item>,
    /// The last mark passed.
    passed: u64,
}

impl Sequencer {
    /// A sequencer for a worker that marks with `nonce`.
    pub fn new(nonce: [u8; 16]) -> Self {
        let pipe = |name| Pipe { name, splitter: Splitter::new(nonce), items: VecDeque::new(), passed: 0 };
        let pipes = [pipe(StreamName::Stdout), pipe(StreamName::Stderr)];
        Sequencer { pipes, frames: VecDeque::new(), heard: 0 }
    }

    /// Takes bytes as they were read from a pipe.
    pub fn feed_text(&mut self, name: StreamName, bytes: &[u8]) {
        let pipe = self.pipe(name);
        pipe.splitter.feed(bytes, &mut pipe.items);
    }

    /// Whether the end of a pipe's text is held back, because a mark could begin there.
    pub fn holds(&self, name: StreamName) -> bool {
        self.pipes[index(name)].splitter.holds()
    }

    /// Takes what was held back of a pipe that has been read empty as text: the other part of a mark would
    /// have been there with the first.
    pub fn release(&mut self, name: StreamName) {
        let pipe = self.pipe(name);
        pipe.splitter.release(&mut pipe.items);
    }

    /// Takes a frame as it was received.
    pub fn feed_frame(&mut self, frame: Pending) {
        // They come in their order.
        self.heard = self.heard.max(frame.mark);
        self.frames.push_back(frame);
    }

    /// The socket is empty, or nothing more is taken from it: the frames of all marks read so far are here.
    pub fn heard_out(&mut self) {
        let reached = self.pipes.iter().map(Pipe::reached).max().unwrap_or(0);
        self.heard = self.heard.max(reached);
    }

    /// Whether something waits only for the socket to be read once more.
    pub fn must_hear(&self) -> bool {
        self.pipes.iter().filter_map(Pipe::head).any(|mark| mark > self.heard)
    }

    /// The mark that the pipes must have passed before everything received can be put in order.
    pub fn awaited(&self) -> Option<u64> {
        let frames = self.frames.iter().map(|frame| frame.mark).max().filter(|mark| *mark > 0);
        frames.filter(|mark| self.pipes.iter().any(|pipe| pipe.reached() < *mark))
    }

    /// Whether this pipe has yet to reach `mark`.
    pub fn lacks(&self, name: StreamName, mark: u64) -> bool {
        self.pipes[index(name)].reached() < mark
    }

    /// The mark that stands at the head of one pipe while the other has nothing to show.
    pub fn one_sided(&self) -> Option<u64> {
        let [stdout, stderr] = &self.pipes;
        match (stdout.items.front(), stderr.items.front()) {
            (Some(Item::Mark(mark)), None) | (None, Some(Item::Mark(mark))) => Some(*mark),
            _ => None,
        }
    }

    /// The pieces whose place is certain, in order.
    pub fn take(&mut self) -> Vec<Piece> {
        self.merge(false)
    }

    /// All pieces, but for what must wait for the socket. For when no more marks can come: a pipe has been
    /// redirected by the program, or the worker has ended.
    pub fn take_all(&mut self) -> Vec<Piece> {
        for pipe in &mut self.pipes {
            pipe.splitter.release(&mut pipe.items);
        }
        let mut pieces = self.merge(true);
        pieces.extend(self.frames.drain(..).map(Piece::Frame));
        pieces
    }

    /// Puts in order. With `force`, a pipe that has nothing more counts as being where the other is.
    fn merge(&mut self, force: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.frames_up_to(self.passed(), &mut pieces);
        loop {
            for pipe in &mut self.pipes {
                pipe.take_text(&mut pieces);
            }
            let heads = [0, 1].map(|at| self.pipes[at].head());
            let next = match heads {
                // Both stand before a mark: the lower is next; a pipe that stands before a higher
                // one has lost the lower (the program had it redirected for a while).
                [Some(a), Some(b)] => a.min(b),
                [Some(n), None] | [None, Some(n)] if force => n,
                _ => break,
            };
            if next > self.heard {
                break;
            }
            for pipe in &mut self.pipes {
                if pipe.head() == Some(next) {
                    pipe.items.pop_front();
                }
                pipe.passed = pipe.passed.max(next);
            }
            // Before the text behind the mark.
            self.frames_up_to(self.passed(), &mut pieces);
        }
        pieces
    }

    fn frames_up_to(&mut self, mark: u64, pieces: &mut Vec<Piece>) {
        while self.frames.front().is_some_and(|frame| frame.mark <= mark) {
            pieces.extend(self.frames.pop_front().map(Piece::Frame));
        }
    }

    fn passed(&self) -> u64 {
        self.pipes[0].passed.min(self.pipes[1].passed)
    }

    fn pipe(&mut self, name: StreamName) -> &mut Pipe {
        &mut self.pipes[index(name)]
    }
}

impl Pipe {
    /// Takes what stands before the next mark. A mark that has been passed already (its frame was
    /// placed before it came) means nothing any more.
    fn take_text(&mut self, pieces: &mut Vec<Piece>) {
        loop {
            match self.items.front() {
                Some(Item::Text(_)) => {}
                Some(Item::Mark(number)) if *number <= self.passed => {}
                _ => return,
            }
            if let Some(Item::Text(bytes)) = self.items.pop_front() {
                pieces.push(Piece::Text(self.name, bytes));
            }
        }
    }

    /// The mark at the head, if that is what stands there.
    fn head(&self) -> Option<u64> {
        match self.items.front() {
            Some(Item::Mark(number)) => Some(*number),
            _ => None,
        }
    }

    /// The highest mark that has been read.
    fn reached(&self) -> u64 {
        let last = self.items.iter().rev().find_map(|item| match item {
            Item::Mark(number) => Some(*number),
            Item::Text(_) => None,
        });
        last.unwrap_or(self.passed)
    }
}

fn index(name: StreamName) -> usize {
    match name {
        StreamName::Stdout => 0,
        StreamName::Stderr => 1,
    }
}
