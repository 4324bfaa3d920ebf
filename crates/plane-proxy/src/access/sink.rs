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
    File {
        path: PathBuf,
        file: File,
        /// The last write failed, perhaps in the middle of a line.
        broken: bool,
    },
    Syslog {
        path: PathBuf,
        socket: UnixDatagram,
    },
}

impl Sink {
    /// Opens a destination; a file is made if it is not there.
    pub(super) fn open(to: &LogTo) -> io::Result<Self> {
        Ok(match to {
            LogTo::Stdout => Sink::Stdout,
            LogTo::File(path) => Sink::File {
                file: append_to(path)?,
                path: path.clone(),
                broken: false,
            },
            LogTo::Syslog(path) => Sink::Syslog {
                path: path.clone(),
                socket: UnixDatagram::unbound()?,
            },
        })
    }

    /// Opens a file anew; nothing else needs it. If it cannot be opened, the old one stays in use.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Sink::File { path, file, broken } = self {
            *file = append_to(path)?;
            *broken = false;
        }
        Ok(())
    }

    /// Whether the file at the path is another than the one that is written to, or none.
    pub(super) fn has_moved(&self) -> bool {
        let Sink::File { path, file, .. } = self else {
            return false;
        };
        let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        match (file.metadata(), std::fs::metadata(path)) {
            (Ok(open), Ok(there)) => id(open) != id(there),
            (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
            (Err(_), Ok(_)) => false,
        }
    }

    /// Writes whole lines. On failure it says how many of them were written for sure.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), (u64, io::Error)> {
        let mut sent = 0;
        self.try_write(lines, &mut sent)
            .map_err(|error| (sent, error))
    }

    fn try_write(&mut self, lines: &[u8], sent: &mut u64) -> io::Result<()> {
        match self {
            Sink::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Sink::File { file, broken, .. } => {
                if *broken {
                    // The next line must not go on where that one ended.
                    file.write_all(b"\n")?;
                }
                *broken = true;
                file.write_all(lines)?;
                *broken = false;
                Ok(())
            }
            Sink::Syslog { path, socket } => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let mut message = syslog_head(now.unwrap_or_default())?;
                let head = message.len();
                for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                    message.truncate(head);
                    message.extend_from_slice(line);
                    socket.send_to(&message, &*path)?;
                    *sent += 1;
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

#[cfg(test)]
mod tests {
    use plimsoll_testkit::TempDir;

    use super::*;

    #[test]
    fn a_line_does_not_go_on_where_a_broken_one_ended() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "hal").unwrap();
        let mut sink = Sink::File {
            file: File::open(&path).unwrap(),
            path: path.clone(),
            broken: false,
        };
        let (sent, _) = sink.write(b"lost\n").unwrap_err();
        assert_eq!(sent, 0, "it is open for reading only");
        if let Sink::File { file, .. } = &mut sink {
            *file = append_to(&path).unwrap();
        }
        sink.write(b"one\n").unwrap();
        sink.write(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "hal\none\ntwo\n");
    }

    #[test]
    fn only_a_file_that_is_gone_or_another_has_moved() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("log");
        let sink = Sink::open(&LogTo::File(path.clone())).unwrap();
        assert!(!sink.has_moved());
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        assert!(sink.has_moved());
        std::fs::write(&path, "another").unwrap();
        assert!(sink.has_moved());
        assert!(!Sink::Stdout.has_moved());
    }

    #[test]
    fn what_a_syslog_daemon_took_is_told_from_what_it_did_not() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("syslog");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut sink = Sink::open(&LogTo::Syslog(path)).unwrap();
        // More than a datagram can be.
        let long = [b"one\ntwo\n", &vec![b'x'; 1 << 20][..], b"\nfour\n"].concat();
        let (sent, _) = sink.write(&long).unwrap_err();
        assert_eq!(sent, 2);
        drop(socket);
        let (sent, _) = sink.write(b"five\n").unwrap_err();
        assert_eq!(sent, 0);
    }
}
