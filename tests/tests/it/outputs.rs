//! What code puts out arrives: whole, in order, while it runs.

use cellblock_proto::execution::{ExecuteOptions, ExpressionValue, NoticeTopic, Output, StreamName};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::ran::{Piece, parts};
use cellblock_tests::setup::Setup;
use cellblock_tests::{in_every_mode, in_one_mode};

in_every_mode!(
    stdout_streams_while_the_cell_still_runs,
    kinds_of_output_come_in_the_order_of_the_code,
    last_expression_is_a_result_and_error_has_the_cells_own_lines,
    figures_and_tables_are_rich,
    magics_shell_lines_and_await_work,
    task_goes_on_before_the_next_cell_and_its_output_stays_its_own,
);

fn stdout_streams_while_the_cell_still_runs(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    // It ends only when we, having seen the first line, make the file.
    let mut sent = notebook.start(
        "import os, time\nprint('first')\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('second')",
    );
    notebook.until_stdout(&mut sent, "first\n");
    assert_eq!(notebook.status().running, Some(sent.execution.clone()));
    std::fs::write(daemon.workspace("a").join("go"), "").unwrap();
    assert_eq!(notebook.finish(sent).ok().stdout(), "first\nsecond\n");
}

fn kinds_of_output_come_in_the_order_of_the_code(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let ran = notebook.run(
        "import ctypes, os, subprocess, sys\nlibc = ctypes.CDLL(None)\n\
         print('a'); sys.stderr.write('b\\n'); os.write(1, b'c\\n')\n\
         _ = subprocess.run(['echo', 'd'])\n\
         libc.printf(b'e\\n'); libc.fflush(None)\n\
         display('f')\nprint('g', file=sys.stderr)\nprint('h', end='')\nos.system('echo i >&2')\n'j'",
    );
    let expected = [
        ("stdout", "a\n"),
        ("stderr", "b\n"),
        ("stdout", "c\nd\ne\n"),
        ("display", "'f'"),
        ("stderr", "g\n"),
        ("stdout", "h"),
        ("stderr", "i\n"),
        ("result", "'j'"),
    ];
    assert_eq!(ran.ok().shape(), expected.map(|(kind, text)| (kind, text.to_owned())));
}

fn last_expression_is_a_result_and_error_has_the_cells_own_lines(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    assert_eq!(notebook.run("6 * 7").ok().shape(), [("result", "42".to_owned())]);
    assert_eq!(notebook.run("6 * 7;").ok().shape(), []);
    let defined = notebook.start("\n\ndef f(x):\n    return 1 / x");
    let definition = defined.execution.to_string();
    notebook.finish(defined).ok();
    let ran = notebook.run("# a comment\n\nf(0)");
    let report = ran.error();
    assert_eq!((&*report.name, &*report.value), ("ZeroDivisionError", "division by zero"));
    let lines: Vec<(u32, &str, Option<&str>)> =
        report.frames.iter().map(|frame| (frame.line, &*frame.function, frame.code.as_deref())).collect();
    assert_eq!(lines, [(3, "<module>", Some("f(0)")), (4, "f", Some("return 1 / x"))]);
    assert_eq!(report.frames[1].execution.as_deref(), Some(&*definition));
    assert!(report.traceback.join("\n").contains("ZeroDivisionError"));
    assert_eq!(ran.raised(), Some("ZeroDivisionError"));
    let ran = notebook.run("try:\n    1/0\nexcept Exception as e:\n    raise KeyError('k') from e");
    assert_eq!(ran.error().causes[0].name, "ZeroDivisionError");
    let ran = notebook.run("x = 1\ndef f(:\n    pass");
    assert_eq!((ran.error().name.as_str(), ran.error().frames.last().unwrap().line), ("SyntaxError", 2));
}

