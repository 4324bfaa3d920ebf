//! Text of clients in lines: nothing that they send ends a line, a field or a quotation.

use std::io::Write;

/// Bytes that stand for themselves in a quoted field of the `combined` format. As nginx, which
/// writes all others as `\xHH`.
pub(super) fn combined(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => hex(b"\\x", *byte, out),
            plain => out.push(*plain),
        }
    }
}

/// As HAProxy encodes a request in a quoted field (its manual, 8.6 "Non-printable characters"): `#HH`
/// for what is not printable, and for `"` and `#`.
pub(super) fn haproxy(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'"' | b'#' | 0..=0x1f | 0x7f.. => hex(b"#", *byte, out),
            plain => out.push(*plain),
        }
    }
}

/// The inside of a JSON string (RFC 8259 §7). What is not UTF-8 becomes U+FFFD.
pub(super) fn json(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                // Besides what must be, all that some reader takes for the end of a line, or that
                // moves the cursor of a terminal.
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                    // Writing to a Vec cannot fail.
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                }
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn hex(prefix: &[u8], byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or(b'0');
    out.extend_from_slice(prefix);
    out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
}
