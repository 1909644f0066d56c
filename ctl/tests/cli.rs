//! The program as its users meet it: help texts, and what it says when it cannot.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::path::Path;
use std::process::{Command, Output};

fn cellctl(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cellctl"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("CELLBLOCK_SOCKET")
        .env_remove("CELLBLOCK_FIGURES")
        .env_remove("XDG_RUNTIME_DIR")
        // clap wraps to the terminal's width; here there is none.
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

/// Exit code, standard output and standard error in one text.
fn transcript(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.ipynb"), "{\"nbformat\": 2}").unwrap();
    std::fs::write(folder.path().join("a.py"), "1").unwrap();
    let output = cellctl(folder.path(), arguments);
    format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap()
    )
}

#[test]
fn help_of_the_program_and_of_each_verb() {
    let help = transcript(&["--help"]);
    let listed = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let verbs = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let verbs: Vec<&str> = verbs.filter(|verb| !verb.is_empty() && *verb != "help").collect();
    assert!(verbs.contains(&"run") && verbs.contains(&"drain"), "{verbs:?}");
    insta::assert_snapshot!("help", help.as_str());
    for verb in ["ls", "get", "put", "rm"] {
        insta::assert_snapshot!(format!("help_files_{verb}"), transcript(&["files", verb, "--help"]));
    }
    for verb in ["ls", "show", "create", "restore", "fork", "export", "import", "verify", "gc", "clear"] {
        insta::assert_snapshot!(
            format!("help_checkpoint_{verb}"),
            transcript(&["checkpoint", verb, "--help"])
        );
    }
    for verb in verbs {
        insta::assert_snapshot!(format!("help_{verb}"), transcript(&[verb, "--help"]));
    }
}

#[test]
fn help_of_what_is_done_with_profiles() {
    for verb in ["ls", "explain", "check"] {
        insta::assert_snapshot!(format!("help_profile_{verb}"), transcript(&["profile", verb, "--help"]));
    }
}

#[test]
fn profiles_are_checked_without_a_daemon_and_faults_are_told_by_line() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("team.toml", "version = 1\nbase = \"strict\"\n\n[limits]\nprocesses = 99\n"),
        ("mine.toml", "version = 1\nbase = \"team\"\n"),
        ("default.toml", "version = 1\nbase = \"default\"\nnetwork = \"loopback\"\n"),
        ("typo.toml", "version = 1\nbase = \"team\"\n\n[limits]\nmemory_mb = 5\nwall_ms = 0\n"),
        ("above.toml", "version = 1\nbase = \"typo\"\n"),
        ("round.toml", "version = 1\nbase = \"trip\"\n"),
        ("trip.toml", "version = 1\nbase = \"round\"\n"),
        ("notes.txt", ""),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let check = |files: &[&str]| {
        let output = cellctl(folder.path(), &[&["profile", "check"], files].concat());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        format!("exit {}\n--- stdout\n{stdout}--- stderr\n{stderr}", output.status.code().unwrap())
    };
    insta::assert_snapshot!("profile_check_ok", check(&["team.toml", "mine.toml", "default.toml"]));
    let broken = ["team.toml", "typo.toml", "above.toml", "round.toml", "notes.txt", "missing.toml"];
    insta::assert_snapshot!("profile_check_broken", check(&broken));
}

#[test]
fn command_lines_that_cannot_be_meant_end_with_2() {
    let lines: [&[&str]; 14] = [
        &["run"],
        &["run", "a.py", "-o", "a.pdf"],
        &["run", "a.py", "-o", "nowhere/a.html"],
        &["run", "a.py", "a.py", "-o", "a.html"],
        &["run", "a.py", "a.py", "--out-dir", "out"],
        &["run", "a.py", "--timeout", "0"],
        &["run", "a.ipynb"],
        &["run", "missing.ipynb"],
        &["exec"],
        &["exec", "a/b", "-c", "1"],
        &["exec", "1 + 1"],
        &["status", "../x"],
        &["checkpoint", "export", "a"],
        &["checkpoint", "restore", "a", "latest"],
    ];
    let told: Vec<String> =
        lines.iter().map(|line| format!("$ cellctl {}\n{}", line.join(" "), transcript(line))).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn without_a_daemon_the_end_is_3_and_a_hint() {
    insta::assert_snapshot!(transcript(&["ls", "--socket", "/nowhere/cellblockd.sock"]));
}

#[test]
fn completions_are_for_the_shell_named() {
    for (shell, sign) in
        [("bash", "complete -F"), ("zsh", "#compdef cellctl"), ("fish", "complete -c cellctl")]
    {
        assert!(transcript(&["completions", shell]).contains(sign), "{shell}");
    }
}
