//! `cellctl bench`: what it counts and what it leaves. How fast anything is, is no test's business.

use std::process::Stdio;

use cellblock_tests::cli::{Cli, ended};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

as_root_and_user!(bench_counts_all_runs_and_leaves_no_notebook_however_it_ends);

fn bench_counts_all_runs_and_leaves_no_notebook_however_it_ends(setup: Setup) {
    let forks = "version = 1\nwarm_start = 'zygote'\nspares = 1\n";
    let setup = setup.warm().profile("default", forks).profile("cold", "version = 1\n").limits(
        "short",
        // Less than the cell prints whose bytes are counted.
        "output_bytes = 65_536",
    );
    let daemon = Daemon::start(setup.clone());
    let cli = Cli::new(setup);
    let socket = daemon.socket();
    let on = |words: &[&'static str]| -> Vec<String> {
        let where_it_is = ["--socket", socket.to_str().unwrap()];
        words.iter().copied().chain(where_it_is).map(ToString::to_string).collect()
    };
    let run = |words: &[&'static str]| cli.run(&on(words).iter().map(String::as_str).collect::<Vec<_>>());
    let names = || -> Vec<String> {
        let list: Value = serde_json::from_str(&run(&["ls", "--json"]).stdout).unwrap();
        list.as_array().unwrap().iter().map(|line| line["notebook"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(run(&["exec", "mine", "-c", "x = 1"]).code, Some(0));

    for (profile, start) in [("default", "cellblock, spare"), ("cold", "cellblock, exec")] {
        let ended = run(&["bench", "--runs", "2", "--json", "--profile", profile]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let found: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((&found["rounds"], &found["profile"]), (&json!(2), &json!(profile)), "{found}");
        assert!(found["python"].as_str().unwrap().contains("IPython"), "{found}");
        let engine = |row: usize, name: &str| -> Value {
            let engines = found["rows"][row]["engines"].as_array().unwrap();
            let engine = engines.iter().find(|engine| engine["engine"] == name);
            engine.unwrap_or_else(|| panic!("no {name} in {found}")).clone()
        };
        let rows = [("start", start, 2), ("round_trip", "cellblock", 40), ("stdout", "cellblock", 2)];
        for (place, (row, ours, runs)) in rows.into_iter().enumerate() {
            assert_eq!(found["rows"][place]["row"], row);
            let ours = engine(place, ours);
            assert_eq!((&ours["role"], &ours["runs"]), (&json!("cellblock"), &json!(runs)), "{ours}");
            let samples: Vec<f64> =
                ours["samples"].as_array().unwrap().iter().flat_map(Value::as_f64).collect();
            assert_eq!(samples.len(), runs);
            assert!(samples.iter().all(|value| *value > 0.0), "{ours}");
        }
        for (place, peer) in [(0, "python"), (2, "python into a pipe")] {
            let peer = engine(place, peer);
            assert_eq!((&peer["role"], &peer["runs"]), (&json!("peer"), &json!(2)), "{peer}");
            assert_eq!(peer["times_better_p50"], 1.0);
        }
        assert_eq!(engine(1, "cellblock")["times_better_p50"], Value::Null);
        assert_eq!(names(), ["mine"]);
    }

    let short = run(&["bench", "--profile", "short"]);
    assert_eq!((short.code, &*short.stdout), (Some(5), ""), "{}", short.stderr);
    assert!(short.stderr.starts_with("error: a cell that prints lines: "), "{}", short.stderr);
    assert_eq!(names(), ["mine"]);

    // The second hangs up, so that what is left is deleted over another connection.
    for signal in [Signal::INT, Signal::TERM] {
        let words = on(&["bench", "--runs", "10000", "--profile", "cold"]);
        let mut command = cli.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The warm one and one that is timed.
        let begun = wait::within(wait::PATIENCE, || (names().len() >= 3).then_some(()));
        assert!(begun.is_some(), "it opened nothing: {:?}", names());
        kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), signal).unwrap();
        let ended = ended(child.wait_with_output().unwrap());
        assert_eq!((ended.code, &*ended.stdout), (Some(6), ""), "{}", ended.stderr);
        assert_eq!(names(), ["mine"], "{signal:?}");
    }
}
