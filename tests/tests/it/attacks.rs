//! The catalogue of attacks, carried out in every mode: each must be contained, leave the daemon, a
//! neighbour and pid 1 alone, and show the opposite outside. A group of them per test; a test that
//! fails names all that is wrong.

mod exceptions;
mod matrix;

use std::fmt::Write as _;

use cellblock_attacks::{ATTACKS, Attack, Kind};
use cellblock_tests::cli::Cli;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::{Setup, Who};
use cellblock_tests::{as_root_and_user, wait};
use cellctl::selftest::{self, Against, Outcome, Range, Shown, Verdict};
use sandbox_profiles::Start;

use self::exceptions::{Exceptions, What};

as_root_and_user!(
    limits_hold,
    processes_are_out_of_reach,
    kernel_interfaces_are_refused,
    nothing_crosses_the_network_or_to_a_neighbour,
    files_of_others_are_out_of_reach,
    channel_and_ends_are_held,
    every_attack_is_contained_in_a_forked_worker_too,
    daemon_killed_in_the_middle_of_a_cell_takes_it_back,
    selftest_says_what_holds_and_what_does_not,
);

/// A daemon that has the profile of the attacks.
fn daemon(setup: Setup) -> Daemon {
    Daemon::start(setup.profile(selftest::PROFILE_NAME, cellblock_attacks::PROFILE))
}

fn range(daemon: &Daemon) -> Range {
    let against = Against {
        socket: daemon.socket(),
        notebooks: daemon.state_dir().join("notebooks"),
        rootful: daemon.setup().who == Who::Root,
    };
    Range::open(against).unwrap_or_else(|fault| panic!("{}\n{}", fault.report(), daemon.log()))
}

fn limits_hold(setup: Setup) {
    hold(setup, |number| number <= 15);
}

fn processes_are_out_of_reach(setup: Setup) {
    hold(setup, |number| (16..=26).contains(&number));
}

fn kernel_interfaces_are_refused(setup: Setup) {
    hold(setup, |number| (27..=41).contains(&number));
}

fn nothing_crosses_the_network_or_to_a_neighbour(setup: Setup) {
    hold(setup, |number| (42..=53).contains(&number));
}

fn files_of_others_are_out_of_reach(setup: Setup) {
    hold(setup, |number| (54..=60).contains(&number) || [74, 76, 77].contains(&number));
}

fn channel_and_ends_are_held(setup: Setup) {
    hold(setup, |number| (61..=73).contains(&number) || number == 75);
}

