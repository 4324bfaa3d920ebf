//! What the programs count packets for.

/// The names, in the order of `bpf/reasons.h`.
pub(crate) const REASONS: [&str; 24] = [
    "malformed",
    "fragment",
    "headers",
    "no-service",
    "no-backend",
    "midstream-dropped",
    "midstream-reset",
    "ended-reset",
    "no-route",
    "forwarding-off",
    "no-neighbour",
    "ttl",
    "too-big",
    "no-room",
    "family",
    "nat-taken",
    "icmp-unknown",
    "checksum",
    "not-recorded",
    "rehashed",
    "moved",
    "echo",
    "evicted",
    "path-mtu",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The names in the programs' own list, and what they say to people.
    fn listed() -> Vec<(String, &'static str)> {
        let text = include_str!("../../../bpf/reasons.h");
        let each = text.lines().filter_map(|line| {
            let (name, words) = line.strip_prefix("REASON(")?.split_once(", ")?;
            Some((
                name.to_lowercase().replace('_', "-"),
                words.trim_matches(['"', ')']),
            ))
        });
        each.collect()
    }

    #[test]
    fn they_are_those_of_the_programs() {
        let names: Vec<String> = listed().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, REASONS);
    }

    #[test]
    fn the_manual_has_them_all() {
        let manual = include_str!("../../../docs/metrics.md");
        for (name, words) in listed() {
            assert!(
                manual.contains(&format!("| `{name}` | {words} |")),
                "{name}: {words}"
            );
        }
    }
}
