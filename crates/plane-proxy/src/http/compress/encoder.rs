//! The encoders, all of one shape: bytes in, bytes out, nothing held back after a flush.

use std::fmt;
use std::io::{self, Write};

use bytes::Bytes;
use plimsoll_model::Coding;

/// The window of `br` and `zstd`, as a power of two: 512 KiB. What a client has to hold for each
/// response, and so have we.
const WINDOW: u32 = 19;

/// Compresses one response.
pub(crate) enum Encoder {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    // Large: boxed by the crate itself in parts only.
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoder::Gzip(_) => "gzip",
            Encoder::Br(_) => "br",
            Encoder::Zstd(_) => "zstd",
        })
    }
}

impl Encoder {
    /// For this coding, 1..=9 hard.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn new(coding: Coding, level: u8) -> io::Result<Self> {
        let level = level.into();
        Ok(match coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(level);
                Encoder::Gzip(flate2::write::GzEncoder::new(Vec::new(), level))
            }
            Coding::Br => {
                const BUFFER: usize = 4096;
                let writer = brotli::CompressorWriter::new(Vec::new(), BUFFER, level, WINDOW);
                Encoder::Br(Box::new(writer))
            }
            Coding::Zstd => {
                let level = i32::try_from(level).unwrap_or_default();
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.window_log(WINDOW)?;
                Encoder::Zstd(encoder)
            }
        })
    }

    /// Takes bytes in.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Encoder::Gzip(encoder) => encoder.write_all(bytes),
            Encoder::Br(encoder) => encoder.write_all(bytes),
            Encoder::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    /// Brings out all that was taken in.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Gzip(encoder) => encoder.flush(),
            Encoder::Br(encoder) => encoder.flush(),
            Encoder::Zstd(encoder) => encoder.flush(),
        }
    }

    /// What has come out since it was asked last.
    pub(crate) fn take(&mut self) -> Bytes {
        let out = match self {
            Encoder::Gzip(encoder) => encoder.get_mut(),
            Encoder::Br(encoder) => encoder.get_mut(),
            Encoder::Zstd(encoder) => encoder.get_mut(),
        };
        std::mem::take(out).into()
    }

    /// How many bytes would be taken.
    pub(crate) fn ready(&self) -> usize {
        match self {
            Encoder::Gzip(encoder) => encoder.get_ref().len(),
            Encoder::Br(encoder) => encoder.get_ref().len(),
            Encoder::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    /// The rest, and the end.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Encoder::Gzip(encoder) => encoder.finish()?.into(),
            Encoder::Br(encoder) => encoder.into_inner().into(),
            Encoder::Zstd(encoder) => encoder.finish()?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out)),
            Coding::Br => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out)),
            Coding::Zstd => out = zstd::stream::decode_all(bytes).unwrap_or_default(),
        }
        out
    }

    /// What a decoder that is fed piece by piece has brought out of the beginning of a stream.
    fn so_far(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut buf = [0; 4096];
        let mut read: Box<dyn Read> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
            Coding::Br => Box::new(brotli::Decompressor::new(bytes, 4096)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
        };
        // The stream ends in the middle, which is an error in the end.
        while let Ok(n @ 1..) = read.read(&mut buf) {
            out.extend_from_slice(&buf[..n]);
        }
        out
    }

    proptest! {
        /// What goes in comes out again, and all of it with each flush.
        #[test]
        fn any_pieces_come_back(
            pieces in prop::collection::vec((prop::collection::vec(0u8..4, 0..3_000), any::<bool>()), 0..8),
            coding in prop::sample::select(Coding::NAMES.map(|(_, coding)| coding).to_vec()),
            level in 1u8..=9,
        ) {
            let (mut given, mut out) = (Vec::new(), Vec::new());
            let mut encoder = Encoder::new(coding, level).unwrap();
            for (piece, flush) in pieces {
                encoder.write(&piece).unwrap();
                given.extend_from_slice(&piece);
                if flush && !piece.is_empty() {
                    encoder.flush().unwrap();
                    out.extend_from_slice(&encoder.take());
                    prop_assert_eq!(so_far(coding, &out).len(), given.len());
                }
            }
            out.extend_from_slice(&encoder.finish().unwrap());
            prop_assert_eq!(decoded(coding, &out), given);
        }
    }
}
