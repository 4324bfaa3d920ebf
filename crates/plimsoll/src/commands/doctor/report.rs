//! What the doctor says, for people and programs.

use plimsoll_doctor::{Finding, Level};
use serde_json::{Value, json};

use crate::out;
use crate::table::{Colour, Paint, count, visible};

pub(super) struct Report {
    pub(super) findings: Vec<Finding>,
    /// Whether what is right is shown, too.
    pub(super) all: bool,
}

fn title(level: Level) -> (&'static str, Colour) {
    match level {
        Level::Ok => ("ok", Colour::Green),
        Level::Note => ("note", Colour::None),
        Level::Unknown => ("unknown", Colour::Yellow),
        Level::Warning => ("warning", Colour::Yellow),
        Level::Error => ("error", Colour::Red),
    }
}

impl Report {
    fn of(&self, level: Level) -> usize {
        self.findings.iter().filter(|f| f.level == level).count()
    }

    pub(super) fn errors(&self) -> usize {
        self.of(Level::Error)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "errors": self.errors(),
            "warnings": self.of(Level::Warning),
            "unknown": self.of(Level::Unknown),
            "findings": self.findings,
        })
    }

    pub(super) fn text(&self) -> String {
        self.render(Paint(out::has_colour()))
    }

    fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        let shown = self
            .findings
            .iter()
            .filter(|f| self.all || f.level != Level::Ok);
        let mut shown: Vec<&Finding> = shown.collect();
        // The worst first; among equals the order of the checks, which is that of a packet's way.
        shown.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        for finding in shown {
            text.push_str(&one(finding, paint));
        }
        let fine = self.of(Level::Ok);
        let counts = [
            count(self.errors() as u64, "error", "errors"),
            count(self.of(Level::Warning) as u64, "warning", "warnings"),
            format!("{} could not be told", self.of(Level::Unknown)),
        ];
        let fine = match self.all || fine == 0 {
            true => format!("{fine} as it has to be"),
            false => format!("{fine} as it has to be (--all shows them)"),
        };
        text.push_str(&format!("{}, {fine}\n", counts.join(", ")));
        text
    }
}

fn one(finding: &Finding, paint: Paint) -> String {
    let (word, colour) = title(finding.level);
    let place = finding.place.as_ref().map(|place| format!(" [{place}]"));
    let mut text = format!(
        "{} {}{}: {}\n",
        paint.text(colour, &format!("{word:<8}")),
        paint.text(Colour::Bold, finding.check),
        visible(&place.unwrap_or_default()),
        visible(&finding.what)
    );
    if !finding.why.is_empty() {
        text.push_str(&format!("         {}\n", visible(&finding.why)));
    }
    for command in &finding.remedy {
        for line in command.lines() {
            text.push_str(&format!("           {}\n", visible(line)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(level: Level, check: &'static str) -> Finding {
        Finding {
            check,
            level,
            place: Some("container web".to_owned()),
            what: "something".to_owned(),
            why: "because".to_owned(),
            remedy: vec!["do this".to_owned()],
        }
    }

    #[test]
    fn the_worst_comes_first_and_what_is_right_only_when_asked_for() {
        let mut report = Report {
            findings: vec![
                finding(Level::Ok, "kernel"),
                finding(Level::Warning, "mtu"),
                finding(Level::Error, "vip"),
            ],
            all: false,
        };
        let expected = "\
error    vip [container web]: something
         because
           do this
warning  mtu [container web]: something
         because
           do this
1 error, 1 warning, 0 could not be told, 1 as it has to be (--all shows them)
";
        assert_eq!(report.render(Paint(false)), expected);
        report.all = true;
        assert!(report.render(Paint(false)).contains("ok       kernel"));
        assert_eq!(report.json()["errors"], 1);
        assert_eq!(report.json()["findings"][2]["remedy"][0], "do this");
    }
}
