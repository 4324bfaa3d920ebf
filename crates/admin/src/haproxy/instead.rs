//! The commands of HAProxy that plimsoll does not have, and what to use instead.

/// Commands of HAProxy 2.6 (`help` at its highest level) by their first words, the longer before the
/// shorter.
const INSTEAD: &[(&[&str], &str)] = &[
    (&["abort", "ssl"], TLS),
    (&["add", "acl"], LISTS),
    (&["add", "map"], LISTS),
    (&["add", "server"], SERVERS),
    (&["add", "ssl"], TLS),
    (&["clear", "acl"], LISTS),
    (
        &["clear", "counters"],
        "counts begin with the daemon: look at how they grow",
    ),
    (&["clear", "map"], LISTS),
    (&["clear", "table"], TABLES),
    (&["commit", "acl"], LISTS),
    (&["commit", "map"], LISTS),
    (&["commit", "ssl"], TLS),
    (&["debug"], LOG),
    (&["del", "acl"], LISTS),
    (&["del", "map"], LISTS),
    (&["del", "server"], SERVERS),
    (&["del", "ssl"], TLS),
    (&["disable", "agent"], CHECKS),
    (&["disable", "dynamic-cookie"], COOKIES),
    (&["disable", "frontend"], LISTENS),
    (&["disable", "health"], CHECKS),
    (&["enable", "agent"], CHECKS),
    (&["enable", "dynamic-cookie"], COOKIES),
    (&["enable", "frontend"], LISTENS),
    (&["enable", "health"], CHECKS),
    (&["experimental-mode"], LEVELS),
    (&["expert-mode"], LEVELS),
    (&["get", "acl"], LISTS),
    (&["get", "map"], LISTS),
    (&["get", "var"], LISTS),
    (&["httpclient"], "ask with curl"),
    (&["mcli-debug-mode"], LEVELS),
    (&["new", "ssl"], TLS),
    (&["operator"], LEVELS),
    (&["prepare", "acl"], LISTS),
    (&["prepare", "map"], LISTS),
    (
        &["reload"],
        "`plimsoll run` reads a changed file by itself, and at once on SIGHUP",
    ),
    (&["set", "dynamic-cookie-key"], COOKIES),
    (&["set", "map"], LISTS),
    (
        &["set", "maxconn", "server"],
        "`maxconn` of a backend in the configuration, or of a container in its labels",
    ),
    (
        &["set", "maxconn"],
        "only backends have a `maxconn`, in the configuration or in labels",
    ),
    (&["set", "profiling"], LOG),
    (&["set", "rate-limit"], "there is no such limit"),
    (&["set", "severity-output"], "answers have no severity"),
    (&["set", "ssl"], TLS),
    (&["set", "table"], TABLES),
    (&["set", "var"], LISTS),
    (&["show", "acl"], LISTS),
    (
        &["show", "activity"],
        "`show info`, and the metrics of plimsoll",
    ),
    (&["show", "cache"], "there is no cache"),
    (&["show", "cli"], LEVELS),
    (
        &["show", "env"],
        "`show info` has the Pid: look into /proc/PID/environ",
    ),
    (
        &["show", "errors"],
        "bad requests are counted, not kept: `ereq` of `show stat`",
    ),
    (&["show", "events"], LOG),
    (
        &["show", "fd"],
        "`show info` has the Pid: look into /proc/PID/fd",
    ),
    (&["show", "libs"], "it is one static binary"),
    (&["show", "map"], LISTS),
    (&["show", "peers"], TABLES),
    (
        &["show", "pools"],
        "`show info` has the Pid: look into /proc/PID/status",
    ),
    (&["show", "proc"], "there is one process: `show info`"),
    (&["show", "profiling"], LOG),
    (
        &["show", "resolvers"],
        "backends are addresses, names are not resolved",
    ),
    (
        &["show", "schema"],
        "`show stat` is CSV; `plimsoll status --json` is the same and more",
    ),
    (
        &["show", "servers", "conn"],
        "`show stat` has what is known of connections",
    ),
    (&["show", "sess"], FLOWS),
    (&["show", "ssl"], TLS),
    (&["show", "startup-logs"], LOG),
    (&["show", "table"], TABLES),
    (&["show", "tasks"], "`Tasks` and `Run_queue` of `show info`"),
    (&["show", "threads"], "`Nbthread` of `show info`"),
    (&["show", "tls-keys"], TLS),
    (&["show", "trace"], LOG),
    (
        &["shutdown", "frontend"],
        "a listen closes when no service has it: change the configuration",
    ),
    (
        &["shutdown"],
        "a backend's connections end by themselves, or when the time to drain is over",
    ),
    (&["trace"], LOG),
    (&["update", "ssl"], TLS),
    (&["user"], LEVELS),
];

