//! The control: the same probe by the same interpreter, started by us, outside of any sandbox.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cellblock_attacks::{Attack, Control, Probe, Seen};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::Range;

/// The longest control takes two seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// As much as is read of what a control prints; the one that floods prints 6 MiB.
const PRINTED_BYTES: u64 = 16 << 20;
/// A control that ends at once is over by then.
const PROMPT: Duration = Duration::from_millis(1_200);

/// Below a shell that is pid 1 there, beside somebody who can be killed.
const OWN: &str = "sleep 60 & \"$@\"; exit $?";
const EXTRA: &str = "exec 9</dev/zero; exec \"$@\"";

/// A session keyring that both sides of a control share, and the host's own is none of theirs.
const SESSION: Probe =
    Probe { file: "session.py", source: "from attack import syscall\nsyscall('keyctl', 1, None)\n" };

impl Range {
    /// Runs an attack's probe outside.
    pub(super) fn outside(&self, attack: &Attack) -> Result<Seen, String> {
        if attack.variants.is_empty() {
            return self.control_of(attack, "");
        }
        let mut seen = Seen::default();
        for variant in attack.variants {
            seen.merge(variant, &self.control_of(attack, variant)?);
        }
        Ok(seen)
    }

    fn control_of(&self, attack: &Attack, variant: &str) -> Result<Seen, String> {
        let mut given = self.given(variant, "control");
        given["outside"] = true.into();
        let given = given.to_string();
        let program = cellblock_attacks::program(&attack.probe, &given);
        // What comes before it is done by a process of its own, which lives until the probe has ended.
        let program = match &attack.before {
            Some((cellblock_attacks::Before::Neighbour, before)) => {
                let session = cellblock_attacks::program(&SESSION, &given);
                session + &beside(&cellblock_attacks::program(before, &given), &program)
            }
            Some((_, before)) => {
                format!("{}{program}release()\n", cellblock_attacks::program(before, &given))
            }
            None => program,
        };
        let mut command = self.command(attack.control);
        command.arg(&self.python).args(["-I", "-c", &program]);
        let begun = Instant::now();
        let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
        let (status, printed) = finish(&mut child)?;
        let mut seen = Seen::parse(&String::from_utf8_lossy(&printed));
        seen.note("end", &status_name(status));
        seen.note("truncated", "no");
        seen.note("prompt", if begun.elapsed() < PROMPT { "yes" } else { "no" });
        seen.retain(|name| attack.asks_for(name) || !["end", "truncated", "prompt"].contains(&name));
        Ok(seen)
    }

    fn command(&self, control: Control) -> Command {
        let mut command = match control {
            Control::Own(options) => {
                let mut command = Command::new("unshare");
                command.args([
                    "--user",
                    "--map-root-user",
                    "--pid",
                    "--fork",
                    "--kill-child",
                    "--mount-proc",
                ]);
                command.args(options).args(["sh", "-c", OWN, "sh"]);
                command
            }
            Control::ExtraDescriptor => {
                let mut command = Command::new("sh");
                command.args(["-c", EXTRA, "sh"]);
                command
            }
            Control::Same | Control::Root | Control::Honest => Command::new("env"),
        };
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .env("LANG", "C.UTF-8")
            .env("CELLBLOCK_ATTACK_SECRET", "told")
            .current_dir(self.places.control())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        command
    }
}

/// `first` in a child that waits, `then` in its parent; the child undoes its work at the end.
fn beside(first: &str, then: &str) -> String {
    let indent = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "import os\n\
         told, tell = os.pipe()\n\
         wait, go = os.pipe()\n\
         neighbour = os.fork()\n\
         if neighbour == 0:\n    os.close(go)\n{}    os.write(tell, b'x')\n    os.read(wait, 1)\n    release()\n    os._exit(0)\n\
         os.close(wait)\n\
         os.read(told, 1)\n\
         {then}os.close(go)\nos.waitpid(neighbour, 0)\n",
        indent(first)
    )
}

fn finish(child: &mut Child) -> Result<(ExitStatus, Vec<u8>), String> {
    let failed = |error: std::io::Error| format!("it cannot be watched: {error}");
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or("it has no number")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
    let stdout = child.stdout.take().ok_or("it has no output")?;
    let reader = std::thread::spawn(move || {
        let mut printed = Vec::new();
        let _ = stdout.take(PRINTED_BYTES).read_to_end(&mut printed);
        printed
    });
    let timeout = Timespec::try_from(PATIENCE).ok();
    let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref());
    if !matches!(ended, Ok(1)) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let status = child.wait().map_err(failed)?;
    // Who waits for the end of the pipe waits for all that hold it: attack 69 measures that.
    let printed = reader.join().map_err(|_| "its output cannot be read".to_owned())?;
    // What is left in its group has had its time.
    let _ = kill_process_group(pid, Signal::KILL);
    Ok((status, printed))
}

fn status_name(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit_{code}"),
        (None, Some(signal)) => format!("signal_{signal}"),
        (None, None) => "?".to_owned(),
    }
}
