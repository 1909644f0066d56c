//! `cellctl run`

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use cellblock_proto::client::Request;
use cellblock_proto::id::NotebookId;
use clap::{Args, ValueEnum};
use sandbox_profiles::SandboxReport;
use serde_json::json;

use super::checkpoint::{When, checkpoint_words};
use super::exec::seconds;
use super::{print, print_json, report_table, say};
use crate::exit::{EXIT_HELP, Exit};
use crate::fault::Fault;
use crate::figures::{Choice, FigureArgs, Figures};
use crate::files::Files;
use crate::html::library::Libraries;
use crate::notebook::Notebook;
use crate::runner::{self, RunOptions, Summary, random_suffix};
use crate::session::{DaemonArgs, Session};
use crate::show::Screen;
use crate::signals::Signals;
use crate::{charts, html, whole_file, workspace};

use self::console::{Console, Shown};

mod console;

/// Run notebooks or scripts cell by cell, and write what came out
///
/// Takes .ipynb files, and Python scripts with `# %%` between their cells. A run ends at the first
/// cell that fails, like Jupyter's own; what came out until then is written all the same. A cell
/// tagged `raises-exception` may fail, one tagged `skip-execution` is not run.
///
/// Without -o and --out-dir a single file's outputs are shown in the terminal as they come. Ctrl-C
/// interrupts the running cell, and pressed again gives up.
///
/// Example: cellctl run report.ipynb -o report.html --with data
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_HELP)]
pub(crate) struct Run {
    /// Notebooks (.ipynb) or Python scripts
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Write the executed notebook (.ipynb) or a self-contained page (.html); may be repeated
    #[arg(short, long = "output", value_name = "OUT")]
    outputs: Vec<PathBuf>,

    /// Write the results into this directory, named after their files; it is made if need be
    #[arg(long, value_name = "DIR", conflicts_with = "outputs")]
    out_dir: Option<PathBuf>,

    /// What to write into --out-dir; may be repeated [default: ipynb]
    #[arg(long = "format", value_name = "FORMAT", requires = "out_dir")]
    formats: Vec<Format>,

    /// Go on after a cell that raises an exception, and exit with 0 when nothing worse happens
    #[arg(long)]
    allow_errors: bool,

    /// Stop a cell after so many seconds [default: the profile's limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<u64>,

    /// Copy a file or directory into the workspace before the run; may be repeated
    ///
    /// What lies beside the notebook keeps its place: `data` becomes /workspace/data, where the
    /// notebook finds it as `data`. Modes are not copied. A link to something that is copied too
    /// becomes a copy of it; any other is refused.
    #[arg(long, value_name = "PATH")]
    with: Vec<PathBuf>,

    /// Show afterwards what the sandbox enforced
    #[arg(long)]
    report: bool,

    /// Profile to run under [default: default]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    /// Run in this notebook of a running cellblockd, and keep it [default: a fresh one]
    #[arg(long, value_name = "NAME")]
    notebook: Option<NotebookId>,

    /// Whether the variables are saved after each cell
    /// [default: as the profile says; not those of a fresh notebook that is not kept]
    #[arg(long, value_name = "WHEN")]
    checkpoint: Option<When>,

    /// Keep the fresh notebook, its variables and files, in the running cellblockd
    #[arg(long)]
    keep: bool,

    /// Print one line of JSON per file instead of outputs and paths
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    figures: FigureArgs,

    #[command(flatten)]
    daemon: DaemonArgs,
}

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The executed notebook
    Ipynb,
    /// A self-contained page
    Html,
}

/// A file, read, and where its results go.
#[derive(Debug)]
struct Job {
    file: PathBuf,
    document: Notebook,
    targets: Vec<(Format, PathBuf)>,
}