const CHECKS: &str = "`check` in the configuration, or `set server … state`";
const COOKIES: &str = "`cookie` in the configuration, or in labels";
const FLOWS: &str = "`plimsoll flows` lists what is in flight";
const LEVELS: &str = "whoever may open this socket may do all that it has";
const LISTENS: &str = "a listen closes when no service has it: change the configuration";
const LISTS: &str = "routes and rules are in the configuration, which is watched";
const LOG: &str = "the log, the access log and the metrics of plimsoll";
const SERVERS: &str = "backends are in the configuration, which is watched, or are containers";
const TABLES: &str = "`plimsoll explain` tells where a client stays, the metrics how many do";
const TLS: &str = "TLS ends before plimsoll";

/// What to use instead of a command, if HAProxy has it.
pub(super) fn instead(words: &[&str]) -> Option<&'static str> {
    let begins = |(command, _): &&(&[&str], &str)| words.starts_with(command);
    INSTEAD.iter().find(begins).map(|(_, instead)| *instead)
}

#[cfg(test)]
mod tests {
    use crate::haproxy::read_line;

    #[test]
    fn commands_of_haproxy_are_known_and_what_to_use_instead() {
        for line in HAPROXY.lines() {
            let answer = read_line(line.as_bytes()).remove(0);
            let told = match &answer {
                Ok(_) => true,
                Err(why) => {
                    let instead = why.strip_prefix("Not supported by plimsoll: ");
                    instead.is_some_and(|instead| instead.len() > 10)
                        || !why.starts_with("Unknown command") && !why.starts_with("Not supported")
                }
            };
            assert!(told, "{line}: {answer:?}");
        }
    }

    /// What HAProxy 2.6 lists in `help`, without its arguments.
    const HAPROXY: &str = "\
abort ssl ca-file
abort ssl cert
abort ssl crl-file
add acl
add map
add server
add ssl ca-file
add ssl crt-list
clear acl
clear counters
clear counters all
clear map
clear table
commit acl
commit map
commit ssl ca-file
commit ssl cert
commit ssl crl-file
debug dev
del acl
del map
del server
del ssl ca-file
del ssl cert
del ssl crl-file
del ssl crt-list
disable agent
disable dynamic-cookie backend
disable frontend
disable health
disable server
enable agent
enable dynamic-cookie backend
enable frontend
enable health
enable server
experimental-mode on
expert-mode on
get acl
get map
get var
get weight
help
httpclient
new ssl ca-file
new ssl cert
new ssl crl-file
operator
prepare acl
prepare map
prompt
quit
set dynamic-cookie-key backend
set map
set maxconn frontend
set maxconn global
set maxconn server
set profiling
set rate-limit connections global
set rate-limit http-compression global
set rate-limit sessions global
set rate-limit ssl-sessions global
set server
set severity-output
set ssl ca-file
set ssl cert
set ssl crl-file
set ssl ocsp-response
set ssl tls-key
set table
set timeout cli
set var
set weight
show acl
show activity
show backend
show cache
show cli level
show cli sockets
show env
show errors
show events
show fd
show info
show libs
show map
show peers
show pools
show profiling
show resolvers
show schema json
show servers conn
show servers state
show sess
show ssl ca-file
show ssl cert
show ssl crl-file
show ssl crt-list
show ssl ocsp-response
show stat
show startup-logs
show table
show tasks
show threads
show tls-keys
show trace
show version
shutdown frontend
shutdown session
shutdown sessions server
trace
user";
}
