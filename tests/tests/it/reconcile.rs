//! What belongs to nothing goes, and what belongs to something stays.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use cellblock_proto::execution::{Checkpointing, ExecuteOptions};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::leftovers::{self, Process};
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, binaries, in_one_mode, wait};
use rustix::process::{Pid, Signal, kill_process};

as_root_and_user!(
    what_is_left_over_goes_and_what_another_daemon_has_stays,
    whoever_is_killed_in_whatever_order_leaves_nothing_to_the_next_daemon,
);
in_one_mode!(
    a_second_anchor_at_our_socket_ends_with_its_shims,
    anchor_that_is_killed_is_replaced_with_zygote_spares_and_variables,
);

/// A round each so many milliseconds.
const OFTEN: &str = "20";

const NEVER: &str = "3600000";

fn often(setup: Setup) -> Setup {
    setup.switch("CELLBLOCK_TEST_RECONCILE_MS", OFTEN)
}

fn old(path: &Path) {
    let hours = Duration::from_secs(2 * 3600);
    File::open(path).unwrap().set_modified(SystemTime::now() - hours).unwrap();
}

fn make(path: PathBuf, is_old: bool) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "left over").unwrap();
    if is_old {
        old(&path);
    }
    path
}

/// Made elsewhere: a round may come while it is.
fn make_folder(path: PathBuf, is_old: bool) -> PathBuf {
    let folder = path.parent().unwrap();
    let making = folder.parent().unwrap().join("making");
    make(making.join("inner"), false);
    if is_old {
        old(&making);
    }
    fs::create_dir_all(folder).unwrap();
    fs::rename(&making, &path).unwrap();
    path
}

/// Makes it the daemon's, as what it has left itself would be.
fn give(daemon: &Daemon, paths: &[&PathBuf]) {
    let uid = daemon.setup().who.uid();
    let parents = paths.iter().filter_map(|path| path.parent().map(Path::to_owned));
    let within = paths.iter().flat_map(|path| [path.to_path_buf(), path.join("inner")]);
    for path in parents.chain(within) {
        // Fails for what is not there, and for an ordinary user, whose it is already.
        let _ = std::os::unix::fs::lchown(path, Some(uid), Some(uid));
    }
}

/// What a daemon might leave over, and what it might just be making.
fn litter(daemon: &Daemon, is_old: bool) -> Vec<PathBuf> {
    let (state, name) = (daemon.state_dir(), if is_old { "old" } else { "new" });
    let folder = state.join("notebooks").join(name);
    let litter = vec![
        make(folder.join("workspace.img.new"), is_old),
        make(folder.join("import"), is_old),
        make_folder(state.join(format!("notebooks/.trash-{name}")), is_old),
        make_folder(state.join(format!("images/.trash-{name}")), is_old),
    ];
    give(daemon, &litter.iter().collect::<Vec<_>>());
    litter
}

fn what_is_left_over_goes_and_what_another_daemon_has_stays(setup: Setup) {
    // Two daemons that differ in their folders alone; one looks all the time, the other never.
    let other = setup.clone().switch("CELLBLOCK_TEST_RECONCILE_MS", NEVER);
    let (mut one, other) = (Daemon::start(often(setup).lasting()), Daemon::start(other.lasting()));
    let (mut ours, mut theirs) = (one.notebook("a"), other.notebook("a"));
    for notebook in [&mut ours, &mut theirs] {
        notebook.run("keep = [1]\nimport time").ok();
    }
    let before = [ours.status().worker_pid, theirs.status().worker_pid];
    let mut running = theirs.start("time.sleep(1.5); keep.append(2); print(keep)");
    theirs.until_accepted(&mut running);
    let (gone, fresh, others) = (litter(&one, true), litter(&one, false), litter(&other, true));
    let socket = make(one.runtime_dir().join("workers/gone-0123456789ab.sock"), false);
    let payload = make_folder(one.runtime_dir().join("payload/0123"), false);
    give(&one, &[&socket, &payload]);
    let their_socket = make(other.runtime_dir().join("workers/gone-0123456789ab.sock"), false);
    wait::until("what is left over has gone", || {
        let mut gone = gone.iter().chain([&socket, &payload]);
        gone.all(|path| !path.exists()).then_some(())
    });
    for (kind, count) in [("socket", 1), ("files", gone.len() + 1)] {
        let line = format!("cellblock_reconciled_total{{kind=\"{kind}\"}} {count}\n");
        wait::until(&line, || one.client().metrics().contains(&line).then_some(()));
    }
    let words = gone.iter().chain([&payload]).map(|path| path.display().to_string());
    for word in words.chain(["gone-0123456789ab".to_owned()]) {
        // Said when it is done.
        wait::until(&format!("a word of {word}"), || one.log().contains(&word).then_some(()));
    }
    for path in fresh.iter().chain(&others).chain([&their_socket]) {
        assert!(path.exists(), "{path:?} has gone");
    }
    // A payload that a worker of the daemon before may see stays while there is one.
    one.kill_hard();
    let payload = make_folder(one.runtime_dir().join("payload/4567"), false);
    one.restart();
    // Twenty rounds, at least: each has removed what was put there for it.
    for _ in 0..20 {
        let next = make(one.runtime_dir().join("workers/next-0123456789ab.sock"), false);
        give(&one, &[&next]);
        wait::until("another round", || (!next.exists()).then_some(()));
    }
    assert!(payload.exists());
    let mut ours = one.notebook("a");
    assert_eq!(ours.run("print(keep)").ok().stdout(), "[1]\n");
    assert_eq!(theirs.finish(running).ok().stdout(), "[1, 2]\n");
    assert_eq!([ours.status().worker_pid, theirs.status().worker_pid], before);
    fs::remove_file(their_socket).unwrap();
}

