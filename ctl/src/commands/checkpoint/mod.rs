//! `cellctl checkpoint`

use std::path::PathBuf;

use cellblock_proto::checkpoint::{Checkpoint, Checkpointing, Keep};
use cellblock_proto::id::NotebookId;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::files::in_our_words;
use super::{print, print_json, say};
use crate::checkpoints::Checkpoints;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::session::{Session, SocketArgs};

mod show;
mod transfer;

/// The verb group. Its help stands in `cli.rs`: clap takes a group's from where it is listed.
#[derive(Args, Debug)]
pub(crate) struct CheckpointVerb {
    #[command(subcommand)]
    verb: Verb,
}

/// What all of them have.
#[derive(Args, Debug)]
struct Common {
    /// The notebook
    notebook: NotebookId,

    /// Print one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the checkpoints that are kept
    ///
    /// One line each, oldest first. STATE is what the variables take by themselves, OWN what removing the
    /// checkpoint frees once all older ones are gone: checkpoints share what has not changed between
    /// them. Times are UTC.
    Ls {
        #[command(flatten)]
        common: Common,
    },
    /// Show what is in a checkpoint, and what could not be saved
    Show {
        #[command(flatten)]
        common: Common,
        /// Which [default: the current one]
        #[arg(value_name = "ID")]
        id: Option<u64>,
    },
    /// Save the variables now, or when the cell that runs has ended, and print the checkpoint's number
    ///
    /// Waits until they are on the disk. What cannot be saved is named.
    Create {
        #[command(flatten)]
        common: Common,
    },
    /// End the worker, and start one with the variables of a checkpoint
    ///
    /// What runs is interrupted, and what has changed since the last checkpoint is lost. Later checkpoints stay:
    /// `restore` goes to them as well.
    Restore {
        #[command(flatten)]
        common: Common,
        /// Which [default: the current one]
        #[arg(value_name = "ID")]
        id: Option<u64>,
    },
    /// Make a new notebook that begins with the variables of a checkpoint
    ///
    /// It has the profile of the old one, and an empty workspace.
    Fork {
        #[command(flatten)]
        common: Common,
        /// The new notebook, of which there must be nothing yet
        #[arg(value_name = "NEW")]
        to: NotebookId,
        /// Which [default: the current one]
        #[arg(long, value_name = "ID")]
        checkpoint: Option<u64>,
    },
    /// Write a checkpoint as one file, which another machine can import
    ///
    /// It holds the variables alone, and not the files of the workspace. It is readable by whoever can
    /// read the file.
    Export {
        #[command(flatten)]
        common: Common,
        /// Which [default: the current one]
        #[arg(value_name = "ID")]
        id: Option<u64>,
        /// Where to; `-` is standard output
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Replace the file when there is one
        #[arg(long)]
        force: bool,
    },
    /// Take over an exported checkpoint, and print the number that it has here
    ///
    /// It becomes the current one where there was none, else `restore` takes its number. The notebook is
    /// opened if need be. Its variables are code of whoever made the file: they run in the notebook's
    /// sandbox as any cell does.
    Import {
        #[command(flatten)]
        common: Common,
        /// The file; `-` is standard input
        file: PathBuf,
    },
    /// Read every byte of the checkpoints, and tell what is damaged or missing
    ///
    /// Ends with 8 when something is.
    Verify {
        #[command(flatten)]
        common: Common,
        /// Which [default: all]
        #[arg(value_name = "ID")]
        id: Option<u64>,
    },
    /// Remove checkpoints that a rule does not keep, and print their numbers
    ///
    /// Without a rule it is the profile's, which is also kept to by itself. What a rule given here does
    /// not say limits nothing: `--max-bytes` alone asks for no age. The current checkpoint and the newest
    /// stay in any case. There is no way back.
    Gc {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        rule: Rule,
    },
    /// End the worker and remove all checkpoints; there is no way back
    ///
    /// The notebook stays open, and its files stay. Its next worker begins with nothing.
    Clear {
        #[command(flatten)]
        common: Common,
    },
}

