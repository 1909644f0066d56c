//! `cellctl` in a terminal: what stands on the screen, and what the terminal was sent.

use std::path::PathBuf;

use cellblock_tests::cli::Cli;
use cellblock_tests::in_one_mode;
use cellblock_tests::setup::Setup;
use cellblock_tests::terminal::{Kind, Shown, run};

in_one_mode!(
    figures_are_drawn_by_the_terminals_own_protocol_or_saved,
    what_is_cleared_and_updated_moves_on_the_screen,
    tables_are_read_and_hostile_code_does_not_speak_to_the_terminal,
    files_are_saved_without_a_terminal_when_asked_for,
);

const PLAIN: Kind = Kind { columns: 80, rows: 24, pixels: 720, answer: b"\x1b[?62;22c" };

/// A picture, wider than the terminal, behind a line that is not ended; then one that is none.
const FIGURE: &str = "import io, base64\nfrom PIL import Image\nfrom IPython.display import display\n\
    print('before', end='')\ndisplay(Image.new('RGB', (1440, 60), '#12ab34'))\nprint('after')\n\
    display({'image/png': b'\\x1b]0;pwned\\x07', 'text/plain': 'x'}, raw=True)";

/// Runs code in a terminal; what the environment says of the terminal comes in `variables`.
fn shown(cli: &Cli, code: &str, arguments: &[&str], variables: &[(&str, &str)], kind: Kind) -> Shown {
    let arguments = [&["exec", "-c", code, "--private", "--python", cli.python()], arguments].concat();
    let mut command = cli.command(&arguments);
    command.envs(variables.iter().copied());
    let shown = run(command, kind);
    assert!(shown.status.success(), "{:?}", shown.lines);
    assert!(shown.restored, "the terminal is not as it was");
    shown
}

/// The bytes from the first `start` on to `end`.
fn between<'a>(sent: &'a [u8], start: &str, end: &str) -> &'a [u8] {
    let find =
        |bytes: &[u8], what: &str| bytes.windows(what.len()).position(|found| found == what.as_bytes());
    let from =
        find(sent, start).unwrap_or_else(|| panic!("no {start:?} in {:?}", String::from_utf8_lossy(sent)));
    let length = find(&sent[from..], end).expect("an end") + end.len();
    &sent[from..from + length]
}

fn figures_are_drawn_by_the_terminals_own_protocol_or_saved(setup: Setup) {
    let cli = Cli::new(setup);
    let xterm = [("TERM", "xterm-256color")];
    let sixel = Kind { answer: b"\x1b[?62;4;22c", ..PLAIN };
    let none = "[image/png, 10 B: its bytes are none of such an image]";
    // By what the environment says, by what the terminal answers, by what was asked for.
    for (arguments, variables, kind, questions, start, end) in [
        (
            &[][..],
            &[("TERM", "xterm-kitty")][..],
            PLAIN,
            0,
            "\x1b_Ga=T,f=100,q=2,c=80,m=0;iVBORw0KGgo",
            "\x1b\\",
        ),
        (
            &[],
            &[("TERM", "xterm-256color"), ("TERM_PROGRAM", "WezTerm")],
            PLAIN,
            0,
            "\x1b]1337;File=inline=1;size=",
            "\x07",
        ),
        (&[], &xterm, sixel, 1, "\x1bP0;1;0q\"1;1;720;30#0;2;7;67;20#0!720~$", "\x1b\\"),
        (&["--figures", "sixel"], &xterm, PLAIN, 0, "\x1bP0;1;0q\"1;1;720;30", "\x1b\\"),
        (
            &[],
            &[("TERM", "xterm-256color"), ("CELLBLOCK_FIGURES", "kitty")],
            PLAIN,
            0,
            "\x1b_Ga=T,f=100",
            "\x1b\\",
        ),
    ] {
        let shown = shown(&cli, FIGURE, arguments, variables, kind);
        let drawing = between(&shown.sent, start, end);
        // One string for the terminal, and nothing in it that could end it early.
        assert!(
            drawing[2..drawing.len() - 2].iter().all(|byte| (0x20..0x7f).contains(byte)),
            "{variables:?}"
        );
        assert_eq!(shown.lines, ["before", "", "after", none, ""], "{variables:?}");
        assert_eq!(shown.questions, questions, "{variables:?}");
    }
    // One that draws nothing: a file, whose path is told.
    let saved = shown(&cli, FIGURE, &[], &xterm, Kind { columns: 200, ..PLAIN });
    assert_eq!((saved.questions, &*saved.lines[0], &*saved.lines[2]), (1, "before", "after"));
    let line =
        saved.lines[1].strip_prefix("[PNG image, 1440×60, ").unwrap_or_else(|| panic!("{:?}", saved.lines));
    let path = PathBuf::from(line.split_once(": ").unwrap().1.trim_end_matches(']'));
    assert!(path.starts_with(cli.path("t")), "{}", path.display());
    assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG\r\n\x1a\n"));
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    let named = shown(&cli, FIGURE, &["--figures", "none"], &xterm, PLAIN);
    assert!(named.questions == 0 && !named.lines[1].contains('/'), "{:?}", named.lines);
    // The control: in a pipe there are no sequences, whatever was asked for.
    let piped = cli.private(&["exec", "-c", FIGURE, "--figures", "kitty"]);
    assert!(piped.stdout.contains("[PNG image, 1440×60, ") && !piped.stdout.contains('\x1b'), "{piped:?}");
    cli.check_leftovers();
}

