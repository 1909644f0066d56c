//! Tenants: each sees and touches its own alone, and may do what it may do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use cellblock_proto::checkpoint::NotebookEvent;
use cellblock_proto::client::{ErrorCode, Reply, Request};
use cellblock_proto::execution::{End, ExecuteOptions};
use cellblock_proto::id::{ExecutionId, NotebookId};
use cellblock_proto::query::Query;
use cellblock_tests::client::{Client, Refused};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::Notebook;
use cellblock_tests::setup::{Setup, Who, skip, we_are_root};
use cellblock_tests::{binaries, in_one_mode, wait};

in_one_mode!(
    two_tenants_have_notebooks_of_their_own_under_one_name,
    tenant_learns_nothing_of_what_others_have,
    what_is_for_operators_is_denied_to_others_and_logged,
    file_of_tenants_says_who_is_who_and_what_each_may,
    cellctl_shows_operators_all_tenants_and_acts_as_one,
);

/// Two ordinary users, and two more.
pub(crate) const ANN: u32 = 52_011;
pub(crate) const BOB: u32 = 52_012;
const CAT: u32 = 52_013;
const DAN: u32 = 52_014;

/// Runs until it is interrupted, and says that it runs.
pub(crate) const BUSY: &str = "import time\nprint('up', flush=True)\nwhile True: time.sleep(0.01)";

/// A daemon whose socket anybody can reach; `None` for who cannot become somebody else.
pub(crate) fn open_to_all(setup: Setup) -> Option<Daemon> {
    if !we_are_root() {
        skip("only root can become somebody else");
        return None;
    }
    let daemon = Daemon::start(setup);
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    Some(daemon)
}

pub(crate) fn client(daemon: &Daemon, uid: u32) -> Client {
    Client::connect_as(&daemon.socket(), uid, None).unwrap()
}

pub(crate) fn notebook(daemon: &Daemon, uid: u32, name: &str) -> Notebook {
    Notebook::open(client(daemon, uid), name, None)
}

pub(crate) fn open(client: &mut Client, name: &str, profile: Option<&str>) -> Result<Reply, Refused> {
    let profile = profile.map(str::to_owned);
    client.ask(&Request::OpenNotebook { notebook: name.parse().unwrap(), profile })
}

fn names(client: &mut Client) -> Vec<String> {
    client.notebooks().into_iter().map(|info| info.notebook.to_string()).collect()
}

pub(crate) fn file(daemon_folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = daemon_folder.path().join("tenants.toml");
    fs::write(&path, format!("version = 1\n{text}")).unwrap();
    path
}

fn two_tenants_have_notebooks_of_their_own_under_one_name(setup: Setup) {
    let Some(daemon) = open_to_all(setup.argument("--serve-group")) else { return };
    let [mut anns, mut bobs] = [ANN, BOB].map(|uid| notebook(&daemon, uid, "same"));
    anns.run("x = 'ann'\nopen('secret.txt', 'w').write(x)").ok();
    bobs.run("x = 'bob'\nimport os\nprint(os.listdir('.'))").ok();
    assert_eq!(anns.run("print(x)").stdout(), "ann\n");
    assert_eq!(bobs.list_files("").unwrap(), (Vec::new(), false));
    anns.write_file("from-outside", b"ann").unwrap();
    assert!(bobs.read_file("from-outside").is_err());
    // A checkpoint of one is not the other's, and a restart brings each his own back.
    for notebook in [&mut anns, &mut bobs] {
        let id = notebook.id.clone();
        notebook.client.ask(&Request::Checkpoint { notebook: id.clone() }).unwrap();
        notebook.client.ask(&Request::Restore { notebook: id, checkpoint: None }).unwrap();
    }
    assert_eq!(
        (anns.run("print(x)").stdout(), bobs.run("print(x)").stdout()),
        ("ann\n".into(), "bob\n".into())
    );
    // One runs; what the other stops, closes and deletes is his own.
    let mut runs = anns.start(BUSY);
    anns.until_stdout(&mut runs, "up");
    let bobs_own =
        Request::Attach { notebook: bobs.id.clone(), execution: runs.execution.clone(), from_seq: 0 };
    assert_eq!(bobs.client.ask(&bobs_own).unwrap_err().code, ErrorCode::UnknownExecution);
    bobs.interrupt();
    bobs.client.tell(&Request::Restart { notebook: bobs.id.clone() });
    bobs.client.tell(&Request::Clear { notebook: bobs.id.clone() });
    bobs.client.tell(&Request::Delete { notebook: bobs.id.clone() });
    assert_eq!(
        (names(&mut client(&daemon, BOB)), names(&mut client(&daemon, ANN))),
        (vec![], vec!["same".into()])
    );
    assert_eq!(anns.status().running, Some(runs.execution.clone()));
    anns.interrupt();
    assert_eq!(anns.finish(runs).outcome.end, End::Interrupted);
    assert_eq!(anns.run("print(x, open('secret.txt').read())").stdout(), "ann ann\n");
    // An operator sees his own, and acts as another where he says so.
    assert_eq!(names(&mut daemon.client()), Vec::<String>::new());
    let mut acting = Client::connect_as(&daemon.socket(), 0, Some("uid-52011")).unwrap();
    assert_eq!(names(&mut acting), ["same"]);
    assert_eq!(Notebook::open(acting, "same", None).run("print(x)").stdout(), "ann\n");
}

