//! The known name that a wrong one was probably meant to be.

/// Candidates looked at, so that a wrong name in a huge file stays cheap.
const MAX_CANDIDATES: usize = 10_000;
/// Longest name that is compared, in bytes.
const MAX_LEN: usize = 64;

/// The candidate nearest to `name`, if one is near enough to be a slip: at most one edit, and one
/// more for every three characters. Neither case nor `_` for `-` is one. Among equals, the one with
/// the same beginning.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if name.len() > MAX_LEN {
        return None;
    }
    let plain = normal(name);
    let allowed = 1 + plain.chars().count() / 3;
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|candidate| candidate.len() <= MAX_LEN)
        .map(|candidate| {
            let edits = strsim::damerau_levenshtein(&plain, &normal(candidate));
            (edits, candidate)
        })
        .filter(|(edits, candidate)| *edits <= allowed && *edits < candidate.chars().count().max(1))
        .min_by(|(a, x), (b, y)| {
            let like = |candidate: &str| strsim::jaro_winkler(&plain, candidate);
            a.cmp(b).then(like(y).total_cmp(&like(x)))
        })
        .map(|(_, candidate)| candidate)
}

fn normal(name: &str) -> String {
    name.to_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_only() {
        let keys = ["name", "listen", "backends", "prefix-v4"];
        assert_eq!(nearest("backend", keys), Some("backends"));
        assert_eq!(nearest("Listne", keys), Some("listen"));
        assert_eq!(nearest("prefix_v4", keys), Some("prefix-v4"));
        assert_eq!(nearest("wr", ["rr", "wrr"]), Some("wrr"));
        assert_eq!(nearest("upstreams", keys), None);
        assert_eq!(nearest("x", ["a"]), None);
        assert_eq!(nearest(&"n".repeat(1000), keys), None);
        assert_eq!(nearest("name", []), None);
    }
}