fn figures_and_tables_are_rich(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let ran = notebook
        .run("import matplotlib.pyplot as plt\nplt.plot([1, 4, 2])\nplt.figure()\nplt.plot([3])\nplt.show()")
        .ok();
    let figures = ran.of_mime("image/png");
    assert_eq!(figures.len(), 2, "{:?}", ran.shape());
    for figure in figures {
        let mut reader = png::Decoder::new(std::io::Cursor::new(figure)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert!(pixels.iter().any(|byte| *byte != pixels[0]), "a blank figure");
    }
    // A figure that nobody showed is shown at the end, once.
    assert_eq!(notebook.run("_ = plt.plot([1, 2])").ok().of_mime("image/png").len(), 1);
    assert_eq!(notebook.run("1").ok().of_mime("image/png").len(), 0);

    let ran = notebook.run("import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[1, 2, 3])).show()").ok();
    let [plotly] = &ran.of_mime("application/vnd.plotly.v1+json")[..] else { panic!("{:?}", ran.shape()) };
    let plotly: serde_json::Value = serde_json::from_slice(plotly).unwrap();
    assert_eq!(plotly["data"][0]["type"], "bar");
    let bytes: usize = ran.outputs.iter().map(|piece| piece.payload.len()).sum();
    assert!(bytes < 1_000_000, "{bytes} bytes for a figure");

    let ran = notebook.run("import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})").ok();
    let table = &ran.bundles()[0];
    let of =
        |mime: &str| table.iter().find(|(found, _)| found == mime).map(|(_, bytes)| bytes.clone()).unwrap();
    assert!(String::from_utf8(of("text/html")).unwrap().contains("<table"));
    assert_eq!(String::from_utf8(of("text/plain")).unwrap(), "   a  b\n0  1  x\n1  2  y");
    let ran = notebook.run("h = display('one', display_id='d'); h.update('two')").ok();
    assert_eq!(ran.shape(), [("display", "'one'".to_owned()), ("update", "'two'".to_owned())]);
}

fn magics_shell_lines_and_await_work(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    assert_eq!(notebook.run("!echo from the shell").ok().stdout(), "from the shell\n");
    assert_eq!(notebook.run("x = !echo kept\nprint(x)").ok().stdout(), "['kept']\n");
    assert_eq!(notebook.run("%cd -q /tmp\n%pwd").ok().shape(), [("result", "'/tmp'".to_owned())]);
    assert_eq!(notebook.run("import os; os.getcwd()").ok().shape(), [("result", "'/tmp'".to_owned())]);
    assert_eq!(notebook.run("%%bash\necho in bash").ok().stdout(), "in bash\n");
    assert!(notebook.run("%timeit -n1 -r1 1").ok().stdout().contains("loop"));
    let awaited = "import asyncio\nawait asyncio.sleep(0)\nawait asyncio.gather(asyncio.sleep(0, 'slept'))";
    assert_eq!(notebook.run(awaited).ok().shape(), [("result", "['slept']".to_owned())]);
}

fn task_goes_on_before_the_next_cell_and_its_output_stays_its_own(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let first = notebook.start(
        "import asyncio, os\nasync def later():\n    for n in range(3):\n        await asyncio.sleep(0.01)\n    \
         print('by the task', flush=True)\n    open('done', 'w').close()\ntask = asyncio.create_task(later())",
    );
    let execution = first.execution.clone();
    notebook.finish(first).ok();
    // Nothing runs; the task does.
    let done = daemon.workspace("a").join("done");
    cellblock_tests::wait::until("the task ends while the worker is idle", || done.exists().then_some(()));
    assert_eq!(notebook.run("task.done()").ok().shape(), [("result", "True".to_owned())]);
    let again = notebook.attach(&execution, 0);
    assert_eq!(notebook.finish(again).stdout(), "by the task\n");
}

in_every_mode!(expressions_silence_history_and_counts_are_jupyters, input_is_asked_answered_and_refused);

fn expressions_silence_history_and_counts_are_jupyters(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let options = ExecuteOptions {
        user_expressions: vec![("good".into(), "x + 1".into()), ("bad".into(), "nope".into())],
        ..ExecuteOptions::default()
    };
    let ran = notebook.run_with("x = 1", options).ok();
    let [good, bad] = &ran.outcome.expressions[..] else { panic!("{:?}", ran.outcome) };
    let ExpressionValue::Value(bundle) = &good.result else { panic!("{good:?}") };
    assert_eq!(parts(bundle, &ran.payload), [("text/plain".to_owned(), b"2".to_vec())]);
    assert!(matches!(&bad.result, ExpressionValue::Error { name, .. } if name == "NameError"));
    assert_eq!(ran.outcome.execution_count, 1);
    assert_eq!(ran.outcome.names.added.iter().map(|name| &*name.name).collect::<Vec<_>>(), ["x"]);

    let silent = ExecuteOptions { silent: true, ..ExecuteOptions::default() };
    let ran = notebook.run_with("y = 5\ny", silent).ok();
    assert_eq!((ran.shape(), ran.outcome.execution_count), (vec![], 1), "it counts nothing");
    let unkept = ExecuteOptions { store_history: false, ..ExecuteOptions::default() };
    notebook.run_with("y", unkept).ok();
    let ran = notebook.run("y").ok();
    assert_eq!((ran.shape(), ran.outcome.execution_count), (vec![("result", "5".to_owned())], 2));
}

fn input_is_asked_answered_and_refused(setup: Setup) {
    let daemon = Daemon::start(setup.limits("hasty", "wall_ms = 1_500"));
    let mut notebook = daemon.notebook_under("a", "hasty");
    let options = ExecuteOptions { allow_stdin: true, ..ExecuteOptions::default() };
    let code = "name = input('who? ')\nimport getpass\nword = getpass.getpass('word? ')\nprint(name, word)";
    let mut sent = notebook.start_with(code, options);
    for (asked, secret, answer) in [("who? ", false, "Ada ü"), ("word? ", true, "pw")] {
        notebook.until(&mut sent, |sent| {
            matches!(sent.outputs.last(), Some(Piece { output: Output::InputRequest { prompt, password }, .. })
                if prompt == asked && *password == secret)
        });
        // The wall clock stands still while somebody is asked: longer than the limit allows.
        assert!(notebook.client.next_within(sent.request, std::time::Duration::from_millis(1_000)).is_none());
        let (id, execution) = (notebook.id.clone(), sent.execution.clone());
        notebook.client.tell(&cellblock_proto::client::Request::Input {
            notebook: id,
            execution,
            value: answer.to_owned(),
        });
    }
    assert_eq!(notebook.finish(sent).ok().stdout(), "Ada ü pw\n");
    let ran = notebook.run("input('nobody there')");
    assert_eq!(ran.raised(), Some("StdinNotImplementedError"));
    assert!(ran.error().value.contains("input"), "{}", ran.error().value);
}

in_every_mode!(bytes_that_are_no_text_arrive_as_they_are);

fn bytes_that_are_no_text_arrive_as_they_are(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let ran = notebook.run("import os\n_ = os.write(1, bytes(range(256)) * 4)\nprint('ü€😀')").ok();
    let mut expected: Vec<u8> = (0..=255).cycle().take(1024).collect();
    expected.extend("ü€😀\n".bytes());
    assert_eq!(ran.bytes(StreamName::Stdout), expected);
    let large = notebook
        .run("from IPython.display import display\ndisplay({'text/plain': 'x' * 5_000_000}, raw=True)")
        .ok();
    assert_eq!(large.of_mime("text/plain")[0].len(), 5_000_000);
    assert!(
        large
            .outputs
            .iter()
            .all(|piece| { !matches!(piece.output, Output::Notice { topic: NoticeTopic::Degraded, .. }) })
    );
}

in_one_mode!(whatever_byte_stands_last_arrives_while_the_cell_still_runs);

/// Marks stand in the pipes and begin with a random byte, which text may end with.
fn whatever_byte_stands_last_arrives_while_the_cell_still_runs(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let mut sent = notebook.start(
        "import os, time\nfor byte in range(256):\n    os.write(1, bytes([byte]))\n    \
         while not os.path.exists(f'seen-{byte}'): time.sleep(0.001)",
    );
    for byte in 0..=255_u8 {
        notebook.until(&mut sent, |sent| sent.stdout().last() == Some(&byte));
        std::fs::write(daemon.workspace("a").join(format!("seen-{byte}")), "").unwrap();
    }
    assert_eq!(notebook.finish(sent).ok().bytes(StreamName::Stdout), (0..=255).collect::<Vec<u8>>());
}
