//! Style sheets of unknown origin, written anew for one place on the page.
//!
//! Tables bring sheets with them (pandas' Styler, polars, pygments). What they may say is little, so that
//! they stay in their place: each selector begins with the scope's class, ids and classes have a
//! namespace of their own, declarations are on a list and fetch nothing. A sheet that says more is no
//! loss either: its HTML goes into a frame.

/// Longest sheet, in bytes: a table of 10,000 styled cells has some 2 MB, and is no table for reading.
const SHEET_BYTES: usize = 4 << 20;

/// Before the ids and classes of strangers.
const NAMESPACE: &str = "u-";

/// Properties that stay within their element's box.
const PROPERTIES: &[&str] = &[
    "background",
    "background-color",
    "border",
    "border-bottom",
    "border-collapse",
    "border-color",
    "border-left",
    "border-radius",
    "border-right",
    "border-spacing",
    "border-style",
    "border-top",
    "border-width",
    "caption-side",
    "color",
    "cursor",
    "display",
    "empty-cells",
    "font",
    "font-family",
    "font-size",
    "font-style",
    "font-variant",
    "font-weight",
    "height",
    "letter-spacing",
    "line-height",
    "list-style",
    "margin",
    "margin-bottom",
    "margin-left",
    "margin-right",
    "margin-top",
    "max-height",
    "max-width",
    "min-height",
    "min-width",
    "opacity",
    "overflow",
    "overflow-wrap",
    "overflow-x",
    "overflow-y",
    "padding",
    "padding-bottom",
    "padding-left",
    "padding-right",
    "padding-top",
    "table-layout",
    "text-align",
    "text-decoration",
    "text-indent",
    "text-overflow",
    "text-transform",
    "vertical-align",
    "white-space",
    "width",
    "word-break",
    "word-wrap",
];

/// Functions in values; `url()` and its kin fetch.
const FUNCTIONS: [&str; 5] = ["rgb", "rgba", "hsl", "hsla", "linear-gradient"];

/// Pseudo-classes without arguments.
const PSEUDO_CLASSES: [&str; 4] = ["hover", "first-child", "last-child", "only-child"];

/// The sheet for what stands in an element of class `scope`; `None` when it says more than may be said.
pub(super) fn scoped(sheet: &str, scope: &str) -> Option<String> {
    if sheet.len() > SHEET_BYTES {
        return None;
    }
    let sheet = without_comments(sheet)?;
    let mut out = String::with_capacity(sheet.len() * 2);
    let mut rest = sheet.trim();
    while !rest.is_empty() {
        let (selectors, after) = rest.split_once('{')?;
        let (body, after) = after.split_once('}')?;
        rest = after.trim_start();
        let mut kept = Vec::new();
        for declaration in body.split(';').map(str::trim).filter(|declaration| !declaration.is_empty()) {
            // What one browser alone understands is no loss.
            if !declaration.starts_with('-') {
                kept.push(self::declaration(declaration)?);
            }
        }
        let selectors: Option<Vec<String>> =
            selectors.split(',').map(|selector| self::selector(selector.trim(), scope)).collect();
        out.push_str(&format!("{}{{{}}}\n", selectors?.join(","), kept.join(";")));
    }
    Some(out)
}

/// The declarations of a style attribute that are on the list; the others are dropped.
pub(super) fn declarations(attribute: &str) -> String {
    attribute.split(';').filter_map(|text| declaration(text.trim())).collect::<Vec<_>>().join("; ")
}

/// Ids or classes, each in the namespace of strangers.
pub(super) fn names(attribute: &str) -> String {
    let names = attribute.split_whitespace().filter(|name| is_name(name));
    names.map(|name| format!("{NAMESPACE}{name}")).collect::<Vec<_>>().join(" ")
}

fn without_comments(sheet: &str) -> Option<String> {
    let mut out = String::with_capacity(sheet.len());
    let mut rest = sheet;
    while let Some((before, after)) = rest.split_once("/*") {
        out.push_str(before);
        out.push(' ');
        rest = after.split_once("*/")?.1;
    }
    Some(out + rest)
}

fn declaration(text: &str) -> Option<String> {
    let (property, value) = text.split_once(':')?;
    let (property, value) = (property.trim().to_ascii_lowercase(), value.trim());
    let plain = value.strip_suffix("!important").unwrap_or(value).trim_end();
    let sides = ["top", "right", "bottom", "left"];
    let of_side = property.strip_prefix("border-").and_then(|rest| rest.split_once('-'));
    let known = PROPERTIES.contains(&property.as_str())
        || of_side
            .is_some_and(|(side, what)| sides.contains(&side) && ["color", "style", "width"].contains(&what));
    (known && is_harmless(plain, property.starts_with("font"))).then(|| format!("{property}: {value}"))
}

