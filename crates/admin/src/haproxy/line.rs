//! Reads command lines. Pure; whatever the bytes, the answer is a list of requests and refusals.

use std::time::Duration;

use super::instead::instead;

/// Words of a command at most, as `MAX_CLI_ARGS` in HAProxy 2.6.
const MAX_WORDS: usize = 64;
/// Words behind a `show` that ask for another format than plimsoll has.
const FORMATS: [&str; 4] = ["typed", "json", "desc", "float"];
/// The longest part of a word that is said back.
const SHOWN: usize = 40;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `show stat`: the counts.
    Stat(Filter),
    /// `show info`: the process.
    Info,
    /// `show servers state`, of one backend or all.
    ServersState(Option<String>),
    /// `show backend`: the names.
    Backends,
    /// `show version`.
    Version,
    /// `get weight`.
    GetWeight(Server),
    /// `set weight` and `set server … weight`.
    SetWeight(Server, Weight),
    /// `set server … state`, `enable server` and `disable server`.
    SetState(Server, Standing),
    /// `set timeout cli`: close after so long without a command.
    Timeout(Duration),
    /// `prompt`: stay for more commands, or not any more.
    Prompt,
    /// `quit`.
    Quit,
    /// `help`.
    Help,
}

/// Which lines of `show stat` are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The name or the number of a proxy; none is all.
    pub proxy: Option<String>,
    /// Bits: 1 frontends, 2 backends, 4 servers; what is beyond these asks for nothing.
    pub kinds: i64,
    /// The number of a server; below 0 is all.
    pub server: i64,
    /// Servers that are left out.
    pub hidden: Hidden,
}

impl Default for Filter {
    /// Everything.
    fn default() -> Self {
        Self {
            proxy: None,
            kinds: -1,
            server: -1,
            hidden: Hidden::None,
        }
    }
}

/// Servers that are left out of `show stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hidden {
    /// None.
    #[default]
    None,
    /// Those in maintenance: `no-maint`.
    Maintenance,
    /// All that do not serve: `up`.
    Down,
}

/// A server, by names or `#` and a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The backend: a service.
    pub backend: String,
    /// The server: one of its backends.
    pub server: String,
}

/// How much of the traffic a server is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// This weight.
    Absolute(u32),
    /// So many percent of the configured weight.
    Percent(u32),
}

/// What a server is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Serve.
    Ready,
    /// Take nothing new.
    Drain,
    /// Take nothing new, for maintenance.
    Maintenance,
}

/// The requests of a line, in their order, or what is wrong with each. Commands are separated by
/// `;`, words by spaces; a backslash takes the meaning from the character behind it.
pub fn read_line(line: &[u8]) -> Vec<Result<Request, String>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok(text) => split(text).iter().map(|words| read(words)).collect(),
        Err(_) => vec![Err("The line is not UTF-8.".into())],
    }
}

fn split(text: &str) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ';' => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            ' ' | '\t' => words.extend(word.take()),
            c => {
                let c = match c {
                    '\\' => chars.next().unwrap_or('\\'),
                    c => c,
                };
                word.get_or_insert_default().push(c);
            }
        }
    }
    words.extend(word);
    commands.push(words);
    commands
}

fn read(words: &[String]) -> Result<Request, String> {
    if words.len() > MAX_WORDS {
        return Err(format!("More than {MAX_WORDS} words in a command."));
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["help", ..] => Ok(Request::Help),
        ["prompt", ..] => Ok(Request::Prompt),
        ["quit", ..] => Ok(Request::Quit),
        ["show", "info", rest @ ..] => match rest.iter().any(|word| FORMATS.contains(word)) {
            true => Err(unsupported("`show info` has one form only")),
            false => Ok(Request::Info),
        },
        ["show", "version", ..] => Ok(Request::Version),
        ["show", "backend", ..] => Ok(Request::Backends),
        ["show", "servers", "state"] => Ok(Request::ServersState(None)),
        ["show", "servers", "state", backend, ..] => {
            Ok(Request::ServersState(Some((*backend).to_owned())))
        }
        ["show", "stat", rest @ ..] => stat(rest).map(Request::Stat),
        ["get", "weight", rest @ ..] => Ok(Request::GetWeight(server(rest.first())?)),
        ["set", "weight", rest @ ..] => Ok(Request::SetWeight(
            server(rest.first())?,
            weight(rest.get(1))?,
        )),
        ["enable", "server", rest @ ..] => {
            Ok(Request::SetState(server(rest.first())?, Standing::Ready))
        }
        ["disable", "server", rest @ ..] => {
            let server = server(rest.first())?;
            Ok(Request::SetState(server, Standing::Maintenance))
        }
        ["set", "server", rest @ ..] => set_server(rest),
        ["set", "timeout", "cli", rest @ ..] => rest
            .first()
            .and_then(|text| text.parse().ok())
            .filter(|seconds| (1..=3600).contains(seconds))
            .map(|seconds| Request::Timeout(Duration::from_secs(seconds)))
            .ok_or_else(|| "'set timeout cli' expects 1 to 3600 seconds.".into()),
        words if let Some(instead) = instead(words) => Err(unsupported(instead)),
        _ => Err(format!("Unknown command.\n{HELP}")),
    }
}

