//! `cellctl checkpoint` against a daemon that is played by a thread: files, exit codes, and what is said.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use cellblock_proto::checkpoint::{Checkpoint, Collected, Keep, NotRestored, Verified};
use cellblock_proto::client::{ErrorCode, NotebookInfo, Reply, Request, WorkerState};
use cellblock_proto::codec::Codec;
use cellblock_proto::frame::{FLAG_LAST, FrameReader, Kind, Limits};

/// Longer than what one request carries.
const EXPORTED_BYTES: usize = (2 << 20) + 7;

/// A daemon, and what was asked of it.
struct Daemon {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<(Request, usize)>>>,
}

impl Daemon {
    /// Answers each request with what `play` says, the last one marked as such.
    fn play(play: impl Fn(&Request) -> Vec<(Reply, Vec<u8>)> + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &play, &seen);
            }
        });
        Daemon { folder, asked }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Exit code, standard output and standard error in one text.
    fn cellctl(&self, arguments: &[&str]) -> String {
        self.fed(arguments, b"")
    }

    fn fed(&self, arguments: &[&str], stdin: &[u8]) -> String {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cellctl"))
            .arg("checkpoint")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("CELLBLOCK_SOCKET", self.path("socket"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who does not read it has ended, and says why.
        let _ = child.stdin.take().unwrap().write_all(stdin);
        let output = child.wait_with_output().unwrap();
        format!(
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            output.status.code().unwrap(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8(output.stderr).unwrap()
        )
    }

    fn asked(&self) -> Vec<(Request, usize)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// What lies beside the socket.
    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "socket");
        names.sort();
        names
    }
}

fn serve(
    mut stream: UnixStream,
    play: &impl Fn(&Request) -> Vec<(Reply, Vec<u8>)>,
    seen: &Mutex<Vec<(Request, usize)>>,
) {
    let mut reader = FrameReader::new(Limits::DEFAULT);
    let mut bytes = vec![0; 1 << 16];
    loop {
        let Some(frame) = reader.next_frame().unwrap() else {
            match stream.read(&mut bytes) {
                Ok(count) if count > 0 => reader.feed(&bytes[..count]),
                _ => return,
            }
            continue;
        };
        let request: Request = frame.message().unwrap();
        let replies = if let Request::Hello(_) = request {
            vec![(hello(), Vec::new())]
        } else {
            seen.lock().unwrap().push((request.clone(), frame.payload.len()));
            play(&request)
        };
        let last = replies.len() - 1;
        for (place, (reply, payload)) in replies.into_iter().enumerate() {
            let answer = frame.codec.frame(Kind::Reply, frame.request, &reply).unwrap().with_payload(payload);
            let answer = if place == last { answer.with_flag(FLAG_LAST) } else { answer };
            let mut bytes = Vec::new();
            answer.write_to(&mut bytes);
            // The client may have seen enough.
            let _ = stream.write_all(&bytes);
        }
    }
}

fn hello() -> Reply {
    Reply::Hello {
        version: 1,
        codec: Codec::Bincode,
        server: "test".into(),
        meta_bytes: 1 << 20,
        payload_bytes: 64 << 20,
    }
}

fn refusal(code: ErrorCode, message: &str) -> Vec<(Reply, Vec<u8>)> {
    vec![(Reply::Error { code, message: message.into(), hint: None }, Vec::new())]
}

fn one(reply: Reply) -> Vec<(Reply, Vec<u8>)> {
    vec![(reply, Vec::new())]
}

fn exported() -> Vec<u8> {
    (0..EXPORTED_BYTES).map(|at| at.to_le_bytes()[0]).collect()
}

/// Exports, but number 13, which breaks off.
fn exporter(request: &Request) -> Vec<(Reply, Vec<u8>)> {
    let Request::ExportCheckpoint { checkpoint, .. } = request else { panic!("{request:?}") };
    let content = exported();
    let mut replies: Vec<_> = content.chunks(700_000).map(|part| (Reply::Part, part.to_vec())).collect();
    replies.extend(match checkpoint {
        Some(13) => refusal(ErrorCode::Checkpoint, "packs/3 is damaged"),
        _ => one(Reply::Done),
    });
    replies
}

#[test]
fn an_export_is_a_whole_file_or_none_and_replaces_only_when_told() {
    let daemon = Daemon::play(exporter);
    let file = daemon.path("out");
    assert_eq!(daemon.cellctl(&["export", "a", "-o", "out"]), "exit 0\n--- stdout\n--- stderr\n");
    assert_eq!(fs::read(&file).unwrap(), exported());
    assert_eq!(daemon.asked().len(), 1);
    fs::write(&file, "old").unwrap();
    assert_eq!(
        daemon.cellctl(&["export", "a", "-o", "out"]),
        "exit 2\n--- stdout\n--- stderr\nerror: `out` is there already\nhint: --force replaces it\n"
    );
    assert!(daemon.asked().is_empty(), "it is found before anything is sent");
    assert_eq!(
        daemon.cellctl(&["export", "a", "13", "-o", "out", "--force"]),
        "exit 2\n--- stdout\n--- stderr\nerror: packs/3 is damaged\n"
    );
    assert_eq!(daemon.cellctl(&["export", "a", "13", "-o", "new"]).lines().next(), Some("exit 2"));
    assert_eq!((fs::read_to_string(&file).unwrap().as_str(), daemon.files()), ("old", vec!["out".into()]));
    let told = daemon.cellctl(&["export", "a", "-o", "out", "--force", "--json"]);
    assert_eq!(
        told,
        format!("exit 0\n--- stdout\n{{\"bytes\":{EXPORTED_BYTES},\"file\":\"out\"}}\n--- stderr\n")
    );
    assert_eq!((fs::read(&file).unwrap(), daemon.files()), (exported(), vec!["out".into()]));
    let piped = daemon.cellctl(&["export", "a", "-o", "-"]);
    assert!(piped.contains(&*String::from_utf8_lossy(&exported())));
}

