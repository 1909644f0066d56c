//! Which builds understand each other between cellblockd and a shim that has outlived an upgrade.
//!
//! Programs of one build speak bincode. A shim of another build is spoken to in JSON, where a field that one side does
//! not know is passed over and one that is missing has its default, as long as each side's version of the link lies in
//! the other's range. Then nothing of it is lost: it is taken over like any other, and drained. Where it does not, the
//! shim understands [`Command::Retire`](crate::shim::Command::Retire) still, and nothing else is said to it.
//!
//! Frozen for ever, as JSON: `Resume`, `Retire`, `Refused`.

/// What this build speaks. Raised when something is changed that fields with defaults cannot carry: a command that a
/// shim must understand, an event that a daemon must, another meaning of either.
pub const LINK: u32 = 1;

/// The lowest version that this build still understands.
pub const LINK_MIN: u32 = 1;

/// The highest version that this build understands: a later one is left alone until it is known.
pub const LINK_MAX: u32 = LINK;

/// Whether this build understands what a program says that speaks `link`. Each side asks it of the other.
pub fn is_understood(link: u32) -> bool {
    (LINK_MIN..=LINK_MAX).contains(&link)
}

#[cfg(test)]
mod tests {
    use crate::codec::Codec;
    use crate::shim::{Command, Event, EventBody};

    #[test]
    fn what_every_build_says_to_every_other_stays_as_it_is() {
        let said = |text: &str| Codec::Json.decode::<Command>(text.as_bytes()).expect("a command");
        let resume = Command::Resume { build: "0.1.0+9".to_owned(), link: 7, taken: 3 };
        assert_eq!(said(r#"{"Resume":{"build":"0.1.0+9","link":7,"taken":3,"more":1}}"#), resume);
        let retire = Command::Retire { reason: "why".to_owned() };
        assert_eq!(said(r#"{"Retire":{"reason":"why","more":1}}"#), retire);
        let text = br#"{"seq":0,"body":{"Refused":{"reason":"why","more":1}},"more":1}"#;
        let refused = EventBody::Refused { reason: "why".to_owned() };
        assert_eq!(Codec::Json.decode::<Event>(text).expect("an event"), Event { seq: 0, body: refused });
    }
}
