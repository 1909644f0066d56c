//! A table of HTML while it is read, and as text.

use crate::html::tokens::Tag;

/// Bounds of what is kept; the table comes from code that is not trusted.
const ROWS: usize = 60;
const COLUMNS: usize = 100;
const CELL_CHARS: usize = 50;

/// Columns to fit a table into where there is no terminal to ask.
const WIDTH: usize = 160;

/// What stands between two columns.
const GAP: &str = "  ";

#[derive(Debug, Default)]
pub(super) struct Table {
    caption: String,
    rows: Vec<Vec<Cell>>,
    /// Rows at the top that are the head.
    head: usize,
    in_head: bool,
    /// Where text goes.
    place: Place,
    /// Rows that cells from above still reach into, by column.
    reaching: Vec<usize>,
    rows_left_out: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Nowhere,
    Caption,
    Cell,
}

#[derive(Debug)]
struct Cell {
    text: String,
    column: usize,
    span: usize,
}

impl Table {
    pub(super) fn start(&mut self, tag: &Tag) {
        match tag.name.as_str() {
            "caption" => self.place = Place::Caption,
            "thead" => self.in_head = true,
            "tbody" | "tfoot" => self.in_head = false,
            "tr" => self.row(),
            "td" | "th" => self.cell(tag),
            "br" | "p" | "div" | "li" => self.text(" "),
            _ => {}
        }
    }

    pub(super) fn end(&mut self, name: &str) {
        match name {
            "caption" | "td" | "th" | "tr" => self.place = Place::Nowhere,
            "thead" => self.in_head = false,
            _ => {}
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        let target = match self.place {
            Place::Nowhere => return,
            Place::Caption => &mut self.caption,
            Place::Cell => match self.rows.last_mut().and_then(|row| row.last_mut()) {
                Some(cell) => &mut cell.text,
                None => return,
            },
        };
        for c in text.chars() {
            let c = if c.is_whitespace() { ' ' } else { c };
            // One more than is shown, to see that there is more.
            let full = target.len() > 4 * CELL_CHARS;
            if !full && !c.is_control() && (c != ' ' || !(target.is_empty() || target.ends_with(' '))) {
                target.push(c);
            }
        }
    }

    fn row(&mut self) {
        self.place = Place::Nowhere;
        if self.rows.len() == ROWS {
            self.rows_left_out += 1;
            return;
        }
        self.head += usize::from(self.in_head && self.head == self.rows.len());
        self.rows.push(Vec::new());
        self.reaching.iter_mut().for_each(|rows| *rows = rows.saturating_sub(1));
    }

    fn cell(&mut self, tag: &Tag) {
        self.place = Place::Nowhere;
        if self.rows_left_out > 0 {
            return;
        }
        if self.rows.is_empty() {
            self.row();
        }
        let Some(row) = self.rows.last_mut() else { return };
        let mut column = row.last().map_or(0, |cell| cell.column + cell.span);
        while self.reaching.get(column).is_some_and(|rows| *rows > 0) {
            column += 1;
        }
        if column >= COLUMNS {
            return;
        }
        let number = |name: &str| tag.get(name).parse::<usize>().unwrap_or(1);
        let span = number("colspan").clamp(1, COLUMNS - column);
        if self.reaching.len() < column + span {
            self.reaching.resize(column + span, 0);
        }
        // One row is this one.
        self.reaching[column..column + span].fill(number("rowspan").clamp(1, ROWS));
        row.push(Cell { text: String::new(), column, span });
        self.place = Place::Cell;
    }

    /// The table in so many columns of a terminal, 0 where there is none.
    pub(super) fn render(&self, width: usize) -> String {
        let width = if width == 0 { WIDTH } else { width };
        let cells = || self.rows.iter().flatten();
        let columns = cells().map(|cell| cell.column + cell.span).max().unwrap_or(0);
        let widths = self.widths(columns);
        let shown = fitting(&widths, width);
        let right: Vec<bool> = (0..shown).map(|column| self.is_numeric(column)).collect();
        let mut lines = Vec::new();
        if !self.caption.trim().is_empty() {
            lines.push(cut(&self.caption));
        }
        let total = widths[..shown].iter().sum::<usize>() + GAP.len() * shown.saturating_sub(1);
        for (number, row) in self.rows.iter().enumerate() {
            if number == self.head && number > 0 {
                lines.push("─".repeat(total));
            }
            lines.push(line(row, &widths[..shown], &right));
        }
        let left_out: Vec<String> = [(self.rows_left_out, "row"), (columns - shown, "column")]
            .iter()
            .filter_map(|(n, what)| more(*n, what))
            .collect();
        if !left_out.is_empty() {
            lines.push(format!("[{} more]", left_out.join(" and ")));
        }
        lines.join("\n") + "\n"
    }

    /// How wide each column must be.
    fn widths(&self, columns: usize) -> Vec<usize> {
        let mut widths = vec![1; columns];
        let cells = || self.rows.iter().flatten();
        for cell in cells().filter(|cell| cell.span == 1) {
            widths[cell.column] = widths[cell.column].max(cut(&cell.text).chars().count());
        }
        for cell in cells().filter(|cell| cell.span > 1) {
            let have = widths[cell.column..cell.column + cell.span].iter().sum::<usize>()
                + GAP.len() * (cell.span - 1);
            let want = cut(&cell.text).chars().count();
            widths[cell.column + cell.span - 1] += want.saturating_sub(have);
        }
        widths
    }

    /// Whether a column holds numbers, which stand at the right.
    fn is_numeric(&self, column: usize) -> bool {
        let body = self.rows.iter().skip(self.head).flatten();
        let mut texts =
            body.filter(|cell| cell.column == column && cell.span == 1).map(|cell| cell.text.trim());
        let number = |text: &str| {
            let digits = text.chars().any(|c| c.is_ascii_digit());
            let plain = text.chars().all(|c| c.is_ascii_digit() || " .,+-−%$€£eE()".contains(c));
            digits && plain || ["", "nan", "NaN", "None", "null", "<NA>", "…", "..."].contains(&text)
        };
        texts.all(number)
    }
}

/// How many columns stand beside each other in so many characters, at least one.
fn fitting(widths: &[usize], width: usize) -> usize {
    let mut used = 0;
    let mut fit = 0;
    for column in widths {
        used += column + if fit > 0 { GAP.len() } else { 0 };
        if used > width && fit > 0 {
            break;
        }
        fit += 1;
    }
    fit
}

fn line(row: &[Cell], widths: &[usize], right: &[bool]) -> String {
    let mut line = String::new();
    let mut column = 0;
    for cell in row.iter().take_while(|cell| cell.column < widths.len()) {
        while column < cell.column {
            line.push_str(&" ".repeat(widths[column] + GAP.len()));
            column += 1;
        }
        let end = (cell.column + cell.span).min(widths.len());
        let width = widths[column..end].iter().sum::<usize>() + GAP.len() * (end - column - 1);
        let text: String = cut(&cell.text).chars().take(width).collect();
        let padded = if right[column] && cell.span == 1 {
            format!("{text:>width$}")
        } else {
            format!("{text:<width$}")
        };
        line.push_str(&padded);
        line.push_str(GAP);
        column = end;
    }
    line.trim_end().to_owned()
}

fn cut(text: &str) -> String {
    let text = text.trim();
    if text.chars().count() <= CELL_CHARS {
        return text.to_owned();
    }
    text.chars().take(CELL_CHARS - 1).chain(['…']).collect()
}

fn more(count: usize, what: &str) -> Option<String> {
    match count {
        0 => None,
        1 => Some(format!("1 {what}")),
        many => Some(format!("{many} {what}s")),
    }
}

#[cfg(test)]
mod tests {
    use crate::show::html_text::render;

