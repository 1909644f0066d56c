//! Profiles from their text: what is taken, what is refused and where, what a base gives.

use proptest::prelude::*;

use super::*;
use crate::checkpoints::{CheckpointPolicy, Checkpointing, Keep, Serializer};
use crate::lifecycle::{Evictable, Lifecycle};
use crate::limits::LIMITS;

fn alone(text: &str) -> Result<Profile, ProfileError> {
    Profile::parse("mine", text, &|_| Ok(None))
}

/// A folder of profiles.
fn among(files: &[(&str, &str)], name: &str) -> Result<Profile, ProfileError> {
    let text =
        |name: &str| files.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned());
    Profile::parse(name, &text(name).unwrap(), &|base| Ok(text(base)))
}

fn refusal(text: &str) -> String {
    alone(text).unwrap_err().to_string()
}

/// Line, column and message of the only fault.
fn fault(text: &str) -> (usize, usize, String) {
    let error = alone(text).unwrap_err();
    let [fault] = &error.faults[..] else { panic!("not one fault: {error}") };
    (fault.line, fault.column, fault.message.clone())
}

#[test]
fn what_ships_parses_and_default_equals_the_defaults() {
    for (name, _) in builtin::BUILTINS {
        let profile = Profile::builtin(name).unwrap();
        assert!(!profile.description.is_empty(), "{name}");
    }
    assert_eq!(Profile::builtin_default().limits, Limits::default());
    let [strict, default, science, trusted] =
        ["strict", "default", "data-science", "trusted"].map(|name| Profile::builtin(name).unwrap());
    for limit in &LIMITS {
        let values = [&strict, &default, &science, &trusted].map(|profile| limit.get(&profile.limits));
        assert!(values.is_sorted(), "{}: {values:?}", limit.key);
    }
    let bounded = Barrier::ALL.into_iter().filter(|barrier| !barrier.is_load_bearing());
    assert!(bounded.clone().all(|barrier| strict.barriers.get(&barrier) == Some(&Need::Required)));
    assert_eq!(trusted.network, Network::Loopback);
}

