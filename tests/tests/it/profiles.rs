//! Profiles end to end: listed, explained, and what they say reaches the worker.

use std::collections::BTreeSet;
use std::fs;

use cellblock_proto::client::{ErrorCode, ProfileInfo, Reply, Request};
use cellblock_tests::cli::Cli;
use cellblock_tests::client::{Client, Refused};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::{Setup, Who};
use cellblock_tests::{as_root_and_user, in_every_mode, in_one_mode};
use sandbox_profiles::{Action, BUILTINS, Barrier, Need, Step, explain};

in_every_mode!(
    a_plan_is_what_a_worker_gets_and_makes_nothing,
    what_a_profile_and_its_base_say_reaches_the_worker,
    a_required_barrier_is_planned_or_the_refusal_names_it,
    built_in_profiles_start_where_their_plan_can_be_made_and_only_there,
);
in_one_mode!(profiles_are_listed_with_their_faults, an_edit_holds_from_the_next_worker_on);
as_root_and_user!(cellctl_lists_and_explains_profiles_and_leaves_nothing);

fn plan(client: &mut Client, profile: Option<&str>) -> Result<Vec<Step>, Refused> {
    client.ask(&Request::Plan { profile: profile.map(str::to_owned) }).map(|reply| match reply {
        Reply::Plan { steps } => steps,
        other => panic!("not a plan: {other:?}"),
    })
}

fn list(client: &mut Client) -> Vec<ProfileInfo> {
    match client.ask(&Request::Profiles).unwrap() {
        Reply::Profiles { profiles } => profiles,
        other => panic!("not profiles: {other:?}"),
    }
}

fn a_plan_is_what_a_worker_gets_and_makes_nothing(setup: Setup) {
    let daemon = Daemon::start(setup.limits("few", "memory_bytes = 300_000_000"));
    let mut client = daemon.client();
    let steps = plan(&mut client, Some("few")).unwrap();
    assert!(!daemon.state_dir().join("notebooks").exists(), "a plan has made folders");
    assert_eq!(client.notebooks(), []);
    assert!(steps.iter().any(|step| step.action == Action::WatchMemory { bytes: 300_000_000 }));
    assert_eq!(plan(&mut client, None).unwrap(), plan(&mut client, Some("default")).unwrap());

    let mut notebook = daemon.notebook_under("real", "few");
    notebook.run("1").ok();
    let report = notebook.status().report.unwrap();
    let mut planned: BTreeSet<Barrier> = steps.iter().map(|step| step.barrier).collect();
    // The empty network is part of the namespaces, and a line of its own in the report.
    planned.insert(Barrier::Network);
    assert_eq!(report.barriers.iter().map(|line| line.barrier).collect::<BTreeSet<_>>(), planned);
}

fn what_a_profile_and_its_base_say_reaches_the_worker(setup: Setup) {
    let daemon =
        Daemon::start(setup.profile(
            "mine",
            "version = 1\nbase = 'team'\n[limits]\nopen_files = 99\n[environment]\nB = '2'\n",
        ));
    let folder = daemon.profiles_dir();
    let team = format!(
        "version = 1\nbase = 'default'\npass_environment = ['PATH', 'UNSET']\n[limits]\nopen_files = 77\nprocesses = 33\n\
         [environment]\nA = '1'\nB = '1'\n[[mounts]]\nsource = '{}'\ntarget = '/data'\n",
        folder.display()
    );
    fs::write(folder.join("team.toml"), team).unwrap();
    let code = "import os, resource\n\
        print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_NPROC)[0])\n\
        print(os.environ['A'], os.environ['B'], os.environ['PATH'].endswith(':/usr/sbin:/sbin'), 'UNSET' in os.environ)\n\
        print(sorted(os.listdir('/data')))\n\
        try: open('/data/x', 'w')\n\
        except OSError as error: print(error.errno)";
    let ran = daemon.notebook_under("mine", "mine").run(code);
    assert_eq!(ran.ok().stdout(), "99 34\n1 2 True False\n['mine.toml', 'team.toml']\n30\n");
    // Without the profile there is none of it.
    let code =
        "import os; print('A' in os.environ, os.environ['PATH'].endswith('sbin'), os.path.exists('/data'))";
    assert_eq!(daemon.notebook("other").run(code).ok().stdout(), "False False False\n");
}

fn a_required_barrier_is_planned_or_the_refusal_names_it(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut client = daemon.client();
    let given: BTreeSet<Barrier> = plan(&mut client, None).unwrap().iter().map(|step| step.barrier).collect();
    for barrier in Barrier::ALL {
        let key = barrier.key();
        let text = format!("version = 1\n[barriers]\n{key} = 'required'\n");
        fs::write(daemon.profiles_dir().join("one.toml"), text).unwrap();
        match plan(&mut client, Some("one")) {
            Ok(steps) => {
                assert!(
                    given.contains(&barrier) || barrier.is_load_bearing(),
                    "{key} is required and not planned"
                );
                assert!(steps.iter().all(|step| step.barrier != barrier || step.need == Need::Required));
            }
            Err(refused) => {
                assert!(
                    !given.contains(&barrier) && !barrier.is_load_bearing(),
                    "{key}: {}",
                    refused.message
                );
                assert_eq!(refused.code, ErrorCode::Sandbox);
                assert!(refused.message.contains(key), "{}", refused.message);
                // And so ends who would start it.
                let start = daemon.notebook_under(&format!("n-{key}"), "one").refused("1");
                assert_eq!(start.message, refused.message);
            }
        }
    }
}

