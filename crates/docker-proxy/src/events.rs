//! Events, line by line.

use serde_json::Value;

use crate::fields;

/// The longest line of a stream, in bytes. Attributes hold all labels of a container.
pub const MAX_LINE: usize = 1 << 20;

/// What events may be about.
const KINDS: [&str; 4] = ["container", "network", "node", "service"];

/// A line is longer than [`MAX_LINE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// Cuts a stream of events into lines, and passes on of each what may be.
#[derive(Debug, Default)]
pub struct Events {
    /// The beginning of a line.
    held: Vec<u8>,
}

impl Events {
    /// Takes the next bytes of the stream, and gives what can be passed on by now, in whole lines.
    ///
    /// # Errors
    /// A line does not end: the stream cannot be read on.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, LineTooLong> {
        let mut passed = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            self.hold(line)?;
            passed.extend(event(&self.held).unwrap_or_default());
            self.held.clear();
        }
        self.hold(bytes)?;
        Ok(passed)
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        if self.held.len() + bytes.len() > MAX_LINE {
            return Err(LineTooLong);
        }
        self.held.extend_from_slice(bytes);
        Ok(())
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
        r#"{"status":"kill","id":"a","Type":"container","Action":"kill","Actor":{"ID":"a","Attributes":{"signal":"15","plimsoll.host":"x"}},"scope":"local","time":5,"timeNano":5000000001}"#,
        "\r\n\n",
        r#"{"Type":"container","Action":"health_status: healthy","Actor":{"ID":"b","Attributes":{"x":{"y":"SECRET"}}}}"#,
        "\n",
        r#"{"Type":"secret","Action":"create","Actor":{"ID":"SECRET"}}"#,
        "\n",
        r#"{"Type":"network","Action":"connect","Actor":{"ID":"n"}}"#,
    );

    #[test]
    fn whole_lines_are_passed_on_without_what_is_run() {
        let text = Events::default().feed(STREAM.as_bytes()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(!text.contains("SECRET"), "{text}");
        let lines: Vec<Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["Action"], "kill");
        assert_eq!(lines[0]["Actor"]["Attributes"]["signal"], "15");
        assert_eq!(lines[0]["timeNano"], 5_000_000_001_i64);
        assert_eq!(lines[1]["Action"], "health_status: healthy");
    }

    #[test]
    fn it_does_not_matter_how_a_stream_is_cut() {
        let whole = Events::default().feed(STREAM.as_bytes()).unwrap();
        for size in 1..20 {
            let mut events = Events::default();
            let pieces = STREAM.as_bytes().chunks(size);
            let passed: Vec<u8> = pieces
                .flat_map(|piece| events.feed(piece).unwrap())
                .collect();
            assert_eq!(passed, whole, "cut every {size}");
            let last = events.feed(b"\n").unwrap();
            assert!(last.starts_with(b"{\"Action\":\"connect\""));
        }
    }

    #[test]
    fn a_line_that_does_not_end_ends_the_stream() {
        let mut events = Events::default();
        assert_eq!(events.feed(&vec![b' '; MAX_LINE]), Ok(Vec::new()));
        assert_eq!(events.feed(b" "), Err(LineTooLong));
    }
}
