//! Whom a request is for.

/// The host in lower case without port and final dot; none if it has what no host has.
pub(super) fn host_of<'a>(authority: &[u8], lower: &'a mut [u8; 255]) -> Option<&'a str> {
    let name = match authority {
        [b'[', ..] => {
            let end = authority.iter().position(|b| *b == b']')?;
            let (name, port) = authority.split_at_checked(end + 1)?;
            is_port(port).then_some(name)?
        }
        _ => match authority.iter().position(|b| *b == b':') {
            Some(at) => {
                let (name, port) = authority.split_at_checked(at)?;
                is_port(port).then_some(name)?
            }
            None => authority,
        },
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    let lower = lower.get_mut(..name.len())?;
    for (to, from) in lower.iter_mut().zip(name) {
        let fits = from.is_ascii_alphanumeric() || b"-._~[]:%!$&'()*+,;=".contains(from);
        *to = fits.then(|| from.to_ascii_lowercase())?;
    }
    std::str::from_utf8(lower).ok()
}

fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(authority: &str) -> Option<String> {
        host_of(authority.as_bytes(), &mut [0; 255]).map(str::to_owned)
    }

    #[test]
    fn ports_case_and_final_dots_do_not_count() {
        for (authority, expected) in [
            ("Example.COM", "example.com"),
            ("example.com:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com:", "example.com"),
            ("[FD00::1]:80", "[fd00::1]"),
            ("", ""),
        ] {
            assert_eq!(host(authority).as_deref(), Some(expected), "{authority}");
        }
    }

    #[test]
    fn what_is_no_host_is_none() {
        for authority in [
            "a b",
            "a/b",
            "a@b",
            "a:80:90",
            "a:x",
            "a:123456",
            "[::1",
            "[::1]x",
            "a\"b",
            &"a".repeat(256),
        ] {
            assert_eq!(host(authority), None, "{authority}");
        }
    }
}
