//! Images to terminals that decode them: the graphics protocol of kitty, the inline images of iTerm2.
//! <https://sw.kovidgoyal.net/kitty/graphics-protocol/>, <https://iterm2.com/documentation-images.html>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Shape;
use super::picture::Picture;

/// Larger images go into a file: a terminal holds a whole sequence in memory.
const IMAGE_BYTES: usize = 10 << 20;

/// Base64 in one sequence of kitty's, by its rules.
const CHUNK_BYTES: usize = 4096;

/// A PNG for kitty: transmitted and shown at once, no answer asked for. It has the width of the terminal
/// at most.
pub(super) fn kitty(picture: &Picture<'_>, shape: &Shape) -> Option<String> {
    if picture.bytes.len() > IMAGE_BYTES {
        return None;
    }
    let width = if is_wider(picture, shape) { format!(",c={}", shape.columns) } else { String::new() };
    let base64 = STANDARD.encode(picture.bytes);
    let mut out = String::with_capacity(base64.len() + base64.len() / 200);
    let mut keys = format!("a=T,f=100,q=2{width},");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK_BYTES));
        rest = after;
        out.push_str(&format!("\x1b_G{keys}m={};{chunk}\x1b\\", u8::from(!rest.is_empty())));
        keys.clear();
    }
    Some(out + "\n")
}

/// An image for iTerm2.
pub(super) fn iterm2(picture: &Picture<'_>, shape: &Shape) -> Option<String> {
    if picture.bytes.len() > IMAGE_BYTES {
        return None;
    }
    let width = if is_wider(picture, shape) { "100%" } else { "auto" };
    let (length, base64) = (picture.bytes.len(), STANDARD.encode(picture.bytes));
    Some(format!("\x1b]1337;File=inline=1;size={length};width={width};preserveAspectRatio=1:{base64}\x07\n"))
}

fn is_wider(picture: &Picture<'_>, shape: &Shape) -> bool {
    picture.sides.is_some_and(|(width, _)| width as usize > shape.width())
}
