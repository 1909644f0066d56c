//! A thousand random programs: the order in which their outputs arrive is the order in which they
//! made them. Another seed: `CELLBLOCK_ORDER_SEED=7`.

use cellblock_tests::daemon::Daemon;
use cellblock_tests::in_every_mode;
use cellblock_tests::setup::Setup;

in_every_mode!(a_thousand_random_programs_come_out_in_their_order);

const PROGRAMS: usize = 1_000;
const STEPS: usize = 8;

const PRELUDE: &str = "
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None)
did = []
def c_print(text):
    libc.printf(b'%s', text.encode()); libc.fflush(None)
def forked(text):
    pid = os.fork()
    if pid == 0:
        print(text, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
";

/// Statement, kind of output, and what comes after the token in it.
const ACTIONS: [(&str, &str, &str); 10] = [
    ("print('TOKEN')", "stdout", "\n"),
    ("print('TOKEN', end='')", "stdout", ""),
    ("_ = sys.stderr.write('TOKEN')", "stderr", ""),
    ("print('TOKEN', file=sys.stderr)", "stderr", "\n"),
    ("_ = os.write(1, b'TOKEN')", "stdout", ""),
    ("_ = os.write(2, b'TOKEN')", "stderr", ""),
    ("_ = subprocess.run(['echo', 'TOKEN'])", "stdout", "\n"),
    ("c_print('TOKEN')", "stdout", ""),
    ("display('TOKEN')", "display", ""),
    ("forked('TOKEN')", "stdout", "\n"),
];

/// xorshift64*, so that a seed means the same for ever.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % bound
    }
}

type Shape = Vec<(&'static str, String)>;

/// A program, and what must come of it.
fn program(number: usize, chance: &mut Chance) -> (String, Shape) {
    let mut code = String::from("did.clear()\n");
    let mut expected: Shape = Vec::new();
    for step in 0..=chance.below(STEPS) {
        let (statement, kind, end) = ACTIONS[chance.below(ACTIONS.len())];
        let token = format!("<{number}.{step}>");
        code += &format!("{}; did.append('{token}')\n", statement.replace("TOKEN", &token));
        let text = if kind == "display" { format!("'{token}'") } else { format!("{token}{end}") };
        match expected.last_mut() {
            Some((last, so_far)) if *last == kind && kind != "display" => *so_far += &text,
            _ => expected.push((kind, text)),
        }
    }
    code += "raise ValueError('the end')";
    expected.push(("error", "ValueError".to_owned()));
    (code, expected)
}

fn a_thousand_random_programs_come_out_in_their_order(setup: Setup) {
    let seed =
        std::env::var("CELLBLOCK_ORDER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(2_024_u64);
    let mut chance = Chance(seed.max(1));
    let daemon = Daemon::start(setup);
    let mut notebook = daemon.notebook("a");
    notebook.run(PRELUDE).ok();
    let mut differences = Vec::new();
    for number in 0..PROGRAMS {
        let (code, expected) = program(number, &mut chance);
        let ran = notebook.run(&code);
        // What the program itself noted is what the generator meant it to do.
        let tokens: Vec<&str> = code.split('\'').filter(|part| part.starts_with('<')).collect();
        if number % 50 == 0 {
            let did = notebook.run("print(did)").ok().stdout();
            assert!(tokens.iter().all(|token| did.contains(token)), "{did}\n{code}");
        }
        if ran.shape() != expected {
            differences.push(format!("{code}\nexpected {expected:?}\nfound    {:?}", ran.shape()));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {PROGRAMS} differ (seed {seed}):\n{}",
        differences.len(),
        differences[0]
    );
}
