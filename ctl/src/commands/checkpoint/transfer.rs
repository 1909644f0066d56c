//! Checkpoints as files: `export` and `import`.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::super::{print, print_json};
use super::{Common, in_our_words};
use crate::checkpoints::Checkpoints;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::Session;
use crate::signals::Signals;
use crate::whole_file;

pub(super) fn export(common: &Common, id: Option<u64>, output: &Path, force: bool) -> Result<Exit, Fault> {
    let to_stdout = output.as_os_str() == "-";
    if to_stdout && io::stdout().is_terminal() {
        let hint = "name a file with -o, or send it on: `-o - > FILE`";
        return Err(Fault::usage_with_hint("a checkpoint is not for a terminal to show", hint));
    }
    if to_stdout && common.json {
        return Err(Fault::usage("with `-o -` standard output is the checkpoint, and --json has no place"));
    }
    // Found before a long transfer; what is there in the end decides.
    if !to_stdout && !force && output.is_file() {
        let message = format!("`{}` is there already", output.display());
        return Err(Fault::usage_with_hint(message, "--force replaces it"));
    }
    let signals = Signals::listen().map_err(Fault::file("listen for", "signals".as_ref()))?;
    let mut session = Session::find(&common.socket)?;
    let bar = bar(None);
    let mut fill = |file: &mut dyn Write| {
        Checkpoints::of(&mut session.connection, &common.notebook).export(id, &mut |part| {
            if signals.stopping() {
                return Err(Fault::Interrupted);
            }
            bar.inc(part.len() as u64);
            let failed =
                |error| if to_stdout { Fault::Stdout(error) } else { Fault::file("write", output)(error) };
            file.write_all(part).map_err(failed)
        })
    };
    let exported = if to_stdout {
        let mut stdout = io::stdout().lock();
        fill(&mut stdout).and_then(|()| stdout.flush().map_err(Fault::Stdout))
    } else if force || (output.exists() && !output.is_file()) {
        whole_file::replace(output, &mut fill)
    } else {
        whole_file::create(output, &mut fill)
    };
    let bytes = bar.position();
    bar.finish_and_clear();
    exported.map_err(|fault| in_our_words(fault, &common.notebook))?;
    if common.json {
        print_json(&json!({"bytes": bytes, "file": output.to_string_lossy()}))?;
    }
    Ok(Exit::Ok)
}

pub(super) fn import(common: &Common, file: &Path) -> Result<Exit, Fault> {
    let (mut source, bytes): (Box<dyn Read>, Option<u64>) = if file.as_os_str() == "-" {
        (Box::new(io::stdin().lock()), None)
    } else {
        let opened = File::open(file).map_err(Fault::file("read", file))?;
        let found = opened.metadata().map_err(Fault::file("read", file))?;
        (Box::new(opened), found.is_file().then_some(found.len()))
    };
    let signals = Signals::listen().map_err(Fault::file("listen for", "signals".as_ref()))?;
    let mut session = Session::find(&common.socket)?;
    session.connection.open_notebook(&common.notebook, None)?;
    let bar = bar(bytes);
    let mut store = Checkpoints::of(&mut session.connection, &common.notebook);
    let imported = store.import(&mut source, file, &mut |sent| {
        bar.set_position(sent);
        if signals.stopping() { Err(Fault::Interrupted) } else { Ok(()) }
    });
    bar.finish_and_clear();
    let id = imported?;
    if common.json { print_json(&json!({"checkpoint": id})) } else { print(&format!("{id}\n")) }?;
    Ok(Exit::Ok)
}

/// To standard error, and to nobody when that is no terminal.
fn bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:24} {decimal_bytes}/{decimal_total_bytes} {elapsed}"),
        None => (ProgressBar::no_length(), "{spinner} {decimal_bytes} {elapsed}"),
    };
    let style = ProgressStyle::with_template(template).expect("a constant template");
    bar.with_style(style.progress_chars("━╸─"))
}
