//! What each way of showing writes, and that nothing hostile gets through.

use super::*;

fn figures(choice: Choice, terminal: bool, folder: &std::path::Path) -> Figures {
    Figures { choice, terminal, detected: Some(None), files: Files::into(folder.join("nb_figures")) }
}

fn png() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 40, 30);
    encoder.set_color(png::ColorType::Rgb);
    let pixels: Vec<u8> =
        (0..40 * 30 * 3u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

const SHAPE: Shape = Shape { columns: 80, rows: 24, pixels: 800 };

#[test]
fn each_way_writes_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let png = png();
    let show = |choice, terminal, mime: &str, bytes: &[u8]| {
        figures(choice, terminal, temp.path()).show(mime, bytes, None, &SHAPE)
    };
    let drawing = |choice| show(choice, true, "image/png", &png).drawing.unwrap();
    let kitty = drawing(Choice::Kitty);
    assert!(
        kitty.starts_with("\x1b_Ga=T,f=100,q=2,m=0;iVBORw0KGgo") && kitty.ends_with("\x1b\\\n"),
        "{kitty:?}"
    );
    let iterm2 = drawing(Choice::Iterm2);
    let start =
        format!("\x1b]1337;File=inline=1;size={};width=auto;preserveAspectRatio=1:iVBORw0KGgo", png.len());
    assert!(iterm2.starts_with(&start) && iterm2.ends_with("\x07\n"), "{iterm2:?}");
    let sixel = drawing(Choice::Sixel);
    assert!(sixel.starts_with("\x1bP0;1;0q\"1;1;40;30#0;2;") && sixel.ends_with("$\x1b\\\n"), "{sixel:?}");

    // What a protocol does not draw goes into a file, as does everything in a terminal that draws nothing.
    for (choice, mime, bytes) in [
        (Choice::Kitty, "image/gif", &b"GIF89a\x01\0\x01\0;"[..]),
        (Choice::Sixel, "image/svg+xml", b"<svg/>"),
        (Choice::Auto, "image/png", &png),
    ] {
        let shown = show(choice, true, mime, bytes);
        assert_eq!(shown.drawing, None);
        let path = shown.words.rsplit_once(": ").unwrap().1.trim_end_matches(']').to_owned();
        assert_eq!(std::fs::read(path).unwrap(), bytes);
    }
    let words = |choice, terminal| show(choice, terminal, "image/png", &png).words;
    let name = format!("[PNG image, 40×30, {}]", size(&png));
    assert_eq!(words(Choice::None, true), name);
    // Without a terminal there are no sequences, and files only when they were asked for.
    for choice in [Choice::Auto, Choice::Kitty, Choice::Iterm2, Choice::Sixel, Choice::None] {
        assert_eq!(words(choice, false), name, "{choice:?}");
    }
    assert!(
        words(Choice::Files, false).contains("nb_figures-4/figure-1.png]"),
        "{}",
        words(Choice::Files, false)
    );
}

#[test]
fn large_images_are_cut_in_chunks_and_made_as_wide_as_the_terminal() {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x07\xd0\0\0\x03\xe8".to_vec();
    bytes.resize(10_000, 7);
    let picture = Picture::read("image/png", &bytes).unwrap();
    let kitty = inline::kitty(&picture, &SHAPE).unwrap();
    let chunks: Vec<&str> = kitty.trim_end().split_inclusive("\x1b\\").collect();
    assert_eq!(chunks.len(), 4);
    assert!(chunks[0].starts_with("\x1b_Ga=T,f=100,q=2,c=80,m=1;"), "{:?}", &chunks[0][..40]);
    assert!(chunks[1].starts_with("\x1b_Gm=1;") && chunks[3].starts_with("\x1b_Gm=0;"));
    for chunk in &chunks {
        let base64 = chunk.split_once(';').unwrap().1.trim_end_matches("\x1b\\");
        assert!(
            base64.len() <= 4096 && base64.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
        );
    }
    assert!(inline::iterm2(&picture, &SHAPE).unwrap().contains(";width=100%;"));
    bytes.resize(11 << 20, 0);
    let picture = Picture::read("image/png", &bytes).unwrap();
    assert_eq!(inline::kitty(&picture, &SHAPE), None);
}

#[test]
fn bytes_that_are_no_image_reach_neither_terminal_nor_disk() {
    let temp = tempfile::tempdir().unwrap();
    for (mime, bytes, why) in [
        ("image/png", &b"\x1b]52;c;ZXZpbA==\x07"[..], "its bytes are none of such an image"),
        (
            "image/png",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xff\xff\xff\xff\xff\xff\xff",
            "more than can be meant",
        ),
        ("image/x\x1b[2J", b"x", "an image of this type is not known"),
    ] {
        for choice in [Choice::Kitty, Choice::Iterm2, Choice::Sixel, Choice::Files] {
            let shown = figures(choice, true, temp.path()).show(mime, bytes, None, &SHAPE);
            assert_eq!(shown.drawing, None);
            assert!(shown.words.contains(why), "{}", shown.words);
            assert!(!shown.words.contains('\x1b'), "{:?}", shown.words);
        }
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}
