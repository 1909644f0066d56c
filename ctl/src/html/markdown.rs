//! Markdown cells. Raw HTML in them passes the allow-list like any other; a formula that cannot be read
//! stays as it was typed, in a face of its own.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, html};
use serde_json::Value;

use super::math;
use super::sanitize::sanitize;

/// The text as safe HTML. `attachments` are the cell's, by file name: {mime: base64}.
pub(super) fn render(source: &str, attachments: &Value) -> String {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_MATH;
    let events = Parser::new_ext(source, options).map(|event| match event {
        Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
            let dest_url = attached(&dest_url, attachments).map_or(dest_url, CowStr::from);
            Event::Start(Tag::Image { link_type, dest_url, title, id })
        }
        other => other,
    });
    let mut unsafe_html = String::with_capacity(source.len() * 2);
    html::push_html(&mut unsafe_html, events);
    math::in_markdown(&sanitize(&unsafe_html, None).html)
}

fn attached(link: &str, attachments: &Value) -> Option<String> {
    let name = link.strip_prefix("attachment:")?;
    let (mime, data) = attachments[name].as_object()?.iter().next()?;
    Some(format!("data:{mime};base64,{}", data.as_str()?))
}
