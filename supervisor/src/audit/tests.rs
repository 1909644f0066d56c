use std::fs;
use std::os::unix::fs::PermissionsExt;

use cellblock_proto::client::Request;
use serde_json::Value;

use super::*;

fn peer() -> Peer {
    Peer { uid: 1000, pid: Some(7), tenant: "web".to_owned(), client: "test".to_owned(), connection: 3 }
}

fn execute() -> Request {
    let (notebook, execution) = ("a".parse().unwrap(), "e1".parse().unwrap());
    Request::Execute { notebook, execution, options: Default::default() }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_line_says_who_ran_how_much_and_never_what() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = Audit::to_file(&path, Counter::default()).unwrap();
    audit.asked(&peer(), 9, &execute(), b"secret = 1");
    audit.asked(&peer(), 10, &Request::Notebooks, b"");
    audit.refused(&peer(), 9, ErrorCode::Busy, "secret");
    audit.refused(&peer(), 11, ErrorCode::Forbidden, "user 1000 may not drain");
    audit.flush();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let lines = lines(&path);
    assert_eq!(lines.len(), 3, "{lines:?}");
    let ran = &lines[0];
    assert_eq!(ran["action"], "execute");
    assert_eq!((&ran["notebook"], &ran["execution"]), (&"a".into(), &"e1".into()));
    assert_eq!((&ran["uid"], &ran["pid"], &ran["tenant"]), (&1000.into(), &7.into(), &"web".into()));
    assert_eq!((&ran["client"], &ran["connection"], &ran["request"]), (&"test".into(), &3.into(), &9.into()));
    assert_eq!(ran["bytes"], 10);
    assert_eq!(ran["blake3"], blake3::hash(b"secret = 1").to_hex().as_str());
    assert_eq!((&lines[1]["action"], &lines[1]["code"]), (&"refused".into(), &"busy".into()));
    assert_eq!(
        (&lines[2]["action"], &lines[2]["reason"]),
        (&"denied".into(), &"user 1000 may not drain".into())
    );
    assert!(!fs::read_to_string(&path).unwrap().contains("secret"));
}

#[test]
fn a_name_that_a_client_chose_does_nothing_to_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = Audit::to_file(&path, Counter::default()).unwrap();
    let name = "a\u{9b}2J\u{7f}\u{2028}\u{202e}b";
    audit.asked(&Peer { client: name.to_owned(), ..peer() }, 1, &execute(), b"");
    audit.flush();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(r#""client":"a\u009b2J\u007f\u2028\u202eb""#), "{text}");
    assert_eq!(lines(&path)[0]["client"], name);
}

#[test]
fn a_file_that_was_moved_away_is_followed_by_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let audit = Audit::to_file(&path, Counter::default()).unwrap();
    audit.asked(&peer(), 1, &execute(), b"");
    audit.flush();
    fs::rename(&path, folder.path().join("audit.jsonl.1")).unwrap();
    audit.asked(&peer(), 2, &execute(), b"");
    audit.flush();
    assert_eq!(lines(&path)[0]["request"], 2);
    assert_eq!(lines(&folder.path().join("audit.jsonl.1"))[0]["request"], 1);
}

#[test]
fn what_cannot_be_written_is_counted_and_the_file_says_so_where_it_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("place");
    fs::create_dir(&place).unwrap();
    let path = place.join("audit.jsonl");
    let lost = Counter::default();
    let audit = Audit::to_file(&path, lost.clone()).unwrap();
    // Neither the file nor a place for another, whoever we are.
    fs::rename(&place, folder.path().join("elsewhere")).unwrap();
    for request in 0..3 {
        audit.asked(&peer(), request, &execute(), b"");
    }
    audit.flush();
    assert_eq!(lost.get(), 3);
    fs::create_dir(&place).unwrap();
    audit.asked(&peer(), 9, &execute(), b"");
    audit.flush();
    let lines = lines(&path);
    assert_eq!((&lines[0]["action"], &lines[0]["count"]), (&"lines_missing".into(), &3.into()));
    assert_eq!(lines[1]["request"], 9);
}

#[test]
fn a_disk_that_stands_still_holds_nobody_up() {
    let (sender, _receiver) = sync_channel(1);
    let lost = Counter::default();
    let audit = Audit { file: Some(sender), missing: Arc::default(), lost: lost.clone() };
    for request in 0..5 {
        audit.asked(&peer(), request, &execute(), b"");
    }
    assert_eq!(lost.get(), 4);
    assert_eq!(audit.missing.load(Ordering::Relaxed), 4);
}

#[test]
fn a_folder_a_pipe_or_a_link_is_no_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    for path in [folder.path(), &pipe, &link, "/dev/null".as_ref()] {
        let error = format!("{:#}", Audit::to_file(path, Counter::default()).unwrap_err());
        assert!(error.contains("--audit-log"), "{error}");
    }
}