fn unsupported(instead: &str) -> String {
    format!("Not supported by plimsoll: {instead}.")
}

fn shown(word: &str) -> String {
    word.chars().take(SHOWN).collect()
}

fn stat(words: &[&str]) -> Result<Filter, String> {
    let mut filter = Filter::default();
    let mut options = words;
    if let [proxy, kinds, server, rest @ ..] = words
        && let (Ok(kinds), Ok(server)) = (kinds.parse(), server.parse())
    {
        let all = proxy.parse::<i64>().is_ok_and(|number| number < 0);
        filter.proxy = (!all).then(|| (*proxy).to_owned());
        (filter.kinds, filter.server) = (kinds, server);
        options = rest;
    }
    for option in options {
        filter.hidden = match *option {
            "up" => Hidden::Down,
            "no-maint" if filter.hidden == Hidden::Down => Hidden::Down,
            "no-maint" => Hidden::Maintenance,
            format if FORMATS.contains(&format) => {
                return Err(unsupported(
                    "`show stat` is CSV; `plimsoll status --json` is the same and more",
                ));
            }
            // HAProxy passes over what it does not know.
            _ => continue,
        };
    }
    Ok(filter)
}

fn server(word: Option<&&str>) -> Result<Server, String> {
    word.and_then(|word| word.split_once('/'))
        .filter(|(backend, server)| !backend.is_empty() && !server.is_empty())
        .map(|(backend, server)| Server {
            backend: backend.into(),
            server: server.into(),
        })
        .ok_or_else(|| "Require 'backend/server'.".into())
}

fn weight(word: Option<&&str>) -> Result<Weight, String> {
    let word = word.ok_or("Require <weight> or <weight%>.")?;
    let read = match word.strip_suffix('%') {
        Some(percent) => percent.parse().map(Weight::Percent),
        None => word.parse().map(Weight::Absolute),
    };
    read.map_err(|_| {
        let word = shown(word);
        format!("Weight {word:?} is no whole number from 0 on, with or without a percent sign.")
    })
}

fn set_server(words: &[&str]) -> Result<Request, String> {
    let server = server(words.first())?;
    match words.get(1..).unwrap_or_default() {
        ["state", state, ..] => {
            let state = match *state {
                "ready" => Standing::Ready,
                "drain" => Standing::Drain,
                "maint" => Standing::Maintenance,
                _ => return Err(STATES.into()),
            };
            Ok(Request::SetState(server, state))
        }
        ["state"] => Err(STATES.into()),
        ["weight", rest @ ..] => Ok(Request::SetWeight(server, weight(rest.first())?)),
        [] => Err("usage: set server <backend>/<server> state | weight".into()),
        [what, ..] => Err(unsupported(&format!(
            "`set server` has state and weight, not {:?}",
            shown(what)
        ))),
    }
}

const STATES: &str = "'set server <srv> state' expects 'ready', 'drain' and 'maint'.";

