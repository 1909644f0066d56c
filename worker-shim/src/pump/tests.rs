//! The order that comes out is the order in which the worker acted, however the reads fell.

use proptest::prelude::*;

use super::*;
use cellblock_proto::worker::Mark;

const NONCE: [u8; 16] = *b"0123456789abcdef";

/// What a worker does, one thing at a time.
#[derive(Clone, Debug)]
enum Act {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Frame,
}

fn act() -> impl Strategy<Value = Act> {
    // Text made of beginnings of the nonce, to meet the splitter where it holds back; never of its
    // end, or it would be a nonce.
    let text = prop_oneof![
        "[g-z]{1,9}".prop_map(String::into_bytes),
        (1..16usize).prop_map(|n| NONCE[..n].to_vec()),
        Just(b"0123456789abcde0123".to_vec()),
    ];
    prop_oneof![text.clone().prop_map(Act::Stdout), text.prop_map(Act::Stderr), Just(Act::Frame)]
}

/// Any body will do; the request id tells the frames apart.
fn answer() -> WorkerEventBody {
    WorkerEventBody::Answer(cellblock_proto::query::Answer::Busy)
}

/// The worker's side and the reader's, with nothing between them but two pipes and a socket.
struct Bench {
    sequencer: Sequencer,
    pipes: [Vec<u8>; 2],
    socket: VecDeque<Pending>,
    chunk: usize,
    got: Vec<Piece>,
}

impl Bench {
    /// One look of the reader, by the rules of `Worker::read`.
    fn look(&mut self) {
        self.read(self.chunk);
        while let Some(frame) = self.socket.pop_front() {
            self.sequencer.feed_frame(frame);
        }
        let whole = self.sequencer.awaited().is_some();
        if whole {
            self.read(usize::MAX);
        }
        self.got.extend(if self.sequencer.awaited().is_some() {
            self.sequencer.take_all()
        } else {
            self.sequencer.take()
        });
    }

    fn read(&mut self, most: usize) {
        for (pipe, name) in self.pipes.iter_mut().zip([StreamName::Stdout, StreamName::Stderr]) {
            let bytes: Vec<u8> = pipe.drain(..most.min(pipe.len())).collect();
            self.sequencer.feed_text(name, &bytes);
            if pipe.is_empty() {
                self.sequencer.release(name);
            }
        }
    }
}

/// Runs the acts as a marking worker would. `looks` says, step by step of the worker (a frame and
/// each of its two marks are steps of their own), whether the reader looks then.
fn run(acts: &[Act], chunk: usize, looks: &[bool]) -> (Vec<Piece>, Vec<Piece>) {
    let mut bench = Bench {
        sequencer: Sequencer::new(NONCE),
        pipes: Default::default(),
        socket: VecDeque::new(),
        chunk,
        got: Vec::new(),
    };
    let mut wanted = Vec::new();
    let mut looks = looks.iter().copied().cycle();
    let mut step = |bench: &mut Bench| {
        if looks.next().unwrap_or(true) {
            bench.look();
        }
    };
    let (mut number, mut last) = (0, None);
    for (at, act) in acts.iter().enumerate() {
        let stream = match act {
            Act::Stdout(_) => Some(0),
            Act::Stderr(_) => Some(1),
            Act::Frame => None,
        };
        if stream.is_none() || (last.is_some() && last != stream) {
            number += 1;
            if stream.is_none() {
                let request = u32::try_from(at).expect("few acts") + 1;
                let frame = || Pending { mark: number, request, body: answer(), payload: vec![] };
                bench.socket.push_back(frame());
                wanted.push(Piece::Frame(frame()));
                step(&mut bench);
            }
            for at in 0..2 {
                bench.pipes[at].extend_from_slice(&Mark { nonce: NONCE, number }.encode());
                step(&mut bench);
            }
        }
        last = stream;
        if let (Act::Stdout(text) | Act::Stderr(text), Some(stream)) = (act, stream) {
            bench.pipes[stream].extend_from_slice(text);
            let name = if stream == 0 { StreamName::Stdout } else { StreamName::Stderr };
            wanted.push(Piece::Text(name, text.clone()));
            step(&mut bench);
        }
    }
    while bench.pipes.iter().any(|pipe| !pipe.is_empty()) {
        bench.look();
    }
    let rest = bench.sequencer.take_all();
    bench.got.extend(rest);
    (join(wanted), join(bench.got))
}

/// Joins neighbours of one stream: how text was cut is nobody's promise.
fn join(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Text(name, text)), Piece::Text(next, more)) if *name == next => text.extend(more),
            (_, piece) => joined.push(piece),
        }
    }
    joined
}

proptest! {
    #[test]
    fn order_is_the_workers_however_the_reads_fall(
        acts in prop::collection::vec(act(), 0..40),
        chunk in 1..80usize,
        looks in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        let (wanted, got) = run(&acts, chunk, &looks);
        prop_assert_eq!(wanted, got);
    }
}

#[test]
fn text_that_ends_like_the_beginning_of_a_mark_waits_only_while_more_may_be_in_the_pipe() {
    let mut sequencer = Sequencer::new(NONCE);
    sequencer.feed_text(StreamName::Stdout, b"up01");
    assert_eq!(sequencer.take(), [Piece::Text(StreamName::Stdout, b"up".to_vec())]);
    sequencer.release(StreamName::Stdout);
    assert_eq!(sequencer.take(), [Piece::Text(StreamName::Stdout, b"01".to_vec())]);
}

#[test]
fn frame_waits_for_text_before_its_mark() {
    let mut sequencer = Sequencer::new(NONCE);
    sequencer.feed_frame(Pending { mark: 1, request: 1, body: answer(), payload: vec![] });
    assert_eq!(sequencer.take(), []);
    assert_eq!(sequencer.awaited(), Some(1));
    let mark = Mark { nonce: NONCE, number: 1 }.encode();
    sequencer.feed_text(StreamName::Stdout, &[b"before", &mark[..]].concat());
    assert_eq!(sequencer.take(), [Piece::Text(StreamName::Stdout, b"before".to_vec())]);
    assert_eq!(sequencer.one_sided(), Some(1));
    sequencer.feed_text(StreamName::Stderr, &mark);
    assert!(matches!(sequencer.take()[..], [Piece::Frame(_)]));
}

#[test]
fn redirected_pipe_holds_nothing_up_for_good() {
    let mut sequencer = Sequencer::new(NONCE);
    let mark = Mark { nonce: NONCE, number: 1 }.encode();
    sequencer.feed_text(StreamName::Stdout, &[&mark[..], b"after"].concat());
    sequencer.feed_frame(Pending { mark: 1, request: 1, body: answer(), payload: vec![] });
    assert_eq!(sequencer.take(), []);
    let pieces = sequencer.take_all();
    assert!(matches!(&pieces[..], [Piece::Frame(_), Piece::Text(_, text)] if text == b"after"));
}
