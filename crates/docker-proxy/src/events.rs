//! Events, line by line.

use serde_json::Value;

use crate::fields;

/// The longest line that is read, in bytes. Attributes hold all labels of a container, which can be
/// longer than that.
pub const MAX_LINE: usize = 1 << 20;

/// What events may be about.
const KINDS: [&str; 4] = ["container", "network", "node", "service"];

/// Cuts a stream of events into lines, and passes on of each what may be. Lines longer than
/// [`MAX_LINE`] are left out: an engine tells them again to whoever asks what happened since, so
/// a stream that ended there would end there for ever.
#[derive(Debug, Default)]
pub struct Events {
    /// The beginning of a line.
    held: Vec<u8>,
    /// Whether the line is too long, so that its rest is not held.
    skips: bool,
}

impl Events {
    /// Takes the next bytes of the stream, and gives what can be passed on by now, in whole lines.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut passed = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            self.hold(line);
            if !std::mem::take(&mut self.skips) {
                passed.extend(event(&self.held).unwrap_or_default());
            }
            self.held.clear();
        }
        self.hold(bytes);
        passed
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.skips |= self.held.len() + bytes.len() > MAX_LINE;
        if self.skips {
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(bytes);
        }
    }
}

/// What of a line is passed on, with its newline.
fn event(line: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let value = fields::EVENT.of(value)?;
    let kind = value.get("Type")?.as_str()?;
    let action = value.get("Action")?.as_str()?;
    // What is run in a container stands in the action: `exec_create: COMMAND`.
    let detail = action.split_once(':').map(|(verb, _)| verb);
    let shown = !action.starts_with("exec_") && detail.is_none_or(|verb| verb == "health_status");
    if !shown || !KINDS.contains(&kind) {
        return None;
    }
    let mut text = value.to_string().into_bytes();
    text.push(b'\n');
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = concat!(
        r#"{"status":"exec_create: sh -c SECRET","Type":"container","Action":"exec_create: sh -c SECRET","Actor":{"ID":"a"}}"#,
        "\n",
        r#"{"status":"kill","id":"a","Type":"container","Action":"kill","Actor":{"ID":"a","Attributes":{"signal":"15","name":"SECRET","com.example.password":"SECRET"}},"scope":"local","time":5,"timeNano":5000000001}"#,
        "\r\n\n",
        r#"{"Type":"container","Action":"health_status: healthy","Actor":{"ID":"b","Attributes":{"x":{"y":"SECRET"},"signal":["SECRET"]}}}"#,
        "\n",
        r#"{"Type":"secret","Action":"create","Actor":{"ID":"SECRET"}}"#,
        "\n",
        r#"{"Type":"network","Action":"connect","Actor":{"ID":"n"}}"#,
    );

    #[test]
    fn whole_lines_are_passed_on_without_what_is_run() {
        let text = Events::default().feed(STREAM.as_bytes());
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains("SECRET"), "{text}");
        let lines: Vec<Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["Action"], "kill");
        let attributes = &lines[0]["Actor"]["Attributes"];
        assert_eq!(*attributes, serde_json::json!({"signal": "15"}));
        assert_eq!(lines[0]["timeNano"], 5_000_000_001_i64);
        assert_eq!(lines[1]["Action"], "health_status: healthy");
    }

    #[test]
    fn it_does_not_matter_how_a_stream_is_cut() {
        let whole = Events::default().feed(STREAM.as_bytes());
        for size in 1..20 {
            let mut events = Events::default();
            let pieces = STREAM.as_bytes().chunks(size);
            let passed: Vec<u8> = pieces.flat_map(|piece| events.feed(piece)).collect();
            assert_eq!(passed, whole, "cut every {size}");
            let last = events.feed(b"\n");
            assert!(last.starts_with(b"{\"Action\":\"connect\""));
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_the_next_is_not() {
        let event = |labels: &str| {
            format!(
                r#"{{"Type":"container","Action":"kill","Actor":{{"ID":"a","Attributes":{{"l":"{labels}"}}}}}}"#
            )
        };
        let room = MAX_LINE - event("").len();
        let longest = event(&"x".repeat(room));
        let longer = event(&"x".repeat(room + 1));
        let far = event(&"x".repeat(3 * MAX_LINE));
        let next = r#"{"Type":"container","Action":"die","Actor":{"ID":"b"}}"#;
        let text = format!("{longer}\n{next}\n{longest}\n{far}\n{next}\n");
        for size in [1000, MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, text.len()] {
            let mut events = Events::default();
            let pieces = text.as_bytes().chunks(size);
            let passed: Vec<u8> = pieces.flat_map(|piece| events.feed(piece)).collect();
            let lines = passed.split(|byte| *byte == b'\n');
            let lines = lines.filter(|line| !line.is_empty());
            let actions: Vec<Value> = lines
                .map(|line| serde_json::from_slice::<Value>(line).unwrap()["Action"].take())
                .collect();
            assert_eq!(actions, ["die", "kill", "die"], "cut every {size}");
        }
        // No more of it is held than may be read.
        let mut events = Events::default();
        for _ in 0..5 {
            assert_eq!(events.feed(&vec![b'x'; MAX_LINE]), b"");
            assert!(events.held.len() <= MAX_LINE);
        }
    }
}
