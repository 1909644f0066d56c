//! Shims that an earlier daemon started.

use std::sync::Mutex;

use cellblock_proto::anchor::AnchorRequest;
use cellblock_proto::id::WorkerId;

use super::*;
use crate::adopt::adopt;

fn state() -> ShimState {
    ShimState {
        build: crate::build::build(),
        link: 1,
        worker: "a-1".parse().unwrap(),
        notebook: notebook(),
        tenant: cellblock_proto::id::TenantId::operator(),
        profile: "default".to_owned(),
        slot: 3,
        ready: Some((7, "CPython".to_owned(), SandboxReport::default())),
        running: Some(id("e")),
        queue: vec![id("f")],
        leave: Vec::new(),
        names: Vec::new(),
        executions: 4,
        spare: false,
        unsaved: Vec::new(),
        newest: None,
        begun: false,
        unsavable: false,
    }
}

/// As the daemon does, but after the first event: nothing reads what came with it.
async fn take_over(daemon: &Arc<Daemon>, ours: std::os::unix::net::UnixStream, state: ShimState) {
    crate::workspace::open(&daemon.state, &crate::daemon::Key::own(notebook()), None).unwrap();
    ours.set_nonblocking(true).unwrap();
    let (mut reader, writer) = link::split(UnixStream::from_std(ours).unwrap());
    let arrivals = vec![reader.arrival().await.unwrap()];
    let launched = Launched {
        worker: state.worker.clone(),
        reader,
        writer,
        slot: daemon.slots.claim(3),
        zygote: None,
        kind: crate::metrics::StartKind::Exec,
        life: Default::default(),
    };
    registry::adopt(
        daemon,
        crate::daemon::Key::own(notebook()),
        vec![Survivor { launched, arrivals, state }],
    );
}

#[tokio::test]
async fn worker_that_outlived_a_daemon_goes_on_where_its_client_was() {
    let (_temp, daemon, _shims) = daemon().await;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut shim = Shim::new(theirs);
    // Outputs 0 to 4 were taken; 5 was on its way when the daemon was killed.
    shim.seq = 20;
    let state = state();
    shim.output("e", 5, b"five").await;
    shim.write(0, EventBody::State(state.clone()), &[]).await;
    take_over(&daemon, ours, state).await;

    let mut peer = Peer::connect(&daemon).await;
    peer.send(&Request::Status { notebook: notebook() }, b"").await;
    let Reply::Status(status) = peer.reply().await.1 else { panic!("no status") };
    assert_eq!((status.running, status.queue), (Some(id("e")), vec![id("f")]));
    peer.send(&Request::Attach { notebook: notebook(), execution: id("e"), from_seq: 5 }, b"").await;
    assert!(matches!(peer.reply().await.1, Reply::Accepted { .. }));
    let (_, reply, payload) = peer.reply().await;
    assert!(matches!(reply, Reply::Output(OutputFrame { seq: 5, .. })), "{reply:?}");
    assert_eq!(payload, b"five");
    // It is known, so it is not run again.
    peer.execute("f").await;
    assert!(matches!(peer.reply().await.1, Reply::Accepted { .. }));
    peer.send(&Request::Interrupt { notebook: notebook() }, b"").await;
    assert_eq!(shim.command().await.1, Command::Interrupt);
    // What a client has may be asked for by another one: it is taken when it is on the disk, at the end at last.
    shim.event(EventBody::Finished { execution: id("e"), outputs: 6, outcome: outcome(End::Ok) }).await;
    shim.taken(22).await;
}

#[tokio::test]
async fn execution_whose_shim_went_with_the_daemon_has_one_outcome_and_is_never_run_again() {
    let (temp, daemon, mut shims) = daemon().await;
    let (mut peer, _shim) = running(&daemon, &mut shims).await;
    assert!(matches!(peer.reply().await.1, Reply::Accepted { .. }));
    for _ in 0..2 {
        // Another daemon with the same notebooks, and without this shim.
        let other = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(temp.path().join("state"), other.path().join("state")).unwrap();
        let (daemon, mut shims) = daemon_at(other.path());
        let mut peer = Peer::connect(&daemon).await;
        peer.open().await;
        peer.execute("e").await;
        assert!(matches!(peer.reply().await.1, Reply::Accepted { .. }));
        let (_, reply, _) = peer.reply().await;
        let Reply::Outcome { outcome, .. } = reply else { panic!("{reply:?}") };
        assert_eq!(outcome.end, End::WorkerDied(Death::ShimLost));
        assert!(shims.try_recv().is_err(), "a worker was started for it");
    }
}

