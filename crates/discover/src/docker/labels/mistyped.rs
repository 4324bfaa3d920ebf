//! Labels that were meant to be ours. Taken for those of others they would do nothing, and nobody
//! would be told.

use plimsoll_config::nearest;

use super::schema::{self, PREFIX};
use super::value::{Faults, Value, cut};
use crate::docker::share::Refused;
use crate::docker::wire::Inspect;

/// The first segment of a label of ours.
const WORD: &str = "plimsoll";
/// How much longer or shorter a slip of the keyboard makes it, in letters.
const SLIP: usize = 2;

/// Whether a label begins with a word that is near ours, such as `plimsol.host` or
/// `Plimsoll.host`.
pub(crate) fn is_near(label: &str) -> bool {
    meant(label).is_some()
}

/// Whether a container has such labels and none of ours.
pub(crate) fn is_there(container: &Inspect) -> bool {
    let mut labels = container.config.labels.keys();
    let ours = labels.clone().any(|label| label.starts_with(PREFIX));
    !ours && labels.any(|label| is_near(label))
}

/// What is said of them; nothing if there are none, or labels of ours beside them.
pub(crate) fn read(container: &Inspect) -> Option<Refused> {
    if !is_there(container) {
        return None;
    }
    let mut faults = Faults::default();
    for (label, text) in &container.config.labels {
        if let Some(meant) = meant(label) {
            let value = Value::new(label, text);
            let why = format!("not a label of ours: did you mean `{}`?", cut(&meant));
            faults.push(value.fault(why));
        }
    }
    Some(Refused {
        key: "labels".into(),
        subject: format!("container {}", container.display_name()),
        reason: faults.reason()?,
    })
}

/// The label of ours that one was meant to be.
fn meant(label: &str) -> Option<String> {
    let (word, rest) = label.split_once('.')?;
    let slip = word.len().abs_diff(WORD.len());
    if word == WORD || slip > SLIP || rest.is_empty() {
        return None;
    }
    nearest(word, [WORD])?;
    let lower = rest.to_ascii_lowercase();
    let rest = match schema::keys().any(|key| key == lower) {
        true => &lower,
        false => rest,
    };
    Some(format!("{PREFIX}{rest}"))
}
