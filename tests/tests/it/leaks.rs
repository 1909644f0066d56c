//! What a notebook or a daemon used is gone when it is.

use cellblock_proto::client::Request;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, leftovers, wait};

as_root_and_user!(
    twenty_notebooks_opened_and_closed_leave_nothing,
    nothing_is_left_of_a_daemon_and_the_check_would_see_it,
    daemon_whose_owner_is_killed_takes_everything_with_it,
);

fn twenty_notebooks_opened_and_closed_leave_nothing(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("first");
    notebook.run("1").ok();
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Close { notebook: id });
    let descriptors = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let anchor = daemon.processes_named("cellblock-shim")[0].pid;
    let counts = || {
        let names: Vec<_> = daemon.processes().into_iter().map(|process| process.name).collect();
        let files = leftovers::files(&daemon.runtime_dir().join("workers"));
        (names, files, leftovers::sockets(&daemon.mark()).len(), descriptors(anchor))
    };
    drop(notebook);
    let before = wait::until("the first worker is gone", || Some(counts()).filter(|now| now.0.len() == 1));
    for number in 0..20 {
        let mut notebook = daemon.notebook(&format!("n{number}"));
        notebook
            .run("import subprocess; _ = subprocess.Popen(['sleep', '1000'], start_new_session=True)")
            .ok();
        let id = notebook.id.clone();
        let request =
            if number % 2 == 0 { Request::Close { notebook: id } } else { Request::Delete { notebook: id } };
        notebook.client.tell(&request);
    }
    let same = wait::within(wait::PATIENCE, || (counts() == before).then_some(()));
    assert!(same.is_some(), "before {before:?}, after {:?}", counts());
    let folders = std::fs::read_dir(daemon.state_dir().join("notebooks")).unwrap().count();
    assert_eq!(folders, 11, "closed notebooks keep their files, deleted ones do not");
}

fn nothing_is_left_of_a_daemon_and_the_check_would_see_it(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("import subprocess; _ = subprocess.Popen(['sleep', '1000'], start_new_session=True)").ok();
    let mark = daemon.mark();
    // The control: while it lives, the check sees each kind of thing.
    let names: Vec<_> = leftovers::processes(&mark).into_iter().map(|process| process.name).collect();
    for (name, count) in [("cellblockd", 1), ("cellblock-shim", 2), ("sleep", 1)] {
        assert!(names.iter().filter(|found| **found == name).count() >= count, "{name} in {names:?}");
    }
    assert!(names.iter().any(|name| name.starts_with("python")), "{names:?}");
    assert!(leftovers::sockets(&mark).len() >= 3);
    assert!(leftovers::files(&daemon.runtime_dir()).len() >= 4);
    let runtime_dir = daemon.runtime_dir();
    daemon.end();
    assert_eq!(leftovers::processes(&mark), []);
    assert!(!runtime_dir.exists());
}

fn daemon_whose_owner_is_killed_takes_everything_with_it(setup: Setup) {
    let mut daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run("1").ok();
    let known = daemon.processes();
    assert!(known.len() >= 3, "{known:?}");
    // All that a killed owner does: its end of the pipe closes.
    daemon.close_stdin();
    daemon.wait_for_end();
    wait::until("all processes end with the daemon", || {
        (!known.iter().any(|process| process.lives())).then_some(())
    });
}