    #[test]
    fn cells_over_several_rows_and_columns_keep_their_places() {
        let html = "<table><thead><tr><th rowspan=2>k</th><th colspan=2>both</th></tr><tr><th>a</th><th>b</th></tr></thead>\
            <tbody><tr><th rowspan=2>x</th><td>1</td><td>ü</td></tr><tr><td>10</td><td>z</td></tr></tbody></table>";
        assert_eq!(render(html, 80), "k  both\n    a  b\n────────\nx   1  ü\n   10  z");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let row = "<tr>".to_owned() + &"<td>1234567</td>".repeat(20) + "</tr>";
        let html = format!("<table>{}</table>", row.repeat(70));
        let text = render(&html, 40);
        assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
        assert_eq!(text.lines().count(), 61);
        assert!(text.ends_with("[10 rows and 16 columns more]"), "{text}");
        let long = render(&format!("<table><tr><td>{}</td></tr></table>", "é".repeat(1_000)), 80);
        assert_eq!(long.chars().count(), 50);
    }

    #[test]
    fn spans_without_measure_are_harmless() {
        let huge = "<table>".to_owned()
            + &"<tr><td colspan=99999999999 rowspan=4000000000>x</td><td colspan=0>y</td></tr>".repeat(500);
        let text = render(&huge, 80);
        assert!(text.len() < 10_000, "{}", text.len());
        assert_eq!(render("<table><td>a<td>b<tr><table><td>c", 80), "a  b");
    }

    #[test]
    fn a_cell_cannot_speak_to_the_terminal() {
        assert_eq!(render("<table><tr><td>a\x1b]0;t\x07b&#27;[2J&#155;c", 80), "a]0;tb[2Jc");
    }
}
