//! What a worker's environment is made of, and what keeps it from being started.

use std::collections::BTreeMap;

use sandbox_profiles::Interpreter;

use super::*;
use std::ffi::OsString;

fn order(profile: &str) -> Order {
    Order {
        program: Program::Main,
        notebook: Key::own("a".parse().unwrap()),
        profile_name: "mine".to_owned(),
        profile: Profile::parse("mine", &format!("version = 1\n{profile}\n"), &|_| Ok(None)).unwrap(),
        python: Found {
            interpreter: Interpreter { program: "/opt/env/bin/python".into(), trees: Vec::new() },
            environment: None,
            packages: Vec::new(),
        },
        workspace: Workspace { folder: "/nowhere".into(), quota: None },
        cache: None,
        restore: true,
    }
}

#[test]
fn of_our_environment_a_worker_gets_what_its_profile_passes_on_and_nothing_else() {
    use std::os::unix::ffi::OsStringExt;
    let ours = |name: &str| match name {
        "TZ" | "SECRET" | "BOTH" => Some(OsString::from("ours")),
        "LANG" => Some(OsString::from("de_DE.UTF-8")),
        "BYTES" => Some(OsString::from_vec(vec![0xff])),
        _ => None,
    };
    let passed: BTreeMap<_, _> = environment(
        &order("pass_environment = ['TZ', 'LANG', 'UNSET', 'BYTES', 'BOTH']\nenvironment = { BOTH = 'set' }"),
        ours,
    )
    .into_iter()
    .collect();
    let alone: BTreeMap<_, _> = environment(&order(""), ours).into_iter().collect();
    assert_eq!((&*passed["TZ"], &*passed["LANG"], &*passed["BOTH"]), ("ours", "de_DE.UTF-8", "set"));
    assert_eq!(alone["LANG"], "C.UTF-8");
    for name in ["SECRET", "UNSET", "BYTES"] {
        assert!(!passed.contains_key(name), "{name}");
    }
    assert_eq!(passed.len(), alone.len() + 2);
}

#[test]
fn barriers_that_the_host_cannot_give_are_named_with_the_cure() {
    let barriers = vec![Barrier::Cgroup, Barrier::WorkspaceQuota];
    let (code, message) = LaunchError::Barriers { profile: "strict".to_owned(), barriers }.for_client();
    assert_eq!(code, ErrorCode::Sandbox);
    assert_eq!(
        message,
        "profile \"strict\" requires cgroup and workspace_quota, which this host cannot give: `cellctl doctor` \
         says why; a profile of yours with `base = \"strict\"` can make it \"best_effort\""
    );
}