#[tokio::test]
async fn leave_given_before_a_restart_counts_and_what_has_none_gets_it_afterwards() {
    for (running, leave) in [(true, vec![]), (false, vec![id("f")])] {
        let (_temp, daemon, _shims) = daemon().await;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut shim = Shim::new(theirs);
        let queue = vec![id("f"), id("g")];
        let state = ShimState { running: Some(id("e")).filter(|_| running), queue, leave, ..state() };
        shim.write(0, EventBody::State(state.clone()), &[]).await;
        take_over(&daemon, ours, state).await;
        daemon.runners.set_most("default", Some(1));
        let mut stranger = daemon.runners.turn("t", "default", Arc::default());
        assert!(!stranger.ask(), "its leave was not counted");
        let (first, next) = if running { ("e", "f") } else { ("f", "g") };
        shim.finish(first, 0).await;
        // Who has waited meanwhile comes first.
        let mut given = stranger.ask();
        while !given {
            tokio::task::yield_now().await;
            given = stranger.ask();
        }
        drop(stranger);
        assert_eq!(shim.command().await.1, Command::Leave { execution: id(next) });
    }
}

#[tokio::test]
async fn what_a_shim_told_right_behind_its_state_is_heard_without_another_read() {
    let (_temp, daemon, _shims) = daemon().await;
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut shim = Shim::new(theirs);
    let state = ShimState { queue: Vec::new(), ..state() };
    shim.write(0, EventBody::State(state.clone()), &[]).await;
    shim.event(EventBody::Finished { execution: id("e"), outputs: 0, outcome: outcome(End::Ok) }).await;
    take_over(&daemon, ours, state).await;

    let mut peer = Peer::connect(&daemon).await;
    peer.send(&Request::Attach { notebook: notebook(), execution: id("e"), from_seq: 0 }, b"").await;
    assert!(matches!(peer.reply().await.1, Reply::Accepted { .. }));
    let (_, reply, _) = peer.reply().await;
    assert!(matches!(reply, Reply::Outcome { .. }), "{reply:?}");
}

/// A daemon whose anchor has one shim, `a-1`; that shim, once it is spoken to; and which shims were killed.
struct Found {
    _temp: tempfile::TempDir,
    daemon: Arc<Daemon>,
    listener: tokio::net::UnixListener,
    killed: Arc<Mutex<Vec<WorkerId>>>,
}

impl Found {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let killed = Arc::<Mutex<Vec<WorkerId>>>::default();
        let kills = Arc::clone(&killed);
        let socket = fake_anchor(move |request, _| match request {
            AnchorRequest::List => AnchorReply::Shims { shims: vec![("a-1".parse().unwrap(), 1)] },
            AnchorRequest::Kill { worker } => {
                kills.lock().unwrap().push(worker);
                AnchorReply::Done
            }
            other => panic!("{other:?}"),
        });
        let daemon = crate::server::test_daemon(temp.path(), Anchor::with_socket(socket));
        let listener = tokio::net::UnixListener::bind(daemon.runtime.worker_socket("a-1")).unwrap();
        Found { _temp: temp, daemon, listener, killed }
    }

    async fn shim(&self) -> Shim {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept()).await;
        let (socket, _) = accepted.expect("the daemon connects in time").unwrap();
        Shim::new(socket.into_std().unwrap())
    }

    /// The shim tells `told` before how things stand.
    async fn adopt(&self, told: Vec<EventBody>, state: ShimState) -> Shim {
        crate::workspace::open(&self.daemon.state, &crate::daemon::Key::own(notebook()), None).unwrap();
        let answers = async {
            let mut shim = self.shim().await;
            let Command::Resume { taken: 0, .. } = shim.command().await.1 else { panic!("no resume") };
            assert_eq!(shim.codec, Codec::Json, "any build must understand it");
            for body in told {
                shim.event(body).await;
            }
            shim.write(0, EventBody::State(state), &[]).await;
            shim
        };
        let (adopted, shim) = tokio::join!(adopt(&self.daemon), answers);
        adopted.unwrap();
        shim
    }

    fn is_known(&self) -> bool {
        self.daemon.notebooks.get(&crate::daemon::Key::own(notebook())).is_some()
    }
}

#[tokio::test]
async fn shim_of_another_build_is_spoken_to_in_json_and_one_of_ours_in_bincode() {
    for (build, codec) in [("0.0.0+older".to_owned(), Codec::Json), (crate::build::build(), Codec::Bincode)] {
        let found = Found::new();
        let mut shim = found.adopt(Vec::new(), ShimState { build, ..state() }).await;
        assert!(found.is_known() && found.killed.lock().unwrap().is_empty());
        let metrics = crate::overview::metrics(&found.daemon);
        assert!(metrics.contains("cellblock_shims_adopted_total 1\n"), "{metrics}");
        let mut peer = Peer::connect(&found.daemon).await;
        peer.send(&Request::Interrupt { notebook: notebook() }, b"").await;
        assert_eq!(shim.command().await.1, Command::Interrupt);
        assert_eq!(shim.codec, codec);
    }
}

