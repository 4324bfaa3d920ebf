//! What a file says, and those that it names; and how to see that any of them is another now.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use plimsoll_config::{Files, MAX_BYTES};
use plimsoll_model::Page;

/// The text of a file, with those of the files that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) text: String,
    pub(super) files: Files,
}

impl Contents {
    /// Whether this may be `last` half written: its text ends where that of `last` goes on, or one of the
    /// files does that both have.
    pub(super) fn is_beginning_of(&self, last: &Self) -> bool {
        let file = |(name, text)| {
            let mut known = last.files.texts().filter(|(other, _)| *other == name);
            known.any(|(_, whole)| is_beginning(text, whole))
        };
        is_beginning(&self.text, &last.text) || self.files.texts().any(file)
    }
}

/// Whether more than white space is missing of `whole`.
fn is_beginning(text: &str, whole: &str) -> bool {
    let rest = whole.strip_prefix(text);
    rest.is_some_and(|rest| !rest.trim().is_empty())
}

/// The files that a text names.
pub(super) type Named = dyn Fn(&str) -> Vec<String> + Send + Sync;

/// Reads a file and those that it names. With it where all of these are, and the stamp of each from
/// before it was read: what changes meanwhile is seen later.
pub(super) fn read_all(
    path: &Path,
    named: &Named,
) -> (Vec<PathBuf>, Vec<Stamp>, Result<Contents, String>) {
    let mut paths = vec![path.to_owned()];
    let mut stamps = vec![Stamp::of(path)];
    let text = match read(path, MAX_BYTES) {
        Ok(text) => text,
        Err(why) => return (paths, stamps, Err(why)),
    };
    let names = named(&text);
    for name in &names {
        let path = beside(path, name);
        stamps.push(Stamp::of(&path));
        paths.push(path);
    }
    let files = Files::read(names, |name| read_page(path, name));
    (paths, stamps, Ok(Contents { text, files }))
}

/// Reads the files that a configuration names. Those without an absolute path are beside it.
pub fn read_named(config: &Path, text: &str) -> Files {
    Files::read(plimsoll_config::named_files(text), |name| {
        read_page(config, name)
    })
}

fn beside(path: &Path, name: &str) -> PathBuf {
    path.parent().unwrap_or(path).join(name)
}

fn read_page(config: &Path, name: &str) -> Result<String, String> {
    let path = beside(config, name);
    read(&path, Page::MAX_BYTES).map_err(|why| format!("{}: {why}", path.display()))
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// There is nothing.
    None,
    /// Device, inode, size, time of the last write, time of the last change of the inode.
    Some(u64, u64, u64, (i64, i64), (i64, i64)),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Self {
        let stamp = |m: Metadata| {
            Stamp::Some(
                m.dev(),
                m.ino(),
                m.size(),
                (m.mtime(), m.mtime_nsec()),
                (m.ctime(), m.ctime_nsec()),
            )
        };
        std::fs::metadata(path).map_or(Stamp::None, stamp)
    }
}

fn read(path: &Path, most: usize) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // A pipe or a terminal would block for ever.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a regular file".into());
    }
    let file = File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    let limit = most as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > most {
        return Err(format!("is longer than {most} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is not UTF-8 text: byte {at} cannot be part of it")
    })
}
