//! CRC32C (Castagnoli), as in RFC 3720 Appendix B.4: reflected, the polynomial 0x1EDC6F41.

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82F6_3B78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        #[allow(
            clippy::indexing_slicing,
            reason = "below 256, and evaluated by the compiler"
        )]
        {
            table[i] = crc;
        }
        i += 1;
    }
    table
}

/// The checksum of the pieces as of one.
pub(super) fn crc32c(pieces: &[&[u8]]) -> u32 {
    let bytes = pieces.iter().copied().flatten();
    !bytes.fold(u32::MAX, |crc, byte| {
        let at = usize::from((crc as u8) ^ byte);
        crc >> 8 ^ TABLE.get(at).copied().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        // RFC 3720 Appendix B.4, and the check value of the catalogues.
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, sum) in [
            (&[0; 32][..], 0x8A91_36AA),
            (&[0xFF; 32], 0x62A8_AB43),
            (&ascending, 0x46DD_794E),
            (b"123456789", 0xE306_9283),
        ] {
            assert_eq!(crc32c(&[bytes]), sum);
            let (a, b) = bytes.split_at(bytes.len() / 3);
            assert_eq!(crc32c(&[a, &[], b]), sum);
        }
    }
}
