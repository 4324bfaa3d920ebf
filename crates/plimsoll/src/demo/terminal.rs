//! The terminal: keys at once and without echo, and all as it was at the end.

use std::io::{self, Read};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use crate::error::Error;
use crate::out;

/// Hide the cursor.
const HIDE: &str = "\u{1b}[?25l";
/// Show the cursor, wrap lines.
const SHOW: &str = "\u{1b}[?25h\u{1b}[?7h";

/// A terminal that gives single keys; put back as it was when this is dropped.
pub(super) struct Terminal {
    before: Option<Termios>,
    /// Lines of the last picture.
    lines: usize,
}

impl Terminal {
    /// Takes the terminal, if there is one: of standard output for pictures, and of standard input
    /// for keys, if that is one, too.
    pub(super) fn take() -> Result<Option<Self>, Error> {
        if !out::is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(rustix::stdio::stdin()).ok();
        if let Some(before) = &before {
            let mut single = before.clone();
            // Output stays as it is, and Ctrl-C a signal.
            single.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &single)
                .map_err(|why| Error::Failed(format!("the terminal: {why}")))?;
        }
        let terminal = Self { before, lines: 0 };
        out::print(HIDE)?;
        Ok(Some(terminal))
    }

    /// The keys; none if standard input is no terminal.
    pub(super) fn keys(&self) -> Option<mpsc::Receiver<u8>> {
        self.before.as_ref()?;
        let (sender, receiver) = mpsc::channel(16);
        // It waits in a read when the process ends, and ends with it.
        std::thread::spawn(move || {
            let mut key = [0];
            while matches!(io::stdin().lock().read(&mut key), Ok(1)) {
                let [key] = key;
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        });
        Some(receiver)
    }

    /// Draws a picture in the place of the last one. Lines that are too long are cut.
    pub(super) fn draw(&mut self, picture: &str) -> Result<(), Error> {
        let mut text = String::from("\u{1b}[?7l\r");
        if self.lines > 0 {
            text.push_str(&format!("\u{1b}[{}A", self.lines));
        }
        for line in picture.lines() {
            text.push_str(line);
            text.push_str("\u{1b}[K\n");
        }
        text.push_str("\u{1b}[J\u{1b}[?7h");
        self.lines = picture.lines().count();
        out::print(&text)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = out::print(SHOW);
        if let Some(before) = &self.before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}
