//! Images of outputs in the terminal: drawn where it can, else saved as files, else named.
//!
//! The images come from code that is not trusted. Inside base64 their bytes say nothing to a terminal, and
//! [`Picture`] makes sure that they are the kind of image they are said to be, of a size that can be meant,
//! before a terminal is asked to decode them.

mod detect;
mod files;
mod inline;
mod picture;
mod quantize;
mod sixel;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rustix::termios::tcgetwinsize;

use self::files::Files;
use self::picture::{Kind, Picture};
use crate::ending::bytes;
use crate::show::one_line;

/// How figures are shown; the argument of `run` and `exec`.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct FigureArgs {
    /// How figures are shown in the terminal
    ///
    /// `auto` draws them where the terminal says that it can (kitty, Ghostty, iTerm2, WezTerm, and those
    /// that answer for sixel); elsewhere it saves them into a new directory for temporary files and prints
    /// their paths. When standard output is no terminal, figures are only named.
    ///
    /// `files` saves them into ./NAME_figures; `run` makes it beside the first -o, or inside --out-dir.
    /// Nothing is overwritten: when that exists it becomes NAME_figures-2, and so on.
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        default_value = "auto",
        env = "CELLBLOCK_FIGURES",
        hide_env_values = true
    )]
    pub(crate) figures: Choice,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// What the terminal can, else files
    Auto,
    /// The kitty graphics protocol
    Kitty,
    /// The inline images of iTerm2
    Iterm2,
    /// Sixel graphics
    Sixel,
    /// Files, in the terminal and without one
    Files,
    /// Their names alone
    None,
}

/// A way to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Kitty,
    Iterm2,
    Sixel,
}

/// The terminal's measure; 0 is what nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
    /// Its width in pixels.
    pixels: usize,
}

/// Pixels of a column where the terminal does not say.
const COLUMN_PIXELS: usize = 9;

impl Shape {
    /// The one of standard output.
    pub(crate) fn of_terminal() -> Self {
        let size = tcgetwinsize(io::stdout()).ok();
        let side = |length: Option<u16>, usual: usize| match length {
            None | Some(0) => usual,
            Some(length) => length.into(),
        };
        Shape {
            columns: side(size.map(|size| size.ws_col), 80),
            rows: side(size.map(|size| size.ws_row), 24),
            pixels: size.map_or(0, |size| size.ws_xpixel.into()),
        }
    }

    /// Its width in pixels, guessed if need be.
    fn width(&self) -> usize {
        if self.pixels > 0 { self.pixels } else { self.columns * COLUMN_PIXELS }
    }
}

/// What became of a figure.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ShownFigure {
    /// What the terminal must get, and ends with the line.
    pub(crate) drawing: Option<String>,
    /// What is said of it; empty when the drawing says it all.
    pub(crate) words: String,
}

/// Shows the figures of one run.
#[derive(Debug)]
pub(crate) struct Figures {
    choice: Choice,
    terminal: bool,
    /// What the terminal was found to draw.
    detected: Option<Option<Protocol>>,
    files: Files,
}

impl Figures {
    /// `folder` is where files go that were asked for.
    pub(crate) fn new(choice: Choice, folder: PathBuf) -> Self {
        let files = match choice {
            Choice::Files => Files::into(folder),
            _ => Files::temporary(),
        };
        Figures { choice, terminal: io::stdout().is_terminal(), detected: None, files }
    }

    /// What follows belongs to the cell of this number.
    pub(crate) fn begin_cell(&mut self, number: Option<usize>) {
        self.files.begin_cell(number);
    }

    /// Shows an image. One with an id that was seen before takes the earlier one's file.
    pub(crate) fn show(&mut self, mime: &str, image: &[u8], id: Option<&str>, shape: &Shape) -> ShownFigure {
        let picture = match Picture::read(mime, image) {
            Ok(picture) => picture,
            Err(wrong) => {
                return ShownFigure::words(format!("[{}, {}: {wrong}]", one_line(mime), size(image)));
            }
        };
        let drawing = self.protocol().and_then(|protocol| draw(protocol, &picture, shape));
        if drawing.is_some() {
            return ShownFigure { drawing, words: String::new() };
        }
        let name = picture.to_string();
        if !(self.choice == Choice::Files || self.terminal && self.choice != Choice::None) {
            return ShownFigure::words(format!("[{name}]"));
        }
        ShownFigure::words(match self.files.save(&picture, id) {
            Ok(path) => format!("[{name}: {}]", one_line(&path.to_string_lossy())),
            Err(error) => format!("[{name}: not saved: {}]", one_line(&error.to_string())),
        })
    }

    /// Saves an image without a word; what goes wrong is said.
    pub(crate) fn save(&mut self, mime: &str, image: &[u8], id: Option<&str>) -> Result<(), String> {
        let picture = Picture::read(mime, image).map_err(|wrong| wrong.to_string());
        let saved =
            picture.and_then(|picture| self.files.save(&picture, id).map_err(|error| error.to_string()));
        saved.map(drop).map_err(|error| format!("a figure was not saved: {}", one_line(&error)))
    }

    /// Files that were written.
    pub(crate) fn written(&self) -> &[PathBuf] {
        self.files.written()
    }

    fn protocol(&mut self) -> Option<Protocol> {
        if !self.terminal {
            return None;
        }
        match self.choice {
            Choice::Kitty => Some(Protocol::Kitty),
            Choice::Iterm2 => Some(Protocol::Iterm2),
            Choice::Sixel => Some(Protocol::Sixel),
            Choice::Files | Choice::None => None,
            Choice::Auto => *self.detected.get_or_insert_with(detect::protocol),
        }
    }
}

impl ShownFigure {
    fn words(words: String) -> Self {
        ShownFigure { drawing: None, words }
    }
}

fn draw(protocol: Protocol, picture: &Picture<'_>, shape: &Shape) -> Option<String> {
    match (protocol, picture.kind) {
        (Protocol::Kitty, Kind::Png) => inline::kitty(picture, shape),
        (Protocol::Iterm2, Kind::Png | Kind::Jpeg | Kind::Gif) => inline::iterm2(picture, shape),
        (Protocol::Sixel, Kind::Png) => sixel::draw(picture, shape),
        _ => None,
    }
}

fn size(image: &[u8]) -> String {
    bytes(image.len() as u64)
}

#[cfg(test)]
mod tests;
