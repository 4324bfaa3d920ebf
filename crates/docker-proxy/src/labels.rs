//! The labels that are passed on.

/// How the labels begin that are passed on: those that say how to balance, and those by which
/// Compose and Swarm say what belongs together; others are left out, but for slips of the first.
pub const LABELS: [&str; 3] = ["plimsoll.", "com.docker.compose.", "com.docker.swarm."];

/// The first word of a label that says how to balance.
const WORD: &str = "plimsoll";
/// How many letters of it may be wrong.
const SLIPS: usize = 3;

/// Whether a label is passed on. One whose first word is nearly ours, such as `plimsol.host`, is:
/// whoever reads it can tell its owner.
pub fn passes_label(label: &str) -> bool {
    LABELS.iter().any(|kept| label.starts_with(kept)) || is_slip(label)
}

fn is_slip(label: &str) -> bool {
    let Some((word, _)) = label.split_once('.') else {
        return false;
    };
    // Neither short nor long words are compared, which also bounds the work.
    if word.len().abs_diff(WORD.len()) > SLIPS {
        return false;
    }
    let word = word.to_lowercase().replace('_', "-");
    strsim::damerau_levenshtein(&word, WORD) <= SLIPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_slips_of_ours_pass() {
        for label in [
            "plimsoll.host",
            "plimsoll.api.port",
            "com.docker.compose.project",
            "com.docker.swarm.service.name",
            "Plimsoll.host",
            "plimsol.host",
            "plimsolls.host",
            "pilmsoll.host",
        ] {
            assert!(passes_label(label), "{label}");
        }
        for label in [
            "plimsoll",
            "xcom.docker.compose.project",
            "com.docker.composer",
            "traefik.http.routers.web.rule",
            "maintainer",
            "com.example.plimsoll.host",
            "",
            ".",
        ] {
            assert!(!passes_label(label), "{label}");
        }
        assert!(!passes_label(&format!("{}.host", "p".repeat(1 << 20))));
    }
}
