//! `cellctl exec`

use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cellblock_proto::client::{Reply, Request};
use cellblock_proto::execution::{End, ExecuteOptions, OnDisconnect, Outcome, Output, Variables};
use cellblock_proto::id::{ExecutionId, NotebookId};
use clap::{Args, ValueEnum};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use super::checkpoint::{When, checkpoint_words};
use super::{print_json, say};
use crate::client::Replies;
use crate::ending::{ROLLED_BACK, describe};
use crate::exit::{EXIT_HELP, Exit};
use crate::fault::Fault;
use crate::figures::{FigureArgs, Figures};
use crate::notebook::outputs;
use crate::runner::{Code, execute, random_suffix};
use crate::session::{DaemonArgs, Session};
use crate::show::{Screen, without_ansi};
use crate::signals::Signals;

/// Run a piece of code in a notebook, and show what comes out
///
/// What the code writes to standard output and standard error goes to cellctl's own. Without
/// NOTEBOOK the code runs in a fresh one that is deleted afterwards; in a named one of a running
/// cellblockd its variables stay for the next time.
///
/// Example: cellctl exec -c 'sum(range(10))'
#[derive(Args, Debug)]
#[command(override_usage = "cellctl exec [OPTIONS] [NOTEBOOK] -c <CODE>
       cellctl exec [OPTIONS] [NOTEBOOK] <FILE|->", after_long_help = EXIT_HELP)]
pub(crate) struct Exec {
    /// The notebook to run in (opened if need be), then, without -c, the file with the code
    ///
    /// `-` reads the code from standard input.
    #[arg(value_name = "NOTEBOOK|FILE", num_args = 0..=2)]
    words: Vec<String>,

    /// The code
    #[arg(short, long, value_name = "CODE")]
    code: Option<String>,

    /// Stop the code after so many seconds [default: the profile's limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<u64>,

    /// Profile to open the notebook with [default: default]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,

    /// Whether the variables are saved afterwards [default: as the profile says; a fresh notebook's are not]
    #[arg(long, value_name = "WHEN")]
    checkpoint: Option<When>,

    /// When the code fails, leave the variables as they were before it
    ///
    /// A new worker takes them from a checkpoint, so the profile must have checkpoints; one is taken before
    /// the code runs when something has changed since the last.
    #[arg(long)]
    transactional: bool,

    /// What becomes of the code when cellctl is killed or loses its terminal
    ///
    /// Ctrl-C interrupts the code in any case.
    #[arg(long, value_name = "WHAT", default_value = "continue")]
    on_disconnect: Left,

    /// Print each reply as one line of JSON
    ///
    /// Text is in `text`, what is displayed in `data` by mime type, with images in base64.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    figures: FigureArgs,

    #[command(flatten)]
    daemon: DaemonArgs,
}

/// What becomes of code whose caller has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Left {
    /// It runs on; `cellctl` does not read the rest, but the API does
    Continue,
    /// It is interrupted, or cancelled when it waits
    Interrupt,
}

impl From<Left> for OnDisconnect {
    fn from(left: Left) -> Self {
        match left {
            Left::Continue => OnDisconnect::Continue,
            Left::Interrupt => OnDisconnect::Interrupt,
        }
    }
}

impl Exec {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        let (named, file) = self.notebook_and_file()?;
        let source = match (&self.code, &file) {
            (Some(code), _) => code.clone(),
            (None, Some(file)) => read_code(file)?,
            (None, None) => return Err(Fault::usage("there is no code: use -c CODE, FILE or -")),
        };
        let signals = Signals::listen().map_err(Fault::file("listen for", "signals".as_ref()))?;
        let mut session = Session::find_or_start(&self.daemon, &signals)?;
        let suffix = random_suffix()?;
        let notebook = match &named {
            Some(notebook) => notebook.clone(),
            None => format!("exec-{suffix}").parse().expect("made of letters, digits and -"),
        };
        session.connection.open_notebook(&notebook, self.profile.as_deref())?;
        let execution = format!("exec-{suffix}").parse().expect("made of letters, digits and -");
        // A question can be answered only by somebody at a terminal, and one who is not the code.
        let allow_stdin = io::stdin().is_terminal() && !self.json && file.as_deref() != Some("-");
        let options = ExecuteOptions {
            wall_ms: self.timeout,
            allow_stdin,
            checkpoint: When::chosen(self.checkpoint, named.is_some()),
            transactional: self.transactional,
            on_disconnect: self.on_disconnect.into(),
            ..ExecuteOptions::default()
        };
        let code = Code { notebook: &notebook, execution: &execution, source: &source, options };
        let mut screen = Screen::new(self.figures(named.as_ref(), file.as_deref()));
        let ended = execute(&mut session, &code, &signals, &mut |reply, payload, replies| {
            if self.json {
                return print_json(&reply_json(reply, payload));
            }
            match reply {
                Reply::Output(frame) => match &frame.output {
                    Output::InputRequest { prompt, password } => {
                        let answered = answer(replies, &notebook, &execution, prompt, *password, &signals);
                        // The terminal has echoed what was typed.
                        screen.lose_cursor();
                        answered
                    }
                    output => screen.show(output, payload).map_err(Fault::Stdout),
                },
                _ => Ok(()),
            }
        });
        if named.is_none() {
            // The daemon's own list of notebooks is not for us to fill. When the connection is
            // gone there is a better error to report.
            let _ = session.connection.tell(&Request::Delete { notebook });
        }
        let outcome = ended?;
        if !self.json {
            say(&self.words(&outcome));
        }
        Ok(Exit::of(&outcome.end))
    }

    /// What is said at the end. An exception has been shown as it came.
    fn words(&self, outcome: &Outcome) -> String {
        let mut text = match (&outcome.end, &outcome.variables) {
            (End::Error { .. }, Variables::RolledBack) => format!("{ROLLED_BACK}\n"),
            (End::Error { .. }, _) => String::new(),
            _ => describe(outcome).map(|(_, sentence)| format!("error: {sentence}\n")).unwrap_or_default(),
        };
        text += &checkpoint_words(outcome.checkpoint.as_ref(), self.checkpoint.is_some());
        text
    }

    /// Files of figures are named after the code's file, or the notebook.
    fn figures(&self, notebook: Option<&NotebookId>, file: Option<&str>) -> Figures {
        let stem = file.and_then(|file| Path::new(file).file_stem()?.to_str()).filter(|stem| *stem != "-");
        let name = stem.map(str::to_owned).or_else(|| notebook.map(ToString::to_string));
        Figures::new(self.figures.figures, format!("{}_figures", name.as_deref().unwrap_or("exec")).into())
    }

    fn notebook_and_file(&self) -> Result<(Option<NotebookId>, Option<String>), Fault> {
        let id = |word: &str| word.parse().map_err(|error| Fault::usage(format!("{error}")));
        match (self.code.is_some(), self.words.as_slice()) {
            (_, []) => Ok((None, None)),
            (true, [notebook]) => Ok((Some(id(notebook)?), None)),
            (true, _) => Err(Fault::usage("with -c there is no FILE")),
            (false, [file]) => Ok((None, Some(file.clone()))),
            (false, [notebook, file, ..]) => Ok((Some(id(notebook)?), Some(file.clone()))),
        }
    }
}