/// The barriers are the same steps; that they are still there after another beginning is what is shown. The
/// controls do not depend on it.
fn every_attack_is_contained_in_a_forked_worker_too(setup: Setup) {
    let rootful = setup.who == Who::Root;
    let warm = "version = 1\nwarm_start = \"zygote\"\npreload = [\"decimal\"]\nspares = 2\n";
    let profile = cellblock_attacks::PROFILE.replacen("version = 1\n", warm, 1);
    let daemon = Daemon::start(setup.warm().profile(selftest::PROFILE_NAME, &profile));
    daemon.notebook_under("first", selftest::PROFILE_NAME).run("pass").ok();
    daemon.warmed(selftest::PROFILE_NAME);
    let mut range = range(&daemon);
    let exceptions = Exceptions::read();
    let mut wrong = String::new();
    for attack in ATTACKS.iter().filter(|attack| selftest::needs_no_more_than_a_client(attack)) {
        let outcome = range.attack(attack).unwrap_or_else(|fault| {
            panic!("attack {} {}: {}{wrong}", attack.number, attack.title, fault.report())
        });
        if outcome.verdict == Verdict::NotContained {
            let why = format!("{:?}, saw {}", outcome.wrong, outcome.seen);
            exceptions.judge(attack, What::Containment, rootful, &why, &mut wrong);
        }
    }
    let mut last = daemon.notebook_under("last", selftest::PROFILE_NAME);
    last.run("pass").ok();
    assert_eq!(last.status().report.map(|report| report.start), Some(Start::Zygote), "{}", daemon.log());
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Carries out a group of attacks and their controls.
fn hold(setup: Setup, chosen: impl Fn(u8) -> bool) {
    let rootful = setup.who == Who::Root;
    let daemon = daemon(setup);
    let mut range = range(&daemon);
    let exceptions = Exceptions::read();
    let (mut wrong, mut table) = (String::new(), String::new());
    let rows = ATTACKS.iter().copied().filter(|attack| chosen(attack.number));
    for attack in rows.filter(|attack| selftest::needs_no_more_than_a_client(attack)) {
        let outcome = range.attack(attack).unwrap_or_else(|fault| {
            panic!("attack {} {}: {}{wrong}", attack.number, attack.title, fault.report())
        });
        let control = range.control(attack).unwrap();
        let _ = writeln!(table, "{}", line(attack, &outcome, &control));
        if outcome.verdict == Verdict::NotContained {
            let why = format!("{:?}, saw {}", outcome.wrong, outcome.seen);
            exceptions.judge(attack, What::Containment, rootful, &why, &mut wrong);
        }
        if let Shown::Nothing(why) = control {
            exceptions.judge(attack, What::Control, rootful, &why, &mut wrong);
        }
    }
    eprintln!("{table}");
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn line(attack: &Attack, outcome: &Outcome, control: &Shown) -> String {
    let verdict = match outcome.verdict {
        Verdict::Contained => "contained",
        Verdict::Residual => "residual",
        Verdict::NotContained => "NOT CONTAINED",
    };
    let control = match control {
        Shown::Opposite(seen) => seen.to_string(),
        Shown::Nothing(why) => format!("none: {why}"),
    };
    format!("{:>2} | {} | {verdict} | {} | {control}", attack.number, attack.title, outcome.seen)
}

/// Row 72: only a daemon that is not private leaves its workers to the next one.
fn daemon_killed_in_the_middle_of_a_cell_takes_it_back(setup: Setup) {
    let attack = ATTACKS.iter().find(|attack| attack.kind == Kind::SupervisorKilled).unwrap();
    let mut daemon = daemon(setup.lasting());
    let mut notebook = daemon.notebook_under("a", selftest::PROFILE_NAME);
    let mut sent = notebook.start(&cellblock_attacks::program(&attack.probe, "{}"));
    notebook.until_stdout(&mut sent, "begun");
    let execution = sent.execution.clone();
    daemon.kill_hard();
    daemon.restart();
    let mut again = wait::until("the daemon takes its notebook back", || {
        let mut client = daemon.client();
        let known = client.notebooks().iter().any(|info| info.notebook.as_str() == "a");
        known.then(|| daemon.notebook_under("a", selftest::PROFILE_NAME))
    });
    let sent = again.attach(&execution, 0);
    let ran = again.finish(sent).ok();
    let mut seen = cellblock_attacks::Seen::parse(&ran.stdout());
    seen.note("end", "ok");
    assert_eq!(seen.unmet(attack.contained), Vec::<&str>::new(), "{seen}");
    // What it is told to end it does end, also after its daemon's death.
    let ran = again.run_with(
        "while True: pass",
        cellblock_proto::execution::ExecuteOptions { wall_ms: Some(300), ..Default::default() },
    );
    assert!(matches!(ran.outcome.end, cellblock_proto::execution::End::TimedOut { .. }), "{:?}", ran.outcome);
}

fn selftest_says_what_holds_and_what_does_not(setup: Setup) {
    let cli = Cli::new(setup);
    let arguments = ["selftest", "--only", "8,24,48,72", "--python", cli.python()];
    let ended = cli.run(&arguments);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert!(lines[0].starts_with("✓  8 sparse file of 1 TiB | saw end=ok; truncate=EFBIG |"), "{ended:?}");
    assert!(lines[0].ends_with("truncate=done"), "{ended:?}");
    let summary = "4 attacks: 3 contained, 0 residual (reported), 0 not contained, 0 without control, 1 by the test suite alone";
    let residual = summary.replace("3 contained, 0 residual", "2 contained, 1 residual");
    // Whether the machine has vsock is the machine's own business.
    let last = lines[4].replace("1 without control", "0 without control");
    assert!(last == summary || last == residual, "{ended:?}");
    // Without the barrier it is said, and the exit code says it too.
    let mut weak = cli.command(&["selftest", "--only", "8", "--json", "--python", cli.python()]);
    weak.env("CELLBLOCK_TEST_DROP_BARRIERS", "resource_limits");
    let ended = cellblock_tests::cli::ended(weak.output().unwrap());
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let told: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&told[0]["number"], &told[0]["verdict"]), (&8.into(), &"not_contained".into()), "{told}");
    cli.check_leftovers();
}
