//! An image by its own bytes: what it is, and how large.

use std::fmt;

use super::size;

/// Longest side, and most pixels: a terminal decodes what it gets into 4 bytes for each.
const SIDE: u32 = 10_000;
const PIXELS: u64 = 32_000_000;

/// What an image may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Png,
    Jpeg,
    Gif,
    Webp,
    Svg,
}

impl Kind {
    pub(super) fn extension(self) -> &'static str {
        match self {
            Kind::Png => "png",
            Kind::Jpeg => "jpg",
            Kind::Gif => "gif",
            Kind::Webp => "webp",
            Kind::Svg => "svg",
        }
    }

    fn of_mime(mime: &str) -> Option<Kind> {
        match mime {
            "image/png" => Some(Kind::Png),
            "image/jpeg" => Some(Kind::Jpeg),
            "image/gif" => Some(Kind::Gif),
            "image/webp" => Some(Kind::Webp),
            "image/svg+xml" => Some(Kind::Svg),
            _ => None,
        }
    }
}

/// An image that is what it is said to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Picture<'a> {
    pub(super) kind: Kind,
    pub(super) bytes: &'a [u8],
    /// Width and height in pixels; vectors have none.
    pub(super) sides: Option<(u32, u32)>,
}

/// Why an image is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPicture {
    #[error("an image of this type is not known")]
    Type,
    #[error("its bytes are none of such an image")]
    Bytes,
    #[error("{0}×{1} pixels are more than can be meant")]
    Size(u32, u32),
}

impl<'a> Picture<'a> {
    pub(super) fn read(mime: &str, bytes: &'a [u8]) -> Result<Self, NoPicture> {
        let kind = Kind::of_mime(mime).ok_or(NoPicture::Type)?;
        let sides = match kind {
            Kind::Png => Some(png_sides(bytes).ok_or(NoPicture::Bytes)?),
            Kind::Jpeg => Some(jpeg_sides(bytes).ok_or(NoPicture::Bytes)?),
            Kind::Gif => Some(gif_sides(bytes).ok_or(NoPicture::Bytes)?),
            Kind::Webp if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => None,
            Kind::Svg if is_svg(bytes) => None,
            Kind::Webp | Kind::Svg => return Err(NoPicture::Bytes),
        };
        if let Some((width, height)) = sides {
            let meant = (1..=SIDE).contains(&width) && (1..=SIDE).contains(&height);
            if !meant || u64::from(width) * u64::from(height) > PIXELS {
                return Err(NoPicture::Size(width, height));
            }
        }
        Ok(Picture { kind, bytes, sides })
    }
}

impl fmt::Display for Picture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::Png => "PNG image",
            Kind::Jpeg => "JPEG image",
            Kind::Gif => "GIF image",
            Kind::Webp => "WebP image",
            Kind::Svg => "SVG image",
        };
        match self.sides {
            Some((width, height)) => write!(f, "{name}, {width}×{height}, {}", size(self.bytes)),
            None => write!(f, "{name}, {}", size(self.bytes)),
        }
    }
}

/// The header chunk comes first, of 13 bytes: PNG, §11.2.1.
fn png_sides(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")?;
    let word = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    Some((word(0)?, word(4)?))
}

/// The logical screen: GIF89a, §18.
fn gif_sides(bytes: &[u8]) -> Option<(u32, u32)> {
    let header = bytes.strip_prefix(b"GIF89a").or_else(|| bytes.strip_prefix(b"GIF87a"))?;
    let word = |at: usize| Some(u16::from_le_bytes(header.get(at..at + 2)?.try_into().ok()?).into());
    Some((word(0)?, word(2)?))
}

/// The first frame header among the segments: ITU T.81, Annex B.
fn jpeg_sides(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8")?;
    loop {
        rest = rest.strip_prefix(b"\xff")?;
        let (marker, after) = rest.split_first()?;
        let word = |at: usize| Some(u16::from_be_bytes(after.get(at..at + 2)?.try_into().ok()?));
        match marker {
            // Padding: the marker is still to come.
            0xff => {}
            // SOF0 to SOF15, without DHT, JPG and DAC among them.
            0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(marker) => {
                return Some((word(5)?.into(), word(3)?.into()));
            }
            // The picture's data; what comes before it has no size.
            0xd8..=0xda => return None,
            _ => rest = after.get(word(0)?.max(2).into()..)?,
        }
    }
}

fn is_svg(bytes: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
    head.trim_start_matches('\u{feff}').trim_start().starts_with('<') && head.contains("<svg")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_break_the_readers(rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            for (mime, start) in
                [("image/png", &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..]), ("image/jpeg", b"\xff\xd8\xff"), ("image/gif", b"GIF89a")]
            {
                if let Ok(picture) = Picture::read(mime, &[start, &rest].concat()) {
                    prop_assert!(picture.sides.is_some_and(|(width, height)| width <= SIDE && height <= SIDE));
                }
            }
        }
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes
    }

    #[test]
    fn sides_are_read_from_each_kinds_header() {
        let read = |mime: &str, bytes: &[u8]| Picture::read(mime, bytes).unwrap().sides;
        assert_eq!(read("image/png", &png(640, 480)), Some((640, 480)));
        assert_eq!(read("image/gif", b"GIF89a\x01\x02\x03\0"), Some((513, 3)));
        let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc4\0\x02\xff\xc2\0\x0b\x08\x01\x00\x02\x00";
        assert_eq!(read("image/jpeg", jpeg), Some((512, 256)));
        assert_eq!(read("image/svg+xml", b"<?xml version='1.0'?>\n<svg/>"), None);
        assert_eq!(read("image/webp", b"RIFF....WEBPVP8 "), None);
    }

    #[test]
    fn bytes_that_are_no_image_are_none() {
        let wrong = |mime: &str, bytes: &[u8]| Picture::read(mime, bytes).unwrap_err();
        for (mime, bytes) in [
            ("image/png", &b"\x1b]52;c;ZXZpbA==\x07"[..]),
            ("image/png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0"),
            ("image/png", b"GIF89a\x01\0\x01\0"),
            ("image/gif", b"GIF89a\x01"),
            ("image/jpeg", b"\xff\xd8"),
            ("image/jpeg", b"\xff\xd8\xff\xda\0\x02"),
            ("image/jpeg", b"\xff\xd8\xff\xe0\0\0\xff"),
            ("image/svg+xml", b"text"),
            ("image/webp", b""),
        ] {
            assert_eq!(wrong(mime, bytes), NoPicture::Bytes, "{mime} {bytes:?}");
        }
        assert_eq!(wrong("image/tiff", b"II*\0"), NoPicture::Type);
        for (width, height) in [(0, 1), (1, 0), (10_001, 1), (9_000, 9_000), (u32::MAX, u32::MAX)] {
            assert_eq!(wrong("image/png", &png(width, height)), NoPicture::Size(width, height));
        }
    }
}
