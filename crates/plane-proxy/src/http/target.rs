//! Whom a request is for.

use http::{Method, Uri};

/// Whether a target has one of the forms that are served: RFC 9112 §3.2.1, §3.2.2, and §3.2.4.
///
/// # Errors
/// Why not.
pub(super) fn check_form(method: &Method, uri: &Uri) -> Result<(), &'static str> {
    if uri.authority().is_some() {
        // §3.2.3; and RFC 9110 §7.4 for other schemes.
        return match uri.scheme_str() {
            Some("http" | "https") => Ok(()),
            Some(_) => Err("the target's scheme is not one of HTTP"),
            None => Err("an authority alone is a target for CONNECT only"),
        };
    }
    if uri.path() == "*" && *method != Method::OPTIONS {
        return Err("the target * is for OPTIONS only");
    }
    Ok(())
}

/// The host in lower case without port and final dot; none if it has what no host has.
pub(crate) fn host_of<'a>(authority: &[u8], lower: &'a mut [u8; 255]) -> Option<&'a str> {
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
        [b':'] => true,
        [b':', digits @ ..] => {
            let number = std::str::from_utf8(digits).ok();
            let fits = |d: &str| d.len() <= 5 && d.parse::<u16>().is_ok();
            digits.iter().all(u8::is_ascii_digit) && number.is_some_and(fits)
        }
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
            "a:65536",
            "[::1",
            "[::1]x",
            "a\"b",
            &"a".repeat(256),
        ] {
            assert_eq!(host(authority), None, "{authority}");
        }
    }
}
