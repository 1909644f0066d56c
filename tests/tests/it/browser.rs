//! A page as a browser shows it: the figures are there, drawn, in their colours, and nothing that is
//! meant for a frame is outside of it.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cellblock_tests::cli::{Cli, notebook_json};
use cellblock_tests::setup::{Setup, optional, skip};
use cellblock_tests::{as_root_and_user, binaries, in_one_mode, wait};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

as_root_and_user!(page_of_a_notebook_shows_its_figures);
in_one_mode!(
    gallery_is_readable_in_every_kind_of_output,
    scripts_of_outputs_reach_neither_the_page_nor_the_network
);

/// Colours that nothing else on a page has.
const MATPLOTLIB: [u8; 3] = [0x12, 0xab, 0x34];
const PLOTLY: [u8; 3] = [0xcd, 0x22, 0x77];
const BOKEH: [u8; 3] = [0x77, 0x11, 0xcc];

/// A figure is at least so large, in pixels of its background.
const ENOUGH: usize = 15_000;

fn page_of_a_notebook_shows_its_figures(setup: Setup) {
    let Some(browser) = optional("CELLBLOCK_CHROMIUM") else {
        return skip("CELLBLOCK_CHROMIUM names no browser");
    };
    let cli = Cli::new(setup);
    let figures = [
        "import matplotlib.pyplot as plt\nfig, ax = plt.subplots(figsize=(4, 3), facecolor='#12ab34')\n\
         ax.set_facecolor('#12ab34')\n_ = ax.plot([1, 4, 2], color='black')",
        "import plotly.graph_objects as go\n\
         go.Figure(go.Bar(y=[3, 1, 2]), {'paper_bgcolor': '#cd2277', 'plot_bgcolor': '#cd2277', 'height': 300}).show()",
        "from bokeh.io import output_notebook, show\nfrom bokeh.plotting import figure\noutput_notebook()\n\
         plot = figure(width=400, height=300, background_fill_color='#7711cc', border_fill_color='#7711cc')\n\
         _ = plot.scatter([1, 2], [3, 4])\nshow(plot)",
    ];
    let [matplotlib, plotly, bokeh] = colours(&cli, &browser, "with", &figures);
    assert!(matplotlib > ENOUGH, "matplotlib's figure is missing: {matplotlib} pixels of its colour");
    assert!(plotly > ENOUGH, "Plotly's figure is missing: {plotly} pixels of its colour");
    assert!(bokeh > ENOUGH, "Bokeh's plot is missing: {bokeh} pixels of its colour");
    // The control: the same code shown, its figures not made.
    let quiet = figures.map(|code| format!("'''{}'''\n1", code.replace('\'', "\"")));
    let none = colours(&cli, &browser, "without", &quiet.each_ref().map(String::as_str));
    assert!(none.iter().all(|pixels| *pixels < 100), "{none:?} pixels without figures");
}

/// Pixels of each colour on a screenshot of the executed notebook's page.
fn colours(cli: &Cli, browser: &Path, name: &str, cells: &[&str]) -> [usize; 3] {
    let file = cli.write(&format!("{name}.ipynb"), &notebook_json(cells));
    let page = export(cli, &file, name);
    let (_, shot) = look(browser, &page, 2_800);
    [MATPLOTLIB, PLOTLY, BOKEH].map(|colour| shot.count(colour))
}

