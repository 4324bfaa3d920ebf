//! The encoders, all of one shape: bytes in, bytes out, nothing held back after a flush.

use std::fmt;
use std::io::{self, Write};

use bytes::Bytes;
use plimsoll_model::Coding;
use zstd::zstd_safe::CParameter;

use super::memory::Share;

/// The window of `br` and `zstd`, as a power of two: 512 KiB. What a client has to hold for each
/// response, and so have we.
const WINDOW: u32 = 19;

/// The hardest that `br` tries: each level above takes twice as much memory, up to 32 MiB.
const HARDEST: u32 = 6;

/// Entries of each table of `zstd` from its level 4 on, as a power of two: more would be of use only
/// with a larger window.
const ENTRIES: u32 = 17;

/// Compresses one response.
pub(crate) struct Encoder {
    kind: Kind,
    /// What it takes of the budget. Given back after the memory.
    _share: Share,
}

enum Kind {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    // Large: boxed by the crate itself in parts only.
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Gzip(_) => "gzip",
            Kind::Br(_) => "br",
            Kind::Zstd(_) => "zstd",
        })
    }
}

impl Encoder {
    /// For this coding, 1..=9 hard, with its share of the budget.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(super) fn new(coding: Coding, level: u8, share: Share) -> io::Result<Self> {
        let level = level.into();
        let kind = match coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(level);
                Kind::Gzip(flate2::write::GzEncoder::new(Vec::new(), level))
            }
            Coding::Br => {
                const BUFFER: usize = 4096;
                let level = level.min(HARDEST);
                let writer = brotli::CompressorWriter::new(Vec::new(), BUFFER, level, WINDOW);
                Kind::Br(Box::new(writer))
            }
            Coding::Zstd => {
                let level = i32::try_from(level).unwrap_or_default();
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.window_log(WINDOW)?;
                if level >= 4 {
                    encoder.set_parameter(CParameter::HashLog(ENTRIES))?;
                    encoder.set_parameter(CParameter::ChainLog(ENTRIES))?;
                }
                Kind::Zstd(encoder)
            }
        };
        Ok(Self {
            kind,
            _share: share,
        })
    }

    /// Takes bytes in.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.kind {
            Kind::Gzip(encoder) => encoder.write_all(bytes),
            Kind::Br(encoder) => encoder.write_all(bytes),
            Kind::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    /// Brings out all that was taken in.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Gzip(encoder) => encoder.flush(),
            Kind::Br(encoder) => encoder.flush(),
            Kind::Zstd(encoder) => encoder.flush(),
        }
    }

    /// What has come out since it was asked last.
    pub(crate) fn take(&mut self) -> Bytes {
        let out = match &mut self.kind {
            Kind::Gzip(encoder) => encoder.get_mut(),
            Kind::Br(encoder) => encoder.get_mut(),
            Kind::Zstd(encoder) => encoder.get_mut(),
        };
        std::mem::take(out).into()
    }

    /// How many bytes would be taken.
    pub(crate) fn ready(&self) -> usize {
        match &self.kind {
            Kind::Gzip(encoder) => encoder.get_ref().len(),
            Kind::Br(encoder) => encoder.get_ref().len(),
            Kind::Zstd(encoder) => encoder.get_ref().len(),
        }
    }

    /// The rest, and the end.
    pub(crate) fn finish(self) -> io::Result<Bytes> {
        Ok(match self.kind {
            Kind::Gzip(encoder) => encoder.finish()?.into(),
            Kind::Br(encoder) => encoder.into_inner().into(),
            Kind::Zstd(encoder) => encoder.finish()?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::super::memory::{Memory, cost};
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
            let memory = Memory::new(0);
            let share = memory.take(cost(coding, level)).unwrap();
            let mut encoder = Encoder::new(coding, level, share).unwrap();
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
            prop_assert_eq!(memory.held(), 0);
        }
    }
}