#[test]
fn unknown_key_is_refused_by_name_line_and_column() {
    insta::assert_snapshot!(refusal("version = 1\n\n[limits]\nmemory_mb = 5\n"), @r#"
    profile "mine", line 4, column 1: unknown key "memory_mb"; the keys of [limits] are memory_bytes, cpu_ms, wall_ms, interrupt_grace_ms, input_ms, processes, open_files, file_bytes, stack_bytes, tmp_bytes, tmp_inodes, workspace_bytes, output_bytes
      |
    4 | memory_mb = 5
      | ^^^^^^^^^
    "#);
    for (text, at) in [
        ("version = 1\nseccomp = true", (2, 1)),
        ("version = 1\n[[mounts]]\nsource = '/srv'\nwritable = true", (4, 1)),
        ("version = 1\n[barriers]\n  seccomp = 'required'", (3, 3)),
    ] {
        let (line, column, message) = fault(text);
        assert_eq!((line, column), at, "{message}");
        assert!(message.starts_with("unknown key"), "{message}");
    }
}

#[test]
fn limit_too_small_for_python_is_refused_with_the_least() {
    insta::assert_snapshot!(refusal("version = 1\n[limits]\nprocesses = 1\n"), @r#"
    profile "mine", line 3, column 13: limits.processes is 1, a worker needs at least 8
      |
    3 | processes = 1
      |             ^
    "#);
    for limit in &LIMITS {
        let written = |value: &str| format!("version = 1\n[limits]\n{} = {value}\n", limit.key);
        for (value, is_taken) in [
            ((limit.least - 1).to_string(), false),
            (limit.least.to_string(), true),
            (limit.most.to_string(), true),
            ((limit.most + 1).to_string(), false),
            ("-1".to_owned(), false),
            ("99999999999999999999999".to_owned(), false),
            ("0xffff_ffff_ffff_ffff".to_owned(), false),
        ] {
            let read = alone(&written(&value));
            assert_eq!(read.is_ok(), is_taken, "{} = {value}: {read:?}", limit.key);
            if let Err(error) = read {
                assert!(error.to_string().contains(limit.key) && error.faults[0].line == 3, "{error}");
            }
        }
    }
}

#[test]
fn all_faults_of_a_file_are_told_in_the_order_of_its_lines() {
    let text = "version = 1\nnetwork = 'proxy'\n[limits]\nwall_ms = 0\n[environment]\nLD_PRELOAD = 'x'\n";
    let error = alone(text).unwrap_err();
    let lines: Vec<_> = error.faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [2, 4, 6]);
    assert!(error.summary().contains("line 2"), "{}", error.summary());
}

#[test]
fn words_that_cannot_be_meant_point_at_their_line() {
    let told: String = [
        "network = 'proxy'",
        "network = 'host'",
        "network = 'internet'",
        "network = true",
        "version = 2",
        "base = '../../etc/passwd'",
        "base = 'nowhere'",
        "description = \"two\\nlines\"",
        "interpreter = 'python3'",
        "mounts = [{ source = 'srv' }]",
        "mounts = [{ source = '/srv/../etc' }]",
        "mounts = [{ source = '/' }]",
        "mounts = [{ source = '/proc/1', target = '/data' }]",
        "mounts = [{ source = '/tmp/data' }]",
        "mounts = [{ source = '/srv', target = '/workspace//data' }]",
        "mounts = [{ source = '/srv', target = '/dev/./x' }]",
        "mounts = [{ source = '/srv', target = '/' }]",
        "mounts = [{ source = '/a', target = '/x' }, { source = '/b', target = '/x/.' }]",
        "mounts = [{ target = '/x' }]",
        "mounts = ['/srv']",
        "environment = { '1A' = 'x' }",
        "environment = { PYTHONPATH = 'x' }",
        "environment = { A = 1 }",
        "environment = { A = \"\\u0000\" }",
        "pass_environment = ['LANG', 'CELLBLOCK_CACHE']",
        "pass_environment = ['A=B']",
        "barriers = { capabilities = 'best_effort' }",
        "barriers = { landlock = 'never' }",
        "limits = 3",
        "limits = { wall_ms = 1.5 }",
        "x =",
    ]
    .map(|line| {
        let version = if line.starts_with("version") { "" } else { "version = 1" };
        let (line, column, message) = fault(&format!("{version}\n{line}\n"));
        assert_eq!(line, 2, "{message}");
        format!("{column:2}: {message}\n")
    })
    .concat();
    insta::assert_snapshot!(told);
}

#[test]
fn cap_on_running_cells_is_at_least_one_and_no_more_than_can_live() {
    assert_eq!(alone("version = 1").unwrap().max_running, None);
    assert_eq!(alone("version = 1\nmax_running = 65_536").unwrap().max_running, Some(65_536));
    for (value, message) in [
        ("0", "max_running is 0, the least is 1"),
        ("65537", "max_running is 65537, the most is 65536"),
        ("-1", "max_running is -1, the least is 1"),
        ("'2'", "max_running must be a whole number, it is a string"),
    ] {
        assert_eq!(fault(&format!("version = 1\nmax_running = {value}")), (2, 15, message.to_owned()));
    }
}

#[test]
fn nothing_at_all_lacks_its_version() {
    assert_eq!(fault("").0, 1);
    assert!(fault("# a comment alone").2.contains("version = 1"));
}

#[test]
fn load_bearing_barriers_may_be_named_required() {
    let profile = alone("version = 1\n[barriers]\nproc = 'required'\nlandlock = 'best_effort'\n").unwrap();
    assert_eq!(profile.barriers[&Barrier::Proc], Need::Required);
    assert_eq!(profile.barriers[&Barrier::Landlock], Need::BestEffort);
}

#[test]
fn a_profile_takes_from_its_base_what_it_does_not_say_itself() {
    let team = "version = 1\nbase = 'default'\nmax_running = 3\ndescription = 'ours'\npass_environment = ['TZ']\n\
                [[mounts]]\nsource = '/srv/a'\n[[mounts]]\nsource = '/srv/b'\ntarget = '/data'\n\
                [limits]\nwall_ms = 7\n[environment]\nA = '1'\nB = '1'\n[barriers]\nlandlock = 'required'\n";
    let team = &format!(
        "warm_start = 'zygote'\npreload = ['numpy', 'a.b?']\nspares = 3\n{team}\
         [checkpoints]\nwhen = 'wait'\nkeep_last = 5\nkeep_daily = 0\nserializer = 'dill'\n\
         [lifecycle]\nevict = 'any'\nidle_seconds = 60\n"
    );
    let mine = "version = 1\nbase = 'team'\npass_environment = ['LANG']\n[[mounts]]\nsource = '/srv/c'\n\
                target = '/data'\n[limits]\nprocesses = 9\n[environment]\nB = '2'\n\
                [barriers]\nlandlock = 'best_effort'\ncgroup = 'required'\n";
    let mine = &format!(
        "spares = 1\n{mine}[checkpoints]\nkeep_last = 6\nmax_bytes = 1048576\nseconds = 9\n\
         [lifecycle]\nidle_seconds = 7\n"
    );
    let profile = among(&[("team", team), ("mine", mine)], "mine").unwrap();
    let limits = Limits { wall_ms: 7, processes: 9, ..Limits::default() };
    assert_eq!(
        profile,
        Profile {
            description: "ours".to_owned(),
            interpreter: None,
            network: Network::None,
            max_running: Some(3),
            limits,
            mounts: vec![
                Mount { source: "/srv/a".into(), target: None },
                Mount { source: "/srv/c".into(), target: Some("/data".into()) },
            ],
            environment: [("A", "1"), ("B", "2")].map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
            pass_environment: ["LANG", "TZ"].map(str::to_owned).into(),
            barriers: [(Barrier::Landlock, Need::BestEffort), (Barrier::Cgroup, Need::Required)].into(),
            warm_start: WarmStart::Zygote,
            preload: vec![
                Preload { module: "numpy".to_owned(), optional: false },
                Preload { module: "a.b".to_owned(), optional: true },
            ],
            spares: 1,
            lifecycle: Lifecycle { idle_seconds: 7, evict: Evictable::Any },
            checkpoints: CheckpointPolicy {
                when: Checkpointing::Wait,
                serializer: Serializer::Dill,
                seconds: 9,
                keep: Keep { last: 6, daily: 0, max_bytes: 1 << 20 },
            },
        }
    );
}

#[test]
fn what_is_said_of_a_warm_start_is_checked() {
    let refused = |text: &str| {
        Profile::parse("team", &format!("version = 1\n{text}\n"), &|_| Ok(None)).unwrap_err().to_string()
    };
    for (text, word) in [
        ("checkpoints = 'wait'", "must be a table"),
        ("checkpoints.when = 'always'", "\"none\", \"background\" or \"wait\""),
        ("checkpoints.serializer = 'json'", "\"cellblock\" or \"dill\""),
        ("checkpoints.keep_last = 0", "it can be 1 to 10000"),
        ("checkpoints.max_bytes = -1", "it can be 1048576 to"),
        ("checkpoints.keep = 3", "keep_last, keep_daily"),
        ("lifecycle.evict = 'always'", "\"never\", \"whole\" or \"any\""),
        ("lifecycle.idle_seconds = -1", "it can be 0 to 31536000"),
        ("lifecycle.idle = 3", "idle_seconds, evict"),
        ("warm_start = 'fork'", "\"zygote\" or \"exec\""),
        ("preload = ['../x']", "no name of a module"),
        ("preload = ['a..b']", "no name of a module"),
        ("preload = ['a,b']", "no name of a module"),
        ("preload = 'pandas'", "must be an array"),
        ("spares = 65", "the most is 64"),
        ("spares = -1", "the most is 64"),
        ("spares = 'two'", "must be a whole number"),
    ] {
        let error = refused(text);
        assert!(error.contains(word) && error.contains("line 2"), "{text}: {error}");
    }
    // Without a word a worker is a fresh interpreter.
    assert_eq!(Profile::parse("bare", "version = 1\n", &|_| Ok(None)).unwrap().warm_start, WarmStart::Exec);
    assert_eq!(Profile::builtin("strict").unwrap().warm_start, WarmStart::Exec);
    assert_eq!(Profile::builtin("trusted").unwrap().warm_start, WarmStart::Zygote);
}

#[test]
fn a_file_that_names_itself_means_the_built_in_profile() {
    let default = "version = 1\nbase = 'default'\n[limits]\nwall_ms = 7\n";
    let team = "version = 1\nbase = 'default'\n";
    let files = [("default", default), ("team", team)];
    assert_eq!(among(&files, "default").unwrap().limits, Limits { wall_ms: 7, ..Limits::default() });
    // Another file's `default` is the operator's.
    assert_eq!(among(&files, "team").unwrap().limits.wall_ms, 7);
    // A built-in one stands on built-in ones, whatever the folder has.
    let strict = "version = 1\nbase = 'strict'\n";
    let profile = among(&[("default", default), ("strict", strict)], "strict").unwrap();
    assert_eq!(profile, Profile::builtin("strict").unwrap());
}

#[test]
fn bases_that_lead_back_too_far_or_nowhere_are_refused_at_their_line() {
    let on = |base: &str| format!("version = 1\n\nbase = '{base}'\n");
    let (a, b, mine) = (on("b"), on("a"), on("mine"));
    let message = |error: ProfileError| {
        assert_eq!((error.faults[0].line, error.faults[0].column), (3, 8), "{error}");
        error.summary()
    };
    let told = message(among(&[("a", &a), ("b", &b)], "a").unwrap_err());
    assert_eq!(
        told,
        r#"profile "b" (which "a" stands on), line 3, column 8: base "a" leads back: a → b → a"#
    );
    let told = message(among(&[("mine", &mine)], "mine").unwrap_err());
    assert!(told.contains("base \"mine\" is this profile itself"), "{told}");
    let told = message(among(&[("mine", &on("nowhere"))], "mine").unwrap_err());
    assert!(told.ends_with("does not exist; built in are data-science, default, strict, trusted"), "{told}");

    let names: Vec<String> = (0..=MAX_CHAIN).map(|n| format!("p{n}")).collect();
    let last = "version = 1\n".to_owned();
    let texts: Vec<String> = names.iter().skip(1).map(|base| on(base)).chain([last]).collect();
    let files: Vec<_> = names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
    assert!(among(&files, "p1").is_ok());
    let told = message(among(&files, "p0").unwrap_err());
    assert!(told.contains("at most 8 profiles"), "{told}");
}

#[test]
fn a_base_that_cannot_be_read_is_told_with_the_reason() {
    let denied = |_: &str| Err(io::Error::from(io::ErrorKind::PermissionDenied));
    let error = Profile::parse("mine", "version = 1\nbase = 'team'\n", &denied).unwrap_err();
    assert!(error.summary().ends_with("base \"team\" cannot be read: permission denied"), "{error}");
}

/// Key and value of a layer as a file has them.
type Lines = (
    BTreeMap<&'static str, u64>,
    Option<bool>,
    BTreeMap<String, String>,
    BTreeSet<String>,
    BTreeMap<usize, bool>,
);

fn lines() -> impl Strategy<Value = Lines> {
    let limit =
        (0..LIMITS.len()).prop_flat_map(|at| (Just(LIMITS[at].key), LIMITS[at].least..=LIMITS[at].most));
    (
        prop::collection::vec(limit, 0..4).prop_map(|limits| limits.into_iter().collect()),
        any::<Option<bool>>(),
        prop::collection::btree_map("[A-C]", "[a-z \"\\\\]{0,3}", 0..3),
        prop::collection::btree_set("[D-F]", 0..3),
        prop::collection::btree_map(0..Barrier::ALL.len(), any::<bool>(), 0..4),
    )
}

fn written(base: Option<&str>, (limits, loopback, environment, pass, barriers): &Lines) -> String {
    let mut text = "version = 1\n".to_owned();
    if let Some(base) = base {
        text += &format!("base = '{base}'\n");
    }
    if let Some(loopback) = loopback {
        text += &format!("network = '{}'\n", if *loopback { "loopback" } else { "none" });
    }
    text += &format!("pass_environment = {:?}\n[limits]\n", pass.iter().collect::<Vec<_>>());
    text.extend(limits.iter().map(|(key, value)| format!("{key} = {value}\n")));
    text += "[environment]\n";
    text.extend(environment.iter().map(|(name, value)| format!("{name} = {value:?}\n")));
    text += "[barriers]\n";
    text.extend(barriers.iter().map(|(at, required)| {
        let barrier = Barrier::ALL[*at];
        let need = if *required || barrier.is_load_bearing() { "required" } else { "best_effort" };
        format!("{} = '{need}'\n", barrier.key())
    }));
    text
}

proptest! {
    #[test]
    fn a_merged_profile_equals_all_keys_written_out(layers in prop::collection::vec(lines(), 1..MAX_CHAIN)) {
        let names: Vec<String> = (0..layers.len()).map(|n| format!("p{n}")).collect();
        let texts: Vec<String> = layers
            .iter()
            .enumerate()
            .map(|(n, layer)| written(n.checked_sub(1).map(|below| names[below].as_str()), layer))
            .collect();
        let files: Vec<_> = names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
        let merged = among(&files, names.last().unwrap()).unwrap();

        let mut all = Lines::default();
        for (limits, loopback, environment, pass, barriers) in layers {
            all.0.extend(limits);
            all.1 = loopback.or(all.1);
            all.2.extend(environment);
            all.3.extend(pass);
            all.4.extend(barriers);
        }
        prop_assert_eq!(merged, alone(&written(None, &all)).unwrap());
    }

    #[test]
    fn no_text_panics_and_every_refusal_points_into_it(text in "\\PC{0,200}") {
        points_into(&text)?;
    }

    /// Nearly profiles get further than noise does.
    #[test]
    fn no_damaged_profile_panics(at in 0..4_usize, from in 0..2000_usize, bytes in 0..40_usize, put in "\\PC{0,8}") {
        let text = builtin::BUILTINS[at].1;
        let from = text.floor_char_boundary(from.min(text.len()));
        let to = text.floor_char_boundary((from + bytes).min(text.len()));
        points_into(&format!("{}{put}{}", &text[..from], &text[to..]))?;
    }
}

fn points_into(text: &str) -> Result<(), TestCaseError> {
    let Err(error) = alone(text) else { return Ok(()) };
    prop_assert!(!error.faults.is_empty());
    for fault in &error.faults {
        let line = text.split('\n').nth(fault.line - 1).map(|line| line.trim_end_matches('\r'));
        prop_assert_eq!(line, Some(fault.source.as_str()));
        prop_assert!(fault.column <= text.chars().count() + 1 && !fault.message.contains('\n'));
    }
    prop_assert!(!error.to_string().is_empty());
    Ok(())
}
