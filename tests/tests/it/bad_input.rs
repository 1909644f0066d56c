//! What makes no sense is refused by name, costs nobody anything, and leaves the daemon as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use cellblock_proto::client::{ErrorCode, Reply, Request};
use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{Header, Kind};
use cellblock_tests::client::{Client, Refused};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::{STRANGER_ID, Setup, Who, skip, we_are_root};
use cellblock_tests::{as_root_and_user, binaries, in_every_mode, in_one_mode};

in_one_mode!(
    bytes_that_are_no_frame_end_only_their_connection,
    version_without_overlap_names_both_ranges,
    frame_above_a_limit_is_refused_before_it_is_read,
    bad_ids_are_refused_and_shown_escaped,
    unknown_notebooks_executions_and_requests_are_named,
    request_ids_must_be_fresh_and_not_0,
    bad_profiles_are_refused_by_line_and_key,
    peer_of_another_user_is_refused,
    full_disk_is_said_and_loses_nothing,
    code_that_is_no_text_or_too_long_is_refused,
);
as_root_and_user!(
    second_daemon_in_the_same_place_is_refused_and_the_first_goes_on,
    socket_path_too_long_is_refused_with_its_length,
);
in_every_mode!(interpreters_that_cannot_run_notebooks_are_named);

/// The daemon still does what it is for, and a notebook still has its variable.
struct Witness(cellblock_tests::notebook::Notebook);

impl Witness {
    fn new(daemon: &Daemon) -> Self {
        let mut notebook = daemon.notebook("witness");
        notebook.run("x = 41").ok();
        Witness(notebook)
    }

    fn check(&mut self) {
        assert_eq!(self.0.run("x + 1").ok().shape(), [("result", "42".to_owned())]);
    }
}

fn refusal(client: &mut Client, request: u32) -> Refused {
    match client.next(request).reply {
        Reply::Error { code, message, hint } => Refused { code, message, hint },
        other => panic!("not refused: {other:?}"),
    }
}

fn bytes_that_are_no_frame_end_only_their_connection(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    let mut wrong_kind = [0; 16];
    wrong_kind[..4].copy_from_slice(&[0xCB, 99, 1, 0]);
    let mut reserved_flags = [0; 16];
    reserved_flags[..4].copy_from_slice(&[0xCB, 1, 1, 0xF0]);
    let table: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", "0x47"),
        (&[0; 64], "0x00"),
        (&wrong_kind, "99"),
        (&reserved_flags, "0xf0"),
    ];
    for (bytes, named) in table {
        for greeted in [false, true] {
            let mut client = if greeted { daemon.client() } else { Client::silent(&daemon.socket()) };
            client.send_unwelcome(bytes);
            let refused = refusal(&mut client, 0);
            assert_eq!(refused.code, ErrorCode::BadRequest);
            assert!(refused.message.contains(named), "{}", refused.message);
            assert!(client.ends());
        }
    }
    // A frame that is cut off, and a client that says nothing: both just go.
    let mut torn = Client::silent(&daemon.socket());
    torn.send_bytes(&[0xCB, 1, 1]);
    drop(torn);
    drop(Client::silent(&daemon.socket()));
    witness.check();
}

fn version_without_overlap_names_both_ranges(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut client = Client::silent(&daemon.socket());
    client.send_json(
        1,
        r#"{"hello": {"min_version": 700, "max_version": 900, "codec": "json", "client": "t"}}"#,
    );
    let refused = refusal(&mut client, 0);
    assert_eq!(refused.code, ErrorCode::Version);
    let own = format!("{} to {}", cellblock_proto::PROTOCOL_MIN, cellblock_proto::PROTOCOL_MAX);
    assert!(refused.message.contains("700 to 900") && refused.message.contains(&own), "{}", refused.message);
    assert!(client.ends());
    // The first frame must be hello.
    let mut client = Client::silent(&daemon.socket());
    client.send_json(1, "\"notebooks\"");
    assert!(refusal(&mut client, 0).message.contains("hello"));
    Witness::new(&daemon).check();
}

fn frame_above_a_limit_is_refused_before_it_is_read(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    for (meta_bytes, payload_bytes, part) in
        [((1 << 20) + 1, 0, "meta"), (2, (64 << 20) + 1, "payload"), (u32::MAX, u32::MAX, "meta")]
    {
        let mut client = daemon.client();
        let header = Header {
            kind: Kind::Request,
            codec: Codec::Json,
            flags: 0,
            request: 9,
            meta_bytes,
            payload_bytes,
        };
        client.send_bytes(&header.encode());
        let refused = refusal(&mut client, 0);
        assert_eq!(refused.code, ErrorCode::TooLarge);
        assert!(refused.message.contains(part) && refused.message.contains("limit"), "{}", refused.message);
        assert!(client.ends());
    }
    witness.check();
}