fn is_harmless(value: &str, quotes: bool) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || " #%.,()-".contains(c) || quotes && "'\"".contains(c);
    let balanced = ['\'', '"'].iter().all(|quote| value.matches(*quote).count() % 2 == 0)
        && value.matches('(').count() == value.matches(')').count();
    let calls = value
        .split('(')
        .rev()
        .skip(1)
        .all(|name| FUNCTIONS.iter().any(|function| word_before(name) == *function));
    // A negative length would cover what is not its own. Names of fonts may begin with a hyphen.
    let negative = value.split([' ', ',', '(']).any(|word| {
        word.strip_prefix('-').is_some_and(|rest| !quotes || rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    value.chars().all(plain) && balanced && calls && !negative
}

/// The name that a text ends with.
fn word_before(text: &str) -> &str {
    let start = text.rfind(|c: char| !(c.is_ascii_alphabetic() || c == '-')).map_or(0, |at| at + 1);
    &text[start..]
}

/// A selector that reaches only into the scope.
fn selector(text: &str, scope: &str) -> Option<String> {
    let mut out = format!(".{scope} ");
    let mut rest = text;
    let mut after_combinator = true;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() || ">+~".contains(first) {
            let end = rest.find(|c: char| !(c.is_whitespace() || ">+~".contains(c))).unwrap_or(rest.len());
            let combinator: String = rest[..end].split_whitespace().collect();
            if after_combinator || combinator.len() > 1 || end == rest.len() {
                return None;
            }
            out.push_str(if combinator.is_empty() { " " } else { &combinator });
            after_combinator = true;
            rest = &rest[end..];
            continue;
        }
        rest = match first {
            '*' => {
                out.push('*');
                &rest[1..]
            }
            '#' | '.' => {
                let (name, after) = split_name(&rest[1..])?;
                out.push_str(&format!("{first}{NAMESPACE}{name}"));
                after
            }
            ':' => {
                let (pseudo, after) = pseudo_class(&rest[1..])?;
                out.push_str(&format!(":{pseudo}"));
                after
            }
            _ => {
                let (name, after) = split_name(rest)?;
                out.push_str(name);
                after
            }
        };
        after_combinator = false;
    }
    (!after_combinator).then_some(out)
}

fn pseudo_class(text: &str) -> Option<(&str, &str)> {
    let (name, after) = split_name(text)?;
    let Some(arguments) = after.strip_prefix('(') else {
        return PSEUDO_CLASSES.contains(&name).then_some((name, after));
    };
    let (argument, after) = arguments.split_once(')')?;
    let plain = argument.chars().all(|c| c.is_ascii_alphanumeric() || "+- ".contains(c));
    let whole = &text[..text.len() - after.len()];
    (["nth-child", "nth-of-type", "nth-last-child"].contains(&name) && plain).then_some((whole, after))
}

fn split_name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    is_name(name).then_some((name, after))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_reaches_only_into_its_scope() {
        let sheet = "/* x */ #T_a th, #T_a_row0_col1{color:white;width:10em;\n-moz-x: y;\n\
            background: linear-gradient(90deg, transparent 0.0%, #d65f5f 0.1%)}\n\
            .hl:hover > td:nth-child(2n+1) b {font-family: 'Segoe UI', -apple-system; margin: 0 !important}";
        insta::assert_snapshot!(scoped(sheet, "s1").unwrap());
    }

    #[test]
    fn a_sheet_that_wants_more_is_refused_whole() {
        for sheet in [
            "@import url(//evil);",
            "@media print{a{color:red}}",
            "a{background:url(//evil)}",
            "a{background:image-set('//evil' 1x)}",
            "a{position:fixed}",
            "a{margin:-9px}",
            "a{margin:0 -9px}",
            "a{color:expression(1)}",
            "a{color:red}}b{color:blue}",
            "a{color:red;b{c:d}}",
            "a{color:red",
            "a{font-family:'x}",
            "a{color:\\72 ed}",
            "a{color:red</style><script>alert(1)</script>}",
            "</style>{color:red}",
            "> a{color:red}",
            "~ a{color:red}",
            "a > > b{color:red}",
            "a >{color:red}",
            "{color:red}",
            "a,{color:red}",
            "a[href^=x]{color:red}",
            "a::before{content:'x'}",
            "a:has(b){color:red}",
            "a:not(.s1 b){color:red}",
            ":root{color:red}",
            "a{color:rgb(1,2,3}",
            "a{width:calc(1px)}",
            "/* a{color:red}",
        ] {
            assert_eq!(scoped(sheet, "s1"), None, "{sheet}");
        }
    }
}
