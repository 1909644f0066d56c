//! Images as sixels, for terminals that draw those: decoded here, made as wide as the terminal at most,
//! and written with 256 colours. DEC's description: <https://vt100.net/docs/vt3xx-gp/chapter14.html>

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::Shape;
use super::picture::Picture;
use super::quantize::{COLOURS, Palette, Rgb};

/// Most pixels that are decoded, and memory for it: the image comes from code that is not trusted.
const PIXELS: u64 = 16_000_000;
const DECODER_BYTES: usize = 96 << 20;

/// Rows of one band.
const BAND: usize = 6;

/// A PNG as sixels; `None` when it cannot be decoded.
pub(super) fn draw(picture: &Picture<'_>, shape: &Shape) -> Option<String> {
    let (width, height) = picture.sides?;
    if u64::from(width) * u64::from(height) > PIXELS {
        return None;
    }
    let image = decode(picture.bytes)?;
    Some(encode(&image.at_most(shape.width())) + "\n")
}

/// Pixels in rows.
#[derive(Debug)]
struct Image {
    width: usize,
    pixels: Vec<Rgb>,
}

fn decode(bytes: &[u8]) -> Option<Image> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: DECODER_BYTES });
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().ok()?;
    let size = reader.output_buffer_size().filter(|size| *size <= DECODER_BYTES)?;
    let mut buffer = vec![0; size];
    let frame = reader.next_frame(&mut buffer).ok()?;
    if frame.bit_depth != BitDepth::Eight {
        return None;
    }
    let samples = frame.color_type.samples();
    let rgba = |pixel: &[u8]| match (frame.color_type, pixel) {
        (ColorType::Grayscale, [g]) => [*g, *g, *g, 255],
        (ColorType::GrayscaleAlpha, [g, a]) => [*g, *g, *g, *a],
        (ColorType::Rgb, [r, g, b]) => [*r, *g, *b, 255],
        (ColorType::Rgba, [r, g, b, a]) => [*r, *g, *b, *a],
        _ => [255; 4],
    };
    let pixels =
        buffer[..frame.buffer_size()].chunks_exact(samples).map(|pixel| on_white(rgba(pixel))).collect();
    Some(Image { width: frame.width as usize, pixels })
}

/// What shows through is paper.
fn on_white([r, g, b, alpha]: [u8; 4]) -> Rgb {
    let alpha = u32::from(alpha);
    [r, g, b].map(|value| u8::try_from((u32::from(value) * alpha + 255 * (255 - alpha)) / 255).unwrap_or(255))
}

impl Image {
    /// The image, or a smaller one: each pixel the mean of those it stands for.
    fn at_most(self, width: usize) -> Image {
        let height = self.pixels.len() / self.width.max(1);
        if self.width <= width || width == 0 {
            return self;
        }
        let new_height = (height * width / self.width).max(1);
        let mut pixels = Vec::with_capacity(width * new_height);
        for y in 0..new_height {
            let rows = y * height / new_height..((y + 1) * height).div_ceil(new_height);
            for x in 0..width {
                let columns = x * self.width / width..((x + 1) * self.width).div_ceil(width);
                let mut sums = [0u32; 3];
                let mut count = 0;
                for row in rows.clone() {
                    for pixel in
                        &self.pixels[row * self.width + columns.start..row * self.width + columns.end]
                    {
                        sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u32::from(*value));
                        count += 1;
                    }
                }
                pixels.push(sums.map(|sum| u8::try_from(sum / count.max(1)).unwrap_or(255)));
            }
        }
        Image { width, pixels }
    }
}

fn encode(image: &Image) -> String {
    let mut palette = Palette::of(&image.pixels);
    let indices = palette.indices(&image.pixels, image.width);
    let height = image.pixels.len() / image.width.max(1);
    // Square pixels; what is not drawn keeps the background.
    let mut out = format!("\x1bP0;1;0q\"1;1;{};{height}", image.width);
    for (number, colour) in palette.colours.iter().enumerate() {
        // Colours are told in percent.
        let [r, g, b] = colour.map(|value| (u32::from(value) * 100 + 127) / 255);
        out.push_str(&format!("#{number};2;{r};{g};{b}"));
    }
    for (number, band) in indices.chunks(image.width.max(1) * BAND).enumerate() {
        if number > 0 {
            out.push('-');
        }
        write_band(&mut out, band, image.width);
    }
    out + "\x1b\\"
}

