//! The access log, read back from a file.

use std::net::SocketAddr;
use std::path::PathBuf;

use plimsoll_model::{AccessLog as Format, LogTo, Proto};
use plimsoll_plane_proxy::{AccessLog, AccessOptions};
use plimsoll_testkit::{
    Answer, Ending, HttpBackend, HttpBehaviour, TcpAnswer, TcpBackend, TcpBehaviour, TempDir,
    wait_until_async,
};

use crate::common::{BOUND, Proxy, at, limited, ms};

/// A log in a folder of its own, in a format.
pub(crate) struct Log {
    _dir: TempDir,
    path: PathBuf,
    pub(crate) log: AccessLog,
}

impl Log {
    pub(crate) fn new(format: Format, query: bool) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("access.log");
        let to = LogTo::File(path.clone());
        let log = AccessLog::open(AccessOptions { format, to, query }).unwrap();
        Self {
            _dir: dir,
            path,
            log,
        }
    }

    /// A proxy for this backend.
    pub(crate) fn proxy(&self, proto: Proto, backend: SocketAddr) -> Proxy {
        Proxy::logged(self.log.clone(), proto, vec![at(backend)], |_| {})
    }

    /// The next so many lines that are written, after those that were there.
    pub(crate) async fn lines(&self, count: usize) -> Vec<String> {
        let read = || std::fs::read_to_string(&self.path).unwrap();
        let there = wait_until_async(BOUND, || read().lines().count() >= count).await;
        assert!(there, "{count} lines of {}", read());
        let lines: Vec<String> = read().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), count, "{lines:?}");
        lines
    }
}

/// The termination code and the status of a line of `httplog`, and what is before the load.
fn code(line: &str) -> (&str, &str) {
    let fields: Vec<&str> = line.split(' ').collect();
    (fields[9], fields[5])
}

#[tokio::test]
async fn each_request_is_a_line_when_it_has_ended() {
    let log = Log::new(Format::Httplog, true);
    let backend = HttpBackend::start("b").unwrap();
    backend.behave(HttpBehaviour::slow(ms(20)));
    let proxy = log.proxy(Proto::Http, backend.address());
    let mut client = proxy.connect().await;
    let from = client.local_addr().unwrap();
    let mut lengths = Vec::new();
    for path in ["/one?a=b", "/two"] {
        let answer = client.get("a.example", path, BOUND).await.unwrap();
        lengths.push(answer.body.bytes.len());
    }
    for (line, (path, length)) in
        (log.lines(2).await.iter()).zip([("/one?a=b", lengths[0]), ("/two", lengths[1])])
    {
        assert!(line.starts_with(&format!("{from} [")), "{line}");
        let (address, to) = (backend.address(), proxy.address());
        assert!(
            line.contains(&format!("] {to}/http web/{address} 0/0/")),
            "{line}"
        );
        let end = format!(" 200 {length} - - ---- 1/1/0/0/0 0/0 \"GET {path} HTTP/1.1\"");
        assert!(line.ends_with(&end), "{line} has not {end}");
        let times: Vec<i64> = line
            .split(' ')
            .nth(4)
            .unwrap()
            .split('/')
            .map(|t| t.parse().unwrap())
            .collect();
        assert!(times[3] >= 20 && times[4] >= times[3], "{line}");
    }
    assert_eq!((log.log.lines(), log.log.dropped()), (2, 0));
}

#[tokio::test]
async fn a_service_says_itself_how_it_is_logged() {
    let log = Log::new(Format::Combined, false);
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = log.proxy(Proto::Http, backend.address());
    proxy.get("a", "/secret?token=1").await;
    let lines = log.lines(1).await;
    assert!(
        lines[0].contains("\"GET /secret HTTP/1.1\" 200 "),
        "{lines:?}"
    );
    let set = |format| {
        move |web: &mut plimsoll_model::Service| {
            std::sync::Arc::make_mut(&mut web.spec).access_log = format;
        }
    };
    proxy.edit(set(Some(Format::Off)));
    proxy.get("a", "/not-there").await;
    proxy.edit(set(Some(Format::Json)));
    proxy.get("a", "/json").await;
    let lines = log.lines(2).await;
    assert!(lines[1].contains("\"target\":\"/json\""), "{lines:?}");
}

