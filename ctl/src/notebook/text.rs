//! Bytes to text, piece by piece.

/// Decodes UTF-8 that comes in pieces: a character cut in two waits for its rest; what is not
/// UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub(crate) struct Utf8Decoder {
    rest: Vec<u8>,
}

impl Utf8Decoder {
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> String {
        let mut whole = std::mem::take(&mut self.rest);
        whole.extend_from_slice(bytes);
        let mut text = String::with_capacity(whole.len());
        let mut input = whole.as_slice();
        loop {
            let error = match std::str::from_utf8(input) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => error,
            };
            let (valid, after) = input.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            match error.error_len() {
                Some(length) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    input = &after[length..];
                }
                None => {
                    self.rest = after.to_vec();
                    return text;
                }
            }
        }
    }

    /// What is still waiting at the end: at most one U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_cut_anywhere_come_out_whole() {
        let text = "aä€🦀b";
        for cut in 0..text.len() {
            let mut decoder = Utf8Decoder::default();
            let (left, right) = text.as_bytes().split_at(cut);
            let both = decoder.decode(left) + &decoder.decode(right) + &decoder.finish();
            assert_eq!(both, text, "cut at {cut}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        let mut decoder = Utf8Decoder::default();
        assert_eq!(decoder.decode(b"a\xffb\xe2\x82"), "a\u{fffd}b");
        assert_eq!(decoder.finish(), "\u{fffd}");
    }
}
