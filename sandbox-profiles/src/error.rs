//! Why a profile is refused, and where: profile, line, column, and the line itself.

use std::fmt;
use std::ops::Range;

/// More faults than these are one misunderstanding.
const SHOWN: usize = 20;

/// Characters of a line that are shown.
const LINE_CHARS: usize = 100;

/// Why a profile is refused; every fault that was found in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError {
    /// The profile whose text has the faults.
    pub profile: String,
    /// The profile that was asked for, when it is another that stands on this one.
    pub asked: Option<String>,
    /// The faults by line, at least one.
    pub faults: Vec<Fault>,
}

impl std::error::Error for ProfileError {}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters it is about, at least 1.
    pub width: usize,
    /// What the line says.
    pub source: String,
    /// What is wrong with it, and the cure.
    pub message: String,
}

impl Fault {
    /// A fault of these bytes of a text.
    pub(crate) fn at(text: &str, span: Range<usize>, message: String) -> Self {
        let start = text.floor_char_boundary(span.start);
        let begin = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let rest = &text[begin..];
        let source = rest.split('\n').next().unwrap_or(rest).trim_end_matches('\r');
        let end = text.floor_char_boundary(span.end).clamp(start, (begin + source.len()).max(start));
        Fault {
            line: text[..start].matches('\n').count() + 1,
            column: text[begin..start].chars().count() + 1,
            width: text[start..end].chars().count().max(1),
            source: source.to_owned(),
            message,
        }
    }

    fn first_line(&self, whose: &str) -> String {
        let Fault { line, column, message, .. } = self;
        format!("{whose}, line {line}, column {column}: {message}")
    }
}

/// The faults of a file with their lines, for people; `whose` names the file.
#[derive(Clone, Copy, Debug)]
pub struct Faults<'a> {
    /// Which file.
    pub whose: &'a str,
    /// Them.
    pub faults: &'a [Fault],
}

impl ProfileError {
    /// The first fault on one line, without the source.
    pub fn summary(&self) -> String {
        self.faults.first().map_or_else(|| self.who(), |fault| fault.first_line(&self.who()))
    }

    fn who(&self) -> String {
        match &self.asked {
            Some(asked) => format!("profile {:?} (which {asked:?} stands on)", self.profile),
            None => format!("profile {:?}", self.profile),
        }
    }
}

impl fmt::Display for ProfileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Faults { whose: &self.who(), faults: &self.faults }.fmt(out)
    }
}

impl fmt::Display for Faults<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().take(SHOWN).enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            let number = fault.line.to_string();
            let margin = " ".repeat(number.len());
            let (source, before) = window(&fault.source, fault.column - 1);
            let carets = "^".repeat(fault.width.min(LINE_CHARS.saturating_sub(before)).max(1));
            writeln!(out, "{}", fault.first_line(self.whose))?;
            writeln!(out, "{margin} |")?;
            writeln!(out, "{number} | {source}")?;
            write!(out, "{margin} | {}{carets}", " ".repeat(before))?;
        }
        match self.faults.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(out, "\nand {more} more"),
        }
    }
}

/// The part of a line around a column, and how far into it that lies. What would steer a terminal
/// becomes a space, so that columns stay.
fn window(line: &str, column: usize) -> (String, usize) {
    let skip = if column < LINE_CHARS * 3 / 4 { 0 } else { column - LINE_CHARS / 2 };
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    (
        line.chars().skip(skip).take(LINE_CHARS).map(clean).collect::<String>().trim_end().to_owned(),
        column - skip,
    )
}

/// A foreign word in one of our sentences: short, and without control characters.
pub fn quoted(word: &str) -> String {
    let short: String = word.chars().take(40).collect();
    format!("{short:?}{}", if short.len() < word.len() { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, word: &str) -> String {
        let start = text.find(word).unwrap();
        let fault = Fault::at(text, start..start + word.len(), "is wrong".to_owned());
        ProfileError { profile: "mine".to_owned(), asked: None, faults: vec![fault] }.to_string()
    }

    #[test]
    fn the_line_is_shown_with_carets_below_the_word() {
        insta::assert_snapshot!(shown("version = 1\r\n[limits]\r\n  wall_ms = 0\r\n", "wall_ms"), @r#"
        profile "mine", line 3, column 3: is wrong
          |
        3 |   wall_ms = 0
          |   ^^^^^^^
        "#);
    }

    #[test]
    fn columns_are_characters_and_the_end_of_a_text_is_a_place_too() {
        insta::assert_snapshot!(shown("été = \"\u{1b}ü\" x", "x"), @r#"
        profile "mine", line 1, column 12: is wrong
          |
        1 | été = " ü" x
          |            ^
        "#);
        let fault = Fault::at("a\n", 2..9, String::new());
        assert_eq!((fault.line, fault.column, fault.width), (2, 1, 1));
    }

    #[test]
    fn of_a_long_line_the_part_in_question_is_shown() {
        let text = format!("{}x = 1{}", " ".repeat(5000), " ".repeat(5000));
        let told = shown(&text, "x");
        assert!(told.contains("x = 1\n") && told.len() < 400, "{told}");
    }
}
