use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

struct Place {
    temp: TempDir,
    tree: Tree,
}

/// A workspace in a folder that also holds something precious.
fn place() -> Place {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("workspace/folder")).unwrap();
    fs::create_dir(temp.path().join("outside")).unwrap();
    fs::write(temp.path().join("outside/precious"), "precious").unwrap();
    fs::write(temp.path().join("workspace/folder/file"), "content").unwrap();
    let root = fs::File::open(temp.path().join("workspace")).unwrap();
    Place { tree: Tree::new(root.into(), Instant::now() + Duration::from_secs(60)), temp }
}

impl Place {
    fn inside(&self, name: &str) -> std::path::PathBuf {
        self.temp.path().join("workspace").join(name)
    }

    fn names(&self, path: &str) -> Vec<(String, FileKind, u64)> {
        let (files, truncated) = self.tree.list(path).unwrap();
        assert!(!truncated);
        files.into_iter().map(|file| (file.name, file.kind, file.bytes)).collect()
    }

    fn precious(&self) -> String {
        fs::read_to_string(self.temp.path().join("outside/precious")).unwrap()
    }
}

#[test]
fn files_are_written_in_parts_read_in_parts_and_removed() {
    let place = place();
    place.tree.write("new/deep/a.txt", 0, b"hello").unwrap();
    place.tree.write("new/deep/a.txt", 5, b" world").unwrap();
    assert_eq!(place.tree.read("new/deep/a.txt", 4, 5).unwrap(), (b"o wor".to_vec(), 11));
    assert_eq!(place.tree.read("new/deep/a.txt", 11, 5).unwrap(), (Vec::new(), 11));
    assert_eq!(place.tree.read("new/deep/a.txt", u64::MAX, 5).unwrap(), (Vec::new(), 11));
    place.tree.write("./new/deep/a.txt", 0, b"less").unwrap();
    assert_eq!(place.tree.read("new/deep/a.txt", 0, 99).unwrap(), (b"less".to_vec(), 4));
    assert_eq!(place.names("new"), [("deep".to_owned(), FileKind::Folder, 0)]);
    assert_eq!(place.names("new/deep"), [("a.txt".to_owned(), FileKind::File, 4)]);
    place.tree.remove("new/deep/a.txt").unwrap();
    assert_eq!(place.names("new/deep"), []);
    place.tree.remove("new").unwrap();
    assert_eq!(place.names(""), [("folder".to_owned(), FileKind::Folder, 0)]);
}

#[test]
fn what_cannot_be_done_is_said_by_path_and_reason() {
    let place = place();
    let table: [(Result<(), Refusal>, ErrorCode, &str); 11] = [
        (place.tree.read("none", 0, 1).map(drop), ErrorCode::File, "`none`: no such file"),
        (place.tree.read("folder", 0, 1).map(drop), ErrorCode::File, "`folder`: it is a folder, not a file"),
        (place.tree.read("", 0, 1).map(drop), ErrorCode::File, "it is a folder"),
        (place.tree.list("folder/file").map(drop), ErrorCode::File, "it is a file, not a folder"),
        (place.tree.list("folder/file/x").map(drop), ErrorCode::File, "something on the way is no folder"),
        (place.tree.write("folder", 0, b""), ErrorCode::File, "it is a folder"),
        (place.tree.write("folder/new", 1, b""), ErrorCode::File, "no such file"),
        (place.tree.write("folder/file", 8, b""), ErrorCode::File, "it ends at byte 7"),
        (place.tree.write("", 0, b""), ErrorCode::File, "it is the workspace itself"),
        (place.tree.remove("."), ErrorCode::File, "it is the workspace itself"),
        (place.tree.remove("none/x"), ErrorCode::File, "no such file"),
    ];
    for (result, code, words) in table {
        let (found, message) = result.unwrap_err();
        assert!(found == code && message.contains(words), "{found:?} {message}, not {words}");
    }
    assert_eq!(fs::read_to_string(place.inside("folder/file")).unwrap(), "content");
}

