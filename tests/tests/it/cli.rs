//! `cellctl` with real daemons: its own private ones, and one that is there.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use cellblock_tests::cli::{Cli, ended, notebook_json};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::{Setup, required};
use cellblock_tests::{as_root_and_user, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

as_root_and_user!(
    run_writes_a_valid_notebook_and_a_page_and_leaves_nothing,
    exec_has_data_on_stdout_words_on_stderr_and_named_exit_codes,
    verbs_work_on_a_daemon_that_is_there,
    ctrl_c_interrupts_the_cell_and_leaves_nothing,
);

fn run_writes_a_valid_notebook_and_a_page_and_leaves_nothing(setup: Setup) {
    let cli = Cli::new(setup);
    let code = [
        "import pandas as pd\nimport matplotlib.pyplot as plt\nprint('hello')",
        "_ = plt.plot([1, 4, 2])",
        "pd.DataFrame({'a': [1, 2]})",
        "1 / 0",
        "'never reached'",
    ];
    let file = cli.write("small.ipynb", &notebook_json(&code));
    let file = file.to_str().unwrap();
    let ended = cli.private(&["run", file, "-o", "out.ipynb", "-o", "out.html"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stdout, "out.ipynb\nout.html\n");
    assert!(ended.stderr.contains("ZeroDivisionError"), "{}", ended.stderr);
    cli.check_leftovers();

    let check =
        "import nbformat, sys; nb = nbformat.read(sys.argv[1], 4); nbformat.validate(nb); print('valid')";
    let out = cli.path("out.ipynb");
    let checked =
        Command::new(required("CELLBLOCK_DEV_PYTHON")).args(["-c", check]).arg(&out).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&checked.stdout),
        "valid\n",
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    let executed: Value = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    let kinds = |cell: usize| -> Vec<&str> {
        let outputs = executed["cells"][cell]["outputs"].as_array().unwrap();
        outputs.iter().map(|output| output["output_type"].as_str().unwrap()).collect()
    };
    assert_eq!(kinds(0), ["stream"]);
    assert_eq!(kinds(1), ["display_data"]);
    assert_eq!(kinds(2), ["execute_result"]);
    assert_eq!(kinds(3), ["error"]);
    assert_eq!(kinds(4), [""; 0]);
    assert!(
        executed["cells"][1]["outputs"][0]["data"]["image/png"].as_str().unwrap().starts_with("iVBORw0KGgo")
    );
    let page = std::fs::read_to_string(cli.path("out.html")).unwrap();
    for sign in ["data:image/png;base64,iVBOR", "<table", "ZeroDivisionError", "hello"] {
        assert!(page.contains(sign), "{sign}");
    }
}

fn exec_has_data_on_stdout_words_on_stderr_and_named_exit_codes(setup: Setup) {
    let cli = Cli::new(setup);
    let table: [(&str, i32, &str, &str); 5] = [
        ("import sys\nprint('out'); print('err', file=sys.stderr); 6 * 7", 0, "out\n42\n", "err"),
        ("1/0", 1, "", "ZeroDivisionError"),
        ("import os; os._exit(3)", 5, "", "exit"),
        ("import time; time.sleep(100)", 4, "", "time"),
        ("print('\\u00fc')", 0, "\u{fc}\n", ""),
    ];
    for (code, exit, stdout, words) in table {
        let ended = cli.private(&["exec", "-c", code, "--timeout", "2"]);
        assert_eq!((ended.code, &*ended.stdout), (Some(exit), stdout), "{code}: {}", ended.stderr);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
    let mut child = cli
        .command(&["exec", "-", "--private", "--python", cli.python()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"print('from stdin')").unwrap();
    let ended = ended(child.wait_with_output().unwrap());
    assert_eq!((ended.code, &*ended.stdout), (Some(0), "from stdin\n"), "{}", ended.stderr);

    let ended = cli.private(&["exec", "-c", "print(1)", "--json"]);
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["outcome"]["outcome"]["end"], "ok", "{}", ended.stdout);
    // In one piece, or its newline by itself.
    let text: String = lines.iter().filter_map(|line| line["text"].as_str()).collect();
    assert_eq!(text, "1\n", "{}", ended.stdout);
    assert_eq!(cli.run(&["ls"]).code, Some(3));
    let doctor = cli.private(&["doctor", "--json"]);
    assert_eq!(doctor.code, Some(0), "{doctor:?}");
    let checks: Value = serde_json::from_str(&doctor.stdout).unwrap();
    assert!(checks.as_array().unwrap().len() > 5, "{checks}");
    cli.check_leftovers();
}

fn verbs_work_on_a_daemon_that_is_there(setup: Setup) {
    let daemon = Daemon::start(setup.clone());
    let cli = Cli::new(setup);
    let socket = daemon.socket();
    let socket = socket.to_str().unwrap();
    let on = |arguments: &[&str]| cli.run(&[arguments, &["--socket", socket]].concat());
    assert_eq!(on(&["exec", "mine", "-c", "x = 41"]).code, Some(0));
    assert_eq!(on(&["exec", "mine", "-c", "x + 1"]).stdout, "42\n");
    assert!(on(&["ls"]).stdout.contains("mine"));
    let list: Value = serde_json::from_str(&on(&["ls", "--json"]).stdout).unwrap();
    assert_eq!(list[0]["notebook"], "mine");
    let status = on(&["status", "mine"]).stdout;
    assert!(status.contains("IPython") && status.contains("namespaces"), "{status}");
    let status: Value = serde_json::from_str(&on(&["status", "mine", "--json"]).stdout).unwrap();
    assert_eq!(status["info"]["state"], "idle", "{status}");

    let mut notebook = daemon.notebook("mine");
    let mut sent = notebook.start("import time\nprint('up', flush=True)\ntime.sleep(100)");
    notebook.until_stdout(&mut sent, "up");
    assert_eq!(on(&["interrupt", "mine"]).code, Some(0));
    assert_eq!(notebook.finish(sent).outcome.end, cellblock_proto::execution::End::Interrupted);
    assert_eq!(on(&["restart", "mine"]).code, Some(0));
    assert_eq!(on(&["exec", "mine", "-c", "'x' in globals()"]).stdout, "False\n");
    assert_eq!(on(&["doctor"]).code, Some(0));
    assert_eq!(on(&["rm", "mine", "--files"]).code, Some(0));
    assert!(!daemon.workspace("mine").exists());
    let missing = on(&["status", "mine"]);
    assert!(missing.code != Some(0) && missing.stderr.contains("mine"), "{missing:?}");
    // A run leaves the daemon as it found it.
    let file = cli.write("small.ipynb", &notebook_json(&["print('here')"]));
    assert_eq!(on(&["run", file.to_str().unwrap()]).stdout, "here\n");
    assert_eq!(on(&["ls", "--json"]).stdout, "[]\n");
}

fn ctrl_c_interrupts_the_cell_and_leaves_nothing(setup: Setup) {
    let cli = Cli::new(setup);
    let code = "import time\nprint('up', flush=True)\ntime.sleep(100)";
    let mut child = cli
        .command(&["exec", "-c", code, "--private", "--python", cli.python()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut heard = [0; 3];
    let stdout = child.stdout.as_mut().unwrap();
    assert!(wait::readable(&*stdout, wait::PATIENCE), "it printed nothing");
    stdout.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"up\n");
    let begun = std::time::Instant::now();
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    let ended = ended(child.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(begun.elapsed() < wait::PATIENCE, "it waited for the cell");
    cli.check_leftovers();
}
