//! The profiles that ship with cellblock.

/// By name: their text.
pub const BUILTINS: [(&str, &str); 4] = [
    ("data-science", include_str!("../profiles/data-science.toml")),
    ("default", include_str!("../profiles/default.toml")),
    ("strict", include_str!("../profiles/strict.toml")),
    ("trusted", include_str!("../profiles/trusted.toml")),
];

/// The text of one.
pub fn text(name: &str) -> Option<&'static str> {
    BUILTINS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}
