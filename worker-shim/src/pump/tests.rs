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
    /// How far the reader has come in its look.
    next: Step,
    got: Vec<Piece>,
}

/// What the reader does in one look, by the rules of `Worker::read`. The worker acts between any two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read(usize),
    Hear,
    ReadOn(usize),
    Take,
}

impl Bench {
    fn look(&mut self) {
        self.step();
        while self.next != Step::Read(0) {
            self.step();
        }
    }

    fn step(&mut self) {
        self.next = match self.next {
            Step::Read(pipe) => {
                self.read(pipe, self.chunk);
                if pipe == 0 { Step::Read(1) } else { Step::Hear }
            }
            Step::Hear => {
                while let Some(frame) = self.socket.pop_front() {
                    self.sequencer.feed_frame(frame);
                }
                self.sequencer.heard_out();
                if self.sequencer.awaited().is_some() { Step::ReadOn(0) } else { Step::Take }
            }
            Step::ReadOn(pipe) => {
                self.read(pipe, usize::MAX);
                if pipe == 0 { Step::ReadOn(1) } else { Step::Take }
            }
            Step::Take => {
                self.got.extend(if self.sequencer.awaited().is_some() {
                    self.sequencer.take_all()
                } else {
                    self.sequencer.take()
                });
                Step::Read(0)
            }
        };
    }

    fn read(&mut self, pipe: usize, most: usize) {
        let name = [StreamName::Stdout, StreamName::Stderr][pipe];
        let pipe = &mut self.pipes[pipe];
        let bytes: Vec<u8> = pipe.drain(..most.min(pipe.len())).collect();
        self.sequencer.feed_text(name, &bytes);
        if pipe.is_empty() {
            self.sequencer.release(name);
        }
    }
}

/// Runs the acts as a marking worker would. `steps` says, act by act of the worker (a frame and
/// each of its two marks are acts of their own), how many steps the reader takes then.
fn run(acts: &[Act], chunk: usize, steps: &[usize]) -> (Vec<Piece>, Vec<Piece>) {
    let mut bench = Bench {
        sequencer: Sequencer::new(NONCE),
        pipes: Default::default(),
        socket: VecDeque::new(),
        chunk,
        next: Step::Read(0),
        got: Vec::new(),
    };
    let mut wanted = Vec::new();
    let mut steps = steps.iter().copied().cycle();
    let mut step = |bench: &mut Bench| (0..steps.next().unwrap_or(1)).for_each(|_| bench.step());
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
    bench.look();
    while bench.pipes.iter().any(|pipe| !pipe.is_empty())
        || !bench.socket.is_empty()
        || bench.sequencer.must_hear()
    {
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
        steps in prop::collection::vec(0..9usize, 1..20),
    ) {
        let (wanted, got) = run(&acts, chunk, &steps);
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
fn text_behind_a_mark_waits_until_the_socket_has_been_read_after_it() {
    let mut sequencer = Sequencer::new(NONCE);
    let frame = |mark: u64| Pending { mark, request: 1, body: answer(), payload: vec![] };
    let marks = [1, 2].map(|number| Mark { nonce: NONCE, number }.encode());
    // The pipes are read for the sake of the first frame, and the second was sent meanwhile.
    sequencer.feed_frame(frame(1));
    sequencer.heard_out();
    assert_eq!(sequencer.awaited(), Some(1));
    sequencer.feed_text(StreamName::Stdout, &[&marks[0][..], b"between", &marks[1][..], b"behind"].concat());
    sequencer.feed_text(StreamName::Stderr, &marks.concat());
    let between = Piece::Text(StreamName::Stdout, b"between".to_vec());
    assert_eq!(sequencer.take(), [Piece::Frame(frame(1)), between]);
    assert!(sequencer.must_hear());
    sequencer.feed_frame(frame(2));
    let behind = Piece::Text(StreamName::Stdout, b"behind".to_vec());
    assert_eq!(sequencer.take(), [Piece::Frame(frame(2)), behind]);
    assert!(!sequencer.must_hear());
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
