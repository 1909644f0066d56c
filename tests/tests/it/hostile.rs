//! What a cell may try against its own shim, the daemon and its neighbours, beyond `isolation`.

use cellblock_proto::client::Request;
use cellblock_proto::execution::{Death, End};
use cellblock_tests::daemon::Daemon;
use cellblock_tests::setup::Setup;
use cellblock_tests::{as_root_and_user, in_every_mode};

in_every_mode!(session_keyring_is_new_and_not_the_neighbours);

as_root_and_user!(
    forged_frames_end_their_own_worker_and_change_nothing_else,
    module_named_like_a_standard_one_does_not_keep_the_worker_from_starting,
    million_bytes_of_names_are_told_as_far_as_they_fit,
    deep_and_locked_folders_are_deleted,
);

/// Python that can speak frames on the worker's own channel.
const FORGE: &str = "import json, os, socket, struct
def forge(body, payload=b''):
    meta = json.dumps({'mark': 0, 'body': body}).encode()
    head = struct.pack('<BBBBIII', 0xCB, 6, 1, 0, 0, len(meta), len(payload))
    socket.socket(fileno=os.dup(3)).send(head + meta + payload)
";

fn session_keyring_is_new_and_not_the_neighbours(setup: Setup) {
    let daemon = Daemon::start(setup);
    let (mut one, mut other) = (daemon.notebook("one"), daemon.notebook("other"));
    // add_key(2) and keyctl(KEYCTL_SEARCH) of the session keyring (-3), by their x86_64 numbers.
    let keys = "import ctypes\nlibc = ctypes.CDLL(None)\n\
                add = lambda: libc.syscall(248, b'user', b'cellblock-probe', b'told', 4, -3)\n\
                search = lambda: libc.syscall(250, 10, -3, b'user', b'cellblock-probe', 0)\n";
    assert_eq!(
        one.run(&format!("{keys}print(search(), add() > 0, search() > 0)")).ok().stdout(),
        "-1 True True\n"
    );
    assert_eq!(other.run(&format!("{keys}print(search())")).ok().stdout(), "-1\n");
}

fn forged_frames_end_their_own_worker_and_change_nothing_else(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut neighbour = daemon.notebook("neighbour");
    neighbour.run("kept = 1").ok();
    for forged in [
        "{'output': {'execution': 'x', 'output': {'stream': {'name': 'stdout'}}}}, b'text'",
        "{'output': {'execution': 'x', 'output': {'notice': {'topic': 'variables_lost', 'text': 'all', 'names': []}}}}",
        "{'output': {'execution': 'x', 'output': {'truncated': {'dropped_bytes': 1, 'reason': 'none'}}}}",
        "{'output': {'execution': 'x', 'output': {'clear_output': {'wait': False}}}}, b'payload'",
        "{'output': {'execution': 'x', 'output': {'display': {'bundle': {'parts': [{'mime': 'a', 'span': \
         {'offset': 0, 'length': 9}}]}}}}}",
        "{'answer': 'busy'}",
        "{'output': {'execution': [d['execution'] for d in __import__('gc').get_objects() if type(d) is dict and \
         isinstance(d.get('execution'), str)][-1], 'output': {'input_request': {'prompt': 'x', 'password': False}}}}",
        "{'finished': {'execution': 'x', 'end': 'ok', 'execution_count': 1, 'names': {'added': [], 'changed': [], \
         'removed': []}, 'expressions': []}}",
        "{'ready': {'python': 'mine', 'proof': []}}",
    ] {
        let mut notebook = daemon.notebook("forger");
        let ran = notebook.run(&format!("{FORGE}forge({forged})\nimport time\ntime.sleep(20)"));
        let End::WorkerDied(Death::Protocol { .. }) = &ran.outcome.end else {
            panic!("{forged}: {:?}", ran.outcome.end)
        };
        assert_eq!(notebook.run("print('anew')").ok().stdout(), "anew\n", "{forged}");
    }
    assert_eq!(neighbour.run("kept").ok().of_mime("text/plain"), [b"1"]);
}

fn module_named_like_a_standard_one_does_not_keep_the_worker_from_starting(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let write = "for name in ('random', 'IPython', 'traceback'):\n    \
                 open(name + '.py', 'w').write('raise SystemExit(1)')\nopen('own.py', 'w').write('x = 7')";
    notebook.run(write).ok();
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Restart { notebook: id });
    assert_eq!(notebook.run("import own\nprint(own.x)").ok().stdout(), "7\n");
}

fn million_bytes_of_names_are_told_as_far_as_they_fit(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    for k in 0..40 {
        let code = format!("globals().update({{f'v{k}_{{i}}_' + 'x' * 150: i for i in range(330)}})");
        notebook.run(&code).ok();
    }
    assert!(notebook.status().names.len() > 1_000);
    let ran = notebook.run("import os\nos._exit(3)");
    assert_eq!(ran.outcome.end, End::WorkerDied(Death::Exited { code: 3 }));
    assert!(ran.lost().unwrap().len() > 1_000);
    assert_eq!(notebook.run("1").ok().notices().len(), 1);
}

fn deep_and_locked_folders_are_deleted(setup: Setup) {
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    let deep = "import os\nos.makedirs('locked/inside'); open('locked/inside/file', 'w').close(); os.chmod('locked', 0)\n\
                os.symlink('/etc', 'link')\nfor _ in range(5_000):\n    os.mkdir('d')\n    os.chdir('d')";
    notebook.run(deep).ok();
    let folder = daemon.workspace("a").parent().unwrap().to_owned();
    assert!(folder.is_dir());
    let id = notebook.id.clone();
    notebook.client.tell(&Request::Delete { notebook: id });
    assert!(!folder.exists());
    assert!(std::path::Path::new("/etc/passwd").exists());
    assert_eq!(daemon.notebook("b").run("print(1)").ok().stdout(), "1\n");
}
