//! The labels that say when containers are put out after errors in traffic.

use plimsoll_model::{Outlier, OutlierErrors};

use super::group::Group;
use super::value::Faults;

/// `plimsoll.outlier` and what it can have beside it.
pub(crate) fn read(group: &Group<'_>, faults: &mut Faults) -> Option<Outlier> {
    const BESIDE: [&str; 3] = ["outlier.consecutive", "outlier.time", "outlier.max-percent"];
    let [consecutive, time, percent] = BESIDE.map(|key| group.get(key));
    let Some(errors) = group.get("outlier") else {
        if let Some(value) = consecutive.or(time).or(percent) {
            let why = format!(
                "it needs label {}.outlier with what is an error",
                group.prefix
            );
            faults.push(value.fault(why));
        }
        return None;
    };
    let mut outlier = Outlier::new(errors.word(&OutlierErrors::NAMES, faults)?);
    if let Some(value) = consecutive {
        outlier.consecutive = value.number(1, Outlier::MAX_CONSECUTIVE, faults)?;
    }
    if let Some(value) = time {
        outlier.time = value.duration(Outlier::LEAST, faults)?;
        if outlier.time > Outlier::MOST {
            faults.push(value.fault("expected a time of at most 1h"));
            return None;
        }
    }
    if let Some(value) = percent {
        outlier.max_percent = value.number(1, 100, faults)?;
    }
    Some(outlier)
}
