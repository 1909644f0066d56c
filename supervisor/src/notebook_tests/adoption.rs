//! Shims that an earlier daemon started.

use super::*;

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
    let mut peer = Peer::connect(&daemon).await;
    peer.open().await;
    peer.execute("e").await;
    let mut shim = Shim::next(&mut shims).await;
    shim.ready().await;
    shim.begin("e").await;
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