#[test]
fn each_deed_says_what_was_done_to_what_and_looking_is_none() {
    let n = || "a".parse().unwrap();
    let e = || "e1".parse().unwrap();
    let path = || "secret".to_owned();
    let options = cellblock_proto::execution::ExecuteOptions::default;
    let deeds: Vec<(Request, &str)> = vec![
        (
            Request::OpenNotebook { notebook: n(), profile: Some("p".into()) },
            r#"{"action":"open","notebook":"a","profile":"p"}"#,
        ),
        (
            Request::Execute { notebook: n(), execution: e(), options: options() },
            r#"{"action":"execute","notebook":"a","execution":"e1"}"#,
        ),
        (Request::Interrupt { notebook: n() }, r#"{"action":"interrupt","notebook":"a"}"#),
        (
            Request::Cancel { notebook: n(), execution: e() },
            r#"{"action":"cancel","notebook":"a","execution":"e1"}"#,
        ),
        (Request::Restart { notebook: n() }, r#"{"action":"restart","notebook":"a"}"#),
        (Request::Close { notebook: n() }, r#"{"action":"close","notebook":"a"}"#),
        (Request::Delete { notebook: n() }, r#"{"action":"delete","notebook":"a"}"#),
        (Request::Clear { notebook: n() }, r#"{"action":"clear","notebook":"a"}"#),
        (
            Request::Restore { notebook: n(), checkpoint: Some(3) },
            r#"{"action":"restore","notebook":"a","checkpoint":3}"#,
        ),
        (
            Request::Fork { notebook: n(), checkpoint: None, to: "b".parse().unwrap() },
            r#"{"action":"fork","notebook":"a","to":"b"}"#,
        ),
        (
            Request::ExportCheckpoint { notebook: n(), checkpoint: Some(4) },
            r#"{"action":"export","notebook":"a","checkpoint":4}"#,
        ),
        (
            Request::ImportCheckpoint { notebook: n(), offset: 0, last: false },
            r#"{"action":"import","notebook":"a"}"#,
        ),
        (Request::CollectCheckpoints { notebook: n(), keep: None }, r#"{"action":"collect","notebook":"a"}"#),
        (
            Request::ReadFile { notebook: n(), path: path(), offset: 0, bytes: 1 },
            r#"{"action":"read_file","notebook":"a"}"#,
        ),
        (
            Request::WriteFile { notebook: n(), path: path(), offset: 0 },
            r#"{"action":"write_file","notebook":"a"}"#,
        ),
        (Request::RemoveFile { notebook: n(), path: path() }, r#"{"action":"remove_file","notebook":"a"}"#),
        (Request::Pin { notebook: n(), pinned: true }, r#"{"action":"pin","notebook":"a"}"#),
        (Request::Pin { notebook: n(), pinned: false }, r#"{"action":"unpin","notebook":"a"}"#),
        (Request::Evict { notebook: n() }, r#"{"action":"evict","notebook":"a"}"#),
        (Request::Drain { seconds: None }, r#"{"action":"drain"}"#),
        (Request::Shutdown, r#"{"action":"shutdown"}"#),
    ];
    for (request, expected) in &deeds {
        assert_eq!(serde_json::to_string(&Deed::of(request).unwrap()).unwrap(), *expected);
    }
    for looks in [
        Request::Status { notebook: n() },
        Request::Checkpoints { notebook: n() },
        Request::Attach { notebook: n(), execution: e(), from_seq: 0 },
        // The parts behind the first are of the same deed.
        Request::ImportCheckpoint { notebook: n(), offset: 9, last: true },
        Request::ReadFile { notebook: n(), path: path(), offset: 9, bytes: 1 },
        Request::Metrics,
    ] {
        assert!(Deed::of(&looks).is_none(), "{looks:?}");
    }
}

#[test]
fn of_what_is_put_there_is_a_hash_and_of_what_is_got_nothing() {
    use cellblock_proto::execution::{ExecuteOptions, Task, ValueFormat};
    let execute = |task| {
        let (notebook, execution) = ("a".parse().unwrap(), "e1".parse().unwrap());
        let options = ExecuteOptions { task, ..ExecuteOptions::default() };
        Request::Execute { notebook, execution, options }
    };
    let has_hash = |request: &Request| {
        let deed = Deed::of(request).unwrap().with_payload(request, b"secret");
        serde_json::to_value(deed).unwrap().get("blake3").is_some()
    };
    assert!(has_hash(&execute(Task::Code)));
    assert!(!has_hash(&execute(Task::Get { name: "x".to_owned(), format: ValueFormat::Json })));
}