/// What there is.
pub(crate) const HELP: &str = "\
The following commands are valid at this level:
  disable server <bk>/<srv>               : put a server into maintenance
  enable server <bk>/<srv>                : take a server out of maintenance or drain
  get weight <bk>/<srv>                   : report a server's current weight
  set server <bk>/<srv> state <state>     : ready, drain or maint
  set server <bk>/<srv> weight <n>[%]     : change a server's weight
  set timeout cli <delay>                 : close after so many seconds without a command
  set weight <bk>/<srv> <n>[%]            : change a server's weight
  show backend                            : list the backends
  show info                               : report information about the running process
  show servers state [<backend>]          : dump what is set and known of servers
  show stat [<px> <type> <sid>] [up|no-maint]: report counters for each proxy and server
  show version                            : show the version of plimsoll
  help                                    : this list
  prompt                                  : toggle interactive mode with prompt
  quit                                    : disconnect";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Result<Request, String> {
        let mut all = read_line(line.as_bytes());
        assert_eq!(all.len(), 1, "{line}");
        all.remove(0)
    }

    fn web(server: &str) -> Server {
        Server {
            backend: "web".into(),
            server: server.into(),
        }
    }

    #[test]
    fn what_hatop_sends() {
        assert_eq!(one("prompt"), Ok(Request::Prompt));
        let minute = Request::Timeout(Duration::from_secs(60));
        assert_eq!(one("set timeout cli 60"), Ok(minute));
        assert_eq!(one("show stat"), Ok(Request::Stat(Filter::default())));
        assert_eq!(
            one("show stat -1 -1 -1"),
            Ok(Request::Stat(Filter::default()))
        );
        let ready = Request::SetState(web("a"), Standing::Ready);
        assert_eq!(one("enable server web/a"), Ok(ready));
        let maintenance = Request::SetState(web("a"), Standing::Maintenance);
        assert_eq!(one("disable server web/a"), Ok(maintenance));
        let weight = Request::SetWeight(web("a"), Weight::Percent(100));
        assert_eq!(one("set weight web/a 100%"), Ok(weight));
        let weight = Request::SetWeight(web("10.0.0.1:80"), Weight::Absolute(7));
        assert_eq!(one("set weight web/10.0.0.1:80 7\r"), Ok(weight));
    }

    #[test]
    fn several_commands_and_escapes() {
        let all = read_line(b"show info;;get weight web/a\\;b ; quit");
        let weight = Request::GetWeight(web("a;b"));
        assert_eq!(all.len(), 4);
        assert_eq!((&all[0], &all[2]), (&Ok(Request::Info), &Ok(weight)));
        assert!(
            all[1]
                .as_ref()
                .is_err_and(|why| why.starts_with("Unknown command"))
        );
        assert_eq!(all[3], Ok(Request::Quit));
    }

    #[test]
    fn filters() {
        let filter = |proxy: Option<&str>, kinds, server, hidden| {
            let proxy = proxy.map(str::to_owned);
            Ok(Request::Stat(Filter {
                proxy,
                kinds,
                server,
                hidden,
            }))
        };
        assert_eq!(
            one("show stat web 4 2"),
            filter(Some("web"), 4, 2, Hidden::None)
        );
        assert_eq!(
            one("show stat -1 4 -1 up"),
            filter(None, 4, -1, Hidden::Down)
        );
        assert_eq!(
            one("show stat no-maint"),
            filter(None, -1, -1, Hidden::Maintenance)
        );
        let down = filter(None, -1, -1, Hidden::Down);
        assert_eq!(one("show stat up no-maint"), down);
        // What HAProxy does not know it passes over.
        let all = filter(None, -1, -1, Hidden::None);
        for line in ["show stat ck", "show stat -1 4", "show stat web x 1"] {
            assert_eq!(one(line), all, "{line}");
        }
        assert_eq!(one("show stat ck up"), filter(None, -1, -1, Hidden::Down));
        assert_eq!(one("show info x"), Ok(Request::Info));
        assert_eq!(one("show version x"), Ok(Request::Version));
        assert!(one("show stat typed").unwrap_err().contains("--json"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, why) in [
            ("", "Unknown command"),
            ("nonsense", "Unknown command"),
            ("SHOW INFO", "Unknown command"),
            ("disable server web", "Require 'backend/server'."),
            ("disable server", "Require 'backend/server'."),
            ("set server", "Require 'backend/server'."),
            ("set server web/a", "usage: set server"),
            (
                "set server web/a state",
                "expects 'ready', 'drain' and 'maint'",
            ),
            (
                "set server web/a state off",
                "expects 'ready', 'drain' and 'maint'",
            ),
            ("set server web/a weight", "Require <weight> or <weight%>."),
            ("set server web/a weight -1", "no whole number"),
            ("set server web/a weight x%", "no whole number"),
            ("set server web/a addr 10.0.0.1", "not \"addr\""),
            ("set timeout cli 0", "1 to 3600"),
            ("disable frontend x", "Not supported"),
            ("show errors", "Not supported"),
            (
                "show table x",
                "Not supported by plimsoll: `plimsoll explain`",
            ),
            ("show nonsense", "Unknown command"),
            ("show info typed", "Not supported"),
        ] {
            let error = one(line).unwrap_err();
            assert!(error.contains(why), "{line:?}: {error}");
        }
        let long = format!("set server web/a {}", "x".repeat(10_000));
        assert!(one(&long).unwrap_err().len() < 200);
        let many = "x ".repeat(MAX_WORDS + 1);
        assert!(one(&many).unwrap_err().contains("More than 64 words"));
        assert_eq!(
            read_line(b"show \xff"),
            [Err("The line is not UTF-8.".into())]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(line: Vec<u8>) {
            prop_assert!(!read_line(&line).is_empty());
        }

        #[test]
        fn words_of_the_language_in_any_order_are_answered(
            words in proptest::collection::vec(
                prop_oneof![
                    Just("show"), Just("stat"), Just("set"), Just("server"), Just("weight"),
                    Just("web/a"), Just("state"), Just("-1"), Just("50%"), Just(";"), Just("\\"),
                    Just("timeout"), Just("cli"), Just("99999999999999999999"), Just("/"),
                ],
                0..12,
            )
        ) {
            let line = words.join(" ");
            let commands = line.matches(';').count() + 1;
            let answers = read_line(line.as_bytes());
            prop_assert!(answers.len() <= commands && !answers.is_empty());
        }
    }
}
