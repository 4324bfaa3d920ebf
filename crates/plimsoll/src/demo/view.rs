//! How the demo looks. Pure: a moment in, text out.

use std::fmt::Write;
use std::time::Duration;

use super::load::Tally;
use crate::table::{Colour, Paint, Side, Table, of_state, span};

/// One instance at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) selected: bool,
    /// What the instance does: `running`, `stopped`, `killed`.
    pub(super) life: &'static str,
    /// What the balancer takes it for, and why.
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) weight: u32,
    pub(super) active: u64,
    pub(super) answered: u64,
    /// Answers per second.
    pub(super) rate: f64,
}

/// All that is shown of one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// What stands above: words, a place to go to, and words again.
    pub(super) title: [String; 3],
    pub(super) elapsed: Duration,
    pub(super) rows: Vec<Row>,
    pub(super) tally: Tally,
    /// What was counted beside requests.
    pub(super) figures: Vec<(&'static str, u64)>,
    pub(super) keys: bool,
    /// What was done last.
    pub(super) note: String,
}

impl Moment {
    fn rate(&self) -> f64 {
        self.rows.iter().map(|row| row.rate).sum()
    }
}

/// Characters of a full bar.
const BAR: f64 = 24.0;

/// The whole picture for a terminal.
pub(super) fn picture(moment: &Moment, paint: Paint) -> String {
    let mut table = Table::new(&[
        ("", Side::Left),
        ("INSTANCE", Side::Left),
        ("IS", Side::Left),
        ("STATE", Side::Left),
        ("WEIGHT", Side::Right),
        ("IN FLIGHT", Side::Right),
        ("ANSWERED", Side::Right),
        ("RATE/S", Side::Right),
        ("SHARE", Side::Left),
    ]);
    let all = moment.rate().max(1.0);
    for (at, row) in moment.rows.iter().enumerate() {
        let mark = if row.selected { "▸" } else { " " };
        let bar = "█".repeat((row.rate / all * BAR).round() as usize);
        let life = match row.life {
            "running" => Colour::None,
            _ => Colour::Red,
        };
        let share = match row.reason.is_empty() || !bar.is_empty() {
            true => (bar, Colour::Green),
            false => (row.reason.clone(), Colour::Dim),
        };
        table.row(vec![
            (format!("{mark}{}", at + 1), Colour::Bold),
            (row.name.into(), Colour::Bold),
            (row.life.into(), life),
            (row.state.clone(), of_state(&row.state)),
            (row.weight.to_string(), Colour::None),
            (row.active.to_string(), Colour::None),
            (row.answered.to_string(), Colour::None),
            (format!("{:.0}", row.rate), Colour::None),
            share,
        ]);
    }
    let tally = &moment.tally;
    let failed = match tally.failed {
        0 => paint.text(Colour::Green, "failed: 0"),
        n => paint.text(Colour::Red, &format!("failed: {n}")),
    };
    let [before, place, after] = &moment.title;
    let mut text = String::new();
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        text,
        "\n  {before}{}{after}\n",
        paint.text(Colour::Bold, place)
    );
    text.push_str(&table.render("  ", paint));
    let _ = writeln!(
        text,
        "\n  load: {:.0} requests/s for {}   answered: {}   {failed}{}",
        moment.rate(),
        span(moment.elapsed.as_secs_f64()),
        tally.answered(),
        again(tally),
    );
    for (name, count) in &moment.figures {
        let _ = writeln!(text, "  {name}: {count}");
    }
    if let Some(why) = &tally.why {
        let _ = writeln!(text, "  last failure: {}", paint.text(Colour::Red, why));
    }
    let keys = match moment.keys {
        true => format!(
            "1-{} select · s stop · k kill · r restart · d drain/ready · + - weight · q quit",
            moment.rows.len()
        ),
        false => "Ctrl-C ends it".into(),
    };
    let _ = writeln!(text, "  {}", paint.text(Colour::Dim, &keys));
    let _ = writeln!(text, "  {}", moment.note);
    text
}

