//! A workspace that is made to mislead whoever lists, reads, writes and deletes it from outside. Each
//! trap has a control: the same path, simply opened, leads where it must not.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cellblock_proto::client::{ErrorCode, FileKind, Request};
use cellblock_proto::execution::End;
use cellblock_tests::client::Refused;
use cellblock_tests::daemon::Daemon;
use cellblock_tests::notebook::Notebook;
use cellblock_tests::setup::{Setup, Who, skip, we_are_root};
use cellblock_tests::wait;
use cellblock_tests::{as_root_and_user, in_one_mode};
use rustix::fs::{CWD, FileType, Mode, mknodat};

as_root_and_user!(
    links_show_nothing_of_the_outside,
    folder_that_is_swapped_for_a_link_shows_nothing_of_the_outside,
    pipes_sockets_and_devices_are_named_and_never_waited_for,
    names_that_are_no_text_are_listed_and_can_be_asked_for,
    deep_trees_are_served_and_removed,
    sizes_that_are_claimed_or_change_are_bounded,
    locked_and_leased_files_are_named_and_never_waited_for,
);
in_one_mode!(
    hundred_thousand_names_are_listed_in_part_and_removed,
    hard_links_to_the_outside_are_neither_made_nor_written_through,
);

/// What must not be seen: beside the workspaces, and open to all who find the way, so that it is the
/// way that is tested and not a mode.
struct Outside {
    folder: PathBuf,
}

const SECRET: &str = "of-the-outside";

impl Outside {
    fn new(daemon: &Daemon) -> Self {
        let folder = daemon.state_dir().join("outside");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("secret"), SECRET).unwrap();
        for path in [folder.join("secret"), folder.clone()] {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        Outside { folder }
    }

    fn check_untouched(&self) {
        let names: Vec<_> =
            fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read_to_string(self.folder.join("secret")).unwrap(), SECRET);
        assert_eq!(fs::metadata(self.folder.join("secret")).unwrap().mode() & 0o777, 0o777);
    }
}

fn is_file_error(refused: &Refused) -> bool {
    refused.code == ErrorCode::File || refused.code == ErrorCode::Busy
}

fn links_show_nothing_of_the_outside(setup: Setup) {
    let daemon = Daemon::start(setup);
    let outside = Outside::new(&daemon);
    let mut notebook = daemon.notebook_in_folder("a");
    let absolute = outside.folder.display();
    let code = format!(
        "import os\nfor name, to in [('absolute', '{absolute}'), ('relative', '../../../outside'), ('up', '..'),\n    \
         ('root', '/'), ('file', '{absolute}/secret'), ('proc', '/proc/self/root'), ('shadow', '/etc/shadow'),\n    \
         ('dangling', '{absolute}/new'), ('twice', 'relative')]:\n    os.symlink(to, name)\n\
         os.mkdir('folder'); os.symlink('../../../../outside', 'folder/inner')"
    );
    notebook.run(&code).ok();
    // The control: each of them leads out for whoever follows it.
    let workspace = daemon.workspace("a");
    for path in ["absolute/secret", "relative/secret", "file", "twice/secret", "folder/inner/secret"] {
        assert_eq!(fs::read_to_string(workspace.join(path)).unwrap(), SECRET, "{path}");
    }
    let names =
        ["absolute", "relative", "up", "root", "file", "proc", "shadow", "dangling", "twice", "folder/inner"];
    for name in names {
        for path in [name.to_owned(), format!("{name}/secret"), format!("{name}/../outside/secret")] {
            for refused in [
                notebook.read_file(&path).unwrap_err(),
                notebook.list_files(&path).unwrap_err(),
                notebook.write_file(&path, b"changed").unwrap_err(),
                notebook.write_file(&format!("{path}/new"), b"made").unwrap_err(),
            ] {
                assert!(refused.code == ErrorCode::File && refused.message.contains(name), "{refused:?}");
            }
        }
        notebook.remove_file(&format!("{name}/secret")).unwrap_err();
    }
    for path in ["..", "../a/workspace/file", "/etc/passwd", r"\x2e\x2e/x", r"folder\x2f..", "a\\"] {
        assert!(is_file_error(&notebook.read_file(path).unwrap_err()), "{path}");
    }
    // Links are listed as what they are, and can go.
    for (name, kind) in notebook.names("") {
        assert_eq!(kind == FileKind::Link, name != "folder", "{name}");
        notebook.remove_file(&name).unwrap();
    }
    assert_eq!(notebook.names(""), []);
    outside.check_untouched();
}

