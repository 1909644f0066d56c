//! Files of a workspace through the daemon, as honest notebooks have them. What a hostile one does
//! about it is in `files_hostile`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use cellblock_proto::client::{ErrorCode, FileKind, Reply, Request, WorkerState};
use cellblock_tests::cli::Cli;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::{Setup, Who, skip, we_are_root};
use cellblock_tests::{as_root_and_user, in_every_mode, in_one_mode};

in_every_mode!(what_a_client_writes_is_the_workers_and_what_a_worker_writes_is_read,);
as_root_and_user!(
    files_of_a_notebook_without_a_worker_are_served_once_it_is_open,
    more_than_a_request_may_carry_is_refused_by_the_limit,
    client_that_asks_for_more_than_it_reads_costs_little_and_stops_nobody,
    cellctl_lists_stores_fetches_and_removes,
    run_with_files_works_with_a_daemon_that_is_there,
);
in_one_mode!(full_workspace_is_said_and_can_be_emptied,);

const MIB: usize = 1 << 20;

fn what_a_client_writes_is_the_workers_and_what_a_worker_writes_is_read(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.write_file("in/data.csv", b"1,2").unwrap();
    let code = "import os\nprint(open('in/data.csv').read(), os.stat('in/data.csv').st_uid == os.getuid())\n\
                open('in/data.csv', 'a').write(',3')\nos.makedirs('out/deep')\n\
                open('out/deep/r.bin', 'wb').write(bytes(range(256)))\nos.rename('in', 'moved')";
    // A cell runs all the while, and nobody waits for it.
    let mut running = notebook.start(&format!("{code}\nimport signal\nprint('up')\nsignal.pause()"));
    notebook.until_stdout(&mut running, "1,2 True\nup\n");
    assert_eq!(notebook.read_file("moved/data.csv").unwrap(), b"1,2,3");
    assert_eq!(notebook.read_part("out/deep/r.bin", 250, 4).unwrap(), (vec![250, 251, 252, 253], 256));
    assert_eq!(
        notebook.names(""),
        [("moved".to_owned(), FileKind::Folder), ("out".to_owned(), FileKind::Folder)]
    );
    let (files, _) = notebook.list_files("out/deep").unwrap();
    assert_eq!((files[0].bytes, files[0].modified_ms > 1_600_000_000_000), (256, true));
    notebook.remove_file("out").unwrap();
    notebook.write_file("moved/new", b"x").unwrap();
    notebook.interrupt();
    let ended = notebook.finish(running);
    assert_eq!(ended.outcome.end, cellblock_proto::execution::End::Interrupted);
    assert_eq!(
        notebook.run("print(os.listdir(), os.path.exists('moved/new'))").ok().stdout(),
        "['moved'] True\n"
    );
    // On the disk it is never root's.
    let found = fs::metadata(daemon.workspace("a").join("moved/new")).unwrap();
    let workspace = fs::metadata(daemon.workspace("a")).unwrap();
    assert_eq!((found.uid(), found.gid()), (workspace.uid(), workspace.gid()));
    assert_eq!(daemon.setup().who == Who::Root, found.uid() > 1 << 30, "{}", found.uid());
}

fn files_of_a_notebook_without_a_worker_are_served_once_it_is_open(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.write_file("kept", b"kept").unwrap();
    // No worker is started for it, unless there is no other way to the files.
    let started = if daemon.image("a").exists() { WorkerState::Idle } else { WorkerState::None };
    assert_eq!(notebook.status().info.state, started);
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Close { notebook: id });
    for refused in [
        notebook.read_file("kept").unwrap_err(),
        notebook.list_files("").unwrap_err(),
        notebook.write_file("kept", b"").unwrap_err(),
        notebook.remove_file("kept").unwrap_err(),
    ] {
        assert_eq!(refused.code, ErrorCode::UnknownNotebook, "{}", refused.message);
    }
    assert_eq!(daemon.notebook("a").read_file("kept").unwrap(), b"kept");
}

fn more_than_a_request_may_carry_is_refused_by_the_limit(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let part = vec![7; 8 * MIB];
    notebook.write_file("file", &part).unwrap();
    let refused = notebook.write_file("file", &vec![8; 8 * MIB + 1]).unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooLarge);
    assert!(refused.message.contains("8388608"), "{}", refused.message);
    let refused = notebook.read_part("file", 0, (8 << 20) + 1).unwrap_err();
    assert_eq!(refused.code, ErrorCode::TooLarge, "{}", refused.message);
    let (content, size) = notebook.read_part("file", 1, 8 << 20).unwrap();
    assert!(content == part[1..] && size == part.len() as u64, "what was refused has changed nothing");
    let id = notebook.id.clone();
    let request = Request::WriteFile { notebook: id, path: "file".to_owned(), offset: 1 << 40 };
    let refused = notebook.client.ask_about(&request, b"far out").unwrap_err();
    assert!(refused.code == ErrorCode::File && refused.message.contains("8388608"), "{}", refused.message);
}

