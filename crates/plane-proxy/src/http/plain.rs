//! Other spellings of a path.
//!
//! Routes are found by the path as it was sent. Many backends read `//admin`, `/x/../admin`,
//! `/%61dmin` or `/admin;x` as `/admin`: where a route guards a path, none of them may pass by it.

/// What a backend may take this path for; none if that can be nothing else. Escapes are resolved
/// once (RFC 3986 §6.2.2), with those of slashes, and `\` is one; what follows a `;` in a segment goes,
/// as do empty segments and dots.
pub(crate) fn plain(path: &str) -> Option<String> {
    let odd = |pair: &[u8]| matches!(pair, [b'/', b'/' | b'.']);
    let bytes = path.as_bytes();
    if !bytes.iter().any(|b| matches!(b, b'%' | b';' | b'\\')) && !bytes.windows(2).any(odd) {
        return None;
    }
    let decoded = decode(bytes);
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in decoded.split(|b| matches!(b, b'/' | b'\\')) {
        let name = segment.split(|b| *b == b';').next().unwrap_or_default();
        match name {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    let mut text = vec![b'/'];
    text.extend_from_slice(&segments.join(&b'/'));
    Some(String::from_utf8_lossy(&text).into_owned())
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        let (byte, left) = match rest {
            [b'%', high, low, left @ ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, left),
                _ => (*first, behind),
            },
            _ => (*first, behind),
        };
        decoded.push(byte);
        rest = left;
    }
    decoded
}

fn digit(byte: u8) -> Option<u8> {
    let value = char::from(byte).to_digit(16)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_are_seen_through() {
        for odd in [
            "//admin",
            "/./admin",
            "/x/../admin",
            "/../../admin",
            "/%61dmin",
            "/%61%64%6D%69%6e",
            "/admin;x=y",
            "/;/admin/",
            "/x\\..\\admin",
            "/x%2f..%5Cadmin",
            "/%2e%2E/admin/.",
            "/admin%2f",
        ] {
            assert_eq!(plain(odd).as_deref(), Some("/admin"), "{odd}");
        }
        for plainly in ["/", "/admin", "/admin/x.y", "/admin/", "*", "/a..b", "/a."] {
            assert_eq!(plain(plainly), None, "{plainly}");
        }
        for (odd, wanted) in [
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/%zz", "/%zz"),
            ("/%2561dmin", "/%61dmin"),
            ("/..", "/"),
            ("/.hidden", "/.hidden"),
            ("/%ff", "/\u{fffd}"),
        ] {
            assert_eq!(plain(odd).as_deref(), Some(wanted), "{odd}");
        }
    }
}