/// Swaps a folder and a link to the outside, and a file and a link to the secret, as fast as it can,
/// until it finds a file `stop`.
const SWAP: &str = "import ctypes, os
os.mkdir('d'); open('d/secret', 'w').write('inside'); os.symlink(OUTSIDE, 'l')
open('f', 'w').write('inside'); os.symlink(OUTSIDE + '/secret', 'g')
libc = ctypes.CDLL(None)
print('up', flush=True)
while not os.path.exists('stop'):
    for _ in range(100):
        for a, b in ((b'd', b'l'), (b'f', b'g')):
            assert libc.renameat2(-100, a, -100, b, 2) == 0
";

fn folder_that_is_swapped_for_a_link_shows_nothing_of_the_outside(setup: Setup) {
    let daemon = Daemon::start(setup);
    let outside = Outside::new(&daemon);
    let mut swapper = daemon.notebook("a");
    let mut running = swapper.start(&format!("OUTSIDE = '{}'\n{SWAP}", outside.folder.display()));
    swapper.until_stdout(&mut running, "up");
    let mut notebook = Notebook::open(daemon.client(), "a", None);
    // The control: whoever looks and then opens by name is led out.
    let workspace = daemon.workspace("a");
    let mut led_out = false;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !led_out && Instant::now() < deadline {
        let is_folder = fs::symlink_metadata(workspace.join("d")).is_ok_and(|found| found.is_dir());
        led_out =
            is_folder && fs::read_to_string(workspace.join("d/secret")).is_ok_and(|text| text == SECRET);
    }
    assert!(led_out, "the swap never hits, so it proves nothing");
    let (mut inside, mut refused) = (0, 0);
    let mut tally = |result: Result<(), Refused>| match result {
        Ok(()) => inside += 1,
        Err(error) if is_file_error(&error) => refused += 1,
        Err(error) => panic!("{error:?}"),
    };
    for round in 0..250 {
        for name in ["d/secret", "f", "g"] {
            let read = notebook.read_file(name);
            assert!(read.as_ref().map_or(true, |content| content == b"inside"), "{read:?}");
            tally(read.map(drop));
        }
        for name in ["d", "l"] {
            let listed = notebook.list_files(name);
            if let Ok((files, _)) = &listed {
                assert!(files.iter().all(|file| file.name != "secret" || file.bytes == 6), "{files:?}");
            }
            tally(listed.map(drop));
            tally(notebook.write_file(&format!("{name}/made"), b"x"));
            tally(notebook.write_file(&format!("{name}/secret"), b"inside"));
            tally(notebook.remove_file(&format!("{name}/made")));
        }
        tally(notebook.write_file(if round % 2 == 0 { "f" } else { "g" }, b"inside"));
    }
    // Whichever of the two it is at that moment: gone is what is here, not what is there.
    tally(notebook.remove_file("d"));
    notebook.write_file("stop", b"").unwrap();
    swapper.finish(running);
    eprintln!("of all requests {inside} were done inside and {refused} refused");
    assert!(inside > 100 && refused > 100, "{inside} done, {refused} refused: the race was not run");
    notebook.remove_file("l").unwrap();
    outside.check_untouched();
    // And the whole workspace goes without them.
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Delete { notebook: id });
    outside.check_untouched();
}

