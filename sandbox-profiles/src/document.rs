//! A file of settings as it is read: TOML, of which every fault is told with its place and the cure.
//!
//! The tables are walked by hand and not by serde, because a fault found in a value (a limit too
//! small, a path with `..`) must point at its line as exactly as one of syntax does, and because all
//! faults of a file are told at once.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::error::{Fault, quoted};

/// The only format there is.
const VERSION: &str = "1";

/// A key with its place.
pub type Key<'i> = Spanned<std::borrow::Cow<'i, str>>;

/// A value with its place.
pub type Value<'i> = Spanned<DeValue<'i>>;

/// A text, and what has been found wrong with it.
#[derive(Debug)]
pub struct Document<'t> {
    text: &'t str,
    faults: Vec<Fault>,
}

impl Document<'_> {
    /// Reads a text to what `walk` makes of its top table; of that the key `version` has been checked.
    ///
    /// # Errors
    /// Every fault, by line.
    pub fn read<T: Default>(
        text: &str,
        walk: impl FnOnce(&mut Document<'_>, &DeTable<'_>) -> T,
    ) -> Result<T, Vec<Fault>> {
        let mut document = Document { text, faults: Vec::new() };
        let found = match DeTable::parse(text) {
            Ok(table) => {
                document.version(table.get_ref());
                walk(&mut document, table.get_ref())
            }
            Err(error) => {
                document.fault(error.span().unwrap_or(0..0), error.message().replace('\n', " "));
                T::default()
            }
        };
        if document.faults.is_empty() {
            return Ok(found);
        }
        document.faults.sort_by_key(|fault| (fault.line, fault.column));
        Err(document.faults)
    }

    /// Notes a fault of these bytes of the text.
    pub fn fault(&mut self, span: Range<usize>, message: String) {
        self.faults.push(Fault::at(self.text, span, message));
    }

    /// Notes a key that nobody knows.
    pub fn unknown(&mut self, key: &Key<'_>, table: &str, known: &[&str]) {
        let message =
            format!("unknown key {}; the keys of {table} are {}", quoted(key.get_ref()), known.join(", "));
        self.fault(key.span(), message);
    }

    fn version(&mut self, table: &DeTable<'_>) {
        let Some(value) = table.get("version") else {
            let message = "the format's version is missing; begin with `version = 1`".to_owned();
            return self.fault(0..0, message);
        };
        match value.get_ref() {
            DeValue::Integer(version) if version.as_str() == VERSION => {}
            DeValue::Integer(version) => {
                let message = format!("version is {version}; this build reads version {VERSION}");
                self.fault(value.span(), message);
            }
            other => self.wrong_type("version", "a whole number", other, value.span()),
        }
    }

    /// A whole number within bounds.
    pub fn whole(&mut self, key: &str, value: &Value, allowed: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong_type(key, "a whole number", value.get_ref(), value.span());
        };
        let found = u64::from_str_radix(number.as_str(), number.radix()).ok();
        if found.is_none_or(|found| !allowed.contains(&found)) {
            let (least, most) = allowed.into_inner();
            let message = format!(
                "{key} is {}, it can be {least} to {most}",
                quoted(number.as_str()).trim_matches('"')
            );
            self.fault(value.span(), message);
            return None;
        }
        found
    }

    /// A string that has passed a check, or the fault that the check has named.
    pub fn checked<T>(
        &mut self,
        key: &str,
        value: &Value,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.string(key, value)?;
        check(text).map_err(|message| self.fault(value.span(), format!("{key} {message}"))).ok()
    }

    /// A string.
    pub fn string<'v>(&mut self, key: &str, value: &'v Value) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            other => self.wrong_type(key, "a string", other, value.span()),
        }
    }

    /// A table.
    pub fn table<'v, 'i>(&mut self, key: &str, value: &'v Value<'i>) -> Option<&'v DeTable<'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            other => self.wrong_type(key, "a table", other, value.span()),
        }
    }

    /// An array.
    pub fn array<'v, 'i>(&mut self, key: &str, value: &'v Value<'i>) -> Option<&'v DeArray<'i>> {
        match value.get_ref() {
            DeValue::Array(array) => Some(array),
            other => self.wrong_type(key, "an array", other, value.span()),
        }
    }

    /// The fault of a value of another type than is wanted.
    pub fn wrong_type<T: Default>(
        &mut self,
        key: &str,
        wanted: &str,
        found: &DeValue,
        span: Range<usize>,
    ) -> T {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.fault(span, format!("{key} must be {wanted}, it is {found}"));
        T::default()
    }
}