fn kill(process: &Process) {
    if process.lives() {
        kill_process(Pid::from_raw(process.pid).unwrap(), Signal::KILL).unwrap();
    }
}

fn whoever_is_killed_in_whatever_order_leaves_nothing_to_the_next_daemon(setup: Setup) {
    let mut daemon = Daemon::start(often(setup).lasting());
    let mut known = Vec::new();
    for order in
        ["daemon", "anchor", "shims", "daemon anchor", "anchor daemon", "shims daemon", "daemon shims anchor"]
    {
        let (mut notebook, mut other) = (daemon.notebook("a"), daemon.notebook("b"));
        notebook.run("keep = 1; import subprocess; child = subprocess.Popen(['sleep', '1000'])").ok();
        other.run("keep = 1").ok();
        let before = daemon.processes();
        known.extend(before.clone());
        for who in order.split(' ') {
            match who {
                "daemon" => daemon.kill_hard(),
                "anchor" => daemon.anchors().iter().for_each(kill),
                _ => {
                    let anchors = daemon.anchors();
                    let shims = daemon.processes_named("cellblock-shim");
                    shims.iter().filter(|process| !anchors.contains(process)).for_each(kill);
                }
            }
        }
        if order.contains("daemon") {
            daemon.restart();
        }
        let stays = order == "daemon";
        if !stays {
            wait::until("whoever was there has ended", || {
                let gone =
                    |process: &&Process| order == "shims" || order == "shims daemon" || !process.lives();
                before
                    .iter()
                    .filter(|process| process.name != "cellblock-shim")
                    .all(|process| gone(&process))
                    .then_some(())
            });
        }
        let mut notebook = daemon.notebook("a");
        assert_eq!(notebook.run("print(6 * 7)").ok().stdout(), "42\n", "after {order}\n{}", daemon.log());
        let anchor = daemon.anchors();
        assert_eq!(anchor.len(), 1, "after {order}: {anchor:?}");
        let dead: Vec<Process> = known.iter().filter(|process| !process.lives()).cloned().collect();
        wait::until("the groups of whoever has gone are gone", || {
            leftovers::cgroups(&dead).is_empty().then_some(())
        });
        wait::until("the sockets of shims that have gone are gone", || {
            let names = fs::read_dir(daemon.runtime_dir().join("workers")).unwrap().flatten();
            let sockets =
                names.filter(|entry| entry.file_name().to_string_lossy().ends_with(".sock")).count();
            // The anchor's, and one for each live worker: of "a", and of "b" where it was not killed.
            (sockets <= 3).then_some(())
        });
        let sleeping = daemon.processes_named("sleep").len();
        assert!(sleeping <= usize::from(stays), "after {order}: {sleeping} are left of the sandboxes before");
        notebook.run("'child' in globals() and child.kill()").ok();
    }
    assert_eq!(leftovers::mounts(&daemon.mark()), Vec::<String>::new());
}

fn anchor_that_is_killed_is_replaced_with_zygote_spares_and_variables(setup: Setup) {
    let daemon = Daemon::start(often(setup).lasting().warm());
    daemon.warmed("default");
    let mut notebook = daemon.notebook("a");
    let saved = ExecuteOptions { checkpoint: Some(Checkpointing::Wait), ..ExecuteOptions::default() };
    notebook.run_with("keep = [1]", saved).ok();
    let before = daemon.processes();
    daemon.anchors().iter().for_each(kill);
    wait::until("all that it held is gone", || before.iter().all(|process| !process.lives()).then_some(()));
    assert_eq!(notebook.run("print(keep)").ok().stdout(), "[1]\n");
    daemon.warmed("default");
    assert_eq!(daemon.anchors().len(), 1);
    assert_eq!(daemon.notebook("b").run("print(6 * 7)").ok().stdout(), "42\n");
}

fn a_second_anchor_at_our_socket_ends_with_its_shims(setup: Setup) {
    let daemon = Daemon::start(often(setup).lasting());
    let mut notebook = daemon.notebook("a");
    notebook.run("keep = 1").ok();
    let first = daemon.anchors();
    // It takes the socket's place, as one does that was started while the first was thought to have gone.
    let mut second = Command::new(binaries::folder(daemon.setup().who).join("cellblock-shim"));
    second
        .args(["--anchor", "--cgroup", "none", "--socket"])
        .arg(daemon.runtime_dir().join("workers/anchor.sock"));
    let mut second = second.stdout(Stdio::null()).spawn().unwrap();
    let status = wait::until("the second has ended", || second.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert_eq!(daemon.anchors(), first);
    assert_eq!(notebook.run("print(keep)").ok().stdout(), "1\n");
    assert!(daemon.log().contains("belongs to nothing"), "{}", daemon.log());
    // Nobody can tell the first to end at a socket that has gone.
    kill(&first[0]);
}
