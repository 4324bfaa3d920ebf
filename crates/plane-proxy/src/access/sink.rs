//! Where lines go: standard output, a file, or a syslog daemon.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use plimsoll_model::LogTo;

use super::civil::Civil;

/// The facility `local0` and the severity `info`: RFC 3164 §4.1.1.
const PRIORITY: u32 = 16 * 8 + 6;

/// An open destination.
#[derive(Debug)]
pub(super) enum Sink {
    Stdout,
    File { path: PathBuf, file: File },
    Syslog { path: PathBuf, socket: UnixDatagram },
}

impl Sink {
    /// Opens a destination; a file is made if it is not there.
    pub(super) fn open(to: &LogTo) -> io::Result<Self> {
        Ok(match to {
            LogTo::Stdout => Sink::Stdout,
            LogTo::File(path) => Sink::File {
                file: append_to(path)?,
                path: path.clone(),
            },
            LogTo::Syslog(path) => Sink::Syslog {
                path: path.clone(),
                socket: UnixDatagram::unbound()?,
            },
        })
    }

    /// Opens a file anew; nothing else needs it. If it cannot be opened, the old one stays in use.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Sink::File { path, file } = self {
            *file = append_to(path)?;
        }
        Ok(())
    }

    /// Whether the file at the path is another than the one that is written to, or none.
    pub(super) fn has_moved(&self) -> bool {
        let Sink::File { path, file } = self else {
            return false;
        };
        let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        match (file.metadata(), std::fs::metadata(path)) {
            (Ok(open), Ok(there)) => id(open) != id(there),
            _ => true,
        }
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Sink::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Sink::File { file, .. } => file.write_all(lines),
            Sink::Syslog { path, socket } => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let mut message = syslog_head(now.unwrap_or_default())?;
                let head = message.len();
                for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                    message.truncate(head);
                    message.extend_from_slice(line);
                    socket.send_to(&message, &*path)?;
                }
                Ok(())
            }
        }
    }
}

/// What a local syslog daemon expects before a message: no host, which it knows.
fn syslog_head(now: Duration) -> io::Result<Vec<u8>> {
    let mut head = format!("<{PRIORITY}>").into_bytes();
    Civil::new(now).syslog(&mut head)?;
    write!(head, " plimsoll[{}]: ", std::process::id())?;
    Ok(head)
}

/// Others may not read what clients asked for, but for the group.
fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).open(path)
}
