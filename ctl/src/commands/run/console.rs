//! What is seen of a run while it lasts: a progress bar where somebody watches, the outputs where
//! they are wanted, one line at the end in any case.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cellblock_proto::execution::{Outcome, Output};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::super::{dim, say};
use super::at_terminal;
use crate::ending::time;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::figures::Figures;
use crate::notebook::CodeCell;
use crate::runner::{Summary, Watcher};
use crate::show::{Screen, image_of, one_line};

/// Longest piece of an exception's text in the line at the end, in characters.
const MESSAGE_CHARS: usize = 200;

/// What is seen while it lasts.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub(super) enum Shown {
    /// The outputs.
    Outputs(Screen),
    /// A bar; figures are saved if there is a place for them.
    Progress(Option<Figures>),
}

#[derive(Debug)]
pub(super) struct Console {
    file: String,
    bar: ProgressBar,
    shown: Shown,
}

impl Console {
    pub(super) fn new(file: &Path, cells: usize, shown: Shown) -> Self {
        let bar = ProgressBar::with_draw_target(Some(cells as u64), ProgressDrawTarget::hidden());
        if matches!(shown, Shown::Progress(_)) && at_terminal() {
            let style =
                ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {elapsed}  {wide_msg:.dim}")
                    .expect("the template is right");
            bar.set_style(style.progress_chars("━╸─"));
            bar.set_prefix(file.file_name().unwrap_or_default().to_string_lossy().into_owned());
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Console { file: file.display().to_string(), bar, shown }
    }

    /// The line at the end, and one for each cell that failed. Returns the files of figures that nobody
    /// was told of yet.
    pub(super) fn finish(mut self, summary: &Summary) -> Vec<PathBuf> {
        self.bar.finish_and_clear();
        if let Shown::Outputs(screen) = &mut self.shown {
            // Standard output may be gone; that was said where it went.
            let _ = screen.end_terminal_line();
        }
        let how = match summary.exit {
            Exit::Ok if summary.failures.is_empty() => "ok",
            Exit::Ok => "ok, with errors allowed",
            Exit::Raised => "failed",
            Exit::TimedOut => "timed out",
            Exit::WorkerDied => "the worker died",
            Exit::Interrupted => "interrupted",
            Exit::Usage | Exit::NoSupervisor | Exit::NotContained | Exit::CheckpointLost | Exit::Internal => {
                "broken off"
            }
        };
        let elapsed = time(u64::try_from(summary.elapsed.as_millis()).unwrap_or(u64::MAX));
        say(&format!("{}: {} of {} cells, {elapsed}, {how}\n", self.file, summary.done, summary.cells));
        for failure in &summary.failures {
            let sentence = one_line(failure.sentence.lines().next().unwrap_or_default());
            let sentence: String = sentence.chars().take(MESSAGE_CHARS).collect();
            say(&format!("  cell {}: {}: {sentence}\n", failure.cell, one_line(&failure.name)));
        }
        match self.shown {
            Shown::Progress(Some(figures)) => figures.written().to_vec(),
            _ => Vec::new(),
        }
    }
}

impl Watcher for Console {
    fn begins(&mut self, cell: &CodeCell) {
        let first = cell.source.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let first = one_line(first);
        let number = cell.index + 1;
        match &mut self.shown {
            Shown::Outputs(screen) => {
                // Standard output may be gone; the next output says so.
                let _ = screen.end_terminal_line();
                if at_terminal() {
                    say(&format!("{}\n", dim(&format!("── cell {number}: {first}"))));
                }
                screen.begin_cell(Some(number));
            }
            Shown::Progress(figures) => {
                if let Some(figures) = figures {
                    figures.begin_cell(Some(number));
                }
            }
        }
        self.bar.set_message(first);
    }

    fn puts_out(&mut self, output: &Output, payload: &[u8]) -> Result<(), Fault> {
        match &mut self.shown {
            Shown::Outputs(screen) => screen.show(output, payload).map_err(Fault::Stdout),
            Shown::Progress(Some(figures)) => {
                if let Some((mime, image, id)) = image_of(output, payload) {
                    let told = figures.save(mime, image, id);
                    if let Err(words) = told {
                        say(&format!("{words}\n"));
                    }
                }
                Ok(())
            }
            Shown::Progress(None) => Ok(()),
        }
    }

    fn ends(&mut self, _: &Outcome) {
        self.bar.inc(1);
    }
}
