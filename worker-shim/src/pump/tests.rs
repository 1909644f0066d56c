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

fn answer(request: u32) -> WorkerEventBody {
    // Any body will do; the request id tells the frames apart.
    let _ = request;
    WorkerEventBody::Answer(cellblock_proto::query::Answer::Busy)
}

/// Runs the acts as a marking worker would, with reads of `chunk` bytes in between.
fn run(acts: &[Act], chunk: usize) -> (Vec<Piece>, Vec<Piece>) {
    let mut sequencer = Sequencer::new(NONCE);
    let mut pipes = [Vec::new(), Vec::new()];
    let mut socket = VecDeque::new();
    let (mut wanted, mut got) = (Vec::new(), Vec::new());
    let mut number = 0;
    let mut last = None;
    for (at, act) in acts.iter().enumerate() {
        let stream = match act {
            Act::Stdout(_) => Some(0),
            Act::Stderr(_) => Some(1),
            Act::Frame => None,
        };
        if stream.is_none() || (last.is_some() && last != stream) {
            number += 1;
            let mark = Mark { nonce: NONCE, number }.encode();
            pipes.iter_mut().for_each(|pipe: &mut Vec<u8>| pipe.extend_from_slice(&mark));
        }
        last = stream;
        match act {
            Act::Stdout(text) => {
                pipes[0].extend_from_slice(text);
                wanted.push(Piece::Text(StreamName::Stdout, text.clone()));
            }
            Act::Stderr(text) => {
                pipes[1].extend_from_slice(text);
                wanted.push(Piece::Text(StreamName::Stderr, text.clone()));
            }
            Act::Frame => {
                let request = u32::try_from(at).expect("few acts") + 1;
                let frame = || Pending { mark: number, request, body: answer(request), payload: vec![] };
                socket.push_back(frame());
                wanted.push(Piece::Frame(frame()));
            }
        }
        read(&mut sequencer, &mut pipes, &mut socket, chunk);
        got.extend(sequencer.take());
    }
    while pipes.iter().any(|pipe| !pipe.is_empty()) {
        read(&mut sequencer, &mut pipes, &mut socket, chunk);
        got.extend(sequencer.take());
    }
    got.extend(sequencer.take_all());
    (join(wanted), join(got))
}

fn read(sequencer: &mut Sequencer, pipes: &mut [Vec<u8>; 2], socket: &mut VecDeque<Pending>, chunk: usize) {
    for (pipe, name) in pipes.iter_mut().zip([StreamName::Stdout, StreamName::Stderr]) {
        let bytes: Vec<u8> = pipe.drain(..chunk.min(pipe.len())).collect();
        sequencer.feed_text(name, &bytes);
    }
    socket.drain(..).for_each(|frame| sequencer.feed_frame(frame));
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
    ) {
        let (wanted, got) = run(&acts, chunk);
        prop_assert_eq!(wanted, got);
    }
}

#[test]
fn frame_waits_for_text_before_its_mark() {
    let mut sequencer = Sequencer::new(NONCE);
    sequencer.feed_frame(Pending { mark: 1, request: 1, body: answer(1), payload: vec![] });
    assert_eq!(sequencer.take(), []);
    assert_eq!(sequencer.awaited(), Some(1));
    let mark = Mark { nonce: NONCE, number: 1 }.encode();
    sequencer.feed_text(StreamName::Stdout, &[b"before", &mark[..]].concat());
    assert_eq!(sequencer.take(), [Piece::Text(StreamName::Stdout, b"before".to_vec())]);
    assert!(sequencer.is_one_sided());
    sequencer.feed_text(StreamName::Stderr, &mark);
    assert!(matches!(sequencer.take()[..], [Piece::Frame(_)]));
}

#[test]
fn redirected_pipe_holds_nothing_up_for_good() {
    let mut sequencer = Sequencer::new(NONCE);
    let mark = Mark { nonce: NONCE, number: 1 }.encode();
    sequencer.feed_text(StreamName::Stdout, &[&mark[..], b"after"].concat());
    sequencer.feed_frame(Pending { mark: 1, request: 1, body: answer(1), payload: vec![] });
    assert_eq!(sequencer.take(), []);
    let pieces = sequencer.take_all();
    assert!(matches!(&pieces[..], [Piece::Frame(_), Piece::Text(_, text)] if text == b"after"));
}