/// Up to six rows: for each colour in them, which of the six pixels of each column have it.
fn write_band(out: &mut String, band: &[u8], width: usize) {
    let mut columns: [Option<Vec<u8>>; COLOURS] = [const { None }; COLOURS];
    for (place, index) in band.iter().enumerate() {
        let (row, column) = (place / width, place % width);
        columns[usize::from(*index)].get_or_insert_with(|| vec![0; width])[column] |= 1 << row;
    }
    for (number, bits) in columns.iter().enumerate() {
        let Some(bits) = bits else { continue };
        out.push_str(&format!("#{number}"));
        for run in bits.chunk_by(|a, b| a == b) {
            let sixel = char::from(b'?' + run[0]);
            match run.len() {
                1..=3 => out.extend(std::iter::repeat_n(sixel, run.len())),
                many => out.push_str(&format!("!{many}{sixel}")),
            }
        }
        // Back to the beginning of the band.
        out.push('$');
    }
}

#[cfg(test)]
mod tests {
    use super::super::picture::Picture;
    use super::*;

    fn png(width: u32, height: u32, colour: ColorType, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(colour);
        encoder.set_depth(BitDepth::Eight);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    fn drawn(bytes: &[u8], pixels: usize) -> Option<String> {
        let shape = Shape { columns: 80, rows: 24, pixels };
        draw(&Picture::read("image/png", bytes).unwrap(), &shape)
    }

    #[test]
    fn pixels_become_sixels_of_their_colours() {
        // Two columns, seven rows: red and green, the last row transparent.
        let row = [255, 0, 0, 255, 0, 255, 0, 255];
        let mut data = row.repeat(6);
        data.extend([9, 9, 9, 0, 9, 9, 9, 0]);
        let sixels = drawn(&png(2, 7, ColorType::Rgba, &data), 800).unwrap();
        let (head, bands) = sixels.split_once("\x1b\\").map(|(sixels, _)| sixels.split_at(21)).unwrap();
        assert_eq!(head, "\x1bP0;1;0q\"1;1;2;7#0;2;");
        let colour = |percent: &str| {
            let at = bands.find(percent).map(|at| &sixels[..at + 21]).unwrap();
            at.rsplit_once('#').unwrap().1.split(';').next().unwrap().to_owned()
        };
        let (red, green, white) = (colour("100;0;0"), colour("0;100;0"), colour("100;100;100"));
        let first = bands.split('-').next().unwrap();
        assert!(first.contains(&format!("#{red}~?$")), "{sixels:?}");
        assert!(first.contains(&format!("#{green}?~$")), "{sixels:?}");
        assert!(bands.ends_with(&format!("-#{white}@@$")), "{sixels:?}");
    }

    #[test]
    fn a_wide_image_is_made_narrower() {
        let bytes = png(1_000, 100, ColorType::Grayscale, &[7; 100_000]);
        let sixels = drawn(&bytes, 400).unwrap();
        assert!(sixels.contains("\"1;1;400;40#0;2;3;3;3#0!400~$-"), "{sixels:?}");
        assert!(drawn(&bytes, 2_000).unwrap().contains("\"1;1;1000;100"));
    }

    #[test]
    fn what_cannot_be_decoded_is_not_drawn() {
        let whole = png(100, 100, ColorType::Rgb, &[1; 30_000]);
        assert!(drawn(&whole, 800).is_some());
        assert_eq!(drawn(&whole[..whole.len() / 2], 800), None);
        let mut lying = whole.clone();
        // Its header says 8,000 × 4,000: more than is decoded.
        lying[16..24].copy_from_slice(&[0, 0, 0x1f, 0x40, 0, 0, 0x0f, 0xa0]);
        assert_eq!(drawn(&lying, 800), None);
        // 3,000 × 3,000: the checksum does not hold.
        lying[16..24].copy_from_slice(&[0, 0, 0x0b, 0xb8, 0, 0, 0x0b, 0xb8]);
        assert_eq!(drawn(&lying, 800), None);
    }
}
