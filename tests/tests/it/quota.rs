//! A workspace holds what its profile allows and no more, whatever it is filled with; and what is in it
//! outlives every end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cellblock_proto::client::Request;
use cellblock_proto::execution::{End, Limit};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::leftovers;
use cellblock_tests::notebook::Notebook;
use cellblock_tests::ran::Ran;
use cellblock_tests::setup::{Setup, Who};
use cellblock_tests::{as_root_and_user, in_every_mode, wait};
use sandbox_profiles::{Barrier, BarrierState};

in_every_mode!(what_is_beyond_the_limit_is_not_written, files_survive_every_end);

as_root_and_user!(
    full_workspace_can_be_tidied_up,
    what_takes_no_place_is_not_counted,
    full_tmp_is_a_limit_too,
    report_says_how_the_size_is_held,
    deleted_notebook_leaves_nothing,
);

const LIMIT: u64 = 24 << 20;

/// Ends by itself when nothing stops it, so that the test can name what got through. Slowly enough for
/// a watcher: 1 MB each 8 ms.
const PRELUDE: &str = "import os, time, mmap, tempfile\nblock = bytes(range(256)) * 4096\n";

fn small(setup: Setup) -> Daemon {
    let large = "workspace_bytes = 400_000_000";
    Daemon::start(setup.limits("small", &format!("workspace_bytes = {LIMIT}")).limits("large", large))
}

/// Ways to fill a workspace: with twice what is written before a watcher must have looked thrice, or with
/// 160 MiB at once.
const HOARDS: [(&str, &str); 5] = [
    (
        "one file",
        "f = open('big', 'wb', buffering=0)\nfor _ in range(320): assert f.write(block) == len(block); time.sleep(0.008)\ntime.sleep(1)",
    ),
    (
        "many files",
        "for n in range(320):\n    os.mkdir(f'd{n}')\n    for m in range(128):\n        \
         with open(f'd{n}/{m}', 'wb', buffering=0) as f: assert f.write(block[:8192]) == 8192\n    time.sleep(0.008)\ntime.sleep(1)",
    ),
    (
        "a file without a name",
        "f = open('big', 'wb', buffering=0)\nos.unlink('big')\n\
         for _ in range(320): assert f.write(block) == len(block); time.sleep(0.008)\ntime.sleep(1)",
    ),
    (
        "a child's files without names",
        "pid = os.fork()\nif pid == 0:\n    try:\n        kept = []\n        for _ in range(320):\n            \
         f = tempfile.TemporaryFile(dir='.', buffering=0); assert f.write(block) == len(block); kept.append(f); time.sleep(0.008)\n        \
         time.sleep(1)\n    except OSError: os._exit(28)\n    os._exit(0)\n\
         code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\nif code: raise OSError(code, os.strerror(code))",
    ),
    (
        "all at once",
        "f = os.open('big', os.O_CREAT | os.O_RDWR)\nos.posix_fallocate(f, 0, 160 << 20)\nos.unlink('big')\ntime.sleep(1)",
    ),
];

fn disk_limit(ran: &Ran) -> Option<(u64, u64)> {
    match ran.outcome.end {
        End::LimitHit { limit: Limit::Disk, allowed, reached } => Some((allowed, reached)),
        _ => None,
    }
}

/// Bytes that a notebook takes on the host's disk.
fn on_disk(folder: &Path) -> u64 {
    leftovers::files(folder)
        .iter()
        .filter_map(|path| fs::symlink_metadata(path).ok())
        .map(|f| f.blocks() * 512)
        .sum()
}