/// Seconds on the command line, as milliseconds on the wire.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let refuse = || format!("`{text}` is no number of seconds above 0");
    let seconds = text.parse::<f64>().map_err(|_| refuse())?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| refuse())?;
    u64::try_from(duration.as_millis()).ok().filter(|ms| *ms > 0).ok_or_else(refuse)
}

fn read_code(file: &str) -> Result<String, Fault> {
    if file == "-" {
        let mut code = String::new();
        io::stdin().read_to_string(&mut code).map_err(Fault::file("read", "standard input".as_ref()))?;
        return Ok(code);
    }
    std::fs::read_to_string(file).map_err(|source| {
        // `cellctl exec NOTEBOOK` is what people type who forgot -c.
        let hint = "code on the command line goes behind -c";
        match source.kind() {
            io::ErrorKind::NotFound => {
                Fault::usage_with_hint(format!("cannot read `{file}`: {source}"), hint)
            }
            _ => Fault::file("read", Path::new(file))(source),
        }
    })
}

/// A reply for programs: the message as the protocol's JSON has it, and its payload in a form that
/// JSON can carry.
fn reply_json(reply: &Reply, payload: &[u8]) -> Value {
    let mut line = json!(reply);
    let bundle = match reply {
        Reply::Output(frame) => match &frame.output {
            Output::Display { bundle, .. } | Output::Result { bundle, .. } => Some(bundle),
            _ => None,
        },
        _ => None,
    };
    if let Some(bundle) = bundle {
        line["data"] = Value::Object(outputs::data(bundle, payload));
    } else if !payload.is_empty() {
        match std::str::from_utf8(payload) {
            Ok(text) => line["text"] = json!(text),
            Err(_) => line["base64"] = json!(STANDARD.encode(payload)),
        }
    }
    line
}

/// Asks the person at the terminal. When the terminal ends, or Ctrl-C is pressed, the code is
/// interrupted: there is no such thing as an answer that is not one.
fn answer(
    replies: &mut Replies<'_>,
    notebook: &NotebookId,
    execution: &ExecutionId,
    prompt: &str,
    password: bool,
    signals: &Signals,
) -> Result<(), Fault> {
    say(&without_ansi(prompt));
    let line = read_line(password, signals).map_err(Fault::file("read", "standard input".as_ref()))?;
    match line {
        Some(line) => replies.input(notebook, execution, line)?,
        None if signals.stopping() => {}
        None => replies.interrupt(notebook)?,
    }
    Ok(())
}

fn read_line(password: bool, signals: &Signals) -> io::Result<Option<String>> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin)?;
    if password {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    }
    let line = wait_for_line(&stdin, signals);
    if password {
        tcsetattr(&stdin, OptionalActions::Now, &before)?;
        say("\n");
    }
    line
}

fn wait_for_line(stdin: &io::Stdin, signals: &Signals) -> io::Result<Option<String>> {
    let glance = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    loop {
        if signals.stopping() {
            return Ok(None);
        }
        match poll(&mut [PollFd::new(stdin, PollFlags::IN)], Some(&glance)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let mut line = String::new();
    let count = stdin.read_line(&mut line)?;
    io::stderr().flush()?;
    Ok((count > 0).then(|| line.trim_end_matches('\n').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_milliseconds_or_a_clear_refusal() {
        assert_eq!(seconds("1.5"), Ok(1_500));
        for bad in ["0", "-1", "nan", "inf", "1e300", "soon", "0.0001"] {
            assert_eq!(seconds(bad), Err(format!("`{bad}` is no number of seconds above 0")));
        }
    }
}
