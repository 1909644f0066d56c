//! The machine's disk is full below workspaces that have room of their own: said as what it is, and no notebook is the
//! worse for it when there is room again.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use cellblock_proto::execution::{NoticeTopic, Output};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::ran::Ran;
use cellblock_tests::setup::{Setup, skip, we_are_root};
use cellblock_tests::{in_one_mode, wait};

in_one_mode!(
    full_disk_below_a_folder_is_no_limit_of_the_notebook,
    workspace_closed_by_a_full_disk_is_said_and_written_to_again_when_there_is_room,
);

/// Takes all there is, to the last page.
fn fill(daemon: &Daemon) -> PathBuf {
    let path = format!("/proc/{}/root{}/fill", daemon.pid(), daemon.state_dir().display());
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    path.into()
}

/// What was said of the disk. That a checkpoint failed on it is another thing, and may be said too.
fn topics(ran: &Ran) -> Vec<NoticeTopic> {
    let topics = ran.outputs.iter().filter_map(|piece| match &piece.output {
        Output::Notice { topic, .. } if *topic != NoticeTopic::Degraded => Some(*topic),
        _ => None,
    });
    topics.collect()
}

fn full_disk_below_a_folder_is_no_limit_of_the_notebook(setup: Setup) {
    if !we_are_root() {
        return skip("only root can mount a small disk");
    }
    let daemon = Daemon::start(setup.small_disk());
    let mut notebook = daemon.notebook_in_folder("a");
    notebook.run("keep = 1").ok();
    let fill = fill(&daemon);
    let write = "with open('more', 'wb', buffering=0) as file: assert file.write(bytes(1 << 20)) == 1 << 20";
    let ran = notebook.run(write);
    assert!(matches!(ran.raised(), Some("OSError" | "AssertionError")), "{:?}", ran.outcome);
    let ran = notebook.run("with open('less', 'wb', buffering=0) as file: file.write(bytes(1 << 20))");
    assert_eq!((ran.raised(), ran.lost()), (Some("OSError"), None), "{:?}", ran.outcome);
    assert_eq!(topics(&ran), [NoticeTopic::DiskFull]);
    // The control: with room nothing is said.
    fs::remove_file(fill).unwrap();
    let ran = notebook.run(write).ok();
    assert_eq!(topics(&ran), []);
}

/// Writes until the kernel has given the file system up; each way of being refused before that is passed over.
const UNTIL_CLOSED: &str = "import errno, os
here = os.open('.', os.O_RDONLY)
for number in range(1000):
    try:
        with open(f'more{number}', 'wb') as file:
            file.write(bytes(1 << 16)); file.flush(); os.fsync(file.fileno())
    except OSError as error:
        if error.errno == errno.EROFS: raise
    try: os.fsync(here)
    except OSError: pass
raise RuntimeError('it can still be written to')";

fn workspace_closed_by_a_full_disk_is_said_and_written_to_again_when_there_is_room(setup: Setup) {
    if !we_are_root() {
        return skip("only root can mount a small disk");
    }
    let daemon = Daemon::start(setup.small_disk());
    let mut notebook = daemon.notebook("a");
    let first = "keep = [1]; file = open('early', 'w'); file.write('early'); file.flush()\nimport os; os.fsync(file.fileno()); file.close()";
    notebook.run(first).ok();
    let before = notebook.status().worker_pid;
    let fill = fill(&daemon);
    let ran = notebook.run(UNTIL_CLOSED);
    assert_eq!((ran.raised(), ran.lost()), (Some("OSError"), None), "{:?}", ran.outcome);
    assert_eq!(topics(&ran), [NoticeTopic::WorkspaceClosed]);
    let (text, _) = &ran.notices()[0];
    assert!(text.contains("the machine's disk is full") && text.contains("operator"), "{text}");
    assert!(daemon.log().contains("the disk did not take what a cell wrote"), "{}", daemon.log());
    wait::until("a word of it", || daemon.log().contains("has no room for the next").then_some(()));
    assert_eq!(notebook.status().worker_pid, before, "there is no room for another yet");
    fs::remove_file(fill).unwrap();
    wait::until("it is replaced", || (notebook.status().worker_pid != before).then_some(()));
    let ran = notebook
        .run("keep.append(2); open('late', 'w').write('late'); print(keep, open('early').read())")
        .ok();
    assert_eq!((ran.stdout(), ran.lost()), ("[1, 2] early\n".to_owned(), None));
    assert!(!topics(&ran).contains(&NoticeTopic::WorkspaceClosed), "{:?}", ran.notices());
    assert!(daemon.log().contains("image was damaged, and is mended"), "{}", daemon.log());
}