fn what_is_beyond_the_limit_is_not_written(setup: Setup) {
    let daemon = small(setup);
    let rootful = daemon.setup().who == Who::Root;
    let mut wrong = Vec::new();
    for (number, (name, code)) in HOARDS.iter().enumerate() {
        let id = format!("n{number}");
        let mut notebook = daemon.notebook_under(&id, "small");
        notebook.run("keep = 1").ok();
        let ran = notebook.run(&format!("{PRELUDE}{code}"));
        match disk_limit(&ran) {
            // The kernel refuses: nothing is above, and the worker lives.
            Some((LIMIT, reached)) if rootful && reached <= LIMIT + LIMIT / 8 && ran.lost().is_none() => {}
            // The watch ends the sandbox: above, but not by more than what is written in three looks,
            // or, all at once, in one.
            Some((LIMIT, reached)) if !rootful && reached > LIMIT && reached <= 165 << 20 => {}
            _ => wrong.push(format!("{name}: {:?} {}", ran.outcome.end, ran.stderr())),
        }
        if rootful {
            let bytes = on_disk(daemon.image(&id).parent().unwrap());
            if bytes > 2 * LIMIT {
                wrong.push(format!("{name}: {bytes} bytes on the host"));
            }
        }
        // What has a name is still there, and counts.
        let next = notebook.run(if rootful { "keep" } else { "1" }).ok();
        assert_eq!(next.shape(), [("result", "1".to_owned())]);
        // The control: where more is allowed it is written.
        let mut notebook = daemon.notebook_under(&format!("c{number}"), "large");
        let ran = notebook.run(&format!("{PRELUDE}{code}"));
        if ran.outcome.end != End::Ok {
            wrong.push(format!("the control of {name}: {:?} {}", ran.outcome.end, ran.stderr()));
        }
        let id = notebook.id.clone();
        notebook.client.tell(&Request::Delete { notebook: id });
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

const FILL: &str = "with open('big', 'wb', buffering=0) as f:\n    \
                    for _ in range(400): assert f.write(block) > 0; time.sleep(0.008)";

fn full_workspace_can_be_tidied_up(setup: Setup) {
    let daemon = small(setup);
    let mut notebook = daemon.notebook_under("a", "small");
    notebook.run(PRELUDE).ok();
    let ran = notebook.run(FILL);
    assert!(disk_limit(&ran).is_some(), "{:?}", ran.outcome);
    notebook.run(PRELUDE).ok();
    // An error that has nothing to do with it stays what it is.
    assert_eq!(notebook.run("1/0").raised(), Some("ZeroDivisionError"));
    // Still too much, so no more.
    let ran = notebook.run("with open('more', 'wb', buffering=0) as f:\n    for _ in range(40): f.write(block); time.sleep(0.05)");
    assert!(disk_limit(&ran).is_some(), "{:?}", ran.outcome);
    notebook.run("import os\nfor name in os.listdir('.'): os.unlink(name)").ok();
    notebook.run(&format!("{PRELUDE}open('fits', 'wb').write(block)")).ok();
    wait::until("what was removed is free on the host", || {
        let folder = daemon.image("a").parent().unwrap().to_owned();
        (on_disk(&folder) < LIMIT).then_some(())
    });
}

fn what_takes_no_place_is_not_counted(setup: Setup) {
    let daemon = small(setup);
    let mut notebook = daemon.notebook_under("a", "small");
    let code = "with open('sparse', 'wb') as f: f.truncate(1 << 30)\n\
                open('real', 'wb').write(block * 16)\nfor n in range(20): os.link('real', f'link{n}')\n\
                os.symlink('/usr', 'link')\ntime.sleep(0.6)\nprint(sorted(os.listdir('.'))[-2:])";
    let ran = notebook.run(&format!("{PRELUDE}{code}"));
    assert_eq!(ran.ok().stdout(), "['real', 'sparse']\n");
    // Nothing of ours is among the files.
    assert_eq!(notebook.run("print(len(os.listdir('.')))").ok().stdout(), "23\n");
    // All that was promised can be had.
    let fits = "for name in os.listdir('.'): os.unlink(name)\n\
                with open('all', 'wb', buffering=0) as f:\n    for _ in range(24): assert f.write(block) == len(block)\n\
                time.sleep(0.6)";
    if daemon.setup().who == Who::Root {
        notebook.run(fits).ok();
    }
}

fn full_tmp_is_a_limit_too(setup: Setup) {
    let daemon = Daemon::start(setup.limits("small", "tmp_bytes = 8_388_608"));
    let mut notebook = daemon.notebook_under("a", "small");
    notebook.run("keep = 1").ok();
    for place in ["/tmp", "/dev/shm"] {
        let ran = notebook.run(&format!("open('{place}/big', 'wb').write(bytes(20 << 20))"));
        assert_eq!(disk_limit(&ran), Some((8 << 20, 8 << 20)), "{:?}", ran.outcome);
        let ran = notebook.run(&format!("import os\nos.unlink('{place}/big')\nkeep"));
        assert_eq!(ran.ok().shape(), [("result", "1".to_owned())]);
    }
}

fn report_says_how_the_size_is_held(setup: Setup) {
    let daemon = small(setup);
    let rootful = daemon.setup().who == Who::Root;
    let mut notebook = daemon.notebook_under("a", "small");
    notebook.run("1").ok();
    let line = |notebook: &mut Notebook| {
        let report = notebook.status().report.unwrap();
        let found = report.barriers.into_iter().find(|line| line.barrier == Barrier::WorkspaceQuota);
        let found = found.expect("a line for the workspace's quota");
        (found.state, found.detail)
    };
    let (state, detail) = line(&mut notebook);
    if !rootful {
        assert!(state == BarrierState::Degraded && detail.contains("250 ms"), "{state:?} {detail}");
        return;
    }
    let room = |detail: &str| -> u64 {
        let words = detail.split(' ').find_map(|word| word.trim_end_matches(';').parse().ok());
        words.unwrap_or_else(|| panic!("no number in {detail}"))
    };
    assert!(
        state == BarrierState::Enforced && detail.contains("file system of its own"),
        "{state:?} {detail}"
    );
    assert!((LIMIT..LIMIT + LIMIT / 8).contains(&room(&detail)), "{detail}");

    // The profile allows more: it grows. It allows less: what is there stays, and that is said.
    let allow = |bytes: u64| {
        let text = format!("version = 1\n[limits]\nworkspace_bytes = {bytes}\n");
        fs::write(daemon.profiles_dir().join("small.toml"), text).unwrap();
    };
    notebook.run("open('kept', 'w').write('here')").ok();
    for (bytes, least, state) in [
        (300 << 20, 300 << 20, BarrierState::Enforced),
        (6 << 30, 6 << 30, BarrierState::Enforced),
        (LIMIT, 6 << 30, BarrierState::Degraded),
    ] {
        allow(bytes);
        let id = notebook.id.clone();
        notebook.client.tell(&Request::Restart { notebook: id });
        assert_eq!(notebook.run("print(open('kept').read())").ok().stdout(), "here\n");
        let (found, detail) = line(&mut notebook);
        assert!(
            found == state && room(&detail) >= least && room(&detail) < least + least / 16,
            "{found:?} {detail}"
        );
    }
}

fn files_survive_every_end(setup: Setup) {
    let mut daemon = Daemon::start(setup.limits("small", &format!("workspace_bytes = {LIMIT}")).lasting());
    let mut notebook = daemon.notebook_under("a", "small");
    let mut expected = 0;
    let mut write = |notebook: &mut Notebook| {
        expected += 1;
        let code = format!(
            "import os\nos.makedirs('folder', exist_ok=True)\nopen('folder/{expected}', 'w').write('x' * 10_000)\n\
             print(len(os.listdir('folder')), sum(os.path.getsize('folder/' + name) for name in os.listdir('folder')))"
        );
        assert_eq!(notebook.run(&code).ok().stdout(), format!("{expected} {}\n", expected * 10_000));
    };
    write(&mut notebook);
    // Again and again, and each time what was there before.
    for _ in 0..8 {
        let id = notebook.id.clone();
        notebook.client.tell(&Request::Restart { notebook: id });
        write(&mut notebook);
        one_device(&daemon, "a");
    }
    let ran = notebook.run("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)");
    assert!(matches!(ran.outcome.end, End::WorkerDied(_)), "{:?}", ran.outcome);
    write(&mut notebook);

    // The anchor, the shim, its init: each the child of the one before.
    let mut ours = daemon.processes_named("cellblock-shim");
    ours.sort_by_key(|process| (process.began, process.pid));
    assert_eq!(ours.len(), 3, "{ours:?}");
    let shim = &ours[1];
    let pid = rustix::process::Pid::from_raw(shim.pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    wait::until("the shim ends", || (!shim.lives()).then_some(()));
    write(&mut notebook);

    daemon.kill_hard();
    daemon.restart();
    let mut notebook = daemon.notebook_under("a", "small");
    write(&mut notebook);
    // Everybody at once, as the machine's end does it.
    let everybody = daemon.processes();
    daemon.kill_hard();
    for process in &everybody {
        let pid = rustix::process::Pid::from_raw(process.pid).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    wait::until("all are gone", || (!everybody.iter().any(|process| process.lives())).then_some(()));
    daemon.restart();
    let mut notebook = daemon.notebook_under("a", "small");
    write(&mut notebook);
    one_device(&daemon, "a");
}

/// As root the notebook's image has one loop device, and not two.
fn one_device(daemon: &Daemon, notebook: &str) {
    let image = daemon.image(notebook).display().to_string();
    let expected = usize::from(daemon.setup().who == Who::Root);
    let found = leftovers::loops(&image);
    assert_eq!(found.len(), expected, "{found:?}");
}

fn deleted_notebook_leaves_nothing(setup: Setup) {
    let daemon = small(setup);
    let mut notebook = daemon.notebook_under("a", "small");
    notebook.run("open('file', 'w').write('x')").ok();
    one_device(&daemon, "a");
    let folder = daemon.image("a").parent().unwrap().to_owned();
    assert!(folder.exists());
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Delete { notebook: id });
    assert!(!folder.exists());
    wait::until("the loop device goes", || leftovers::loops(&daemon.mark()).is_empty().then_some(()));
    let mut notebook = daemon.notebook_under("a", "small");
    assert_eq!(notebook.run("import os\nprint(os.listdir('.'))").ok().stdout(), "[]\n");
}
