//! Plain tables and the small texts in them.

use std::fmt::Write;

/// A column's side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// The colours that are used, by their ANSI codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Colour {
    #[default]
    None,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

/// Writes texts in colour, or not.
#[derive(Clone, Copy)]
pub(crate) struct Paint(pub(crate) bool);

impl Paint {
    /// The text in this colour, if colours are on.
    pub(crate) fn text(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::None => return text.to_owned(),
            Colour::Bold => "1",
            Colour::Dim => "2",
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Yellow => "33",
        };
        match self.0 {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

/// The colour of a backend's state.
pub(crate) fn of_state(state: &str) -> Colour {
    match state {
        "ready" => Colour::Green,
        "down" => Colour::Red,
        _ => Colour::Yellow,
    }
}

/// A table: a row of titles and rows of cells, aligned.
pub(crate) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<(String, Colour)>>,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Side)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// A row with as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: Vec<(String, Colour)>) {
        let visible = |(text, colour): (String, Colour)| (visible(&text), colour);
        self.rows.push(cells.into_iter().map(visible).collect());
    }

    /// The table as text, every line behind this indent. Columns that are empty in all rows are
    /// left out, and so is the table without rows.
    pub(crate) fn render(&self, indent: &str, paint: Paint) -> String {
        let mut text = String::new();
        if self.rows.is_empty() {
            return text;
        }
        let cell = |row: &[(String, Colour)], at: usize| row.get(at).cloned().unwrap_or_default();
        let width = |at: usize| {
            let widths = self.rows.iter().map(|row| cell(row, at).0.chars().count());
            widths.max().unwrap_or(0)
        };
        let columns = self.columns.iter().enumerate();
        let columns: Vec<_> = columns
            .map(|(at, (title, side))| (at, *title, *side, width(at)))
            .filter(|(.., width)| *width > 0)
            .map(|(at, title, side, width)| (at, title, side, width.max(title.chars().count())))
            .collect();
        let mut line = |cells: &mut dyn Iterator<Item = (String, Colour, Side, usize)>| {
            let mut written = indent.to_owned();
            let mut pending = 0;
            for (cell, colour, side, width) in cells {
                let gap = width - cell.chars().count().min(width);
                let (before, after) = match side {
                    Side::Left => (0, gap),
                    Side::Right => (gap, 0),
                };
                if cell.is_empty() {
                    pending += width + 2;
                    continue;
                }
                let _ = write!(written, "{:1$}", "", pending + before);
                written.push_str(&paint.text(colour, &cell));
                pending = after + 2;
            }
            text.push_str(&written);
            text.push('\n');
        };
        let titles = columns.iter();
        line(
            &mut titles
                .map(|(_, title, side, width)| ((*title).to_owned(), Colour::Dim, *side, *width)),
        );
        for row in &self.rows {
            line(&mut columns.iter().map(|(at, _, side, width)| {
                let (cell, colour) = cell(row, *at);
                (cell, colour, *side, *width)
            }));
        }
        text
    }
}

/// A text without characters that move the cursor of a terminal.
pub(crate) fn visible(text: &str) -> String {
    let show = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(show).collect()
}

/// A span of time for people: `3.2s`, `5m`, `2h10m`, `3d4h`.
pub(crate) fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let pair = |big: u64, b: &str, small: u64, s: &str| match small {
        0 => format!("{big}{b}"),
        _ => format!("{big}{b}{small}{s}"),
    };
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3600 => pair(whole / 60, "m", whole % 60, "s"),
        3600..86_400 => pair(whole / 3600, "h", whole / 60 % 60, "m"),
        _ => pair(whole / 86_400, "d", whole / 3600 % 24, "h"),
    }
}

/// A short time for people, as exact as there is use for: `0.3ms`, `12ms`, `1.2s`, `5m`.
pub(crate) fn brief(seconds: f64) -> String {
    match seconds * 1000.0 {
        ms if ms < 10.0 => format!("{ms:.1}ms"),
        ms if ms < 1000.0 => format!("{ms:.0}ms"),
        _ => span(seconds),
    }
}

/// A number of things, e.g. `1 entry`, `2 entries`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    }
}

/// A rate for people: one digit behind the point where it is small.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        r if r >= 100.0 => format!("{r:.0}"),
        r => format!("{r:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let columns = [
            ("NAME", Side::Left),
            ("NOTE", Side::Left),
            ("N", Side::Right),
        ];
        let mut table = Table::new(&columns);
        let row = |name: &str, n: &str| {
            vec![
                (name.into(), Colour::Green),
                (String::new(), Colour::None),
                (n.into(), Colour::None),
            ]
        };
        table.row(row("é", "1000"));
        table.row(row("a\u{1b}[2J", "7"));
        assert_eq!(
            table.render("  ", Paint(false)),
            "  NAME      N\n  é      1000\n  a\u{fffd}[2J     7\n"
        );
        assert!(
            table
                .render("", Paint(true))
                .contains("\u{1b}[32mé\u{1b}[0m  ")
        );
        assert_eq!(Table::new(&columns).render("", Paint(false)), "");
    }

    #[test]
    fn times_and_rates_are_short() {
        let briefs = [0.000_14, 0.0123, 0.999, 1.25, 90.0].map(brief);
        assert_eq!(briefs, ["0.1ms", "12ms", "999ms", "1.2s", "1m30s"]);
        let spans = [0.04, 9.96, 59.9, 60.0, 61.0, 7800.0, 86_400.0, 1e6];
        let texts = spans.map(span);
        assert_eq!(
            texts,
            [
                "0.0s", "10.0s", "59s", "1m", "1m1s", "2h10m", "1d", "11d13h"
            ]
        );
        assert_eq!(
            [rate(0.04), rate(99.9), rate(1234.5)],
            ["0.0", "99.9", "1234"]
        );
    }
}