fn pipes_sockets_and_devices_are_named_and_never_waited_for(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook_in_folder("a");
    notebook
        .run(
            "import os, socket\nos.mkfifo('pipe')\nkept = socket.socket(socket.AF_UNIX); kept.bind('socket')",
        )
        .ok();
    let mut table = vec![("pipe", "a pipe"), ("socket", "a socket")];
    if we_are_root() {
        // A worker cannot make these; somebody with rights may have put them there.
        let at = |name: &str| daemon.workspace("a").join(name);
        mknodat(CWD, at("whiteout"), FileType::CharacterDevice, Mode::RWXU, 0).unwrap();
        mknodat(
            CWD,
            at("zero"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            rustix::fs::makedev(1, 5),
        )
        .unwrap();
        assert_eq!(fs::File::open(at("zero")).map(|_| ()).unwrap(), (), "the control");
        table.extend([("whiteout", "a device"), ("zero", "a device")]);
    } else {
        skip("only root can make devices");
    }
    let begun = Instant::now();
    for (name, words) in &table {
        for refused in [notebook.read_file(name).unwrap_err(), notebook.write_file(name, b"x").unwrap_err()] {
            assert!(refused.code == ErrorCode::File && refused.message.contains(words), "{refused:?}");
        }
        assert!(notebook.list_files(name).unwrap_err().message.contains("not a folder"));
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "something was waited for");
    assert!(notebook.names("").iter().all(|(_, kind)| *kind == FileKind::Special));
    for (name, _) in table {
        notebook.remove_file(name).unwrap();
    }
    assert_eq!(notebook.names(""), []);
}

fn names_that_are_no_text_are_listed_and_can_be_asked_for(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook
        .run("import os\nos.mkdir(b'\\xff\\xfe')\nfor name in (b'\\xc3', b'a\\nb', b'\\x1b[2J', b'a\\\\x41', b' ', b'...', b'\\x7f'):\n    \
              open(b'\\xff\\xfe/' + name, 'wb').write(name)")
        .ok();
    assert_eq!(notebook.names(""), [(r"\xff\xfe".to_owned(), FileKind::Folder)]);
    let names = notebook.names(r"\xff\xfe");
    assert_eq!(names.len(), 7, "{names:?}");
    for (name, _) in names {
        let path = format!(r"\xff\xfe/{name}");
        let content = notebook.read_file(&path).unwrap();
        assert_eq!(cellblock_proto::path::escape(&content), name);
        notebook.write_file(&path, b"").unwrap();
        notebook.remove_file(&path).unwrap();
    }
    assert_eq!(notebook.names(r"\xff\xfe"), []);
}

fn deep_trees_are_served_and_removed(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let path = vec!["d"; 300].join("/");
    notebook.run(&format!("import os\nos.makedirs('{path}'); open('{path}/f', 'w').write('deep')")).ok();
    assert_eq!(notebook.read_file(&format!("{path}/f")).unwrap(), b"deep");
    notebook.write_file(&format!("{path}/g"), b"new").unwrap();
    assert_eq!(notebook.names(&path).len(), 2);
    notebook.remove_file("d").unwrap();
    // Deeper than any path, locked in the middle. (Landlock looks at every folder above a new one, so
    // that digging takes a worker the square of it.)
    let code = "for _ in range(4_000):\n    os.mkdir('d')\n    os.chdir('d')\n    \
                if _ == 1_999: open('f', 'w').close(); top = os.open('.', os.O_PATH)\n\
                os.chdir('/workspace'); os.chmod(f'/proc/self/fd/{top}', 0)";
    notebook.run(code).ok();
    let begun = Instant::now();
    notebook.remove_file("d").unwrap();
    eprintln!("4,000 folders deep removed in {:?}", begun.elapsed());
    assert_eq!(notebook.names(""), []);
    for path in ["x/".repeat(3_000), "x".repeat(256), "y".repeat(100_000)] {
        let refused = notebook.write_file(&path, b"").unwrap_err();
        assert!(refused.message.contains("too long") && refused.message.len() < 1_000, "{refused:?}");
    }
    assert_eq!(notebook.names(""), [], "nothing was begun");
}

fn sizes_that_are_claimed_or_change_are_bounded(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    // A terabyte is above `file_bytes`; what is below is served without being made.
    let ran = notebook.run("import os\nf = open('sparse', 'wb')\nf.truncate(1 << 40)");
    assert_ne!(ran.outcome.end, End::Ok);
    notebook.run("import os\nopen('sparse', 'wb').truncate(4_294_967_296)").ok();
    let control = fs::File::create(daemon.state_dir().join("sparse")).unwrap();
    control.set_len(1 << 40).unwrap();
    let (content, size) = notebook.read_part("sparse", 4_294_967_290, 8 << 20).unwrap();
    assert_eq!((content, size), (vec![0; 6], 4_294_967_296));
    // Grows and shrinks while it is read.
    let code = "print('up', flush=True)\ndata = b'y' * (1 << 20)\nwhile not os.path.exists('stop'):\n    \
                with open('f', 'wb') as f:\n        for _ in range(3): f.write(data)\n    os.truncate('f', 100)";
    let mut running = notebook.start(code);
    notebook.until_stdout(&mut running, "up");
    let mut lengths = std::collections::BTreeSet::new();
    let mut reads = 0;
    wait::until("a hundred reads, and not all of one size", || {
        reads += 1;
        match notebook.read_part("f", 50, 4 << 20) {
            Ok((content, size)) => {
                assert!(content.len() as u64 + 50 <= size.max(50), "more than there was");
                assert!(content.iter().all(|byte| *byte == b'y' || *byte == 0));
                lengths.insert(content.len());
            }
            Err(error) => assert!(is_file_error(&error), "{error:?}"),
        }
        (reads >= 100 && lengths.len() > 1).then_some(())
    });
    notebook.write_file("stop", b"").unwrap();
    assert_eq!(notebook.finish(running).outcome.end, End::Ok);
}

fn hard_links_to_the_outside_are_neither_made_nor_written_through(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook_in_folder("a");
    let code = "import os\nfor path in ('/etc/hostname', '/etc/passwd', '/proc/version', '/usr/bin/env'):\n    \
                try: os.link(path, 'hard'); print('linked')\n    except OSError as error: print(error.errno in (1, 2, 13, 18))";
    assert_eq!(notebook.run(code).ok().stdout(), "True\n".repeat(4));
    // One that somebody with rights has put there: the daemon does not lend its own.
    if daemon.setup().who == Who::User {
        return skip("a daemon without rights has none to lend");
    }
    let outside = Outside::new(&daemon);
    fs::set_permissions(outside.folder.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(outside.folder.join("secret"), daemon.workspace("a").join("hard")).unwrap();
    assert_eq!(fs::read_to_string(daemon.workspace("a").join("hard")).unwrap(), SECRET, "the control");
    for refused in [notebook.read_file("hard").unwrap_err(), notebook.write_file("hard", b"x").unwrap_err()] {
        assert!(
            refused.code == ErrorCode::File && refused.message.contains("keeps its owner out"),
            "{refused:?}"
        );
    }
    notebook.remove_file("hard").unwrap();
    fs::set_permissions(outside.folder.join("secret"), fs::Permissions::from_mode(0o777)).unwrap();
    outside.check_untouched();
}

fn locked_and_leased_files_are_named_and_never_waited_for(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    // A lease keeps whoever opens the file without O_NONBLOCK waiting for 45 s.
    let code = "import fcntl, os, signal\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\nopen('leased', 'w').write('x')\n\
                f = open('leased', 'r+'); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                os.makedirs('locked/inner'); open('locked/file', 'w').close(); os.chmod('locked/file', 0); os.chmod('locked', 0)\n\
                open('shut', 'w').close(); os.chmod('shut', 0)";
    notebook.run(code).ok();
    let begun = Instant::now();
    for refused in
        [notebook.read_file("leased").unwrap_err(), notebook.write_file("leased", b"y").unwrap_err()]
    {
        assert_eq!(refused.code, ErrorCode::Busy, "{refused:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "the lease was waited for");
    for refused in [
        notebook.read_file("shut").unwrap_err(),
        notebook.list_files("locked").unwrap_err(),
        notebook.write_file("locked/new", b"x").unwrap_err(),
    ] {
        assert!(refused.code == ErrorCode::File && refused.message.contains("chmod"), "{refused:?}");
    }
    for name in ["locked", "shut", "leased"] {
        notebook.remove_file(name).unwrap();
    }
    assert_eq!(notebook.names(""), []);
}

fn hundred_thousand_names_are_listed_in_part_and_removed(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let code = "import os\nos.mkdir('many')\nfor n in range(100_000): os.close(os.open(f'many/{n:06}', os.O_CREAT | os.O_WRONLY))";
    notebook.run(code).ok();
    let begun = Instant::now();
    let (files, truncated) = notebook.list_files("many").unwrap();
    eprintln!("100,000 names listed in {:?}", begun.elapsed());
    assert_eq!((files.len(), truncated), (10_000, true));
    let first: Vec<String> = (0..10_000).map(|n| format!("{n:06}")).collect();
    assert!(files.iter().map(|file| &file.name).eq(first.iter()), "the first, in their order");
    assert_eq!(notebook.read_file("many/099999").unwrap(), b"", "what is not listed is there all the same");
    let begun = Instant::now();
    let (id, path) = (notebook.id.clone(), "many".to_owned());
    let removal = notebook.client.send(&Request::RemoveFile { notebook: id, path }, &[]);
    // The notebook itself and others go on meanwhile.
    assert_eq!(notebook.run("print(1)").ok().stdout(), "1\n");
    assert_eq!(daemon.notebook("b").run("print(2)").ok().stdout(), "2\n");
    assert_eq!(notebook.client.next(removal).reply, cellblock_proto::client::Reply::Done);
    eprintln!("100,000 names removed in {:?}", begun.elapsed());
    assert!(!Path::new(&daemon.workspace("a").join("many")).exists());
}