/// Every request about a notebook, and its bytes.
fn requests(name: &str) -> Vec<(Request, &'static [u8])> {
    let notebook: NotebookId = name.parse().unwrap();
    let execution: ExecutionId = "e1".parse().unwrap();
    let n = || notebook.clone();
    let e = || execution.clone();
    let path = || "secret.txt".to_owned();
    let checkpoint = Some(1);
    vec![
        (Request::Execute { notebook: n(), execution: e(), options: ExecuteOptions::default() }, b"print(x)"),
        (Request::Attach { notebook: n(), execution: e(), from_seq: 0 }, b""),
        (Request::Interrupt { notebook: n() }, b""),
        (Request::Cancel { notebook: n(), execution: e() }, b""),
        (Request::Input { notebook: n(), execution: e(), value: "yes".to_owned() }, b""),
        (Request::Query { notebook: n(), query: Query::Variables }, b""),
        (Request::Restart { notebook: n() }, b""),
        (Request::Close { notebook: n() }, b""),
        (Request::Delete { notebook: n() }, b""),
        (Request::Status { notebook: n() }, b""),
        (Request::ListFiles { notebook: n(), path: String::new() }, b""),
        (Request::ReadFile { notebook: n(), path: path(), offset: 0, bytes: 10 }, b""),
        (Request::WriteFile { notebook: n(), path: path(), offset: 0 }, b"mine"),
        (Request::RemoveFile { notebook: n(), path: path() }, b""),
        (Request::Checkpoint { notebook: n() }, b""),
        (Request::Checkpoints { notebook: n() }, b""),
        (Request::CheckpointContent { notebook: n(), checkpoint }, b""),
        (Request::Restore { notebook: n(), checkpoint }, b""),
        (Request::Fork { notebook: n(), checkpoint, to: "stolen".parse().unwrap() }, b""),
        (Request::ExportCheckpoint { notebook: n(), checkpoint }, b""),
        (Request::ImportCheckpoint { notebook: n(), offset: 0, last: true }, b"forged"),
        (Request::VerifyCheckpoints { notebook: n(), checkpoint }, b""),
        (Request::CollectCheckpoints { notebook: n(), keep: None }, b""),
        (Request::Clear { notebook: n() }, b""),
        (Request::Pin { notebook: n(), pinned: true }, b""),
        (Request::Evict { notebook: n() }, b""),
    ]
}

