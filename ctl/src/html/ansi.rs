//! Terminal text to HTML: colours become spans, carriage returns overwrite their line, and every
//! other control sequence disappears.

use std::fmt::Write;

use super::escape;
use crate::show::Filter;

/// The text as HTML.
pub(super) fn to_html(text: &str) -> String {
    let safe = overwrite(&Filter::default().pass(text));
    let mut html = String::with_capacity(safe.len());
    let mut style = Style::default();
    let mut rest = safe.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        span(&mut html, &style, before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (sequence, tail) = after.split_at(end);
        if tail.starts_with('m') {
            style.apply(sequence);
        }
        rest = tail.get(1..).unwrap_or_default();
    }
    span(&mut html, &style, rest);
    html
}

/// What a terminal would show of a line with carriage returns: progress bars print hundreds.
/// Shorter text over longer is taken to replace it, as such bars pad or erase.
fn overwrite(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        let kept = body.trim_end_matches('\r');
        out.push_str(kept.rsplit('\r').next().unwrap_or_default());
        out.push_str(end);
    }
    out
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Style {
    bold: bool,
    italic: bool,
    underline: bool,
    foreground: Option<Colour>,
    background: Option<Colour>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    /// One of the eight, which follow the page's theme.
    Theme(u8),
    Exact(u8, u8, u8),
}

impl Style {
    /// Applies an SGR sequence, `1;31` say; ECMA-48 §8.3.117 and xterm's 256 colours.
    fn apply(&mut self, sequence: &str) {
        let mut codes = sequence.split([';', ':']).map(|code| code.parse::<u16>().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Style::default(),
                1 => self.bold = true,
                3 => self.italic = true,
                4 => self.underline = true,
                22 => self.bold = false,
                23 => self.italic = false,
                24 => self.underline = false,
                30..=37 => self.foreground = Some(Colour::Theme((code - 30) as u8)),
                40..=47 => self.background = Some(Colour::Theme((code - 40) as u8)),
                90..=97 => self.foreground = Some(Colour::Theme((code - 90) as u8)),
                100..=107 => self.background = Some(Colour::Theme((code - 100) as u8)),
                38 => self.foreground = extended(&mut codes).or(self.foreground),
                48 => self.background = extended(&mut codes).or(self.background),
                39 => self.foreground = None,
                49 => self.background = None,
                _ => {}
            }
        }
    }
}

/// What follows 38 or 48: `5;n` or `2;r;g;b`.
fn extended(codes: &mut impl Iterator<Item = u16>) -> Option<Colour> {
    let byte = |codes: &mut dyn Iterator<Item = u16>| u8::try_from(codes.next()?).ok();
    match codes.next()? {
        2 => Some(Colour::Exact(byte(codes)?, byte(codes)?, byte(codes)?)),
        5 => Some(match byte(codes)? {
            n @ 0..=15 => Colour::Theme(n % 8),
            n @ 16..=231 => {
                let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
                let n = n - 16;
                Colour::Exact(level(n / 36), level(n / 6 % 6), level(n % 6))
            }
            n => {
                let grey = 8 + 10 * (n - 232);
                Colour::Exact(grey, grey, grey)
            }
        }),
        _ => None,
    }
}

fn span(html: &mut String, style: &Style, text: &str) {
    if text.is_empty() {
        return;
    }
    if *style == Style::default() {
        html.push_str(&escape(text));
        return;
    }
    let (mut classes, mut colours) = (Vec::new(), String::new());
    for (on, class) in [(style.bold, "a1"), (style.italic, "a3"), (style.underline, "a4")] {
        if on {
            classes.push(class.to_owned());
        }
    }
    for (colour, letter, property) in
        [(style.foreground, 'f', "color"), (style.background, 'g', "background")]
    {
        match colour {
            Some(Colour::Theme(n)) => classes.push(format!("{letter}{n}")),
            Some(Colour::Exact(r, g, b)) => {
                let _ = write!(colours, "{property}:#{r:02x}{g:02x}{b:02x};");
            }
            None => {}
        }
    }
    let class = if classes.is_empty() { String::new() } else { format!(" class=\"{}\"", classes.join(" ")) };
    let colours = if colours.is_empty() { colours } else { format!(" style=\"{colours}\"") };
    let _ = write!(html, "<span{class}{colours}>{}</span>", escape(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_spans_and_text_is_escaped() {
        assert_eq!(
            to_html("\x1b[1;31mno\x1b[0m <b> \x1b[38;5;196mred\x1b[39m \x1b[48;2;1;2;3mx"),
            "<span class=\"a1 f1\">no</span> &lt;b&gt; <span style=\"color:#ff0000;\">red</span> \
             <span style=\"background:#010203;\">x</span>"
        );
    }

    #[test]
    fn a_progress_bar_is_shown_as_it_ended() {
        assert_eq!(to_html("10%\r50%\r100%\nend\r\n"), "100%\nend\n");
    }

    #[test]
    fn other_sequences_disappear() {
        assert_eq!(to_html("a\x1b]8;;http://evil\x07b\x1b[2Kc\x1b[38;5;999md"), "abcd");
    }
}