fn bad_ids_are_refused_and_shown_escaped(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    let mut client = daemon.client();
    let long = "x".repeat(4096);
    for (number, id) in ["a/b", "..", "/etc", "a\\u0000b", "", " ", "ü", &long].into_iter().enumerate() {
        let request = 10 + u32::try_from(number).unwrap();
        client.send_json(request, &format!(r#"{{"open_notebook": {{"notebook": "{id}"}}}}"#));
        let refused = refusal(&mut client, request);
        assert_eq!(refused.code, ErrorCode::BadRequest, "{id}");
        assert!(
            refused.message.contains("notebook id") && refused.message.len() < 400,
            "{}",
            refused.message
        );
    }
    client.send_json(30, r#"{"execute": {"notebook": "witness", "execution": "a/b"}}"#);
    assert!(refusal(&mut client, 30).message.contains("execution id"));
    let notebooks: Vec<_> = fs::read_dir(daemon.state_dir().join("notebooks")).unwrap().flatten().collect();
    assert_eq!(notebooks.len(), 1, "{notebooks:?}");
    witness.check();
}

fn unknown_notebooks_executions_and_requests_are_named(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    let mut client = daemon.client();
    let notebook: cellblock_proto::id::NotebookId = "nobody".parse().unwrap();
    for request in [
        Request::Status { notebook: notebook.clone() },
        Request::Interrupt { notebook: notebook.clone() },
        Request::Restart { notebook: notebook.clone() },
        Request::Close { notebook: notebook.clone() },
        Request::Execute { notebook, execution: "e".parse().unwrap(), options: Default::default() },
    ] {
        let refused = client.ask(&request).unwrap_err();
        assert_eq!(refused.code, ErrorCode::UnknownNotebook, "{request:?}");
        assert!(refused.message.contains("nobody"), "{}", refused.message);
    }
    let (notebook, execution) = ("witness".parse().unwrap(), "never".parse().unwrap());
    let refused = client.ask(&Request::Attach { notebook, execution, from_seq: 0 }).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownExecution);
    for (request, json) in [(90, r#"{"fly": {}}"#), (91, "\"fly\""), (92, "{not json"), (93, "")] {
        client.send_json(request, json);
        let refused = refusal(&mut client, request);
        assert_eq!(refused.code, ErrorCode::BadRequest);
        assert!(!json.contains("fly") || refused.message.contains("fly"), "{}", refused.message);
    }
    witness.check();
}

fn request_ids_must_be_fresh_and_not_0(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    let mut client = daemon.client();
    client.send_json(0, "\"notebooks\"");
    assert_eq!(refusal(&mut client, 0).code, ErrorCode::BadRequest);
    let mut notebook = cellblock_tests::notebook::Notebook::open(client, "a", None);
    let mut sent = notebook.start("import time\nprint('up')\ntime.sleep(100)");
    notebook.until_stdout(&mut sent, "up");
    notebook.client.send_json(sent.request, "\"notebooks\"");
    let refused = refusal(&mut notebook.client, 0);
    assert_eq!(refused.code, ErrorCode::BadRequest);
    assert!(refused.message.contains(&sent.request.to_string()), "{}", refused.message);
    // What was under way goes on.
    notebook.interrupt();
    assert_eq!(notebook.finish(sent).outcome.end, cellblock_proto::execution::End::Interrupted);
    witness.check();
}

fn bad_profiles_are_refused_by_line_and_key(setup: Setup) {
    let setup = setup
        .profile("typo", "version = 1\n\n[limits]\nmemory_mb = 5\n")
        .profile("future", "version = 2\n")
        .profile("tiny", "version = 1\n[limits]\nprocesses = 1\n");
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    let mut client = daemon.client();
    for (profile, words) in [
        ("typo", ["line 4", "memory_mb"]),
        ("future", ["version is 2", "reads version 1"]),
        ("tiny", ["limits.processes is 1", "at least 8"]),
        ("absent", ["absent", "no profile"]),
        ("../default", ["bad profile name", "../default"]),
    ] {
        let request =
            Request::OpenNotebook { notebook: "a".parse().unwrap(), profile: Some(profile.to_owned()) };
        let refused = client.ask(&request).unwrap_err();
        assert_eq!(refused.code, ErrorCode::BadProfile, "{profile}");
        assert!(words.iter().all(|word| refused.message.contains(word)), "{}", refused.message);
    }
    witness.check();
}

fn second_daemon_in_the_same_place_is_refused_and_the_first_goes_on(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    let second = daemon.same_again().stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success(), "{said}");
    assert!(said.contains(&format!("process {}", daemon.pid())) && said.contains("--runtime-dir"), "{said}");
    witness.check();
    assert_eq!(Witness::new(&daemon).0.run("x").ok().shape(), [("result", "41".to_owned())]);
}

fn socket_path_too_long_is_refused_with_its_length(setup: Setup) {
    let path = format!("/tmp/{}", "s".repeat(150));
    let said = Daemon::refused(setup.argument("--socket").argument(&path));
    assert!(said.contains("155 bytes") && said.contains("107") && said.contains("--socket"), "{said}");
}

fn interpreters_that_cannot_run_notebooks_are_named(setup: Setup) {
    let home = tempfile::Builder::new().prefix("cb-python-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let script = home.path().join("python3");
    fs::write(&script, "#!/bin/sh\nexec python3 \"$@\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let no_program = home.path().join("not-executable");
    fs::write(&no_program, "").unwrap();
    let bare = home.path().join("bare");
    let made =
        Command::new("/usr/bin/python3").args(["-m", "venv", "--without-pip"]).arg(&bare).status().unwrap();
    assert!(made.success());
    let bare = bare.join("bin/python3");
    for (python, words) in [
        ("/nowhere/python3".into(), ["/nowhere/python3", "--python"]),
        (script, ["script", "--python"]),
        (no_program, ["not-executable", "cannot be executed"]),
    ] {
        // What files tell is found when the daemon starts.
        let said = Daemon::refused(setup.clone().python(&python));
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    // What is in an environment only shows when it runs, which it does in a sandbox alone.
    let daemon = Daemon::start(setup.python(&bare));
    let mut notebook = daemon.notebook("a");
    let refused = notebook.refused("1");
    assert_eq!(refused.code, ErrorCode::Interpreter, "{}", refused.message);
    assert!(refused.message.contains("IPython") && refused.message.contains("bare"), "{}", refused.message);
}

fn peer_of_another_user_is_refused(setup: Setup) {
    if !we_are_root() {
        return skip("only root can become somebody else");
    }
    let daemon = Daemon::start(setup.clone());
    let list = |daemon: &Daemon| {
        let mut command = Command::new(binaries::folder(Who::User).join("cellctl"));
        command.args(["ls", "--socket"]).arg(daemon.socket()).uid(STRANGER_ID).gid(STRANGER_ID);
        command.env_clear().current_dir("/").output().unwrap()
    };
    // The file's mode alone keeps him out; without it, the check of his uid does.
    let kept_out = list(&daemon);
    assert_eq!(kept_out.status.code(), Some(3), "{}", String::from_utf8_lossy(&kept_out.stderr));
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let refused = list(&daemon);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains(&format!("user {STRANGER_ID}")), "{said}");
    Witness::new(&daemon).check();
    // The control: allowed by the operator, he is served.
    let daemon = Daemon::start(setup.argument("--allow-uid").argument(STRANGER_ID.to_string()));
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let served = list(&daemon);
    assert!(served.status.success(), "{}", String::from_utf8_lossy(&served.stderr));
}

fn full_disk_is_said_and_loses_nothing(setup: Setup) {
    if !we_are_root() {
        return skip("only root can mount a small disk");
    }
    let daemon = Daemon::start(setup.tiny_disk());
    let mut witness = Witness::new(&daemon);
    // The disk is seen through the daemon's own root, because nobody else has it.
    let disk = format!("/proc/{}/root{}", daemon.pid(), daemon.state_dir().display());
    let full = (0..1000).find_map(|number| fs::write(format!("{disk}/fill{number}"), "").err()).unwrap();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let mut client = daemon.client();
    let opened = client.ask(&Request::OpenNotebook { notebook: "new".parse().unwrap(), profile: None });
    let refused = match opened {
        Err(refused) => refused,
        Ok(_) => daemon.notebook("new").refused("1"),
    };
    assert_eq!(refused.code, ErrorCode::Storage);
    assert!(
        refused.message.contains("no space left") && refused.message.contains("--state-dir"),
        "{refused:?}"
    );
    // User code gets the error that any program gets, and keeps its variables.
    // A file in an image takes no inode of the disk, and of its bytes the disk is told when they are
    // written back.
    let code = "import os\nfile = open('file', 'wb')\nfile.write(bytes(1 << 20))\nfile.flush()\nos.fsync(file.fileno())";
    let ran = witness.0.run(code);
    assert_eq!(ran.raised(), Some("OSError"), "{:?}", ran.outcome);
    let said = &ran.error().value;
    assert!(said.contains("No space left") || said.contains("Input/output error"), "{said}");
    let notices = ran.notices();
    assert!(
        notices
            .iter()
            .any(|(text, _)| text.contains("the machine's disk is full") && text.contains("operator")),
        "{notices:?}"
    );
    assert!(daemon.log().contains("the disk did not take what a cell wrote"), "{}", daemon.log());
    witness.check();
}

fn code_that_is_no_text_or_too_long_is_refused(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut witness = Witness::new(&daemon);
    let mut client = daemon.client();
    let (notebook, execution): (_, cellblock_proto::id::ExecutionId) =
        ("witness".parse().unwrap(), "e".parse().unwrap());
    let request = Request::Execute { notebook, execution, options: Default::default() };
    assert_eq!(client.ask_about(&request, b"\xff\xfe").unwrap_err().code, ErrorCode::BadRequest);
    // Longer than any frame may be: said to the connection, which ends.
    let long = vec![b'#'; (16 << 20) + 1];
    client.send(&request, &long);
    let Reply::Error { code: ErrorCode::TooLarge, message, .. } = client.next(0).reply else {
        panic!("no refusal")
    };
    assert!(message.contains("16777216"), "{message}");
    witness.check();
}