fn tenant_learns_nothing_of_what_others_have(setup: Setup) {
    let Some(daemon) = open_to_all(setup.argument("--serve-group")) else { return };
    let mut anns = notebook(&daemon, ANN, "secret");
    anns.run("x = 1\nopen('secret.txt', 'w').write('ann')").ok();
    let save = Request::Checkpoint { notebook: anns.id.clone() };
    anns.client.ask(&save).unwrap();
    let mut bob = client(&daemon, BOB);
    let listening = bob.send(&Request::Events { notebook: None, all: false }, b"");
    assert_eq!(bob.next(listening).reply, Reply::Listening);
    // What is said of a notebook that another has is, word for word, what is said of one that nobody has.
    for ((theirs, bytes), (nobodys, _)) in requests("secret").into_iter().zip(requests("nobody")) {
        let said = |answer: Result<Reply, Refused>| format!("{answer:?}").replace("nobody", "secret");
        let [theirs_said, nobodys_said] =
            [&theirs, &nobodys].map(|request| said(bob.ask_about(request, bytes).map(|answer| answer.reply)));
        assert_eq!(theirs_said, nobodys_said);
        assert!(theirs_said.contains("code: "), "{theirs:?} was done: {theirs_said}");
    }
    assert_eq!(names(&mut bob), Vec::<String>::new());
    // Names that others have are free.
    let mut bobs = notebook(&daemon, BOB, "from");
    bobs.run("y = 2").ok();
    bobs.client.ask(&Request::Checkpoint { notebook: bobs.id.clone() }).unwrap();
    let fork = Request::Fork { notebook: bobs.id.clone(), checkpoint: None, to: "secret".parse().unwrap() };
    assert!(matches!(bobs.client.ask(&fork), Ok(Reply::Notebook(_))));
    assert_eq!(notebook(&daemon, BOB, "secret").run("print(y)").stdout(), "2\n");
    // What happens with one tenant's notebooks, no other is told.
    anns.run("x = 2").ok();
    anns.client.ask(&save).unwrap();
    bobs.client.ask(&Request::Checkpoint { notebook: bobs.id.clone() }).unwrap();
    bobs.client.tell(&Request::Close { notebook: bobs.id.clone() });
    loop {
        let Reply::Event(event) = bob.next(listening).reply else { panic!("no event") };
        let whose = event.whose().map(|(tenant, notebook)| (tenant.to_string(), notebook.to_string()));
        let (tenant, notebook) = whose.unwrap_or_default();
        assert_eq!(tenant, format!("uid-{BOB}"), "{event:?}");
        if notebook == "from" && matches!(event, NotebookEvent::Closed { .. }) {
            break;
        }
    }
    assert_eq!(anns.run("print(x, open('secret.txt').read())").stdout(), "2 ann\n");
    // Nor does a cell see where others' files are.
    let code = "import os\nfound = []\nfor root, dirs, files in os.walk('/', onerror=lambda e: None):\n\
                \x20   dirs[:] = [d for d in dirs if d not in ('proc', 'sys', 'usr')]\n\
                \x20   found += [f for f in files if f == 'secret.txt']\nprint(found)";
    assert_eq!(notebook(&daemon, BOB, "secret").run(code).stdout(), "[]\n");
}

fn what_is_for_operators_is_denied_to_others_and_logged(setup: Setup) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let setup = setup.argument("--audit-log").argument(path.as_os_str());
    let Some(daemon) = open_to_all(setup.argument("--allow-uid").argument(ANN.to_string())) else { return };
    let mut ann = client(&daemon, ANN);
    let requests = [
        ("shutdown", Request::Shutdown),
        ("drain", Request::Drain { seconds: Some(1) }),
        ("metrics", Request::Metrics),
        ("overview", Request::Overview),
        ("tenants", Request::Tenants),
        ("doctor", Request::Doctor),
        ("plan", Request::Plan { profile: None }),
        ("warm", Request::Warm),
        ("events of all tenants", Request::Events { notebook: None, all: true }),
    ];
    for (name, request) in requests {
        let refused = ann.ask(&request).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Forbidden, "{name}: {refused:?}");
        assert!(refused.message.starts_with(name), "{refused:?}");
        let logged = format!("uid={ANN} tenant=\"uid-{ANN}\" request=\"{name}\"");
        wait::until(&logged, || daemon.log().contains(&logged).then_some(()));
    }
    let acting = Client::connect_as(&daemon.socket(), ANN, Some("operator")).unwrap_err();
    assert_eq!(acting.code, ErrorCode::Forbidden, "{acting:?}");
    assert!(acting.message.contains("may not act as tenant operator"), "{acting:?}");
    // As himself he may.
    Client::connect_as(&daemon.socket(), ANN, Some("uid-52011")).unwrap();
    let stranger = Client::connect_as(&daemon.socket(), BOB, None).unwrap_err();
    assert_eq!(stranger.code, ErrorCode::Forbidden, "{stranger:?}");
    wait::until("a stranger is logged", || {
        daemon.log().contains(&format!("uid={BOB} request=\"hello\"")).then_some(())
    });
    // All of it is in the audit log as well: nine requests, another's name, a stranger.
    let denied = wait::until("denials in the audit log", || {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let denied: Vec<_> = lines.filter(|line| line["action"] == "denied").collect();
        (denied.len() == 11).then_some(denied)
    });
    assert!(
        denied.iter().all(|line| line["code"] == "forbidden" && line["reason"].is_string()),
        "{denied:?}"
    );
    let of = |uid: u32| denied.iter().filter(|line| line["uid"] == uid).count();
    assert_eq!((of(ANN), of(BOB)), (10, 1), "{denied:?}");
    // The control: an operator is answered.
    let Ok(Reply::Tenants { tenants }) = daemon.client().ask(&Request::Tenants) else { panic!("no tenants") };
    let told: Vec<_> = tenants.iter().map(|info| (info.tenant.as_str(), info.operator)).collect();
    assert_eq!(told, [("operator", true), ("uid-52011", false)]);
}

