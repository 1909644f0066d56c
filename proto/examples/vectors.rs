//! Writes the golden frames, `vectors/v1.json` and `vectors/v1-malformed.json`. They define the
//! wire: a difference in `git diff` after this is a change of the protocol.

#[path = "../tests/messages/mod.rs"]
mod messages;

use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let folder = Path::new(messages::FOLDER);
    std::fs::create_dir_all(folder)?;
    for (name, text) in
        [("v1.json", messages::render_frames()), ("v1-malformed.json", messages::render_malformed())]
    {
        let path = folder.join(name);
        std::fs::write(&path, text)?;
        eprintln!("wrote `{}`", path.display());
    }
    Ok(())
}
