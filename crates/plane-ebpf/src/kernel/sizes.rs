//! How large the tables are.

/// Memory of this share is given to flows, if nothing is said.
const SHARE: u64 = 256;

/// How many entries the tables have at most. Tables are made at their full size and do not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Buckets of IPv4 flows, 7 flows in 256 bytes each; a power of two.
    pub buckets4: u32,
    /// Buckets of IPv6 flows, 7 flows in 512 bytes each; a power of two.
    pub buckets6: u32,
    /// Services.
    pub services: u32,
    /// Backends of all services together, those that are leaving counted.
    pub backends: u32,
    /// Listens of all services together.
    pub listens: u32,
    /// Addresses that services listen on, at most 65 536.
    pub vips: u32,
}

impl Sizes {
    /// Tables for a host with so much memory, in bytes: 1/256 of it for flows, half for each family.
    pub fn for_memory(bytes: u64) -> Self {
        let half = bytes / SHARE / 2;
        Self {
            buckets4: buckets(half / 256),
            buckets6: buckets(half / 512),
            services: 16_384,
            backends: 131_072,
            listens: 65_536,
            vips: 16_384,
        }
    }

    /// With room for so many flows of each family.
    #[must_use]
    pub fn with_flows(mut self, flows: u64) -> Self {
        self.buckets4 = buckets(flows.div_ceil(crate::layout::WAYS as u64));
        self.buckets6 = self.buckets4;
        self
    }

    /// Small ones, for tests.
    pub fn small() -> Self {
        Self {
            buckets4: 1024,
            buckets6: 1024,
            services: 64,
            backends: 256,
            listens: 256,
            vips: 64,
        }
    }
}

/// The power of two from 1024 to 2²² that is not below.
fn buckets(wanted: u64) -> u32 {
    let wanted = wanted.clamp(1 << 10, 1 << 22).next_power_of_two();
    u32::try_from(wanted).unwrap_or(1 << 22)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_memory() {
        let sizes = Sizes::for_memory(16 << 30);
        assert_eq!((sizes.buckets4, sizes.buckets6), (1 << 17, 1 << 16));
        assert_eq!(Sizes::for_memory(0).buckets4, 1 << 10);
        assert_eq!(Sizes::for_memory(u64::MAX).buckets6, 1 << 22);
        assert_eq!(sizes.with_flows(7 * 4096).buckets6, 4096);
        assert_eq!(sizes.with_flows(7 * 4096 + 1).buckets4, 8192);
    }
}
