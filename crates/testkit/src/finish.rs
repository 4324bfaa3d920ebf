//! Commands that run to their end.

use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::{Error, wait_until};

/// Runs a command to its end, with nothing to read. Tasks of a runtime with several threads go on
/// meanwhile, also those that were to run on this one.
///
/// # Errors
/// It cannot be started, or has not ended within the bound: then it is killed. How it ended is not
/// looked at.
pub fn finish(mut command: Command, bound: Duration) -> Result<Output, Error> {
    let what = words(&command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let several = Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if several {
        tokio::task::block_in_place(|| run(command, &what, bound))
    } else {
        run(command, &what, bound)
    }
}

/// As [`finish`], and it has to succeed; what it wrote to standard output.
///
/// # Errors
/// As there, or it fails; with what it wrote.
pub(crate) fn succeed(command: Command, bound: Duration) -> Result<String, Error> {
    let what = words(&command);
    let output = finish(command, bound)?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() {
        return Ok(out);
    }
    Err(Error::Failed(format!(
        "{what}: {}:\n{}\n{}",
        output.status,
        out.trim(),
        err.trim()
    )))
}

fn run(mut command: Command, what: &str, bound: Duration) -> Result<Output, Error> {
    let mut child = command.spawn().map_err(Error::io(what))?;
    let (out, err) = (read(child.stdout.take()), read(child.stderr.take()));
    let mut status = None;
    let ended = wait_until(bound, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    if !ended {
        // Fails only if it has ended in this moment.
        let _killed = child.kill();
        status = child.wait().ok();
        // Somebody else may hold its pipes: they are not waited for.
        return Err(Error::Failed(format!(
            "{what}: still running after {bound:?}, killed: {status:?}"
        )));
    }
    let joined = |thread: JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    let (stdout, stderr) = (joined(out), joined(err));
    let status = status.ok_or_else(|| Error::Failed(format!("{what}: nobody knows how it ended")));
    Ok(Output {
        status: status?,
        stdout,
        stderr,
    })
}

fn read(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What has come until then is shown.
            let _read = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// A command for people.
fn words(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let args = command.get_args().map(|word| word.to_string_lossy());
    let words: Vec<_> = std::iter::once(program).chain(args).collect();
    words.join(" ")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_it_wrote_comes_back() {
        assert_eq!(succeed(shell("echo yes"), BOUND).unwrap(), "yes\n");
        let error = succeed(shell("echo no >&2; exit 3"), BOUND).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("no") && error.contains("status: 3"),
            "{error}"
        );
        assert!(finish(Command::new("/nonexistent/program"), BOUND).is_err());
    }

    #[test]
    fn what_does_not_end_is_killed() {
        let error = finish(shell("exec sleep 1000"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("still running"), "{error}");
    }
}