#[test]
fn an_import_goes_in_parts_from_a_file_or_a_pipe() {
    let daemon = Daemon::play(|request| match request {
        Request::OpenNotebook { notebook, .. } => one(Reply::Notebook(NotebookInfo {
            notebook: notebook.clone(),
            profile: "default".into(),
            state: WorkerState::None,
            queued: 0,
            executions: 0,
            tenant: None,
            pinned: false,
            evicted: false,
            idle_ms: None,
            memory_bytes: None,
            saved_whole: false,
            running_ms: None,
            cpu_ms: None,
        })),
        Request::ImportCheckpoint { last: false, .. } => one(Reply::Done),
        Request::ImportCheckpoint { last: true, .. } => one(Reply::Imported { checkpoint: 7 }),
        other => panic!("{other:?}"),
    });
    fs::write(daemon.path("in"), exported()).unwrap();
    for arguments in [["import", "a", "in"], ["import", "a", "-"]] {
        let stdin = if arguments[2] == "-" { exported() } else { Vec::new() };
        assert_eq!(daemon.fed(&arguments, &stdin), "exit 0\n--- stdout\n7\n--- stderr\n");
        let parts: Vec<_> = daemon
            .asked()
            .into_iter()
            .filter_map(|(request, bytes)| match request {
                Request::ImportCheckpoint { offset, last, .. } => Some((offset, bytes, last)),
                _ => None,
            })
            .collect();
        assert_eq!(parts, [(0, 1 << 20, false), (1 << 20, 1 << 20, false), (2 << 20, 7, true)]);
    }
    // The last part is known as such when nothing follows it, however long it is.
    fs::write(daemon.path("in"), &exported()[..1 << 20]).unwrap();
    assert_eq!(daemon.cellctl(&["import", "a", "in"]), "exit 0\n--- stdout\n7\n--- stderr\n");
    assert_eq!(daemon.asked().len(), 2, "it is opened, and one part is sent");
    assert_eq!(daemon.cellctl(&["import", "a", "missing"]).lines().next(), Some("exit 2"));
}

#[test]
fn what_is_lost_has_an_exit_code() {
    let daemon = Daemon::play(|request| match request {
        Request::VerifyCheckpoints { checkpoint: Some(id), .. } => {
            one(Reply::Verified { checkpoints: vec![Verified { id: *id, losses: vec![] }] })
        }
        Request::VerifyCheckpoints { checkpoint: None, .. } => {
            let lost = Verified { id: 2, losses: vec!["df: a chunk is damaged".into()] };
            one(Reply::Verified { checkpoints: vec![Verified { id: 1, losses: vec![] }, lost] })
        }
        Request::Checkpoint { notebook } if notebook.as_str() == "full" => {
            one(Reply::Checkpoint(Checkpoint::Failed { reason: "the disk is full".into() }))
        }
        Request::Checkpoint { .. } => one(Reply::Checkpoint(Checkpoint::Partial {
            id: 3,
            written_bytes: 5,
            pause_us: 2_700,
            left_out: vec![NotRestored {
                path: "lk".into(),
                kind: "_thread.lock".into(),
                reason: "a lock".into(),
            }],
            left_out_count: 1,
        })),
        Request::Restore { .. } => refusal(ErrorCode::Checkpoint, "notebook `a` has no checkpoint 9"),
        _ => refusal(ErrorCode::UnknownNotebook, "notebook `a` is not open"),
    });
    let told: Vec<String> = [
        &["verify", "a", "1"][..],
        &["verify", "a"],
        &["verify", "a", "--json"],
        &["create", "a"],
        &["create", "full"],
        &["restore", "a", "9"],
        &["ls", "a"],
        &["gc", "a", "--max-bytes", "much"],
    ]
    .iter()
    .map(|line| format!("$ cellctl checkpoint {}\n{}", line.join(" "), daemon.cellctl(line)))
    .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_collection_is_told_its_rule_and_prints_what_is_gone() {
    let daemon = Daemon::play(|_| {
        one(Reply::Collected(Collected { removed: vec![1, 2], freed_bytes: 5_000, ..Collected::default() }))
    });
    assert_eq!(
        daemon.cellctl(&["gc", "a", "--keep-last", "3", "--max-bytes", "2GiB"]),
        "exit 0\n--- stdout\n1\n2\n--- stderr\nremoved 2 checkpoints, freed 5.0 kB; the others take 0 B\n"
    );
    daemon.cellctl(&["gc", "a"]);
    let rules: Vec<_> = daemon
        .asked()
        .into_iter()
        .map(|(request, _)| match request {
            Request::CollectCheckpoints { keep, .. } => keep,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(rules, [Some(Keep { last: 3, daily: 0, max_bytes: 2 << 30 }), None]);
}

#[test]
fn a_checkpoint_is_not_for_a_terminal() {
    // script(1) gives it one; what it says is what the terminal would show.
    let Some(script) = ["/usr/bin/script", "/bin/script"].into_iter().find(|path| Path::new(path).exists())
    else {
        panic!("script(1) is missing: it is in the package bsdutils");
    };
    let daemon = Daemon::play(exporter);
    let command = format!("{} checkpoint export a -o -", env!("CARGO_BIN_EXE_cellctl"));
    let output = Command::new(script)
        .args(["-qec", &command, "/dev/null"])
        .env("CELLBLOCK_SOCKET", daemon.path("socket"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("a checkpoint is not for a terminal to show"), "{shown}");
}