#[tokio::test]
async fn how_requests_end_is_told_in_haproxys_codes() {
    let log = Log::new(Format::Httplog, true);
    let backend = HttpBackend::start("b").unwrap();
    let mut proxy = Proxy::logged(
        log.log.clone(),
        Proto::Http,
        vec![limited(backend.address(), 1)],
        |spec| {
            spec.timeouts.response = ms(100);
            spec.timeouts.queue = ms(100);
            spec.retries = 0;
        },
    );
    // What is no request.
    let mut client = proxy.connect().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a b\r\nbad header\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(client.read_response(BOUND).await.unwrap().status, 400);
    let lines = log.lines(1).await;
    assert_eq!(code(&lines[0]), ("PR--", "400"));
    assert!(
        lines[0].contains("/<NOSRV> -1/-1/-1/-1/") && lines[0].ends_with("\"<BADREQ>\""),
        "{lines:?}"
    );
    // A backend that is silent, and the one who waits for it.
    backend.behave(HttpBehaviour::answering(Answer::Never));
    assert_eq!(proxy.get("a", "/silent").await.status, 504);
    let lines = log.lines(2).await;
    assert_eq!(code(&lines[1]), ("sH--", "504"));
    proxy.edit(|web| {
        std::sync::Arc::make_mut(&mut web.spec).timeouts.response = ms(60_000);
    });
    let mut first = proxy.connect().await;
    first
        .send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    assert!(wait_until_async(BOUND, || backend.stats().active == 1).await);
    assert_eq!(proxy.get("a", "/queue").await.status, 503);
    let lines = log.lines(3).await;
    assert_eq!(code(&lines[2]), ("sQ--", "503"));
    assert!(lines[2].contains(" web/<NOSRV> 0/-1/-1/-1/"), "{lines:?}");
    // The client leaves before the answer.
    drop(first);
    let lines = log.lines(4).await;
    assert_eq!(code(&lines[3]), ("CH--", "-1"));
    // Nobody is there.
    backend.refuse().await;
    backend.kill(Ending::Reset).await;
    assert_eq!(proxy.get("a", "/refused").await.status, 502);
    let lines = log.lines(5).await;
    assert_eq!(code(&lines[4]), ("SC--", "502"));
    // The client is not let in.
    proxy.edit(|web| {
        let spec = std::sync::Arc::make_mut(&mut web.spec);
        spec.clients.deny = vec!["127.0.0.0/8".parse().unwrap()];
    });
    assert_eq!(proxy.get("a", "/denied").await.status, 403);
    let lines = log.lines(6).await;
    assert_eq!(code(&lines[5]), ("PR--", "403"));
}

#[tokio::test]
async fn what_could_not_even_be_read_is_a_line() {
    let log = Log::new(Format::Httplog, true);
    let backend = HttpBackend::start("b").unwrap();
    let proxy = log.proxy(Proto::Http, backend.address());
    let refused = [
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for (number, bytes) in refused.into_iter().enumerate() {
        let mut client = proxy.connect().await;
        client.send(bytes).await.unwrap();
        let answer = client.read_response(BOUND).await.unwrap();
        assert_eq!(answer.status, 400, "{bytes:?}");
        let lines = log.lines(number + 1).await;
        assert_eq!(code(&lines[number]), ("PR--", "400"), "{bytes:?}");
    }
    // A client that leaves in the middle of a head, and one that says nothing.
    drop(proxy.connect().await);
    let mut client = proxy.connect().await;
    client.send("GET / HTTP/1.1\r\nHo").await.unwrap();
    drop(client);
    let lines = log.lines(4).await;
    assert_eq!(code(&lines[3]), ("CR--", "-1"), "{lines:?}");
    assert_eq!(backend.stats().requests, 0);
}

#[tokio::test]
async fn no_query_is_logged_and_no_body_that_was_not_sent() {
    let log = Log::new(Format::Json, false);
    let backend = HttpBackend::start("b").unwrap();
    let proxy = log.proxy(Proto::Http, backend.address());
    backend.kill(Ending::Close).await;
    let mut client = proxy.connect().await;
    let head = "HEAD /x?a=1 HTTP/1.1\r\nHost: a\r\nReferer: http://b/c?d=2\r\n\r\n";
    client.send(head).await.unwrap();
    let lines = log.lines(1).await;
    assert!(lines[0].contains("\"target\":\"/x\""), "{lines:?}");
    assert!(lines[0].contains("\"referer\":\"http://b/c\""), "{lines:?}");
    assert!(
        lines[0].contains("\"status\":502,\"bytes_in\":0,\"bytes_out\":0,"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_connection_over_tcp_is_a_line_when_it_has_ended() {
    let log = Log::new(Format::Httplog, true);
    let backend = TcpBackend::start("b").unwrap();
    backend.behave(TcpBehaviour::answering(TcpAnswer::Echo));
    let proxy = log.proxy(Proto::Tcp, backend.address());
    let mut client = proxy.connect().await;
    client.send("hello").await.unwrap();
    assert_eq!(client.read_exact(5, BOUND).await.unwrap(), b"hello");
    client.finish().await.unwrap();
    assert_eq!(client.read_to_end(BOUND).await.unwrap().1, Ending::Close);
    let lines = log.lines(1).await;
    assert!(
        lines[0].contains(&format!(" web/{} 0/", backend.address())),
        "{lines:?}"
    );
    assert!(lines[0].ends_with(" 5 -- 1/1/0/0/0 0/0"), "{lines:?}");
    // One that is reset under way, by its client.
    let mut client = proxy.connect().await;
    client.send("hello").await.unwrap();
    client.read_exact(5, BOUND).await.unwrap();
    client.reset().unwrap();
    let lines = log.lines(2).await;
    assert!(lines[1].contains(" 5 CD "), "{lines:?}");
}