fn file_of_tenants_says_who_is_who_and_what_each_may(setup: Setup) {
    if !we_are_root() {
        return skip("only root can become somebody else");
    }
    let folder = tempfile::tempdir().unwrap();
    let wrong = file(&folder, "[tenant.a]\nuids = [1, 1]\n");
    let said = Daemon::refused(setup.clone().argument("--tenants").argument(&wrong));
    assert!(said.contains("tenants.toml, line 3, column 12: user 1 is named twice"), "{said}");
    let path = file(
        &folder,
        &format!(
            "[tenant.lab]\nuids = [{ANN}, {BOB}]\nprofiles = [\"strict\"]\n\
             [tenant.ops]\nuids = [{CAT}]\noperator = true\n"
        ),
    );
    let Some(daemon) = open_to_all(setup.argument("--tenants").argument(path)) else { return };
    let mut anns = notebook(&daemon, ANN, "shared");
    assert_eq!(anns.status().info.profile, "strict");
    anns.run("x = 1").ok();
    assert_eq!(notebook(&daemon, BOB, "shared").run("print(x)").stdout(), "1\n");
    let refused = open(&mut client(&daemon, ANN), "other", Some("default")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert!(
        refused.message.contains("\"lab\" may not have profile \"default\": it may have strict"),
        "{refused:?}"
    );
    let Ok(Reply::Profiles { profiles }) = anns.client.ask(&Request::Profiles) else { panic!("no profiles") };
    assert_eq!(profiles.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>(), ["strict"]);
    let mut cat = client(&daemon, CAT);
    assert!(names(&mut cat).is_empty());
    let Ok(Reply::Tenants { tenants }) = cat.ask(&Request::Tenants) else { panic!("no tenants") };
    let lab = tenants.iter().find(|info| info.tenant.as_str() == "lab").unwrap();
    assert_eq!((lab.uses.notebooks, lab.uses.workers, lab.uids.as_slice()), (1, 1, &[ANN, BOB][..]));
    assert!(Client::connect_as(&daemon.socket(), DAN, None).is_err());
    drop(folder);
}

fn cellctl_shows_operators_all_tenants_and_acts_as_one(setup: Setup) {
    let Some(daemon) = open_to_all(setup.argument("--serve-group")) else { return };
    notebook(&daemon, ANN, "hers").run("x = 6").ok();
    let cellctl = |uid: u32, arguments: &[&str]| {
        let mut command = Command::new(binaries::folder(Who::User).join("cellctl"));
        command.args(arguments).arg("--socket").arg(daemon.socket()).uid(uid).gid(uid);
        let ended = command.env_clear().current_dir("/").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ended.status.success(), text(ended.stdout), text(ended.stderr))
    };
    let (_, listed, _) = cellctl(0, &["tenants"]);
    let line = listed.lines().find(|line| line.starts_with("uid-52011")).unwrap();
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[1..6], ["52011", "0", "1", "1/1000", "0/10000"], "{listed}");
    let (_, all, _) = cellctl(0, &["ls", "--all-tenants"]);
    assert!(all.lines().any(|line| line.starts_with("uid-52011  hers ")), "{all}");
    let (_, own, _) = cellctl(0, &["ls"]);
    assert!(!own.contains("hers"), "{own}");
    let acted = cellctl(0, &["exec", "--tenant", "uid-52011", "hers", "-c", "print(x * 7)"]);
    assert_eq!((acted.0, acted.1.as_str()), (true, "42\n"), "{acted:?}");
    // Nobody else does.
    for arguments in [&["tenants"][..], &["ls", "--all-tenants"], &["ls", "--tenant", "operator"]] {
        let (done, stdout, stderr) = cellctl(BOB, arguments);
        assert!(!done && stdout.is_empty() && !stderr.contains("hers"), "{arguments:?}: {stdout}{stderr}");
        assert!(stderr.contains("operators"), "{arguments:?}: {stderr}");
    }
}