/// One line where there is no terminal.
pub(super) fn line(moment: &Moment) -> String {
    let mut text = format!("{:>4}s", moment.elapsed.as_secs());
    for row in &moment.rows {
        let _ = write!(text, "  {} {} ({})", row.name, row.answered, row.state);
    }
    let _ = writeln!(
        text,
        "  {:.0}/s  answered {}  failed {}{}",
        moment.rate(),
        moment.tally.answered(),
        moment.tally.failed,
        again(&moment.tally),
    );
    text
}

/// How many were sent again, where that happens.
fn again(tally: &Tally) -> String {
    match tally.again {
        0 => String::new(),
        n => format!("   sent again: {n}"),
    }
}

/// Who answered how many requests, and what else was counted.
pub(super) fn table(tally: &Tally, figures: &[(&str, u64)]) -> String {
    let sees = tally.saw.iter().any(Option::is_some);
    let mut columns = vec![
        ("INSTANCE", Side::Left),
        ("REQUESTS", Side::Right),
        ("SHARE", Side::Right),
    ];
    if sees {
        columns.push(("SAW THE CLIENT AS", Side::Left));
    }
    let mut table = Table::new(&columns);
    let all = tally.answered();
    let share = |n: u64| format!("{:.1} %", n as f64 * 100.0 / all.max(1) as f64);
    for (at, (name, n)) in tally.by_instance.iter().enumerate() {
        let mut cells = vec![(*name).to_owned(), n.to_string(), share(*n)];
        if sees {
            let saw = tally.saw.get(at).copied().flatten();
            cells.push(saw.map_or_else(|| "-".to_owned(), |ip| ip.to_string()));
        }
        table.row(cells.into_iter().map(|cell| (cell, Colour::None)).collect());
    }
    let mut text = format!(
        "{}{all} answered, {} failed",
        table.render("", Paint(false)),
        tally.failed
    );
    if tally.again > 0 {
        let _ = write!(text, ", {} sent again", tally.again);
    }
    text.push('\n');
    for (name, count) in figures {
        let _ = writeln!(text, "{name}: {count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Moment {
        let row = |name, rate, state: &str| Row {
            name,
            rate,
            life: "running",
            state: state.into(),
            reason: if state == "ready" {
                String::new()
            } else {
                "drained by an admin".into()
            },
            weight: 1,
            answered: 100,
            ..Row::default()
        };
        Moment {
            title: ["open ", "http://127.0.0.1:1/", ""].map(str::to_owned),
            elapsed: Duration::from_secs(61),
            rows: vec![row("one", 300.0, "ready"), row("two", 0.0, "draining")],
            tally: Tally {
                by_instance: vec![("one", 150), ("two", 50)],
                ..Tally::default()
            },
            figures: vec![("through the director", 0)],
            keys: true,
            note: "two: draining".into(),
        }
    }

    #[test]
    fn a_picture_shows_who_answers_and_why_not() {
        let picture = picture(&moment(), Paint(false));
        for part in [
            "open http://127.0.0.1:1/",
            "through the director: 0",
            &"█".repeat(24),
            "drained by an admin",
            "load: 300 requests/s for 1m1s   answered: 200   failed: 0",
            "1-2 select",
            "two: draining",
        ] {
            assert!(picture.contains(part), "{part} in\n{picture}");
        }
    }

    #[test]
    fn a_table_shows_shares() {
        let table = table(&moment().tally, &[]);
        assert_eq!(
            table,
            "INSTANCE  REQUESTS   SHARE\none            150  75.0 %\ntwo             50  25.0 %\n\
             200 answered, 0 failed\n"
        );
        assert!(line(&moment()).starts_with("  61s  one 100 (ready)  two 100 (draining)  300/s"));
    }

    #[test]
    fn a_table_tells_what_instances_saw() {
        let tally = Tally {
            saw: vec![Some("10.83.0.2".parse().unwrap()), None],
            again: 2,
            ..moment().tally
        };
        let table = table(&tally, &[("packets", 7)]);
        for part in [
            "one            150  75.0 %  10.83.0.2\n",
            "200 answered, 0 failed, 2 sent again\npackets: 7\n",
        ] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
    }
}