#[tokio::test]
async fn shim_that_cannot_be_understood_is_told_to_retire_and_not_killed() {
    let found = Found::new();
    let state = ShimState { build: "9.0.0+1".to_owned(), link: 99, ..state() };
    let retires = async {
        let mut shim = found.shim().await;
        shim.command().await;
        shim.write(0, EventBody::State(state), &[]).await;
        let Command::Retire { reason } = shim.command().await.1 else { panic!("not told to retire") };
        assert!(reason.contains("9.0.0+1") && reason.contains("link 99"), "{reason}");
        assert_eq!(shim.codec, Codec::Json);
    };
    let (adopted, ()) = tokio::join!(adopt(&found.daemon), retires);
    adopted.unwrap();
    assert!(!found.is_known() && found.killed.lock().unwrap().is_empty());
}

#[tokio::test]
async fn shim_that_is_no_notebooks_yet_is_killed() {
    let found = Found::new();
    found.adopt(Vec::new(), ShimState { spare: true, ..state() }).await;
    assert!(!found.is_known());
    assert_eq!(*found.killed.lock().unwrap(), ["a-1".parse().unwrap()]);
    assert!(!found.daemon.runtime.worker_socket("a-1").exists());
}

#[tokio::test]
async fn ids_of_a_worker_that_has_ended_may_be_anothers_by_now() {
    let found = Found::new();
    let _others = found.daemon.slots.claim(state().slot).unwrap();
    let ended = EventBody::WorkerEnded { death: Death::Exited { code: 0 }, lost: Vec::new() };
    let over = ShimState { ready: None, running: None, queue: Vec::new(), ..state() };
    found.adopt(vec![ended], over).await;
    assert!(found.is_known(), "what it has still to tell is heard");
    let found = Found::new();
    let _others = found.daemon.slots.claim(state().slot).unwrap();
    found.adopt(Vec::new(), state()).await;
    assert!(!found.is_known(), "two workers have the same ids");
}

#[tokio::test]
async fn execution_that_is_to_end_with_its_client_has_a_while_for_it_to_come_back_after_a_restart() {
    for comes_back in [false, true] {
        let (_temp, daemon, _shims) = daemon().await;
        let key = crate::daemon::Key::own(notebook());
        crate::workspace::open(&daemon.state, &key, None).unwrap();
        let mut records = crate::records::Records::open(&crate::workspace::outputs(&daemon.state, &key));
        records.create(&id("e"), true);
        records.accept(&id("e"), 0);
        drop(records);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut shim = Shim::new(theirs);
        let state = ShimState { queue: Vec::new(), ..state() };
        shim.write(0, EventBody::State(state.clone()), &[]).await;
        take_over(&daemon, ours, state).await;
        let mut peer = Peer::connect(&daemon).await;
        if comes_back {
            peer.send(&Request::Attach { notebook: notebook(), execution: id("e"), from_seq: 0 }, b"").await;
            assert!(matches!(peer.reply().await.1, Reply::Accepted { .. }));
        }
        for (seconds, is_to_end) in [(29, false), (2, !comes_back)] {
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(seconds)).await;
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            tokio::time::resume();
            // Whatever it has said by now is read before the answer to this.
            peer.send(&Request::Status { notebook: notebook() }, b"").await;
            assert!(matches!(peer.reply().await.1, Reply::Status(_)));
            let told = tokio::time::timeout(Duration::from_millis(50), shim.command()).await;
            let is_cancelled = told.is_ok_and(|(_, told)| told == Command::Cancel { execution: id("e") });
            assert_eq!(is_cancelled, is_to_end, "after {seconds} s more");
        }
    }
}

#[tokio::test]
async fn worker_of_another_build_that_saves_nothing_goes_without_variables_or_when_nobody_has_wanted_it_for_long()
 {
    let x = NameInfo { name: "x".to_owned(), kind: "int".to_owned(), bytes: None };
    for names in [vec![], vec![x]] {
        let found = Found::new();
        let is_empty = names.is_empty();
        // A profile that cannot be read saves nothing.
        let (build, profile) = ("0.0.0+older".to_owned(), "gone".to_owned());
        let state = ShimState { build, profile, running: None, queue: Vec::new(), names, ..state() };
        let mut shim = found.adopt(Vec::new(), state).await;
        if !is_empty {
            let told = tokio::time::timeout(Duration::from_millis(100), shim.command()).await;
            assert!(told.is_err(), "{told:?}");
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(601)).await;
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
            tokio::time::resume();
        }
        let (_, Command::End { reason }) = shim.command().await else { panic!("it stays") };
        assert!(reason.contains("0.0.0+older"), "{reason}");
    }
}
