//! The client against a daemon that is played by a thread: what it sends, what it makes of the
//! answers, and what it says when the other side misbehaves.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use cellblock_proto::client::{ErrorCode, Reply, Request};
use cellblock_proto::codec::Codec;
use cellblock_proto::execution::{End, NameChanges, Outcome, Output, OutputFrame, StreamName, Variables};
use cellblock_proto::frame::{FLAG_LAST, Frame, FrameReader, Kind, Limits};
use cellctl::client::{ClientError, Connection};

/// The other end of the connection.
struct Daemon {
    stream: UnixStream,
    reader: FrameReader,
}

impl Daemon {
    /// Plays a daemon in a thread; `play` begins after Hello.
    fn play(play: impl FnOnce(&mut Daemon) + Send + 'static) -> (UnixStream, JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut daemon = Daemon { stream: theirs, reader: FrameReader::new(Limits::DEFAULT) };
        let thread = std::thread::spawn(move || {
            let (frame, request) = daemon.next();
            assert!(matches!(request, Request::Hello(_)));
            assert_eq!(frame.codec, Codec::Json);
            let hello = Reply::Hello {
                version: 1,
                codec: Codec::Bincode,
                server: "test".into(),
                meta_bytes: 1 << 20,
                payload_bytes: 64 << 20,
            };
            daemon.answer(Codec::Json, frame.request, &hello, b"", true);
            play(&mut daemon);
        });
        (ours, thread)
    }

    fn next(&mut self) -> (Frame, Request) {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                let request = frame.message().unwrap();
                return (frame, request);
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the client hung up");
            self.reader.feed(&bytes[..count]);
        }
    }

    fn answer(&mut self, codec: Codec, request: u32, reply: &Reply, payload: &[u8], last: bool) {
        let mut frame = codec.frame(Kind::Reply, request, reply).unwrap().with_payload(payload.to_vec());
        if last {
            frame = frame.with_flag(FLAG_LAST);
        }
        let mut bytes = Vec::new();
        frame.write_to(&mut bytes);
        // In pieces, as a socket may cut it anywhere.
        for piece in bytes.chunks(7) {
            self.stream.write_all(piece).unwrap();
        }
    }
}

fn output(seq: u64) -> Reply {
    Reply::Output(OutputFrame {
        execution: "e".parse().unwrap(),
        seq,
        output: Output::Stream { name: StreamName::Stdout },
    })
}

fn outcome() -> Reply {
    Reply::Outcome {
        execution: "e".parse().unwrap(),
        outputs: 1,
        outcome: Outcome {
            end: End::Ok,
            execution_count: 1,
            wall_us: 0,
            queued_us: 0,
            variables: Variables::Kept,
            names: NameChanges::default(),
            expressions: Vec::new(),
            usage: Default::default(),
            checkpoint: None,
            worker_ms: None,
        },
    }
}

#[test]
fn an_execution_is_read_to_its_outcome_past_answers_to_others() {
    let (stream, daemon) = Daemon::play(|daemon| {
        let (frame, request) = daemon.next();
        assert!(matches!(request, Request::Execute { .. }));
        assert_eq!(frame.payload, b"1 + 1");
        let accepted = Reply::Accepted { execution: "e".parse().unwrap(), position: 0 };
        daemon.answer(Codec::Bincode, frame.request, &accepted, b"", false);
        daemon.answer(Codec::Bincode, frame.request + 7, &Reply::Done, b"", true);
        daemon.answer(Codec::Bincode, frame.request, &output(0), b"2\n", false);
        daemon.answer(Codec::Bincode, frame.request, &outcome(), b"", true);
    });
    let mut connection = Connection::over(stream).unwrap();
    assert_eq!(connection.server(), "test");
    let replies =
        connection.execute(&"a".parse().unwrap(), &"e".parse().unwrap(), "1 + 1", Default::default());
    let received: Vec<_> = replies.unwrap().map(Result::unwrap).collect();
    assert_eq!(received.len(), 3);
    assert_eq!(received[1].payload, b"2\n");
    assert_eq!(received[2].reply, outcome());
    daemon.join().unwrap();
}

#[test]
fn a_refusal_has_a_code_and_a_sentence() {
    let (stream, daemon) = Daemon::play(|daemon| {
        let (frame, _) = daemon.next();
        let refusal = Reply::Error {
            code: ErrorCode::UnknownNotebook,
            message: "no notebook `a` is open".into(),
            hint: None,
        };
        daemon.answer(Codec::Bincode, frame.request, &refusal, b"", true);
    });
    let error = Connection::over(stream).unwrap().status(&"a".parse().unwrap()).unwrap_err();
    assert!(matches!(error, ClientError::Refused { code: ErrorCode::UnknownNotebook, .. }));
    assert_eq!(error.to_string(), "no notebook `a` is open");
    daemon.join().unwrap();
}

#[test]
fn a_lost_connection_says_what_to_do() {
    let (stream, daemon) = Daemon::play(|daemon| {
        let (frame, _) = daemon.next();
        // A torn frame: the header promises more than comes.
        let bytes = Codec::Bincode.frame(Kind::Reply, frame.request, &Reply::Done).unwrap().header().encode();
        daemon.stream.write_all(&bytes).unwrap();
    });
    let error = Connection::over(stream).unwrap().notebooks().unwrap_err();
    assert!(matches!(error, ClientError::Lost(_)), "{error:?}");
    assert!(error.hint().unwrap().contains("run the command again"), "{:?}", error.hint());
    daemon.join().unwrap();
}

#[test]
fn something_else_at_the_socket_is_named() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
    let error = Connection::over(ours).unwrap_err();
    assert!(matches!(error, ClientError::Frame(_)), "{error:?}");
}

#[test]
fn an_answer_that_does_not_fit_is_named() {
    let (stream, daemon) = Daemon::play(|daemon| {
        let (frame, _) = daemon.next();
        daemon.answer(Codec::Bincode, frame.request, &Reply::Done, b"", true);
    });
    let error = Connection::over(stream).unwrap().doctor().unwrap_err();
    assert_eq!(error.to_string(), "cellblockd answered with `Done`, which does not fit the request");
    daemon.join().unwrap();
}

#[test]
fn hanging_up_from_another_thread_ends_a_wait() {
    let (asked, waits) = std::sync::mpsc::sync_channel(1);
    let (stream, daemon) = Daemon::play(move |daemon| {
        daemon.next();
        asked.send(()).unwrap();
        let mut rest = Vec::new();
        daemon.stream.read_to_end(&mut rest).unwrap();
    });
    let mut connection = Connection::over(stream).unwrap();
    let hangup = connection.hangup().unwrap();
    let waiting = std::thread::spawn(move || connection.notebooks());
    waits.recv().unwrap();
    hangup.hang_up();
    assert!(matches!(waiting.join().unwrap(), Err(ClientError::Lost(_))));
    daemon.join().unwrap();
}
