//! How the cases are written: see `tests/desync/README.md`.

use std::path::{Path, PathBuf};

/// A case: what is sent, and what has to come of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Case {
    /// File and name, for people.
    pub(super) name: String,
    /// Why it has to be so.
    pub(super) reason: String,
    /// `?`: the client's requests, where the case is about a backend's answer.
    pub(super) asked: Vec<u8>,
    /// `>`: the bytes.
    pub(super) sent: Vec<u8>,
    /// `<`: the answers, in their order.
    pub(super) answers: Vec<Answer>,
    /// `!`: a request of which a backend may have seen a beginning.
    pub(super) broken: Option<String>,
    /// `+`: fields that are there, once, with this value.
    pub(super) with: Vec<(String, String)>,
    /// `-`: fields that are not there.
    pub(super) without: Vec<String>,
    /// `$`: what the backend does behind its bytes, and whether its connection is used again.
    pub(super) then: Vec<String>,
}

/// An answer that a client has to get.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// What the backend says of itself: `GET /path 0`, or `"the body"`.
    pub(super) what: String,
    /// The connection ends with it.
    pub(super) close: bool,
    /// It ends before its end.
    pub(super) cut: bool,
}

impl Answer {
    fn read(text: &str) -> Option<Self> {
        let (status, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut rest = rest.trim();
        let mut answer = Self {
            status: status.parse().ok()?,
            ..Self::default()
        };
        while let Some((before, flag)) = rest.rsplit_once(' ').or(Some(("", rest))) {
            match flag {
                "close" => answer.close = true,
                "cut" => answer.cut = true,
                _ => break,
            }
            rest = before.trim();
        }
        answer.what = rest.to_owned();
        Some(answer)
    }
}

/// All cases below `tests/desync/KIND`.
pub(super) fn read_all(kind: &str) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/desync");
    let folder = folder.join(kind);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let cases: Vec<Case> = files.iter().flat_map(|file| read(file)).collect();
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "two cases of one name");
    cases
}

fn read(file: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(file).unwrap();
    let stem = file.file_stem().unwrap().to_str().unwrap();
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{}:{}: {line}", file.display(), number + 1);
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case {
                name: format!("{stem}/{name}"),
                ..Case::default()
            });
            continue;
        }
        let Some(case) = cases.last_mut() else {
            assert!(line.is_empty() || line.starts_with('#'), "{place}");
            continue;
        };
        let (mark, rest) = line.split_at_checked(2).unwrap_or((line, ""));
        match mark {
            "> " => case.sent.extend(unescape(rest)),
            "? " => case.asked.extend(unescape(rest)),
            "< " => case.answers.push(Answer::read(rest).expect(&place)),
            "! " => case.broken = Some(rest.to_owned()),
            "- " => case.without.push(rest.to_owned()),
            "+ " => {
                let (name, value) = rest.split_once(": ").expect(&place);
                case.with.push((name.to_owned(), value.to_owned()));
            }
            "$ " => case.then.push(rest.to_owned()),
            _ => {
                case.reason.push_str(line.trim());
                case.reason.push(' ');
            }
        }
    }
    for case in &cases {
        assert!(
            !case.sent.is_empty() && !case.answers.is_empty(),
            "{case:?}"
        );
        assert!(
            case.reason.trim().len() > 10,
            "{} says no reason",
            case.name
        );
    }
    cases
}

/// `\r`, `\n`, `\t`, `\0`, `\\`, `\xNN`, and `\{a*300}` for 300 times what is before the star.
pub(super) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (escape, after) = rest.split_first().expect("something behind the backslash");
        rest = after;
        match escape {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'0' => bytes.push(0),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                let digits = std::str::from_utf8(&rest[..2]).unwrap();
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &rest[2..];
            }
            b'{' => {
                let end = rest.iter().position(|b| *b == b'}').expect("a brace");
                let inner = std::str::from_utf8(&rest[..end]).unwrap();
                let (what, times) = inner.rsplit_once('*').expect("a star");
                bytes.extend(unescape(what).repeat(times.parse().unwrap()));
                rest = &rest[end + 1..];
            }
            other => panic!("\\{} is no escape", char::from(*other)),
        }
    }
    bytes
}

/// How to cut bytes into segments: not at all, everywhere, and around each end of a line.
pub(super) fn cuts(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    const EVERYWHERE: usize = 2_000;
    const PLACES: usize = 6;
    let mut ways = vec![vec![bytes]];
    if bytes.len() <= EVERYWHERE {
        ways.push(bytes.chunks(1).collect());
    }
    let ends = |at: &usize| matches!(bytes[*at], b'\r' | b'\n');
    let places: Vec<usize> = (0..bytes.len().saturating_sub(1)).filter(ends).collect();
    let step = places.len().div_ceil(PLACES).max(1);
    for at in places.iter().rev().step_by(step) {
        let (before, after) = bytes.split_at(at + 1);
        ways.push(vec![before, after]);
    }
    ways
}
