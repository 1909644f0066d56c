//! The log for programs: each line as the fields of the event and of all spans around it, beside each other, so that
//! `notebook` is the notebook wherever it was said.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Who writes a line.
type Write = Box<dyn Fn(Map<String, Value>, &Metadata<'_>) + Send + Sync>;

/// Collects the fields of each line, and has it written.
pub(super) struct Structured(Write);

/// The fields of a span.
struct Fields(Map<String, Value>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Structured {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields(Map::new());
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Fields(Map::new());
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(Fields(fields)) = span.extensions().get() {
                line.0.extend(fields.clone());
            }
        }
        event.record(&mut line);
        (self.0)(line.0, event.metadata());
    }
}

impl Structured {
    /// Lines are written so.
    pub(super) fn new(write: impl Fn(Map<String, Value>, &Metadata<'_>) + Send + Sync + 'static) -> Self {
        Structured(Box::new(write))
    }

    /// A JSON object each, to standard error.
    pub(super) fn json() -> Self {
        Structured::new(|fields, metadata| {
            let mut line = Fields(fields);
            line.put("level", metadata.level().as_str().to_lowercase());
            line.put("target", metadata.target());
            line.put("time", now());
            let Ok(mut bytes) = super::json(&line.0) else { return };
            bytes.push(b'\n');
            // When nobody can read it the daemon goes on.
            let _ = io::stderr().lock().write_all(&bytes);
        })
    }
}

/// The time in UTC, e.g. `2026-01-31T12:00:00.000000Z`.
pub(crate) fn now() -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.put(field.name(), text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn time_is_written_as_rfc_3339_has_it() {
        let text = now();
        assert!(text.len() > 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{text}");
    }
}