fn client_that_asks_for_more_than_it_reads_costs_little_and_stops_nobody(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.write_file("file", &vec![7; 8 * MIB]).unwrap();
    let rss = |pid: i32| crate::slow_reader::rss_kb(pid);
    let before = rss(daemon.pid());
    // 1.6 GB are asked for, and nothing is read.
    let id = notebook.id.clone();
    let ask = Request::ReadFile { notebook: id, path: "file".to_owned(), offset: 0, bytes: 8 << 20 };
    let sent: Vec<u32> = (0..200).map(|_| notebook.client.send(&ask, &[])).collect();
    let mut other = daemon.notebook("other");
    let begun = Instant::now();
    for number in 0..20 {
        other.write_file("x", number.to_string().as_bytes()).unwrap();
        assert_eq!(other.read_file("x").unwrap(), number.to_string().as_bytes());
    }
    assert!(begun.elapsed().as_secs() < 20);
    let most = rss(daemon.pid());
    assert!(most < before + (64 << 10), "{before} kB before, {most} kB with 200 requests");
    // Each has its answer: the file, or that there are too many.
    let (mut served, mut busy) = (0, 0);
    for request in sent {
        match notebook.client.next(request).reply {
            Reply::File { bytes } if bytes == 8 * MIB as u64 => served += 1,
            Reply::Error { code: ErrorCode::Busy, .. } => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(served >= 8 && served + busy == 200, "{served} served, {busy} refused");
}

fn full_workspace_is_said_and_can_be_emptied(setup: Setup) {
    if !we_are_root() || setup.who == Who::User {
        return skip("only root can mount a small disk");
    }
    let daemon = Daemon::start(setup.tiny_disk());
    let mut notebook = daemon.notebook_in_folder("a");
    notebook.write_file("folder/small", b"x").unwrap();
    let refused = notebook.write_file("large", &vec![1; MIB]).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Storage, "{}", refused.message);
    assert!(refused.message.contains("`large`: the workspace is full"), "{}", refused.message);
    // Removing needs no room.
    notebook.remove_file("folder").unwrap();
    notebook.remove_file("large").unwrap();
    notebook.write_file("small", b"again").unwrap();
    assert_eq!(notebook.read_file("small").unwrap(), b"again");
}

fn cellctl_lists_stores_fetches_and_removes(setup: Setup) {
    let daemon = Daemon::start(setup.clone());
    let cli = Cli::new(setup);
    let socket = daemon.socket();
    let run = |arguments: &[&str]| cli.run(&[arguments, &["--socket", socket.to_str().unwrap()]].concat());
    fs::create_dir_all(cli.path("data/empty")).unwrap();
    cli.write("data/a.csv", "1,2");
    std::os::unix::fs::symlink("a.csv", cli.path("data/b.csv")).unwrap();
    let put = run(&["files", "put", "nb", "data"]);
    assert_eq!(put.code, Some(0), "{}", put.stderr);
    assert_eq!(run(&["files", "get", "nb", "data/b.csv"]).stdout, "1,2");
    let listed = run(&["files", "ls", "nb", "data"]);
    assert_eq!(
        listed.stdout,
        "KIND    BYTES  NAME\nfile    3      a.csv\nfile    3      b.csv\nfolder         empty\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(&run(&["files", "ls", "nb", "data", "--json"]).stdout).unwrap();
    assert_eq!((&json["files"][0]["name"], &json["truncated"]), (&"a.csv".into(), &false.into()));
    // More than one part, there and back.
    let many: String = (0..1_000_000).map(|n| format!("{n:09}\n")).collect();
    cli.write("many", &many);
    assert_eq!(run(&["files", "put", "nb", "many", "deep/er/many"]).code, Some(0));
    assert_eq!(run(&["files", "get", "nb", "deep/er/many", "-o", "back"]).code, Some(0));
    assert!(fs::read_to_string(cli.path("back")).unwrap() == many);
    // A name that would steer a terminal does not reach it, and can be asked for as it is shown.
    let mut notebook = daemon.notebook("nb");
    notebook.run("open('a\\x1b[2Jb\\udcff', 'w').write('odd')").ok();
    let listed = run(&["files", "ls", "nb"]).stdout;
    assert!(listed.contains("a\\x1b[2Jb\\xff\n") && !listed.contains('\x1b'), "{listed:?}");
    assert_eq!(run(&["files", "get", "nb", r"a\x1b[2Jb\xff"]).stdout, "odd");
    assert_eq!(run(&["files", "rm", "nb", r"a\x1b[2Jb\xff", "data", "deep"]).code, Some(0));
    assert_eq!(notebook.names(""), []);
    // What is wrong is said with exit code 2; a link to elsewhere is refused before anything is shown.
    std::os::unix::fs::symlink("/etc/hostname", cli.path("data/outside")).unwrap();
    std::os::unix::fs::symlink(".", cli.path("data/empty/loop")).unwrap();
    for (arguments, words) in [
        (&["files", "get", "nb", "none"][..], "`none`: no such file"),
        (&["files", "get", "nobody", "x"], "no notebook \"nobody\" is open"),
        (&["files", "ls", "nb", "../.."], "nothing outside the workspace"),
        (&["files", "put", "nb", "missing"], "missing"),
        (&["files", "put", "nb", "/dev/null"], "neither a file nor a directory"),
        (&["files", "put", "nb", "data"], "is a link to "),
    ] {
        let ended = run(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    assert!(notebook.read_file("data/outside").is_err() && notebook.list_files("data/empty/loop").is_err());
}

fn run_with_files_works_with_a_daemon_that_is_there(setup: Setup) {
    let daemon = Daemon::start(setup.clone());
    let cli = Cli::new(setup);
    fs::create_dir(cli.path("data")).unwrap();
    cli.write("data/x.csv", "41");
    cli.write("n.py", "print(int(open('data/x.csv').read()) + 1)");
    let socket = daemon.socket();
    let shared = cli.run(&["run", "n.py", "--with", "data", "--socket", socket.to_str().unwrap()]);
    assert_eq!((shared.code, shared.stdout.trim()), (Some(0), "42"), "{}", shared.stderr);
    assert_eq!(daemon.client().notebooks(), [], "a fresh notebook goes with its run");
    let private = cli.private(&["run", "n.py", "--with", "data"]);
    assert_eq!((private.code, private.stdout.trim()), (Some(0), "42"), "{}", private.stderr);
    cli.check_leftovers();
}
