//! What a tenant's profiles are, whenever that was said: also for notebooks that were open before.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cellblock_proto::client::{ErrorCode, Reply, Request, WorkerState};
use cellblock_proto::query::Query;
use cellblock_tests::client::Client;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::Notebook;
use cellblock_tests::setup::{Setup, skip, we_are_root};
use cellblock_tests::{in_one_mode, wait};

in_one_mode!(profile_that_is_taken_from_a_tenant_is_taken_from_notebooks_that_are_open);

const ANN: u32 = 52_021;

const SAVED: &str = "version = 1\n[checkpoints]\nwhen = 'background'\n";

fn client(daemon: &Daemon) -> Client {
    fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    Client::connect_as(&daemon.socket(), ANN, None).unwrap()
}

fn profile_that_is_taken_from_a_tenant_is_taken_from_notebooks_that_are_open(setup: Setup) {
    if !we_are_root() {
        return skip("only root can become somebody else");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tenants.toml");
    let says = |profiles: &str| {
        fs::write(&path, format!("version = 1\n[tenant.lab]\nuids = [{ANN}]\nprofiles = {profiles}\n"))
            .unwrap();
    };
    says("['default', 'small']");
    let setup = setup.profile("default", SAVED).profile("small", SAVED);
    let mut daemon = Daemon::start(setup.argument("--tenants").argument(&path));
    let mut asleep = Notebook::open(client(&daemon), "asleep", None);
    asleep.run("x = 1").ok();
    asleep.client.tell(&Request::Evict { notebook: asleep.id.clone() });
    let mut idle = Notebook::open(client(&daemon), "idle", None);
    idle.run("x = 2\nopen('file', 'w').write('kept')").ok();
    let mut busy = Notebook::open(client(&daemon), "busy", None);
    let mut sent = busy.start(
        "import os, time\nprint('up', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('done')",
    );
    busy.until_stdout(&mut sent, "up");
    let mut others = Notebook::open(client(&daemon), "others", Some("small"));
    others.run("x = 4").ok();

    daemon.kill_hard();
    says("['small']");
    daemon.restart();
    // What runs has its end, and its client reads it; nothing is begun any more.
    let mut busy = Notebook::known(client(&daemon), "busy");
    let refused = busy.refused("1");
    assert_eq!(refused.code, ErrorCode::Forbidden, "{refused:?}");
    let attached = busy.attach(&sent.execution, 0);
    busy.write_file("go", b"").unwrap();
    assert_eq!(busy.finish(attached).ok().stdout(), "up\ndone\n");
    // Neither where a worker lives, nor where one would be brought back; the words name all there is to do.
    for name in ["asleep", "idle", "busy"] {
        let mut notebook = Notebook::known(client(&daemon), name);
        let refused = notebook.refused("print(x)");
        assert_eq!(refused.code, ErrorCode::Forbidden, "{refused:?}");
        let words = format!(
            "notebook {name:?}: tenant \"lab\" may not have profile \"default\": it may have small (`profiles` in the \
             file of tenants); close it and open it with one of those"
        );
        assert_eq!(refused.message, words);
        let variables = Request::Query { notebook: notebook.id.clone(), query: Query::Variables };
        let restore = Request::Restore { notebook: notebook.id.clone(), checkpoint: None };
        let to = "fork".parse().unwrap();
        let fork = Request::Fork { notebook: notebook.id.clone(), checkpoint: None, to };
        for request in [variables, restore, fork] {
            assert_eq!(notebook.client.ask(&request).unwrap_err().code, ErrorCode::Forbidden, "{request:?}");
        }
        // Its worker is saved and goes.
        wait::until("no worker", || (notebook.status().info.state == WorkerState::None).then_some(()));
    }
    for request in ["execute", "query", "restore", "fork"] {
        let logged = format!("uid={ANN} tenant=\"lab\" request=\"{request}\" notebook=\"idle\"");
        wait::until(&logged, || daemon.log().contains(&logged).then_some(()));
    }
    // What is there is still theirs, and comes along to the profile that they may have.
    let mut idle = Notebook::known(client(&daemon), "idle");
    let Ok(Reply::Checkpoints { checkpoints, .. }) =
        idle.client.ask(&Request::Checkpoints { notebook: idle.id.clone() })
    else {
        panic!("no checkpoints")
    };
    assert!(!checkpoints.is_empty());
    idle.client.tell(&Request::Close { notebook: idle.id.clone() });
    let mut idle = Notebook::open(client(&daemon), "idle", None);
    assert_eq!(idle.status().info.profile, "small");
    assert_eq!(idle.run("print(x)").ok().stdout(), "2\n");
    assert_eq!(idle.read_file("file").unwrap(), b"kept");
    let mut others = Notebook::known(client(&daemon), "others");
    assert_eq!(others.run("print(x)").ok().stdout(), "4\n");
}