#[test]
fn links_lead_nowhere_and_can_be_removed() {
    let place = place();
    let outside = place.temp.path().join("outside");
    symlink(outside.join("precious"), place.inside("file-link")).unwrap();
    symlink("../outside", place.inside("folder-link")).unwrap();
    symlink("folder", place.inside("inner-link")).unwrap();
    symlink(format!("/proc/self/fd/{}", place.tree.root.as_raw_fd()), place.inside("magic")).unwrap();
    // The control: a path that is simply opened shows it.
    assert_eq!(fs::read_to_string(place.inside("folder-link/precious")).unwrap(), "precious");
    for path in ["file-link", "folder-link", "inner-link", "magic", "folder-link/precious", "inner-link/file"]
    {
        for result in [
            place.tree.read(path, 0, 9).map(drop),
            place.tree.list(path).map(drop),
            place.tree.write(path, 0, b"overwritten"),
            place.tree.write(&format!("{path}/new"), 0, b"made"),
        ] {
            let (code, message) = result.unwrap_err();
            let named = message.contains("link") || message.contains("no folder");
            assert!(code == ErrorCode::File && named, "{path}: {code:?} {message}");
        }
    }
    place.tree.remove("folder-link/precious").unwrap_err();
    for (name, kind, _) in place.names("") {
        assert_eq!(kind == FileKind::Link, name != "folder", "{name}");
        place.tree.remove(&name).unwrap();
    }
    assert_eq!(place.names(""), []);
    assert_eq!(place.precious(), "precious");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
}

#[test]
fn pipes_and_sockets_are_named_and_never_opened() {
    let place = place();
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, place.inside("pipe"), FileType::Fifo, mode, 0).unwrap();
    let _socket = UnixListener::bind(place.inside("socket")).unwrap();
    for (name, words) in [("pipe", "a pipe"), ("socket", "a socket")] {
        for result in [place.tree.read(name, 0, 1).map(drop), place.tree.write(name, 0, b"x")] {
            let (code, message) = result.unwrap_err();
            assert!(code == ErrorCode::File && message.contains(words), "{message}");
        }
    }
    let kinds: Vec<_> = place.names("").into_iter().map(|(_, kind, _)| kind).collect();
    assert_eq!(kinds, [FileKind::Folder, FileKind::Special, FileKind::Special]);
    place.tree.remove("pipe").unwrap();
    place.tree.remove("socket").unwrap();
}

#[test]
fn every_name_that_is_listed_can_be_asked_for() {
    let place = place();
    let names: [&[u8]; 5] = [b"\xff\xfe", b"a\\b", b"new\nline", "größe".as_bytes(), b" "];
    for name in names {
        fs::write(place.inside("folder").join(OsStr::from_bytes(name)), name).unwrap();
    }
    for (name, ..) in place.names("folder") {
        let path = format!("folder/{name}");
        let (content, _) = place.tree.read(&path, 0, 99).unwrap();
        assert!(content == b"content" || path::escape(&content) == name, "{name}");
        place.tree.write(&path, 0, b"again").unwrap();
        place.tree.remove(&path).unwrap();
    }
    assert_eq!(place.names("folder"), []);
}

#[test]
fn of_many_names_the_first_are_told_and_an_answer_fits_into_a_frame() {
    let place = place();
    for number in 0..10_050 {
        fs::write(place.inside("folder").join(format!("{number:05}")), "").unwrap();
    }
    let (files, truncated) = place.tree.list("folder").unwrap();
    assert_eq!((files.len(), truncated), (MAX_NAMES, true));
    assert_eq!((files[0].name.as_str(), files[9_999].name.as_str()), ("00000", "09999"));
    // Names whose form in an answer is five times as long as they are.
    for number in 0..3_000 {
        let name = [format!("{number:04}").as_bytes(), &[0xFF; 200]].concat();
        fs::write(place.inside("").join(OsStr::from_bytes(&name)), "").unwrap();
    }
    let (files, truncated) = place.tree.list("").unwrap();
    assert!(truncated && files.len() > 500, "{}", files.len());
    let reply = cellblock_proto::client::Reply::Files { files, truncated };
    for codec in [cellblock_proto::codec::Codec::Json, cellblock_proto::codec::Codec::Bincode] {
        let bytes = codec.encode(&reply).unwrap().len();
        assert!(bytes <= Limits::DEFAULT.meta_bytes as usize, "{bytes} bytes in {codec:?}");
    }
}

#[test]
fn size_that_is_only_claimed_costs_nothing() {
    let place = place();
    fs::File::create(place.inside("sparse")).unwrap().set_len(1 << 40).unwrap();
    let (content, size) = place.tree.read("sparse", (1 << 40) - 3, u32::MAX).unwrap();
    assert_eq!((content, size), (vec![0; 3], 1 << 40));
}

#[test]
fn time_that_is_over_is_said() {
    let mut place = place();
    place.tree.until = Instant::now();
    for result in [place.tree.list("").map(drop), place.tree.remove("folder"), place.tree.write("x", 0, b"x")]
    {
        let (code, message) = result.unwrap_err();
        assert!(code == ErrorCode::Busy && message.contains("too long"), "{message}");
    }
}