fn export(cli: &Cli, notebook: &Path, name: &str) -> PathBuf {
    let page = cli.path(&format!("{name}.html"));
    let ended = cli.private(&["run", notebook.to_str().unwrap(), "-o", page.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    page
}

/// The gallery, executed by the real programs. Its page and what the browser shows of it are kept in
/// `target/test-artefacts`, to be looked at.
fn gallery_is_readable_in_every_kind_of_output(setup: Setup) {
    let Some(browser) = optional("CELLBLOCK_CHROMIUM") else {
        return skip("CELLBLOCK_CHROMIUM names no browser");
    };
    let artefacts = binaries::folder(setup.who).parent().unwrap().join("test-artefacts");
    fs::create_dir_all(&artefacts).unwrap();
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/gallery.ipynb")).unwrap();
    let cli = Cli::new(setup);
    let page = export(&cli, &cli.write("gallery.ipynb", &text), "gallery");
    let (dom, drawn) = look(&browser, &page, 14_000);
    for kind in ["html", "png"] {
        fs::copy(page.with_extension(kind), artefacts.join("gallery").with_extension(kind)).unwrap();
    }

    // Figures of matplotlib and seaborn, at once and twice their size; Pillow; SVG; no image is broken.
    assert!(dom.count("<img src=\"data:image/png;base64,iVBOR") >= 4, "{}", dom.summary());
    assert!(dom.count("<img src=\"data:image/svg+xml;base64,") >= 2, "{}", dom.summary());
    assert!(dom.0.contains("\" width=\""), "no image has the size it is meant for: {}", dom.summary());
    // pandas, its Styler with its colours, polars, a table in Markdown.
    assert!(dom.count("<table") >= 4, "{}", dom.summary());
    assert!(dom.count("<div class=\"s0") == 1 && dom.0.contains("\n.s0 #u-T_"), "{}", dom.summary());
    // SymPy, Math and Latex.
    assert!(dom.count("<math") >= 3, "{}", dom.summary());
    // Plotly has drawn, and so has Bokeh: its frame has told its height.
    assert!(dom.count("class=\"main-svg\"") >= 1, "{}", dom.summary());
    assert_eq!(dom.count("data-document="), 1, "{}", dom.summary());
    assert!(dom.frame_heights().iter().any(|height| *height > 250.0), "{:?}", dom.frame_heights());
    // Altair's chart is a picture, drawn for the page.
    assert_eq!(dom.count("alt=\"Altair\""), 1, "{}", dom.summary());
    assert!(dom.count("<audio controls") == 1 && dom.count("<video controls") == 1, "{}", dom.summary());
    assert!(dom.count("<div class=\"json\">") >= 1, "{}", dom.summary());
    for words in [
        "reading the gauge: 100 %",
        "The water is at",
        "one ship in sight",
        "the gate is open",
        "100%",
        "UserWarning",
    ] {
        assert!(dom.0.contains(words), "{words}");
    }
    for past in ["no ship in sight</i></div>", "the gate opens in", "  0%|", "Loading BokehJS"] {
        assert!(!dom.outputs().contains(past), "{past}");
    }
    for failure in ["this page cannot show", "cannot be drawn"] {
        assert_eq!(dom.count(failure), 0, "{failure}");
    }
    // The colours of the tides: matplotlib's area, Plotly's and Bokeh's line.
    let (area, line) = (drawn.count([0xb0, 0xe5, 0xfd]), drawn.count([0x03, 0x69, 0xa1]));
    assert!(area > ENOUGH && line > 3_000, "{area} and {line} pixels of the tides");

    // The control: the same notebook, none of its cells run.
    let mut skipped: Value = serde_json::from_str(&text).unwrap();
    for cell in skipped["cells"].as_array_mut().unwrap() {
        cell["metadata"]["tags"] = serde_json::json!(["skip-execution"]);
    }
    let page = export(&cli, &cli.write("skipped.ipynb", &skipped.to_string()), "skipped");
    let (dom, empty) = look(&browser, &page, 4_000);
    for sign in ["<img", "<table", "<math", "<iframe", "<audio", "<video", "main-svg", "class=\"json\""] {
        assert_eq!(dom.count(sign), 0, "{sign}");
    }
    assert_eq!(empty.count([0xb0, 0xe5, 0xfd]), 0);
    cli.check_leftovers();
}

fn scripts_of_outputs_reach_neither_the_page_nor_the_network(setup: Setup) {
    let Some(browser) = optional("CELLBLOCK_CHROMIUM") else {
        return skip("CELLBLOCK_CHROMIUM names no browser");
    };
    let cli = Cli::new(setup);
    // Each tries to mark the page, and to mark its own frame: the second shows that it ran.
    let attempt = "for (const reach of [() => parent.document.body.dataset.pwned = 1, () => top.document.title = 'pwned', \
        () => localStorage.setItem('pwned', 1), () => { document.cookie = 'pwned=1' }, () => top.location = 'about:blank']) \
        { try { reach() } catch { } } fetch('https://example.org/').then(() => { document.body.textContent = 'fetched' }, \
        () => { document.body.style.height = '321px' })";
    let html = format!("<script>addEventListener('load', () => {{ {attempt} }})</script>");
    let bokeh = format!("const render_items = [{{}}]; addEventListener('load', () => {{ {attempt} }})");
    let cells = [
        format!("from IPython.display import HTML, Javascript, display\ndisplay(HTML({html:?}))"),
        format!("display(Javascript({attempt:?}))"),
        format!(
            "display({{'application/javascript': {bokeh:?}, 'application/vnd.bokehjs_exec.v0+json': '', 'text/plain': 'x'}}, raw=True)"
        ),
        "display(HTML('<style>#a{{color:red}} body{{display:none}}</style><p id=a onclick=x()>still here</p>'))".replace("{{", "{").replace("}}", "}"),
    ];
    let file = cli.write("attack.ipynb", &notebook_json(&cells.each_ref().map(String::as_str)));
    let page = export(&cli, &file, "attack");
    // All ran, none fetched: each frame is as tall as its script made it after the refusal, which takes a busy
    // machine a while.
    let mut heights = Vec::new();
    for patience_ms in [3_000, 10_000, 30_000] {
        let (dom, _) = look(&browser, &page, patience_ms);
        assert!(!dom.0.contains("data-pwned=") && !dom.0.contains("<title>pwned"), "{}", dom.summary());
        assert!(dom.0.contains("<main>"), "the page went elsewhere");
        heights = dom.frame_heights();
        if heights.iter().filter(|height| **height >= 321.0).count() >= 3 {
            break;
        }
    }
    assert!(heights.iter().filter(|height| **height >= 321.0).count() >= 3, "{heights:?}");
}

/// What a page has become when its scripts have run.
struct Dom(String);

impl Dom {
    fn count(&self, sign: &str) -> usize {
        self.outputs().matches(sign).count()
    }

    /// The page without the code of its cells and its libraries.
    fn outputs(&self) -> String {
        let (_, body) = self.0.split_once("<main>").expect("a page");
        let body = body.split_once("</main>").expect("its end").0;
        let mut outputs = String::new();
        for piece in body.split("<pre class=\"source\">") {
            outputs.push_str(piece.split_once("</pre>").map_or(piece, |(_, after)| after));
        }
        outputs
    }

    /// The heights that frames have been given, in pixels.
    fn frame_heights(&self) -> Vec<f64> {
        let frames = self.0.split("<iframe ").skip(1).filter_map(|frame| frame.split_once('>'));
        frames
            .filter_map(|(tag, _)| tag.rsplit_once("height: ")?.1.split_once("px")?.0.parse().ok())
            .collect()
    }

    /// What it consists of, for whoever reads that a test failed.
    fn summary(&self) -> String {
        let signs = [
            "<img",
            "<table",
            "<math",
            "<iframe",
            "<audio",
            "<video",
            "main-svg",
            "class=\"note\"",
            "class=\"json\"",
        ];
        signs.map(|sign| format!("{} {sign}", self.count(sign))).join(", ")
    }
}

/// A screenshot.
struct Shot {
    pixels: Vec<u8>,
    samples: usize,
}

impl Shot {
    fn read(file: &Path) -> Self {
        let mut reader = png::Decoder::new(BufReader::new(File::open(file).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        pixels.truncate(frame.buffer_size());
        Shot { pixels, samples: frame.color_type.samples() }
    }

    /// Pixels that are this colour, or nearly.
    fn count(&self, colour: [u8; 3]) -> usize {
        let near = |pixel: &[u8]| pixel.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 3);
        self.pixels.chunks(self.samples).filter(|pixel| near(&pixel[..3])).count()
    }
}

/// What the page becomes in a browser, and what of so many pixels of it is seen.
fn look(browser: &Path, page: &Path, height: u32) -> (Dom, Shot) {
    let profile = tempfile::Builder::new().prefix("cb-browser-").tempdir().unwrap();
    let (dom, shot) = (page.with_extension("dom"), page.with_extension("png"));
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--hide-scrollbars", "--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--window-size=1000,{height}"))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--screenshot={}", shot.display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(File::create(&dom).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pidfd = pidfd_open(Pid::from_raw(child.id().cast_signed()).unwrap(), PidfdFlags::empty()).unwrap();
    let ended = wait::readable(pidfd, Duration::from_secs(90));
    if !ended {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(ended && status.success() && shot.is_file(), "no screenshot of {}: {status}", page.display());
    (Dom(fs::read_to_string(dom).unwrap()), Shot::read(&shot))
}