fn what_is_cleared_and_updated_moves_on_the_screen(setup: Setup) {
    let cli = Cli::new(setup);
    let code = "import sys\nfrom IPython.display import clear_output, display, HTML\n\
        for n in range(5):\n    clear_output(wait=True)\n    print('step', n)\n    print('long ' * 40)\n\
        h = display('first', display_id=True)\n\
        for n in range(5):\n    h.update(HTML(f'<p>update {n}</p><p>two lines</p>'))\n\
        for n in range(5):\n    sys.stderr.write(f'\\r{n * 25:3d} %')\nprint('\\nend')";
    let shown = shown(&cli, code, &[], &[("TERM", "xterm-256color")], PLAIN);
    let long = "long ".repeat(40);
    let expected = [
        "step 4",
        &long[..80],
        &long[80..160],
        long[160..].trim_end(),
        "update 4",
        "two lines",
        "100 %",
        "end",
        "",
    ];
    let trimmed: Vec<&str> = expected.iter().map(|line| line.trim_end()).collect();
    assert_eq!(shown.lines, trimmed);
    // What has left the screen is not erased, nor anything above it.
    let tall = "from IPython.display import clear_output\nprint('\\n'.join(map(str, range(30))))\n\
        clear_output()\nprint('new')";
    let tall = self::shown(&cli, tall, &[], &[("TERM", "xterm-256color")], PLAIN);
    assert_eq!((&*tall.lines[0], &*tall.lines[29], &*tall.lines[31]), ("0", "29", "new"), "{:?}", tall.lines);
    // A run's cells erase their own lines alone.
    let script = "print('one')\n# %%\nfrom IPython.display import clear_output\nprint('two')\nclear_output()\nprint('three')";
    let file = cli.write("cells.py", script);
    let arguments = ["run", file.to_str().unwrap(), "--private", "--python", cli.python()];
    let mut command = cli.command(&arguments);
    command.env("TERM", "xterm-256color");
    let ran = run(command, PLAIN);
    assert_eq!(
        ran.lines[..4],
        ["── cell 1: print('one')", "one", "── cell 2: from IPython.display import clear_output", "three"]
    );
    cli.check_leftovers();
}

fn tables_are_read_and_hostile_code_does_not_speak_to_the_terminal(setup: Setup) {
    let cli = Cli::new(setup);
    let code = "import pandas as pd\nclass Styled:\n    def _repr_html_(self):\n        return '<style>th{color:red}</style>\
        <table><thead><tr><th></th><th>region</th><th>sales</th></tr></thead><tr><th>0</th><td>North&#27;[2J&#155;5n</td>\
        <td>1,234.5</td></tr><tr><th>1</th><td>South \\x1b]52;c;ZXZpbA==\\x07</td><td>-1</td></tr></table>'\n\
        display(pd.DataFrame({'a': [1, 2]}), Styled())\n\
        display({'text/plain': '\\x1b[6n\\x1b]0;t\\x07plain\\x1bPq#0\\x1b\\\\ text'}, raw=True)\n\
        print('\\x1b_Ga=T,f=100;AAAA\\x1b\\\\out\\x1b[c')\n\
        display({'application/vnd.plotly.v1+json': {'layout': {'title': {'text': 'P\\x1b[c'}}}}, raw=True)\n\
        display({'text/html': '<script>x</script>', 'text/plain': '<a\\x1b[c>'}, raw=True)";
    let shown = shown(&cli, code, &[], &[("TERM", "xterm-kitty")], PLAIN);
    assert_eq!(
        shown.lines,
        [
            "   a",
            "0  1",
            "1  2",
            "   region                  sales",
            "────────────────────────────────",
            "0  North[2J5n            1,234.5",
            "1  South ]52;c;ZXZpbA==       -1",
            "plain text",
            "out",
            "[Plotly figure “P”; `cellctl run -o page.html` draws it]",
            "<a>",
            ""
        ]
    );
    assert_eq!(shown.sent.iter().filter(|byte| **byte == 0x1b).count(), 0, "{:?}", shown.lines);
    cli.check_leftovers();
}

fn files_are_saved_without_a_terminal_when_asked_for(setup: Setup) {
    let cli = Cli::new(setup);
    let file = cli.write(
        "plots.py",
        "from PIL import Image\nfrom IPython.display import SVG, display\n\
         display(Image.new('RGB', (4, 3)), SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))",
    );
    let file = file.to_str().unwrap();
    let ended = cli.private(&["run", file, "-o", "out.html", "--figures", "files"]);
    assert_eq!(
        ended.stdout, "out.html\nout_figures/cell-1.png\nout_figures/cell-1-2.svg\n",
        "{}",
        ended.stderr
    );
    // Again: what is there stays.
    std::fs::write(cli.path("out_figures/cell-1.png"), "mine").unwrap();
    let ended = cli.private(&["run", file, "-o", "out.html", "--figures", "files"]);
    assert_eq!(
        ended.stdout, "out.html\nout_figures-2/cell-1.png\nout_figures-2/cell-1-2.svg\n",
        "{}",
        ended.stderr
    );
    assert_eq!(std::fs::read(cli.path("out_figures/cell-1.png")).unwrap(), b"mine");
    let shown = cli.private(&["run", file, "--figures", "files"]);
    assert!(shown.stdout.contains(": plots_figures/cell-1.png]\n"), "{}", shown.stdout);
    let svg = std::fs::read_to_string(cli.path("plots_figures/cell-1-2.svg")).unwrap();
    assert!(svg.contains("<svg"), "{svg}");
    // Nobody asked.
    let ended = cli.private(&["run", file, "-o", "quiet.html"]);
    assert_eq!(ended.stdout, "quiet.html\n");
    assert!(!cli.path("quiet_figures").exists());
    cli.check_leftovers();
}
