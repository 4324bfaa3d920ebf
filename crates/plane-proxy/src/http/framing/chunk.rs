//! A body in chunks, byte by byte but for their data (RFC 9112 §7.1).

use super::Limits;

/// Where in such a body the next byte is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chunk {
    Size {
        value: u64,
        bytes: usize,
        digits: u8,
        ext: bool,
        cr: bool,
    },
    Data(u64),
    DataCr,
    DataLf,
    Trailer {
        bytes: usize,
        line: usize,
        cr: bool,
    },
}

/// Before the first byte of a chunk's size.
pub(super) const FIRST_SIZE: Chunk = Chunk::Size {
    value: 0,
    bytes: 0,
    digits: 0,
    ext: false,
    cr: false,
};

impl Chunk {
    /// How many bytes may pass, and whether the body has ended (`true`) or is broken (`false`).
    pub(super) fn read(&mut self, bytes: &[u8], limits: &Limits) -> (usize, Option<bool>) {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            match self {
                Chunk::Data(left) => {
                    let n = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len() - at);
                    at += n;
                    *left -= n as u64;
                    if *left == 0 {
                        *self = Chunk::DataCr;
                    }
                    continue;
                }
                Chunk::DataCr if byte == b'\r' => *self = Chunk::DataLf,
                Chunk::DataLf if byte == b'\n' => *self = FIRST_SIZE,
                Chunk::DataCr | Chunk::DataLf => return (at, Some(false)),
                Chunk::Size { .. } => match self.size(byte, limits) {
                    true => {}
                    false => return (at, Some(false)),
                },
                Chunk::Trailer {
                    bytes: seen,
                    line,
                    cr,
                } => {
                    *seen += 1;
                    match byte {
                        _ if *seen > limits.trailers => return (at, Some(false)),
                        b'\n' if *cr && *line == 0 => return (at + 1, Some(true)),
                        b'\n' if *cr => (*line, *cr) = (0, false),
                        // A lone CR, a lone LF, obsolete folding.
                        _ if *cr || byte == b'\n' => return (at, Some(false)),
                        b' ' | b'\t' if *line == 0 => return (at, Some(false)),
                        b'\r' => *cr = true,
                        _ => *line += 1,
                    }
                }
            }
            at += 1;
        }
        (at, None)
    }

    /// One byte of the line with a chunk's size: `1*HEXDIG [ ";" extensions ] CRLF`.
    fn size(&mut self, byte: u8, limits: &Limits) -> bool {
        let Chunk::Size {
            value,
            bytes,
            digits,
            ext,
            cr,
        } = self
        else {
            return false;
        };
        *bytes += 1;
        if *bytes > limits.chunk_line {
            return false;
        }
        match byte {
            b'\n' if *cr => {
                *self = match *value {
                    0 => Chunk::Trailer {
                        bytes: 0,
                        line: 0,
                        cr: false,
                    },
                    n => Chunk::Data(n),
                };
                true
            }
            _ if *cr || byte == b'\n' => false,
            b'\r' => {
                *cr = *digits > 0;
                *cr
            }
            _ if *ext => byte == b'\t' || !byte.is_ascii_control(),
            b';' => {
                *ext = *digits > 0;
                *ext
            }
            _ => match char::from(byte).to_digit(16) {
                Some(digit) if *digits < 15 => {
                    *value = *value << 4 | u64::from(digit);
                    *digits += 1;
                    true
                }
                _ => false,
            },
        }
    }
}
