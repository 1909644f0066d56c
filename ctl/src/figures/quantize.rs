//! The colours of an image as a palette of 256: median cut over colours of 5 bits a channel.

/// Colours of a palette.
pub(super) const COLOURS: usize = 256;

/// Bits a channel by which colours are told apart at first.
const BITS: u32 = 5;
const BINS: usize = 1 << (3 * BITS);

/// A colour: red, green, blue.
pub(super) type Rgb = [u8; 3];

/// A palette, and which of its colours each of an image's colours has become.
#[derive(Debug)]
pub(super) struct Palette {
    pub(super) colours: Vec<Rgb>,
    /// By bin; `None` was not looked for yet.
    of_bin: Vec<Option<u8>>,
    /// Every colour of the image is in it.
    exact: bool,
}

/// Colours that are near each other, how many pixels have them, and their sums.
#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    number: usize,
    pixels: u64,
    sums: [u64; 3],
}

impl Palette {
    /// The palette for these pixels.
    pub(super) fn of(pixels: &[Rgb]) -> Self {
        let mut bins = vec![Bin::default(); BINS];
        for pixel in pixels {
            let number = bin(*pixel);
            let bin = &mut bins[number];
            bin.number = number;
            bin.pixels += 1;
            for (sum, value) in bin.sums.iter_mut().zip(pixel) {
                *sum += u64::from(*value);
            }
        }
        bins.retain(|bin| bin.pixels > 0);
        let mut groups = vec![bins];
        while groups.len() < COLOURS {
            let widest = groups.iter().enumerate().max_by_key(|(_, group)| weight(group));
            let Some((at, group)) = widest.filter(|(_, group)| group.len() > 1) else { break };
            let (left, right) = split(group.clone());
            groups[at] = left;
            groups.push(right);
        }
        let exact = groups.iter().all(|group| group.len() < 2);
        let colours = groups.iter().map(|group| mean(group)).collect();
        Palette { colours, of_bin: vec![None; BINS], exact }
    }

    /// The places in the palette of an image's pixels, which stand in rows of so many. Where colours are
    /// missing, what a pixel lacks goes to its neighbours (Floyd and Steinberg).
    pub(super) fn indices(&mut self, pixels: &[Rgb], width: usize) -> Vec<u8> {
        if self.exact {
            return pixels.iter().map(|pixel| self.nearest(*pixel)).collect();
        }
        let mut indices = Vec::with_capacity(pixels.len());
        // Sixteenths, with one column more at each side.
        let (mut here, mut below) = (vec![[0i32; 3]; width + 2], vec![[0i32; 3]; width + 2]);
        for row in pixels.chunks(width.max(1)) {
            for (x, pixel) in row.iter().enumerate() {
                let wanted = [0, 1, 2].map(|c| (i32::from(pixel[c]) + here[x + 1][c] / 16).clamp(0, 255));
                let index = self.nearest(wanted.map(|value| u8::try_from(value).unwrap_or(0)));
                indices.push(index);
                let got = self.colours[usize::from(index)];
                for c in 0..3 {
                    let lack = wanted[c] - i32::from(got[c]);
                    here[x + 2][c] += lack * 7;
                    below[x][c] += lack * 3;
                    below[x + 1][c] += lack * 5;
                    below[x + 2][c] += lack;
                }
            }
            std::mem::swap(&mut here, &mut below);
            below.fill([0; 3]);
        }
        indices
    }

    /// The place of the nearest colour; looked for once for each bin.
    fn nearest(&mut self, pixel: Rgb) -> u8 {
        let number = bin(pixel);
        if let Some(index) = self.of_bin[number] {
            return index;
        }
        let distance = |colour: &Rgb| -> u32 {
            colour.iter().zip(pixel).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
        };
        let nearest = self.colours.iter().enumerate().min_by_key(|(_, colour)| distance(colour));
        let index = nearest.and_then(|(index, _)| u8::try_from(index).ok()).unwrap_or(0);
        self.of_bin[number] = Some(index);
        index
    }
}

fn bin(pixel: Rgb) -> usize {
    pixel.iter().fold(0, |number, value| number << BITS | usize::from(value >> (8 - BITS)))
}

fn mean(group: &[Bin]) -> Rgb {
    let pixels = group.iter().map(|bin| bin.pixels).sum::<u64>().max(1);
    let channel = |at: usize| group.iter().map(|bin| bin.sums[at]).sum::<u64>();
    [0, 1, 2].map(|at| u8::try_from((channel(at) + pixels / 2) / pixels).unwrap_or(u8::MAX))
}

/// The channel in which a group is widest, and how wide.
fn widest(group: &[Bin]) -> (usize, u64) {
    let value = |bin: &Bin, channel: usize| bin.sums[channel] / bin.pixels.max(1);
    let width = |channel: usize| {
        let values = || group.iter().map(|bin| value(bin, channel));
        values().max().unwrap_or(0) - values().min().unwrap_or(0)
    };
    (0..3).map(|channel| (channel, width(channel))).max_by_key(|(_, width)| *width).unwrap_or((0, 0))
}

/// How much a group wants to be split: wide ones that many pixels have. A group of one cannot be.
fn weight(group: &[Bin]) -> u64 {
    if group.len() < 2 {
        return 0;
    }
    let pixels: u64 = group.iter().map(|bin| bin.pixels).sum();
    (widest(group).1 + 1) * pixels.isqrt().max(1)
}

/// Two groups with about as many pixels each.
fn split(mut group: Vec<Bin>) -> (Vec<Bin>, Vec<Bin>) {
    let (channel, _) = widest(&group);
    group.sort_by_key(|bin| bin.sums[channel] / bin.pixels.max(1));
    let half = group.iter().map(|bin| bin.pixels).sum::<u64>() / 2;
    let mut before = 0;
    let middle = group.iter().position(|bin| {
        before += bin.pixels;
        before > half
    });
    let at = middle.unwrap_or(0).clamp(1, group.len() - 1);
    let right = group.split_off(at);
    (group, right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_colours_stay_as_they_are() {
        let pixels = [[255, 255, 255], [0x12, 0xab, 0x34], [255, 255, 255], [0, 0, 0]];
        let mut palette = Palette::of(&pixels);
        assert_eq!(palette.colours.len(), 3);
        let indices = palette.indices(&pixels, 2);
        let shown: Vec<Rgb> = indices.iter().map(|index| palette.colours[usize::from(*index)]).collect();
        assert_eq!(shown, pixels);
    }

    #[test]
    fn many_colours_become_near_ones() {
        let pixels: Vec<Rgb> =
            (0..=255).flat_map(|r| (0..=255).step_by(5).map(move |g| [r, g, r / 2 + g / 3])).collect();
        let mut palette = Palette::of(&pixels);
        assert_eq!(palette.colours.len(), COLOURS);
        let indices = palette.indices(&pixels, 52);
        let distance = |a: &Rgb, b: Rgb| a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(b))).sum::<u32>();
        let pairs = pixels.iter().zip(&indices);
        let total: u32 =
            pairs.map(|(pixel, index)| distance(pixel, palette.colours[usize::from(*index)])).sum();
        let mean = total / pixels.len() as u32;
        assert!(mean < 20, "{mean}");
        assert!(Palette::of(&[]).colours.len() <= 1);
    }
}