/// When the variables are saved after code, for those verbs that run some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// Not at all
    None,
    /// While what comes next runs
    Background,
    /// Before the end is told, which says how it went
    Wait,
}

impl When {
    /// What is asked for: for a notebook that goes with its command nobody needs what would be saved.
    pub(crate) fn chosen(asked: Option<When>, stays: bool) -> Option<Checkpointing> {
        match asked {
            Some(When::None) => Some(Checkpointing::None),
            Some(When::Background) => Some(Checkpointing::Background),
            Some(When::Wait) => Some(Checkpointing::Wait),
            None if stays => None,
            None => Some(Checkpointing::None),
        }
    }
}

/// What is said of the checkpoint after code: that there is none, and what it lacks to who has asked for one.
pub(crate) fn checkpoint_words(checkpoint: Option<&Checkpoint>, asked: bool) -> String {
    match checkpoint {
        Some(failed @ Checkpoint::Failed { .. }) => show::saved(failed),
        Some(partial @ Checkpoint::Partial { .. }) if asked => show::saved(partial),
        _ => String::new(),
    }
}

/// Which are kept.
#[derive(Args, Clone, Copy, Debug, Default)]
struct Rule {
    /// Keep so many of the newest
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,

    /// Of so many of the last days (UTC) that have one, keep the newest of the day
    #[arg(long, value_name = "N")]
    keep_daily: Option<u32>,

    /// While those that are kept take more, remove the oldest; e.g. 500MB, 2GiB, or bytes
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_bytes: Option<u64>,
}

impl CheckpointVerb {
    pub(crate) fn run(self) -> Result<Exit, Fault> {
        match self.verb {
            Verb::Ls { common } => common.with(|store, json| {
                let kept = store.list()?;
                if json {
                    return print_json(&kept).map(|()| Exit::Ok);
                }
                print(&show::list(&kept.checkpoints))?;
                say(&show::after_list(&kept));
                Ok(Exit::Ok)
            }),
            Verb::Show { common, id } => common.with(|store, json| {
                let content = store.content(id)?;
                if json { print_json(&content) } else { print(&show::content(&content)) }?;
                Ok(Exit::Ok)
            }),
            Verb::Create { common } => common.with(create),
            Verb::Restore { common, id } => common.with(|store, json| {
                let restored = store.restore(id)?;
                if json {
                    print_json(&restored)?;
                } else {
                    say(&show::restored(&restored));
                }
                Ok(Exit::Ok)
            }),
            Verb::Fork { common, to, checkpoint } => common.with(|store, json| {
                let info = store.fork(checkpoint, &to)?;
                if json { print_json(&info) } else { Ok(()) }?;
                Ok(Exit::Ok)
            }),
            Verb::Export { common, id, output, force } => transfer::export(&common, id, &output, force),
            Verb::Import { common, file } => transfer::import(&common, &file),
            Verb::Verify { common, id } => common.with(|store, json| {
                let verified = store.verify(id)?;
                if json {
                    print_json(&json!({"checkpoints": verified}))?;
                } else {
                    print(&show::verified(&verified))?;
                }
                let whole = verified.iter().all(|checkpoint| checkpoint.losses.is_empty());
                Ok(if whole { Exit::Ok } else { Exit::CheckpointLost })
            }),
            Verb::Gc { common, rule } => common.with(|store, json| {
                let collected = store.collect(rule.keep())?;
                if json {
                    return print_json(&collected).map(|()| Exit::Ok);
                }
                print(&collected.removed.iter().map(|id| format!("{id}\n")).collect::<String>())?;
                say(&show::collected(&collected));
                Ok(Exit::Ok)
            }),
            Verb::Clear { common } => common.with(|store, json| {
                store.clear()?;
                if json { print_json(&json!({})) } else { Ok(()) }?;
                Ok(Exit::Ok)
            }),
        }
    }
}

