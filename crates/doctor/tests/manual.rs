//! The manual lists every check, in its order.

#![allow(clippy::unwrap_used, reason = "tests")]

use plimsoll_doctor::CHECKS;

#[test]
fn the_manual_lists_every_check() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, checks) = text.split_once("\n## Checks\n").unwrap();
    let (checks, _) = checks.split_once("\n## ").unwrap();
    let rows: Vec<(String, String)> = checks
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.trim_end_matches('`').to_owned();
            Some((name, cells.next()?.to_owned()))
        })
        .collect();
    let listed = CHECKS.iter();
    let listed: Vec<(String, String)> = listed
        .map(|check| (check.id.to_owned(), check.of.to_owned()))
        .collect();
    assert_eq!(rows, listed);
}
