//! Readers that come, go and are slow, kills of the daemon, kills of both: whoever attaches misses nothing and sees
//! nothing twice.

use super::*;
use crate::taken::Taken;
use proptest::prelude::*;
use tokio::io::DuplexStream;

#[derive(Clone, Debug)]
enum Step {
    /// The cell puts out so many kibibytes.
    Output(usize),
    /// A client attaches from its place, or at the beginning if it never was.
    Attach(usize),
    /// It reads what there is.
    Read(usize),
    Leave(usize),
    /// The daemon is killed; the shim tells again what was not taken.
    Restart,
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..700_usize).prop_map(Step::Output),
        2 => (0..3_usize).prop_map(Step::Attach),
        4 => (0..3_usize).prop_map(Step::Read),
        1 => (0..3_usize).prop_map(Step::Leave),
        1 => Just(Step::Restart),
        1 => Just(Step::End),
    ]
}

struct Reader {
    client: Client,
    near: DuplexStream,
    frames: FrameReader,
}

/// A client's memory, which outlives its connections.
#[derive(Default)]
struct Seen {
    next: u64,
    outcome: Option<u64>,
    reader: Option<Reader>,
}

impl Seen {
    fn take(&mut self, sizes: &[usize]) {
        let Some(reader) = &mut self.reader else { return };
        while let Some(frame) = reader.frames.next_frame().unwrap() {
            match frame.message::<Reply>().unwrap() {
                Reply::Accepted { .. } => {}
                Reply::Output(output) => {
                    assert_eq!(output.seq, self.next, "an output is missing or came twice");
                    assert!(matches!(output.output, Output::Stream { .. }), "{output:?}");
                    let size = sizes[usize::try_from(output.seq).unwrap()];
                    assert_eq!(frame.payload.len(), size);
                    assert!(frame.payload.iter().all(|byte| u64::from(*byte) == output.seq % 251));
                    self.next += 1;
                }
                Reply::Outcome { outputs, .. } => {
                    assert_eq!(outputs, self.next);
                    self.outcome = Some(outputs);
                    self.reader = None;
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Daemon, shim and clients.
struct World {
    temp: tempfile::TempDir,
    records: Records,
    taken: Taken,
    free: u64,
    sizes: Vec<usize>,
    has_ended: bool,
    seen: [Seen; 3],
    wake: Arc<Notify>,
}

impl World {
    fn new() -> Self {
        let (temp, mut records) = kept();
        records.create(&id("a"), false);
        records.accept(&id("a"), 0);
        let (taken, seen) = (Taken::default(), Default::default());
        World {
            temp,
            records,
            taken,
            free: 0,
            sizes: Vec::new(),
            has_ended: false,
            seen,
            wake: Arc::new(Notify::new()),
        }
    }

    /// Event `seq + 1` of the shim.
    fn output(&mut self, seq: usize) {
        let (number, size) = (seq as u64, self.sizes[seq]);
        let output = Output::Stream { name: StreamName::Stdout };
        let payload = Payload::new(vec![(number % 251) as u8; size]);
        self.taken.arrived(number + 1, Hold::Output(id("a"), number), size);
        self.records.add(&id("a"), number, output, payload);
    }

    fn end(&mut self) {
        let outputs = self.sizes.len() as u64;
        self.taken.arrived(outputs + 1, Hold::Outcome(id("a")), 0);
        let outcome = crate::loss::unmeasured(End::Ok, Variables::Kept);
        self.records.end(&id("a"), Some(outputs), outcome, Payload::default());
    }

    fn restart(&mut self) {
        self.records = again(&self.temp);
        self.taken = Taken::default();
        for seen in &mut self.seen {
            seen.reader = None;
        }
        for seq in usize::try_from(self.free).unwrap()..self.sizes.len() {
            self.output(seq);
        }
        if self.has_ended && self.free <= self.sizes.len() as u64 {
            self.end();
        }
    }

    fn attach(&mut self, at: usize) {
        let seen = &mut self.seen[at];
        if seen.reader.is_some() || seen.outcome.is_some() {
            return;
        }
        let client = client();
        client.outbox.begin(1).unwrap();
        assert!(self.records.find(&id("a")).is_some());
        self.records.attach(&id("a"), Attachment::new(Responder::new(client.clone(), 1), seen.next));
        let (near, far) = tokio::io::duplex(1 << 16);
        let outbox = Arc::clone(&client.outbox);
        tokio::spawn(async move { outbox.write_to(far).await });
        seen.reader = Some(Reader { client, near, frames: FrameReader::new(Limits::DEFAULT) });
    }

    /// Some of what there is, at most `rounds` times 64 KiB.
    async fn read(&mut self, at: usize, rounds: usize) {
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..rounds {
            self.records.deliver(&self.wake);
            let Some(reader) = &mut self.seen[at].reader else { return };
            tokio::task::yield_now().await;
            let read = tokio::time::timeout(std::time::Duration::ZERO, reader.near.read(&mut buffer)).await;
            let Ok(Ok(count)) = read else { continue };
            reader.frames.feed(&buffer[..count]);
            self.seen[at].take(&self.sizes);
        }
    }

    fn settle(&mut self) {
        self.records.deliver(&self.wake);
        assert!(self.records.bytes <= MAX_BYTES + (1 << 20), "{} bytes in memory", self.records.bytes);
        self.taken.advance(&self.records);
        if self.taken.is_waiting() {
            self.free = self.free.max(self.taken.say());
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Output(kib) if !self.has_ended => {
                self.sizes.push(kib << 10);
                self.output(self.sizes.len() - 1);
            }
            Step::End if !self.has_ended => {
                self.has_ended = true;
                self.end();
            }
            Step::Output(_) | Step::End => {}
            Step::Attach(at) => self.attach(at),
            Step::Read(at) => self.read(at, 8).await,
            Step::Leave(at) => {
                if let Some(reader) = self.seen[at].reader.take() {
                    reader.client.outbox.close();
                }
            }
            Step::Restart => self.restart(),
        }
        self.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whoever_attaches_misses_nothing_and_sees_nothing_twice(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in steps {
                world.take(step).await;
            }
            world.take(Step::End).await;
            for at in 0..3 {
                world.attach(at);
                while world.seen[at].outcome.is_none() {
                    world.read(at, 1).await;
                }
                assert_eq!(world.seen[at].outcome, Some(world.sizes.len() as u64));
            }
        });
    }
}