impl Run {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        // Everything that can be wrong with the command line is found before anything runs.
        let jobs = self.jobs()?;
        let signals = Signals::listen().map_err(Fault::file("listen for", "signals".as_ref()))?;
        let mut session = Session::find_or_start(&self.daemon, &signals)?;
        let mut exit = Exit::Ok;
        // Several files mostly share one sandbox's rules, which are told once.
        let mut reports: Vec<SandboxReport> = Vec::new();
        for mut job in jobs {
            let mut summary = self.run_job(&mut session, &mut job, &signals)?;
            exit = exit.or(summary.exit);
            let report = summary.status.take().and_then(|status| status.report);
            reports.extend(report.filter(|report| !reports.contains(report)));
            if let Some(fault) = summary.fault {
                return Err(fault);
            }
            if signals.stopping() {
                break;
            }
        }
        if self.report && !self.json {
            if reports.is_empty() {
                say("no report: the worker ended before it could be asked\n");
            }
            reports
                .iter()
                .for_each(|report| say(&format!("\nwhat the sandbox enforced:\n{}", report_table(report))));
        }
        Ok(exit)
    }

    fn run_job(&self, session: &mut Session, job: &mut Job, signals: &Signals) -> Result<Summary, Fault> {
        let notebook = match &self.notebook {
            Some(notebook) => notebook.clone(),
            None => fresh_name(&job.file)?,
        };
        session.connection.open_notebook(&notebook, self.profile.as_deref())?;
        let ran = self.copy_and_run(session, job, &notebook, signals);
        if self.notebook.is_none() && !self.keep {
            // When the connection is gone there is a better error to report.
            let _ = session.connection.tell(&Request::Delete { notebook });
        }
        ran
    }

    fn copy_and_run(
        &self,
        session: &mut Session,
        job: &mut Job,
        notebook: &NotebookId,
        signals: &Signals,
    ) -> Result<Summary, Fault> {
        let folder = job.file.parent().unwrap_or(Path::new(""));
        for path in &self.with {
            let target = workspace::name_inside(folder, path)?;
            let mut files = Files::of(&mut session.connection, notebook);
            workspace::copy_into(&mut files, path, &target, &|| signals.stopping())?;
        }
        // After a cell that took its worker along, those that are run on need what was there.
        let stays = self.notebook.is_some() || self.keep || self.allow_errors;
        let options = RunOptions {
            notebook: notebook.clone(),
            wall_ms: self.timeout,
            allow_errors: self.allow_errors,
            checkpoint: When::chosen(self.checkpoint, stays),
        };
        let figures = Figures::new(self.figures.figures, self.figures_folder(job));
        let shown = if job.targets.is_empty() && self.files.len() == 1 && !self.json {
            Shown::Outputs(Screen::new(figures))
        } else {
            Shown::Progress((self.figures.figures == Choice::Files).then_some(figures))
        };
        let mut console = Console::new(&job.file, job.document.code_cells().len(), shown);
        let summary = runner::run(session, &mut job.document, &options, signals, &mut console);
        let figures = console.finish(&summary);
        if !self.json {
            say(&checkpoint_words(summary.checkpoint.as_ref(), self.checkpoint.is_some()));
        }
        job.document.set_language_info(python_of(&summary));
        let drawn = if job.targets.iter().any(|(format, _)| *format == Format::Html) {
            charts::draw(session, &job.document, self.profile.as_deref(), signals)
        } else {
            html::Charts::new()
        };
        let written = self.write_results(job, &summary, &drawn)?;
        self.tell(job, &summary, &written, &figures)?;
        Ok(summary)
    }

    /// Reads the files and settles where the results go.
    fn jobs(&self) -> Result<Vec<Job>, Fault> {
        if self.files.len() > 1 && !self.outputs.is_empty() {
            return Err(Fault::usage_with_hint(
                "-o names the result of one file, and there are several",
                "use --out-dir DIR",
            ));
        }
        if self.files.len() > 1 && self.notebook.is_some() {
            return Err(Fault::usage("--notebook names the notebook of one file, and there are several"));
        }
        if let Some(folder) = &self.out_dir {
            fs::create_dir_all(folder).map_err(Fault::file("create", folder))?;
        }
        let mut jobs: Vec<Job> = Vec::new();
        for file in &self.files {
            let targets = self.targets(file)?;
            targets.iter().try_for_each(|(_, path)| check_writable(path))?;
            let taken = jobs.iter().flat_map(|job| &job.targets).find(|other| targets.contains(other));
            if let Some((_, path)) = taken {
                let message = format!("two files would be written to `{}`", path.display());
                return Err(Fault::usage_with_hint(message, "run them into different directories"));
            }
            jobs.push(Job { file: file.clone(), document: Notebook::read(file)?, targets });
        }
        Ok(jobs)
    }

    fn targets(&self, file: &Path) -> Result<Vec<(Format, PathBuf)>, Fault> {
        if let Some(folder) = &self.out_dir {
            let formats = if self.formats.is_empty() { &[Format::Ipynb][..] } else { &self.formats };
            let path = |format: &Format| {
                let name = file.with_extension(format.extension());
                Some((*format, folder.join(name.file_name()?)))
            };
            return Ok(formats.iter().filter_map(path).collect());
        }
        let target = |path: &PathBuf| {
            let format = Format::of(path).ok_or_else(|| {
                Fault::usage(format!("`{}` ends neither in .ipynb nor in .html", path.display()))
            })?;
            let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
                return Err(Fault::usage(format!("there is no directory `{}`", folder.display())));
            }
            Ok((format, path.clone()))
        };
        self.outputs.iter().map(target).collect()
    }

    /// Where figures go that are to be files: beside the results, else into the current directory.
    fn figures_folder(&self, job: &Job) -> PathBuf {
        let beside = job.targets.first().map_or(job.file.as_path(), |(_, path)| path);
        let mut name = beside.file_stem().unwrap_or_default().to_owned();
        name.push("_figures");
        let folder = job.targets.first().and_then(|(_, path)| path.parent()).unwrap_or(Path::new(""));
        folder.join(name)
    }

    fn write_results(
        &self,
        job: &Job,
        summary: &Summary,
        charts: &html::Charts,
    ) -> Result<Vec<PathBuf>, Fault> {
        let mut written = Vec::new();
        for (format, path) in &job.targets {
            let text = match format {
                Format::Ipynb => job.document.to_json(),
                Format::Html => html::page(&job.document, &self.page_info(job, summary, charts)?),
            };
            whole_file::replace(path, &mut |file| {
                file.write_all(text.as_bytes()).map_err(Fault::file("write", path))
            })?;
            written.push(path.clone());
        }
        Ok(written)
    }

    fn page_info(
        &self,
        job: &Job,
        summary: &Summary,
        charts: &html::Charts,
    ) -> Result<html::PageInfo, Fault> {
        let file_name = job.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(html::PageInfo {
            file_name,
            cells: summary.cells,
            done: summary.done,
            failed: summary.failures.iter().map(|failure| failure.cell).collect(),
            elapsed: summary.elapsed,
            python: python_of(summary).map(str::to_owned),
            report: summary.status.as_ref().and_then(|status| status.report.clone()),
            libraries: Libraries::find(self.daemon.python.as_deref()),
            charts: charts.clone(),
            nonce: random_suffix()? + &random_suffix()? + &random_suffix()? + &random_suffix()?,
        })
    }

    /// What is said when a file is done.
    fn tell(
        &self,
        job: &Job,
        summary: &Summary,
        written: &[PathBuf],
        figures: &[PathBuf],
    ) -> Result<(), Fault> {
        let names = |paths: &[PathBuf]| -> Vec<String> {
            paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
        };
        if self.json {
            let report = summary.status.as_ref().and_then(|status| status.report.as_ref());
            let failures = summary.failures.iter().map(
                |failure| json!({"cell": failure.cell, "name": failure.name, "message": failure.sentence}),
            );
            return print_json(&json!({
                "file": job.file.to_string_lossy(),
                "cells": summary.cells,
                "checkpoint": summary.checkpoint,
                "done": summary.done,
                "exit": summary.exit as u8,
                "failures": failures.collect::<Vec<_>>(),
                "figures": names(figures),
                "milliseconds": u64::try_from(summary.elapsed.as_millis()).unwrap_or(u64::MAX),
                "python": python_of(summary),
                "report": report,
                "written": names(written),
            }));
        }
        for path in written.iter().chain(figures) {
            print(&format!("{}\n", path.display()))?;
        }
        Ok(())
    }
}

