//! Processes that do not outlive the tests.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};

use crate::server::lock;

type Job = Box<dyn FnOnce() + Send>;

/// Starts processes from a thread that lives as long as this process does. A child that asked the
/// kernel to be killed with its parent (`PR_SET_PDEATHSIG`) is killed with the *thread* that
/// started it, and those of a runtime come and go.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    static JOBS: LazyLock<Mutex<Sender<Job>>> = LazyLock::new(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
        Mutex::new(sender)
    });
    let (sender, child) = channel();
    let job = move || {
        // The caller waits for it.
        let _taken = sender.send(command.spawn());
    };
    let gone = || io::Error::other("the thread that starts processes is gone");
    lock(&JOBS).send(Box::new(job)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
