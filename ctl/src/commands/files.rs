//! `cellctl files`

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use cellblock_proto::client::{ErrorCode, FileInfo, FileKind};
use cellblock_proto::id::NotebookId;
use clap::{Args, Subcommand};

use super::{print, print_json, say, table};
use crate::client::ClientError;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::files::Files;
use crate::notebook::text::Utf8Decoder;
use crate::session::{Session, SocketArgs};
use crate::show::without_ansi;
use crate::{whole_file, workspace};

/// The verb group. Its help stands in `cli.rs`: clap takes a group's from where it is listed.
#[derive(Args, Debug)]
pub(crate) struct FilesVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List a folder, the workspace itself by default
    ///
    /// Of a folder with very many names the first are shown, in their order.
    Ls {
        /// The notebook
        notebook: NotebookId,
        /// The folder
        #[arg(default_value = "", hide_default_value = true)]
        path: String,
        /// Print one JSON object, with the times of the last change
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Print a file, or with -o store it here
    ///
    /// At a terminal only what cannot steer the terminal is shown.
    Get {
        /// The notebook
        notebook: NotebookId,
        /// The file
        path: String,
        /// Store it in this file instead
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Copy a file, or a directory with all that is in it, into the workspace
    ///
    /// Files that are there are overwritten, others stay. Modes are not copied (a script to be
    /// executed needs a chmod in the notebook). A link to something that is copied too becomes a
    /// copy of it; any other is refused. The notebook is opened if need be.
    Put {
        /// The notebook
        notebook: NotebookId,
        /// What to copy
        source: PathBuf,
        /// Where to [default: the name it has here]
        path: Option<String>,
        #[command(flatten)]
        socket: SocketArgs,
    },
    /// Remove files, and folders with all that is in them; there is no way back
    Rm {
        /// The notebook
        notebook: NotebookId,
        /// What to remove
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<String>,
        #[command(flatten)]
        socket: SocketArgs,
    },
}

impl FilesVerb {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        match self.verb {
            Verb::Ls { notebook, path, json, socket } => {
                let mut session = Session::find(&socket)?;
                let listed = Files::of(&mut session.connection, &notebook).list(&path);
                let (files, truncated) = listed.map_err(|error| in_our_words(error.into(), &notebook))?;
                show(&files, truncated, json)
            }
            Verb::Get { notebook, path, output, socket } => {
                let mut session = Session::find(&socket)?;
                let mut files = Files::of(&mut session.connection, &notebook);
                let got = match output {
                    Some(output) => get_into(&mut files, &path, &output),
                    None => get_to_stdout(&mut files, &path),
                };
                got.map_err(|fault| in_our_words(fault, &notebook))
            }
            Verb::Put { notebook, source, path, socket } => {
                let target = match path {
                    Some(path) => path,
                    None => workspace::name_inside(Path::new("."), &source)?,
                };
                let mut session = Session::find(&socket)?;
                session.connection.open_notebook(&notebook, None)?;
                let mut files = Files::of(&mut session.connection, &notebook);
                workspace::copy_into(&mut files, &source, &target, &|| false)
            }
            Verb::Rm { notebook, paths, socket } => {
                let mut session = Session::find(&socket)?;
                let mut files = Files::of(&mut session.connection, &notebook);
                let mut removed = paths.iter().map(|path| files.remove(path));
                let removed = removed.try_for_each(|removed| removed);
                removed.map_err(|error| in_our_words(error.into(), &notebook))
            }
        }?;
        Ok(Exit::Ok)
    }
}

fn show(files: &[FileInfo], truncated: bool, json: bool) -> Result<(), Fault> {
    if json {
        return print_json(&serde_json::json!({"files": files, "truncated": truncated}));
    }
    let mut rows = vec![["KIND", "BYTES", "NAME"].map(str::to_owned).to_vec()];
    rows.extend(files.iter().map(|file| {
        let bytes = if file.kind == FileKind::File { file.bytes.to_string() } else { String::new() };
        vec![format!("{:?}", file.kind).to_lowercase(), bytes, file.name.clone()]
    }));
    print(&table(&rows))?;
    if truncated {
        say(&format!("there are more; these are the first {}\n", files.len()));
    }
    Ok(())
}

fn get_to_stdout(files: &mut Files<'_>, path: &str) -> Result<(), Fault> {
    let mut stdout = io::stdout().lock();
    let is_terminal = stdout.is_terminal();
    let mut decoder = Utf8Decoder::default();
    files.read(path, &mut |part| {
        let written = if is_terminal {
            stdout.write_all(without_ansi(&decoder.decode(part)).as_bytes())
        } else {
            stdout.write_all(part)
        };
        written.map_err(Fault::Stdout)
    })?;
    stdout.flush().map_err(Fault::Stdout)
}

fn get_into(files: &mut Files<'_>, path: &str, output: &Path) -> Result<(), Fault> {
    whole_file::replace(output, &mut |file| {
        files.read(path, &mut |part| file.write_all(part).map_err(Fault::file("write", output)))
    })
}

/// The daemon answers in words of the protocol, which are for those who write clients.
pub(super) fn in_our_words(fault: Fault, notebook: &NotebookId) -> Fault {
    match fault {
        Fault::Client(ClientError::Refused { code: ErrorCode::UnknownNotebook, .. }) => {
            Fault::usage_with_hint(
                format!("no notebook {:?} is open", notebook.as_str()),
                "`cellctl exec NOTEBOOK -c ''` opens one that has been closed; its files are still there",
            )
        }
        other => other,
    }
}
