//! Changing one cookie in the fields of a message, and nothing else (RFC 6265 §4).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What becomes of a cookie.
#[derive(Debug)]
pub(crate) enum Edit {
    Keep,
    Remove,
    /// This for its value.
    Replace(Vec<u8>),
}

/// Edits each cookie of this name in the `Cookie` fields of a request by its value.
pub(crate) fn edit_cookies(
    headers: &mut HeaderMap,
    name: &[u8],
    mut edit: impl FnMut(&[u8]) -> Edit,
) {
    let ours = |field: &HeaderValue| pairs(field.as_bytes()).any(|p| value_of(p, name).is_some());
    // Most requests have others only.
    if !headers.get_all(header::COOKIE).iter().any(ours) {
        return;
    }
    rebuild(headers, &header::COOKIE, |field| {
        // From the first change on.
        let mut left: Option<Vec<u8>> = None;
        for (at, pair) in pairs(field).enumerate() {
            let edited = match value_of(pair, name) {
                Some(value) => edit(value),
                None => Edit::Keep,
            };
            match (edited, &mut left) {
                (Edit::Keep, None) => {}
                (Edit::Keep, Some(left)) => push(left, pair),
                (changed, left) => {
                    let left = left.get_or_insert_with(|| {
                        let mut before = Vec::with_capacity(field.len());
                        pairs(field).take(at).for_each(|p| push(&mut before, p));
                        before
                    });
                    if let Edit::Replace(value) = changed {
                        push(left, &[name, b"=", &value].concat());
                    }
                }
            }
        }
        left
    });
}

/// The pairs of a `Cookie` field.
fn pairs(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let pairs = field.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    pairs.filter(|pair| !pair.is_empty())
}

/// Adds a pair to a `Cookie` field.
fn push(field: &mut Vec<u8>, pair: &[u8]) {
    if !field.is_empty() {
        field.extend_from_slice(b"; ");
    }
    field.extend_from_slice(pair);
}

/// Edits each cookie of this name that a response sets by its value.
pub(crate) fn edit_set_cookies(
    headers: &mut HeaderMap,
    name: &[u8],
    mut edit: impl FnMut(&[u8]) -> Edit,
) {
    rebuild(headers, &header::SET_COOKIE, |field| {
        let end = memchr::memchr(b';', field).unwrap_or(field.len());
        let (pair, attributes) = field.split_at_checked(end)?;
        match edit(value_of(pair, name)?) {
            Edit::Keep => None,
            Edit::Remove => Some(Vec::new()),
            Edit::Replace(value) => Some([name, b"=", &value, attributes].concat()),
        }
    });
}

/// The value of a pair `NAME=VALUE` of this name.
fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let at = memchr::memchr(b'=', pair)?;
    let (before, after) = (pair.get(..at)?, pair.get(at + 1..)?);
    (before.trim_ascii() == name).then(|| after.trim_ascii())
}

/// Gives each field of this name its new content; one that is left empty goes.
fn rebuild(
    headers: &mut HeaderMap,
    field: &HeaderName,
    mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) {
    let changes: Vec<Option<Vec<u8>>> = (headers.get_all(field).iter())
        .map(|value| change(value.as_bytes()))
        .collect();
    if changes.iter().all(Option::is_none) {
        return;
    }
    let old: Vec<HeaderValue> = headers.get_all(field).iter().cloned().collect();
    headers.remove(field);
    for (old, change) in old.into_iter().zip(changes) {
        let new = match change {
            None => old,
            Some(new) if new.is_empty() => continue,
            // Pieces of good fields make good fields.
            Some(new) => HeaderValue::from_bytes(&new).unwrap_or(old),
        };
        headers.append(field, new);
    }
}
