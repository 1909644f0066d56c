//! What an Execution gave.

use cellblock_proto::execution::{Bundle, End, ErrorReport, Outcome, Output, StreamName, Variables};

/// An output that was received.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Its place.
    pub seq: u64,
    /// What it is.
    pub output: Output,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// An Execution from beginning to end.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// How many were before it.
    pub position: u32,
    /// Its outputs, in order.
    pub outputs: Vec<Piece>,
    /// Its end.
    pub outcome: Outcome,
    /// The bytes of its expressions.
    pub payload: Vec<u8>,
}

impl Ran {
    /// All text of a stream.
    pub fn bytes(&self, stream: StreamName) -> Vec<u8> {
        let texts = self.outputs.iter().filter(|piece| piece.output == Output::Stream { name: stream });
        texts.flat_map(|piece| piece.payload.clone()).collect()
    }

    /// All text of stdout.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.bytes(StreamName::Stdout)).into_owned()
    }

    /// All text of stderr.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.bytes(StreamName::Stderr)).into_owned()
    }

    /// Kinds and texts in order, text of one stream in one piece. Notices are left out.
    pub fn shape(&self) -> Vec<(&'static str, String)> {
        let mut shape: Vec<(&'static str, Vec<u8>)> = Vec::new();
        for Piece { output, payload, .. } in &self.outputs {
            let (kind, text) = match output {
                Output::Stream { name } => {
                    let kind = if *name == StreamName::Stdout { "stdout" } else { "stderr" };
                    if let Some((last, text)) = shape.last_mut()
                        && *last == kind
                    {
                        text.extend_from_slice(payload);
                        continue;
                    }
                    (kind, payload.clone())
                }
                Output::Display { bundle, update: true, .. } => ("update", plain(bundle, payload)),
                Output::Display { bundle, .. } => ("display", plain(bundle, payload)),
                Output::Result { bundle, .. } => ("result", plain(bundle, payload)),
                Output::Error(report) => ("error", report.name.clone().into_bytes()),
                Output::ClearOutput { .. } => ("clear", Vec::new()),
                Output::InputRequest { prompt, .. } => ("input", prompt.clone().into_bytes()),
                Output::Truncated { .. } => ("truncated", Vec::new()),
                Output::Notice { .. } => continue,
            };
            shape.push((kind, text));
        }
        shape.into_iter().map(|(kind, text)| (kind, String::from_utf8_lossy(&text).into_owned())).collect()
    }

    /// The error, which there must be exactly one of.
    ///
    /// # Panics
    /// When there is not.
    pub fn error(&self) -> &ErrorReport {
        let errors: Vec<&ErrorReport> = self
            .outputs
            .iter()
            .filter_map(|piece| if let Output::Error(report) = &piece.output { Some(report) } else { None })
            .collect();
        assert_eq!(errors.len(), 1, "{self:?}");
        errors[0]
    }

    /// What was displayed or was the result: mime types and bytes.
    pub fn bundles(&self) -> Vec<Vec<(String, Vec<u8>)>> {
        let bundle = |piece: &Piece| match &piece.output {
            Output::Display { bundle, .. } | Output::Result { bundle, .. } => {
                Some(parts(bundle, &piece.payload))
            }
            _ => None,
        };
        self.outputs.iter().filter_map(bundle).collect()
    }

    /// All displayed representations of a mime type.
    pub fn of_mime(&self, mime: &str) -> Vec<Vec<u8>> {
        let parts = self.bundles().into_iter().flatten();
        parts.filter(|(found, _)| found == mime).map(|(_, bytes)| bytes).collect()
    }

    /// What cellblock had to say: sentence and names.
    pub fn notices(&self) -> Vec<(String, Vec<String>)> {
        let notice = |piece: &Piece| match &piece.output {
            Output::Notice { text, names, .. } => Some((text.clone(), names.clone())),
            _ => None,
        };
        self.outputs.iter().filter_map(notice).collect()
    }

    /// Stream, missing bytes and reason of each gap.
    pub fn gaps(&self) -> Vec<(Option<StreamName>, u64, String)> {
        let gap = |piece: &Piece| match &piece.output {
            Output::Truncated { stream, dropped_bytes, reason } => {
                Some((*stream, *dropped_bytes, reason.clone()))
            }
            _ => None,
        };
        self.outputs.iter().filter_map(gap).collect()
    }

    /// The name of the exception that ended it.
    pub fn raised(&self) -> Option<&str> {
        if let End::Error { name, .. } = &self.outcome.end { Some(name) } else { None }
    }

    /// The names that were lost with the worker; `None` when they were kept.
    pub fn lost(&self) -> Option<&[String]> {
        if let Variables::Lost { names } = &self.outcome.variables { Some(names) } else { None }
    }

    /// The same, which must have gone well.
    ///
    /// # Panics
    /// When it has not.
    pub fn ok(self) -> Self {
        assert_eq!(self.outcome.end, End::Ok, "{:?}\n{}", self.outputs, self.stderr());
        self
    }
}

/// A bundle's representations.
///
/// # Panics
/// When it names bytes that are not there.
pub fn parts(bundle: &Bundle, payload: &[u8]) -> Vec<(String, Vec<u8>)> {
    let bytes = |part: &cellblock_proto::execution::Part| {
        part.span.of(payload).expect("spans lie within the payload").to_vec()
    };
    bundle.parts.iter().map(|part| (part.mime.clone(), bytes(part))).collect()
}

fn plain(bundle: &Bundle, payload: &[u8]) -> Vec<u8> {
    let mut parts = parts(bundle, payload).into_iter();
    parts.find(|(mime, _)| mime == "text/plain").map(|(_, bytes)| bytes).unwrap_or_default()
}
