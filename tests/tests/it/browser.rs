//! A page as a browser shows it: the figures are there, drawn, in their colours.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cellblock_tests::cli::{Cli, notebook_json};
use cellblock_tests::setup::{Setup, optional, skip};
use cellblock_tests::{as_root_and_user, wait};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

as_root_and_user!(page_of_a_notebook_shows_its_figures);

/// Colours that nothing else on a page has.
const MATPLOTLIB: [u8; 3] = [0x12, 0xab, 0x34];
const PLOTLY: [u8; 3] = [0xcd, 0x22, 0x77];

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
    ];
    let (matplotlib, plotly) = colours(&cli, &browser, "with", &figures);
    assert!(matplotlib > ENOUGH, "matplotlib's figure is missing: {matplotlib} pixels of its colour");
    assert!(plotly > ENOUGH, "Plotly's figure is missing: {plotly} pixels of its colour");
    // The control: the same code shown, its figures not made.
    let quiet = figures.map(|code| format!("'''{}'''\n1", code.replace('\'', "\"")));
    let (matplotlib, plotly) = colours(&cli, &browser, "without", &quiet.each_ref().map(String::as_str));
    assert!(matplotlib < 100 && plotly < 100, "{matplotlib} and {plotly} pixels without figures");
}

/// Pixels of each colour on a screenshot of the executed notebook's page.
fn colours(cli: &Cli, browser: &Path, name: &str, cells: &[&str]) -> (usize, usize) {
    let file = cli.write(&format!("{name}.ipynb"), &notebook_json(cells));
    let page = cli.path(&format!("{name}.html"));
    let ended = cli.private(&["run", file.to_str().unwrap(), "-o", page.to_str().unwrap()]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let shot = cli.path(&format!("{name}.png"));
    take_screenshot(browser, &page, &shot);
    let mut reader = png::Decoder::new(BufReader::new(File::open(shot).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    let samples = frame.color_type.samples();
    let near = |pixel: &[u8], colour: [u8; 3]| pixel.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 3);
    let count = |colour| {
        pixels[..frame.buffer_size()].chunks(samples).filter(|pixel| near(&pixel[..3], colour)).count()
    };
    (count(MATPLOTLIB), count(PLOTLY))
}

fn take_screenshot(browser: &Path, page: &Path, shot: &Path) {
    let profile = tempfile::Builder::new().prefix("cb-browser-").tempdir().unwrap();
    let mut child = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--hide-scrollbars", "--window-size=1000,2400", "--virtual-time-budget=10000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--screenshot={}", shot.display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
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
}