fn create(store: &mut Checkpoints<'_>, json: bool) -> Result<Exit, Fault> {
    let checkpoint = store.create()?;
    if json {
        print_json(&checkpoint)?;
    } else if let Checkpoint::Saved { id, .. } | Checkpoint::Partial { id, .. } = &checkpoint {
        print(&format!("{id}\n"))?;
        say(&show::saved(&checkpoint));
    } else {
        say(&show::saved(&checkpoint));
    }
    Ok(match checkpoint {
        Checkpoint::Failed { .. } => Exit::CheckpointLost,
        _ => Exit::Ok,
    })
}

impl Common {
    /// Asks, in a daemon that is there already.
    fn with(
        self,
        ask: impl FnOnce(&mut Checkpoints<'_>, bool) -> Result<Exit, Fault>,
    ) -> Result<Exit, Fault> {
        let mut session = Session::find(&self.socket)?;
        let asked = ask(&mut Checkpoints::of(&mut session.connection, &self.notebook), self.json);
        asked.map_err(|fault| in_our_words(fault, &self.notebook))
    }
}

impl Rule {
    fn keep(self) -> Option<Keep> {
        let Rule { keep_last, keep_daily, max_bytes } = self;
        if keep_last.is_none() && keep_daily.is_none() && max_bytes.is_none() {
            return None;
        }
        let all = if keep_daily.is_none() { u32::MAX } else { 0 };
        Some(Keep {
            last: keep_last.unwrap_or(all),
            daily: keep_daily.unwrap_or(0),
            max_bytes: max_bytes.unwrap_or(i64::MAX.unsigned_abs()),
        })
    }
}

/// A size in bytes: a whole number with a unit, of 1000 (`MB`) or of 1024 (`MiB`).
fn size(text: &str) -> Result<u64, String> {
    let refuse =
        || format!("`{text}` is no size: a whole number with kB, MB, GB, TB, KiB, MiB, GiB, TiB or none");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(refuse()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_or_are_bytes() {
        assert_eq!(size("5"), Ok(5));
        assert_eq!(size("500MB"), Ok(500_000_000));
        assert_eq!(size("2 GiB"), Ok(2 << 30));
        for bad in ["", "GB", "-1", "1.5GB", "1 gb", "99999999999TB", "1e3"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_notebook_that_goes_with_its_command_is_saved_only_when_that_is_asked_for() {
        assert_eq!(When::chosen(None, true), None);
        assert_eq!(When::chosen(None, false), Some(Checkpointing::None));
        assert_eq!(When::chosen(Some(When::Wait), false), Some(Checkpointing::Wait));
    }

    #[test]
    fn a_checkpoint_that_failed_is_told_and_what_one_lacks_to_who_asked() {
        let failed = Checkpoint::Failed { reason: "the disk is full".into() };
        let partial =
            Checkpoint::Partial { id: 1, written_bytes: 0, pause_us: 0, left_out: vec![], left_out_count: 1 };
        assert_eq!(
            checkpoint_words(Some(&failed), false),
            "error: no checkpoint was taken: the disk is full\n"
        );
        assert_eq!(checkpoint_words(Some(&partial), false), "");
        assert!(checkpoint_words(Some(&partial), true).starts_with("checkpoint 1 is saved, but for 1 value"));
        assert_eq!(checkpoint_words(Some(&Checkpoint::Pending), true), "");
        assert_eq!(checkpoint_words(None, true), "");
    }

    #[test]
    fn what_a_rule_does_not_say_limits_nothing() {
        let keep = |keep_last, keep_daily, max_bytes| Rule { keep_last, keep_daily, max_bytes }.keep();
        let boundless = i64::MAX.unsigned_abs();
        assert_eq!(keep(None, None, None), None);
        assert_eq!(keep(Some(0), None, None), Some(Keep { last: 0, daily: 0, max_bytes: boundless }));
        assert_eq!(keep(None, Some(7), None), Some(Keep { last: 0, daily: 7, max_bytes: boundless }));
        assert_eq!(keep(None, None, Some(5)), Some(Keep { last: u32::MAX, daily: 0, max_bytes: 5 }));
        assert_eq!(keep(Some(3), Some(2), Some(5)), Some(Keep { last: 3, daily: 2, max_bytes: 5 }));
    }
}
