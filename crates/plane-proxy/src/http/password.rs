//! Whether a password is the one that was hashed.

use md5::{Digest, Md5};
use plimsoll_model::{HashKind, PasswordHash};
use sha_crypt::{PasswordVerifier, ShaCrypt};
use subtle::ConstantTimeEq;

/// Compares in constant time, whatever is right of it. Takes milliseconds and more.
pub(super) fn is_right(password: &[u8], hash: &PasswordHash) -> bool {
    let text = hash.reveal();
    match hash.kind() {
        HashKind::Bcrypt => bcrypt::verify(password, text).unwrap_or(false),
        HashKind::ShaCrypt => sha_crypt::PasswordHashRef::new(text)
            .is_ok_and(|hash| ShaCrypt::default().verify_password(password, hash).is_ok()),
        HashKind::Apr1 => {
            let mut parts = text.rsplit('$');
            let (Some(wanted), Some(salt)) = (parts.next(), parts.next()) else {
                return false;
            };
            apr1(password, salt.as_bytes())
                .as_bytes()
                .ct_eq(wanted.as_bytes())
                .into()
        }
    }
}

/// The end of `$apr1$SALT$…`: as `apr_md5_encode` of the Apache Portable Runtime 1.7 makes it.
fn apr1(password: &[u8], salt: &[u8]) -> String {
    let mut inner = Md5::new();
    inner.update(password);
    inner.update(salt);
    inner.update(password);
    let inner = inner.finalize();
    let mut outer = Md5::new();
    outer.update(password);
    outer.update(b"$apr1$");
    outer.update(salt);
    for part in password.chunks(16) {
        outer.update(inner.get(..part.len()).unwrap_or_default());
    }
    let mut length = password.len();
    while length > 0 {
        let first = password.get(..1).unwrap_or_default();
        outer.update(if length & 1 == 1 { &[0] } else { first });
        length >>= 1;
    }
    let mut last = outer.finalize();
    for round in 0..1000 {
        let mut next = Md5::new();
        let odd = round & 1 == 1;
        next.update(if odd { password } else { last.as_slice() });
        if round % 3 != 0 {
            next.update(salt);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        next.update(if odd { last.as_slice() } else { password });
        last = next.finalize();
    }
    encoded(&last)
}

/// Groups of three bytes in the order that MD5-crypt has them, six bits each, the lowest first.
fn encoded(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let byte = |at: usize| bytes.get(at).map_or(0, |b| u32::from(*b));
    let groups = [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)];
    let groups = groups.map(|(a, b, c)| (byte(a) << 16 | byte(b) << 8 | byte(c), 4));
    let mut text = String::with_capacity(22);
    for (mut group, digits) in groups.into_iter().chain([(byte(11), 2)]) {
        for _ in 0..digits {
            let digit = DIGITS.get((group & 63) as usize);
            text.push(char::from(digit.copied().unwrap_or(b'.')));
            group >>= 6;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `htpasswd` 2.4 (`-nbm`, `-nbBC 5`, `-nb2`, `-nb5`) and `openssl passwd` 3.0.
    const KNOWN: [(&str, &str); 7] = [
        ("secret", "$apr1$7qjKWV/B$anj2WSUsuZ9sIq7xz4KMr."),
        (
            "secret",
            "$2y$05$fJVOw/SC9dT5mjiB3zGgm.RiDc8HhcZOuYS36aVR7mYNR35LcKTEa",
        ),
        (
            "secret",
            "$5$/8Vtwp0h6yZ26hpI$FefmPDHJKa9QxBjI.lbciXztq1Y0u2QcewnmkhTMhvB",
        ),
        (
            "secret",
            "$6$ZedIS1n9rNYUh.g5$1Y63ib921GEEqJKdfjIUvsoYPbl7FGu9ljR.VxaFEx1UfMgVm8hiEIme80J.aDW7PSuzchSEmSxgvAN/mtidO1",
        ),
        (
            "a much longer password than sixteen bytes",
            "$apr1$kn3yAyhq$cwUImPOfv2oMvqlKxKnwr0",
        ),
        ("myPassword", "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/"),
        (
            "Hello world!",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
    ];

    #[test]
    fn what_others_hashed_is_known_again() {
        for (password, hash) in KNOWN {
            let hash: PasswordHash = hash.parse().unwrap();
            assert!(is_right(password.as_bytes(), &hash), "{password}");
            for wrong in ["", "Secret", "secret ", "a much longer password"] {
                assert!(!is_right(wrong.as_bytes(), &hash), "{password} {wrong}");
            }
        }
    }
}
