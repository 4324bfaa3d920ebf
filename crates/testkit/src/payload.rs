//! What requests and answers carry, so that one can be checked against the other.
//!
//! Everything follows from the request's id: whoever knows it knows every byte that must come.

use std::sync::atomic::{AtomicU64, Ordering};

/// Carries the id of a request, and comes back with the answer.
pub const ID_HEADER: &str = "X-Testkit-Id";

/// Tells which backend answered.
pub const BACKEND_HEADER: &str = "X-Testkit-Backend";

/// Asks for a body of at least so many bytes.
pub const WANT_HEADER: &str = "X-Testkit-Want";

/// The nonce of every WebSocket handshake of ours, and what a server has to make of it: the example
/// of RFC 6455 §1.3. Proxies check it.
pub(crate) const WEBSOCKET: (&str, &str) =
    ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

/// An id that no other request of any test carries: it holds the process and a count.
pub fn unique_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{count:x}", std::process::id())
}

/// So many bytes that differ from those of any other id.
pub(crate) fn filler(id: &str, count: usize) -> Vec<u8> {
    let pattern = format!("{id}.").into_bytes();
    let mut bytes = pattern.repeat(count.div_ceil(pattern.len()));
    bytes.truncate(count);
    bytes
}

/// FNV-1a, 64 bits.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The body a backend answers with: a line that tells what it received, then filler up to `want`
/// bytes.
pub(crate) fn answer(
    backend: &str,
    method: &str,
    id: &str,
    received: &[u8],
    want: usize,
) -> Vec<u8> {
    let line = format!(
        "backend={backend} request={id} method={method} length={} sum={:016x}\n",
        received.len(),
        sum(received)
    );
    let mut body = line.into_bytes();
    let rest = want.saturating_sub(body.len());
    body.extend(filler(id, rest));
    body
}

/// Compares an answer with what it must be.
///
/// # Errors
/// Where they differ, for people.
pub(crate) fn compare(got: &[u8], must: &[u8]) -> Result<(), String> {
    if got == must {
        return Ok(());
    }
    let same = got.iter().zip(must).take_while(|(a, b)| a == b).count();
    let start = same.saturating_sub(20);
    let part = |bytes: &[u8]| crate::wire::excerpt(bytes.get(start..).unwrap_or_default());
    Err(format!(
        "a wrong body: {} bytes instead of {}, the first {same} alike; from byte {start}: {} \
         instead of {}",
        got.len(),
        must.len(),
        part(got),
        part(must)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_fillers_are_unique() {
        let (one, two) = (unique_id(), unique_id());
        assert_ne!(one, two);
        assert_ne!(filler(&one, 100), filler(&two, 100));
        assert_eq!(filler(&one, 100).len(), 100);
    }

    #[test]
    fn any_difference_is_seen() {
        let must = answer("b1", "GET", "7", b"", 200);
        assert_eq!(must.len(), 200);
        assert!(compare(&must, &must).is_ok());
        assert!(compare(&must[..199], &must).is_err());
        assert!(compare(&[must.as_slice(), b"x"].concat(), &must).is_err());
        assert!(compare(&answer("b1", "GET", "8", b"", 200), &must).is_err());
        assert!(compare(&answer("b1", "POST", "7", b"", 200), &must).is_err());
        assert!(compare(&answer("b1", "GET", "7", b"x", 200), &must).is_err());
    }
}
