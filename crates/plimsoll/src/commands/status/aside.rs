//! What is put aside, for people.

use std::fmt::Write;

use plimsoll_control::status::AsideStatus;

use crate::table::{Colour, Paint, span, visible};

/// What is put aside, by subject, and of one subject by who said it.
pub(in crate::commands) fn put_aside(
    text: &mut String,
    mut asides: Vec<&AsideStatus>,
    paint: Paint,
) {
    if asides.is_empty() {
        return;
    }
    asides.sort_by_cached_key(|aside| {
        let origin = &aside.origin;
        (
            natural(&aside.subject),
            natural(&origin.source),
            natural(&origin.entry),
        )
    });
    let _ = writeln!(text, "\n{}", paint.text(Colour::Red, "put aside"));
    for aside in asides {
        let (subject, reason) = (visible(&aside.subject), visible(&aside.reason));
        let (source, entry) = (&aside.origin.source, visible(&aside.origin.entry));
        let since = span(aside.since);
        // A file names the service itself, an engine the container that says something of it.
        let _ = match subject.replace('`', "") == entry {
            true => writeln!(text, "  {subject} of {source}, {since}"),
            false => writeln!(text, "  {subject} of {source} ({entry}), {since}"),
        };
        let _ = writeln!(text, "    {reason}");
    }
}

/// A part of a text, so that numbers are ordered by their values.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(usize, String),
    Text(String),
}

/// The order of people: `e2` before `e10`, and marks do not count.
fn natural(text: &str) -> Vec<Part> {
    let text = text.replace('`', "");
    let mut parts = Vec::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.bytes().next() {
        let is_number = first.is_ascii_digit();
        let end = rest.bytes().take_while(|b| b.is_ascii_digit() == is_number);
        // A digit is a character of one byte, so this is a boundary.
        let (part, tail) = rest.split_at(end.count());
        parts.push(match is_number {
            true => {
                let digits = part.trim_start_matches('0').to_owned();
                Part::Number(digits.len(), digits)
            }
            false => Part::Text(part.to_owned()),
        });
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_aside_is_in_the_order_of_people() {
        let aside = |subject: &str| AsideStatus {
            subject: subject.into(),
            ..AsideStatus::default()
        };
        let all = [
            "service `e10`",
            "service `e2-b`",
            "service `e1`",
            "service `e2`",
            "container e3",
        ];
        let all = all.map(aside);
        let mut text = String::new();
        put_aside(&mut text, all.iter().collect(), Paint(false));
        let lines = text.lines().filter(|line| line.contains(" of "));
        let order: Vec<&str> = lines.filter_map(|l| l.split_whitespace().nth(1)).collect();
        assert_eq!(order, ["e3", "`e1`", "`e2`", "`e2-b`", "`e10`"]);
    }
}
