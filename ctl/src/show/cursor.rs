//! Where the cursor of the terminal stands, as far as can be told from what was written.
//!
//! `clear_output` and `update_display` take back what was written before. In a terminal that is possible
//! while it still stands on the screen and its rows can be counted; a wrong count would erase what is
//! somebody else's, so in doubt the cursor says that it does not know.

/// Rows of the screen that are left alone when something is erased: the one of the cursor's line.
const SPARE_ROWS: usize = 1;

/// Rows that nested progress bars go back at most.
const BARS: usize = 20;

/// A place in what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    row: usize,
    /// Which stretch of certainty it belongs to.
    epoch: usize,
}

/// The cursor, by the text that was written; the text is what [`super::Filter`] lets pass.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    row: usize,
    /// Columns taken at least and at most: how wide some characters are is the terminal's to choose.
    least: usize,
    most: usize,
    /// The terminal's, as they were when something was last written.
    columns: Option<usize>,
    epoch: usize,
}

impl Cursor {
    /// Whether something stands in the cursor's line.
    pub(super) fn in_line(&self) -> bool {
        self.most > 0
    }

    /// Here, to come back to.
    pub(super) fn mark(&self) -> Mark {
        Mark { row: self.row, epoch: self.epoch }
    }

    /// Something was written that cannot be counted; the cursor is at the beginning of a line.
    pub(super) fn lose(&mut self) {
        self.epoch += 1;
        self.row = 0;
        (self.least, self.most) = (0, 0);
    }

    /// What the terminal must get to have everything since the mark erased, when that can be told. The
    /// cursor is there afterwards.
    pub(super) fn back_to(&mut self, mark: Mark, rows: usize) -> Option<String> {
        let up = self.row.checked_sub(mark.row)?;
        if mark.epoch != self.epoch || up + SPARE_ROWS >= rows.max(1) {
            return None;
        }
        self.row = mark.row;
        (self.least, self.most) = (0, 0);
        let up = if up > 0 { format!("\x1b[{up}A") } else { String::new() };
        Some(format!("\r{up}\x1b[J"))
    }

    /// Follows text that is written to a terminal of so many columns.
    pub(super) fn follow(&mut self, text: &str, columns: usize) {
        if self.columns.replace(columns).is_some_and(|before| before != columns) {
            // Another width wraps what is there anew.
            let (least, most) = (self.least, self.most);
            self.lose();
            (self.least, self.most) = (least, most);
        }
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '\n' => self.new_line(),
                '\r' => (self.least, self.most) = (0, 0),
                '\x08' => {
                    (self.least, self.most) = (self.least.saturating_sub(1), self.most.saturating_sub(1))
                }
                '\t' if self.least == self.most => {
                    let by = 8 - self.most % 8;
                    self.forward(by, columns);
                }
                '\t' => self.most = (self.most + 8).min(columns),
                '\x1b' => self.sequence(&mut rest, columns),
                c if is_one_wide(c) => self.put(1, 1, columns),
                _ => self.put(0, 2, columns),
            }
        }
    }

    fn new_line(&mut self) {
        self.row += 1;
        (self.least, self.most) = (0, 0);
    }

    /// A character of some width. A terminal wraps before the character that does not fit.
    fn put(&mut self, least: usize, most: usize, columns: usize) {
        if self.most + most > columns {
            if self.least != self.most || least != most {
                return self.doubt(columns);
            }
            self.new_line();
        }
        self.least += least;
        self.most += most;
    }

    /// It is not known in which row the cursor is.
    fn doubt(&mut self, columns: usize) {
        let most = self.most;
        self.lose();
        self.most = most.min(columns);
    }

    /// Motion does not wrap; it ends in the last column.
    fn forward(&mut self, by: usize, columns: usize) {
        let last = columns.saturating_sub(1);
        self.most = (self.most + by).min(last.max(self.most));
        self.least = (self.least + by).min(last.max(self.least));
    }

    fn sequence(&mut self, rest: &mut std::str::Chars<'_>, columns: usize) {
        // `[`, parameters, a letter.
        let mut parameter = String::new();
        let mut last = None;
        for c in rest.skip(1) {
            if c.is_ascii_alphabetic() {
                last = Some(c);
                break;
            }
            parameter.push(c);
        }
        let count = parameter.parse::<usize>().unwrap_or(1).max(1);
        match last {
            // Nested progress bars. What goes further may meet the upper end of the screen, or the lower.
            Some('A') if count <= self.row.min(BARS) => self.row -= count,
            Some('A' | 'B') => self.doubt(columns),
            Some('C') => self.forward(count, columns),
            Some('D') => {
                self.least = self.least.saturating_sub(count);
                self.most = self.most.saturating_sub(count);
            }
            _ => {}
        }
    }
}

/// Latin, Greek, Cyrillic; arrows, mathematics, boxes and the blocks of progress bars.
fn is_one_wide(c: char) -> bool {
    matches!(c, '\u{20}'..='\u{2ff}' | '\u{370}'..='\u{482}' | '\u{2190}'..='\u{21ff}' | '\u{2200}'..='\u{22ff}' | '\u{2500}'..='\u{259f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows to go back from the end of the text to its beginning, on a screen of 24 × 10.
    fn rows(text: &str) -> Option<usize> {
        let mut cursor = Cursor::default();
        let mark = cursor.mark();
        cursor.follow(text, 10);
        let sequence = cursor.back_to(mark, 24)?;
        let up = sequence.strip_prefix('\r').unwrap().strip_suffix("\x1b[J").unwrap();
        Some(up.trim_start_matches("\x1b[").trim_end_matches('A').parse().unwrap_or(0))
    }

    #[test]
    fn rows_are_counted_as_a_terminal_wraps() {
        for (text, expected) in [
            ("", 0),
            ("abc", 0),
            ("abc\n", 1),
            ("0123456789", 0),
            ("0123456789\n", 1),
            ("0123456789a", 1),
            ("0123456789a\n", 2),
            (" 10%\r 50%\r100%", 0),
            ("\x1b[31mred\x1b[0m\nx", 1),
            ("a\nb\n\x1b[2Ac", 0),
            ("a\n\x1b[A\n\n", 2),
            ("██████████\n", 1),
            ("\t\tx", 0),
        ] {
            assert_eq!(rows(text), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_counted_is_not_erased() {
        for text in ["漢字漢字漢字", "\x1b[5A", &"x\n".repeat(23), "a\x1b[3A\n"] {
            assert_eq!(rows(text), None, "{text:?}");
        }
        // Wide or not, it is one line.
        assert_eq!(rows("漢字\n"), Some(1));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_count(text in r"([a-z]|\n|\r|\t|\x08|\x1b\[[0-9;]{0,9}[A-DKm]|漢|é|\x1b){0,60}", columns in 0usize..20) {
            let mut cursor = Cursor::default();
            cursor.follow(&text, columns);
            let mark = cursor.mark();
            cursor.follow(&text, columns);
            let _ = cursor.back_to(mark, 24);
        }
    }

    #[test]
    fn another_width_makes_the_count_worthless() {
        let mut cursor = Cursor::default();
        cursor.follow("a\n", 10);
        let mark = cursor.mark();
        cursor.follow("b\n", 20);
        assert_eq!(cursor.back_to(mark, 24), None);
        let mark = cursor.mark();
        cursor.follow("c\n", 20);
        assert_eq!(cursor.back_to(mark, 24).as_deref(), Some("\r\x1b[1A\x1b[J"));
    }
}