fn built_in_profiles_start_where_their_plan_can_be_made_and_only_there(setup: Setup) {
    let daemon = Daemon::start(setup);
    for (profile, _) in BUILTINS {
        plan(&mut daemon.client(), Some(profile)).unwrap();
        let mut notebook = daemon.notebook_under(profile, profile);
        if profile == "strict" && daemon.setup().who == Who::User {
            // It requires a cgroup, and nobody has given this user one.
            let refused = notebook.refused("1");
            assert_eq!(refused.code, ErrorCode::Sandbox);
            assert!(refused.message.contains("make a cgroup of at most"), "{}", refused.message);
        } else {
            assert_eq!(notebook.run("print(6 * 7)").ok().stdout(), "42\n", "{profile}");
        }
    }
}

fn profiles_are_listed_with_their_faults(setup: Setup) {
    let daemon = Daemon::start(
        setup
            .profile("broken", "version = 1\n\n[limits]\nwall_ms = 0\n")
            .profile("round", "version = 1\nbase = 'trip'\n")
            .profile("trip", "version = 1\nbase = 'round'\n")
            .profile("default", "version = 1\nbase = 'default'\ndescription = 'ours'\n"),
    );
    let mut client = daemon.client();
    let list = list(&mut client);
    let told: Vec<_> = list.iter().map(|info| (&*info.name, info.usable, info.builtin)).collect();
    assert_eq!(
        told,
        [
            ("broken", false, false),
            ("data-science", true, true),
            ("default", true, false),
            ("round", false, false),
            ("strict", true, true),
            ("trip", false, false),
            ("trusted", true, true),
        ]
    );
    assert_eq!(list[2].description, "ours");
    for (info, words) in
        [(&list[0], "line 4, column 11: limits.wall_ms is 0"), (&list[3], "round → trip → round")]
    {
        assert!(info.description.contains(words) && !info.description.contains('\n'), "{info:?}");
        // Whoever asks for it gets the line too.
        let refused = plan(&mut client, Some(&info.name)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::BadProfile);
        assert!(refused.message.contains(words) && refused.message.contains("  | "), "{}", refused.message);
    }
    for name in ["absent", "../default", ""] {
        assert_eq!(plan(&mut client, Some(name)).unwrap_err().code, ErrorCode::BadProfile, "{name}");
    }
}

fn an_edit_holds_from_the_next_worker_on(setup: Setup) {
    let daemon = Daemon::start(setup.limits("mine", "open_files = 77"));
    let code = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])";
    let mut notebook = daemon.notebook_under("a", "mine");
    assert_eq!(notebook.run(code).ok().stdout(), "77\n");
    let text = "version = 1\nbase = 'strict'\n[limits]\nopen_files = 99\n[barriers]\n";
    let loose: String = ["cgroup", "overlay", "workspace_quota", "processor"]
        .map(|barrier| format!("{barrier} = 'best_effort'\n"))
        .concat();
    fs::write(daemon.profiles_dir().join("mine.toml"), format!("{text}{loose}")).unwrap();
    assert_eq!(notebook.run(code).ok().stdout(), "77\n", "a worker that lives keeps what it was given");
    notebook.client.tell(&Request::Restart { notebook: "a".parse().unwrap() });
    assert_eq!(notebook.run(code).ok().stdout(), "99\n");
}

fn cellctl_lists_and_explains_profiles_and_leaves_nothing(setup: Setup) {
    let cli = Cli::new(setup);
    let ended = cli.private(&["profile", "ls"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for name in ["data-science", "default", "strict", "trusted"] {
        let is_line = |line: &str| line.starts_with(name) && line.contains("built-in  usable");
        assert!(ended.stdout.lines().any(is_line), "{}", ended.stdout);
    }
    let text = cli.private(&["profile", "explain", "data-science"]);
    let json = cli.private(&["profile", "explain", "data-science", "--json"]);
    assert_eq!((text.code, json.code), (Some(0), Some(0)), "{text:?} {json:?}");
    let steps: Vec<Step> = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(text.stdout.lines().count(), steps.len());
    // The folders of private daemons differ; what is planned does not.
    let (of_text, of_json) = (text.stdout.lines(), explain(&steps));
    for (text, json) in of_text
        .zip(of_json.lines())
        .filter(|(text, _)| !text.contains(" take /") && !text.contains(".img as "))
    {
        assert_eq!(text, json);
    }
    assert_eq!(text.stderr.contains("best effort"), steps.iter().any(|step| step.need == Need::BestEffort));
    let broken = cli.private(&["profile", "explain", "nowhere"]);
    assert_eq!((broken.code, &*broken.stdout), (Some(2), ""), "{broken:?}");
    assert!(broken.stderr.contains("no profile \"nowhere\""), "{}", broken.stderr);
    cli.check_leftovers();
}