/// Finds before a long run what would lose its result after it.
fn check_writable(path: &Path) -> Result<(), Fault> {
    if path.is_dir() {
        return Err(Fault::usage(format!("`{}` is a directory", path.display())));
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The result is written beside its name and renamed, so the folder is what must take it.
    match tempfile::tempfile_in(folder) {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::usage(format!("cannot write to directory `{}`: {error}", folder.display()))),
    }
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Format::Ipynb => "ipynb",
            Format::Html => "html",
        }
    }

    fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "ipynb" => Some(Format::Ipynb),
            "html" | "htm" => Some(Format::Html),
            _ => None,
        }
    }
}

fn python_of(summary: &Summary) -> Option<&str> {
    summary.status.as_ref()?.python.as_deref()
}

/// A name that says where it comes from and does not collide with another run's.
fn fresh_name(file: &Path) -> Result<NotebookId, Fault> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let stem: String = stem.chars().map(legal).take(40).collect();
    Ok(format!("{stem}-{}", random_suffix()?).parse().expect("made of at most 49 legal characters"))
}

/// Whether words on standard error are read by somebody as they come.
fn at_terminal() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_that_could_not_be_written_are_refused_and_others_left_as_they_are() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        fs::create_dir(path("folder.ipynb")).unwrap();
        fs::write(path("old.ipynb"), "old").unwrap();
        let refusal = |path: &Path| check_writable(path).map_err(|fault| (fault.exit(), fault.to_string()));
        let (exit, message) = refusal(&path("folder.ipynb")).unwrap_err();
        assert_eq!(exit, Exit::Usage);
        assert!(message.ends_with("folder.ipynb` is a directory"), "{message}");
        // Root may write everywhere but here.
        let (exit, message) = refusal("/proc/a.ipynb".as_ref()).unwrap_err();
        assert_eq!(exit, Exit::Usage);
        assert!(message.starts_with("cannot write to directory `/proc`: "), "{message}");
        assert_eq!(refusal(&path("old.ipynb")), Ok(()));
        assert_eq!(refusal(&path("new.ipynb")), Ok(()));
        assert_eq!(fs::read_to_string(path("old.ipynb")).unwrap(), "old");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2);
    }
}
