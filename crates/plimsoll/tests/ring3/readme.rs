//! What the README shows first, as it stands there.

use std::fs;

use plimsoll_testkit::{finish, wait_until};

use crate::dock::{Dock, SOON, root};
use crate::lb::text;

impl Dock {
    /// Types a line into a shell on the engine's host; what it wrote, if it succeeded.
    fn type_in(&self, line: &str) -> Result<String, String> {
        let output = finish(self.shell(line), SOON).unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        match output.status.success() {
            true => Ok(out),
            false => Err(format!("{line}: {}\n{out}{err}", output.status)),
        }
    }
}

/// The lines of the first block of this kind behind a heading.
fn block(text: &str, heading: &str, kind: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| *line != heading);
    let inside = lines.skip_while(|line| *line != format!("```{kind}"));
    let inside = inside.skip(1).take_while(|line| *line != "```");
    inside.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_lines_of_the_readme_balance() {
    let Some(dock) = Dock::new("three_lines_of_the_readme_balance") else {
        return;
    };
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let heading = "## In front of your containers";
    let lines = block(&readme, heading, "sh");
    let [image, balancer, something] = &lines[..] else {
        panic!("not three lines: {lines:?}");
    };
    // With the binary under test instead of one that it builds.
    assert_eq!(image, "./scripts/image");
    dock.build_plimsoll();
    for line in [balancer, something] {
        dock.type_in(line).unwrap();
    }
    let shown = block(&readme, heading, "console");
    let typed: Vec<&str> = shown.iter().filter_map(|l| l.strip_prefix("$ ")).collect();
    let [curl, status] = typed[..] else {
        panic!("not two commands: {typed:?}");
    };
    let mut said = Err(String::new());
    let answered = wait_until(SOON, || {
        said = dock.type_in(curl);
        said.as_ref()
            .is_ok_and(|said| said.starts_with("Hostname: "))
    });
    assert!(answered, "{said:?}");
    // What it shows is what it said, but for names, times and counts.
    let said = dock.type_in(status).unwrap();
    let kinds = |lines: &str| -> Vec<String> {
        let words = lines.lines().map(|line| line.split(' ').next().unwrap());
        let kinds = words.filter(|word| word.chars().all(char::is_alphabetic));
        kinds.map(str::to_owned).collect()
    };
    let at = shown
        .iter()
        .position(|line| line.ends_with(status))
        .unwrap();
    assert_eq!(kinds(&said), kinds(&shown[at + 1..].join("\n")), "{said}");
    assert!(said.contains("\nwhoami.localhost:80 "), "{said}");
    dock.0.close().unwrap();
}
