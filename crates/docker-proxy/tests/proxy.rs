//! The socket in front of an engine that answers as told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll_docker_proxy::{Connection, Dial, PATIENCE, serve};
use plimsoll_testkit::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

const SOON: Duration = Duration::from_secs(10);

/// An engine: it keeps the heads of requests, and answers with what stands in `answer`.
struct Engine {
    path: PathBuf,
    heads: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Vec<u8>>>,
    /// Connections after their first answer.
    open: mpsc::UnboundedReceiver<UnixStream>,
    task: JoinHandle<()>,
}

impl Engine {
    fn start(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let (heads, answer) = (
            Arc::<Mutex<Vec<String>>>::default(),
            Arc::<Mutex<Vec<u8>>>::default(),
        );
        let (send, open) = mpsc::unbounded_channel();
        let (kept, told) = (heads.clone(), answer.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(head) = head(&mut stream).await else {
                    continue;
                };
                kept.lock().unwrap().push(head);
                let answer = told.lock().unwrap().clone();
                // Some are not read to their end.
                let _ = stream.write_all(&answer).await;
                let _ = send.send(stream);
            }
        });
        let path = path.to_owned();
        Self {
            path,
            heads,
            answer,
            open,
            task,
        }
    }

    fn answers(&self, status: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nApi-Version: 1.41\r\nOstype: linux\r\n\
             Content-Type: application/json\r\nX-Secret: SECRET\r\nSet-Cookie: SECRET\r\n\r\n"
        );
        *self.answer.lock().unwrap() = (head + body).into_bytes();
    }

    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut self.heads.lock().unwrap())
    }

    fn stop(self) {
        self.task.abort();
        std::fs::remove_file(&self.path).unwrap();
    }
}

/// The head of a message, to its empty line.
async fn head(stream: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// The proxy, and a folder for sockets.
struct Stage {
    dir: TempDir,
}

impl Stage {
    fn start() -> Self {
        Self::patient(PATIENCE)
    }

    fn patient(patience: Duration) -> Self {
        let dir = TempDir::new().unwrap();
        let stage = Self { dir };
        let engine = stage.engine();
        let listener = UnixListener::bind(stage.socket()).unwrap();
        let dial: Dial = Box::new(move || {
            let engine = engine.clone();
            Box::pin(async move {
                let stream = UnixStream::connect(engine).await?;
                Ok(Box::new(stream) as Box<dyn Connection>)
            })
        });
        tokio::spawn(serve(
            listener,
            "unix:///engine.sock".into(),
            dial,
            patience,
        ));
        stage
    }

    fn engine(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("proxy.sock")
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).await.unwrap()
    }

    /// Head and body of the answer to a request that closes its connection.
    async fn send(&self, request: &str) -> (String, String) {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let read = timeout(SOON, stream.read_to_string(&mut text)).await;
        assert!(
            matches!(read, Ok(Ok(_))),
            "{request:.200}: {text:.200}: {read:?}"
        );
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.into(), body.into())
    }

    async fn get(&self, target: &str) -> (String, String) {
        self.send(&format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
        .await
    }
}

#[tokio::test]
async fn asks_the_engine_and_passes_on_what_may_be() {
    let stage = Stage::start();
    let engine = Engine::start(&stage.engine());
    engine.answers(
        "200 OK",
        r#"{"Id":"a","Config":{"Env":["A=SECRET","VIRTUAL_HOST=x"]},"Args":["SECRET"]}"#,
    );
    let (head, body) = stage
        .send(
            "GET /v1.41/containers/a/json HTTP/1.1\r\nHost: evil\r\nConnection: close\r\n\
             X-Registry-Auth: mine\r\nAccept: text/x\r\n\r\n",
        )
        .await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("api-version: 1.41\r\n") && head.contains("ostype: linux"),
        "{head}"
    );
    assert!(
        !head.contains("SECRET") && !body.contains("SECRET"),
        "{head}\n{body}"
    );
    assert_eq!(
        body,
        "{\"Config\":{\"Env\":[\"VIRTUAL_HOST=x\"]},\"Id\":\"a\"}\n"
    );
    let asked = engine.heads().concat();
    assert_eq!(
        asked,
        "GET /v1.41/containers/a/json HTTP/1.1\r\nhost: docker\r\naccept: application/json\r\n\r\n"
    );

    engine.answers("404 Not Found", r#"{"message":"No such container: a"}"#);
    let (head, body) = stage.get("/containers/a/json").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    assert_eq!(body, "{\"message\":\"No such container: a\"}\n");

    engine.answers("200 OK", "");
    let (head, body) = stage
        .send("HEAD /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.contains("api-version: 1.41"),
        "{head}"
    );
    assert_eq!(body, "");
}

#[tokio::test]
async fn nothing_else_reaches_the_engine() {
    let stage = Stage::start();
    let engine = Engine::start(&stage.engine());
    engine.answers("200 OK", "[]");
    for request in [
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        "GET /containers/a/archive?path=/etc/shadow HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /containers/a/../../secrets HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /containers/a%2f..%2f/json HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /containers/json?size=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /events?since=-1 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET http://docker/containers/json HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /containers/json HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        "GET /containers/json HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HEAD /containers/json HTTP/1.1\r\nHost: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "CONNECT docker:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /session HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ] {
        let close = request.replacen("Host: x\r\n", "Host: x\r\nConnection: close\r\n", 1);
        let (head, body) = stage.send(&close).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{request}: {head}");
        let said = body.contains("is not passed on") || request.starts_with("HEAD");
        assert!(said, "{request}: {body}");
    }
    // What is no request at all ends its connection.
    let (head, _) = stage.send("GARBAGE\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    let long = format!(
        "GET /_ping HTTP/1.1\r\nConnection: close\r\nA: {}\r\n\r\n",
        "a".repeat(100 << 10)
    );
    // It is refused before it has been read: what is left of it resets the connection.
    let mut stream = stage.connect().await;
    let _ = stream.write_all(long.as_bytes()).await;
    let mut seen = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut seen)).await.unwrap();
    assert!(!seen.starts_with(b"HTTP/1.1 200"));
    assert_eq!(engine.heads(), Vec::<String>::new());
}

#[tokio::test]
async fn events_are_passed_on_as_they_happen() {
    let stage = Stage::start();
    let mut engine = Engine::start(&stage.engine());
    *engine.answer.lock().unwrap() =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nApi-Version: 1.41\r\n\r\n".into();
    let mut client = stage.connect().await;
    let request = "GET /events?filters=%7B%7D&since=5 HTTP/1.1\r\nHost: x\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let answered = timeout(SOON, head(&mut client)).await.unwrap().unwrap();
    assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
    let mut source = timeout(SOON, engine.open.recv()).await.unwrap().unwrap();
    let lines = [
        r#"{"Type":"container","Action":"exec_create: SECRET","Actor":{"ID":"a"}}"#,
        r#"{"Type":"container","Action":"kill","Actor":{"ID":"a","Attributes":{"signal":"15"}}}"#,
    ];
    for line in lines {
        let chunk = format!("{:x}\r\n{line}\n\r\n", line.len() + 1);
        source.write_all(chunk.as_bytes()).await.unwrap();
    }
    let mut seen = Vec::new();
    while !seen.ends_with(b"\n\r\n") {
        let byte = timeout(SOON, client.read_u8()).await.unwrap().unwrap();
        seen.push(byte);
        if seen == b"0\r\n\r\n" {
            panic!("the stream has ended");
        }
    }
    let seen = String::from_utf8(seen).unwrap();
    assert!(
        seen.contains("\"signal\":\"15\"") && !seen.contains("SECRET"),
        "{seen}"
    );

    // Others are answered meanwhile, and the engine sees when a client leaves.
    engine.answers("200 OK", "[]");
    assert_eq!(stage.get("/networks").await.1, "[]\n");
    drop(client);
    let left = timeout(SOON, source.read_u8()).await.unwrap();
    assert_eq!(left.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_engine_that_is_away_or_answers_nonsense_is_502_until_it_is_back() {
    let stage = Stage::start();
    let (head, body) = stage.get("/_ping").await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(
        body.contains("unix:///engine.sock cannot be reached"),
        "{body}"
    );

    let engine = Engine::start(&stage.engine());
    engine.answers("200 OK", "OK");
    let (head, body) = stage.get("/_ping").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "OK");
    for (answer, why) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[{}",
            "something else",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "something else",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n[]",
            "more than",
        ),
        ("SSH-2.0-OpenSSH\r\n", "breaks off"),
    ] {
        *engine.answer.lock().unwrap() = answer.into();
        let (head, body) = stage.get("/containers/json").await;
        assert!(
            head.starts_with("HTTP/1.1 502 ") && body.contains(why),
            "{answer}: {head} {body}"
        );
    }
    // A list may be longer than an inspection.
    let long = "x".repeat(5 << 20);
    engine.answers("200 OK", &format!(r#"[{{"Id":"{long}"}}]"#));
    assert!(stage.get("/containers/json").await.1.len() > long.len());
    engine.answers("200 OK", &format!(r#"{{"Id":"{long}"}}"#));
    let (head, body) = stage.get("/containers/a/json").await;
    assert!(
        head.starts_with("HTTP/1.1 502 ") && body.contains("more than"),
        "{head} {body:.200}"
    );
    engine.stop();
    assert!(stage.get("/_ping").await.0.starts_with("HTTP/1.1 502 "));
    let engine = Engine::start(&stage.engine());
    engine.answers("200 OK", "[]");
    assert!(
        stage
            .get("/containers/json")
            .await
            .0
            .starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn many_answers_are_given_at_once_and_on_one_connection() {
    let stage = Stage::start();
    let engine = Engine::start(&stage.engine());
    engine.answers("200 OK", "[]");
    let stage = Arc::new(stage);
    let mut many = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let stage = stage.clone();
        many.spawn(async move { stage.get("/containers/json").await });
    }
    for (head, body) in many.join_all().await {
        assert!(
            head.starts_with("HTTP/1.1 200 ") && body == "[]\n",
            "{head}"
        );
    }
    let mut stream = stage.connect().await;
    for _ in 0..3 {
        stream
            .write_all(b"GET /networks HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let answered = timeout(SOON, head(&mut stream)).await.unwrap().unwrap();
        assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
        let mut body = [0; 3];
        timeout(SOON, stream.read_exact(&mut body))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&body, b"[]\n");
    }
}

#[tokio::test]
async fn clients_that_do_not_read_are_in_nobodys_way_for_long() {
    let stage = Stage::patient(Duration::from_secs(1));
    let engine = Engine::start(&stage.engine());
    // More than the system takes off the proxy.
    let length = 1 << 19;
    engine.answers("200 OK", &format!(r#"[{{"Id":"{}"}}]"#, "x".repeat(length)));
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut client = stage.connect().await;
        let request = "GET /containers/json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        stuck.push(client);
    }
    let (head, body) = stage.get("/containers/json").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(body.len() > length, "who reads gets all of it");
    // They stay cut off, but for the last ones, which begin to read in time.
    let mut cut_off = 0;
    for mut client in stuck {
        let mut text = Vec::new();
        let read = timeout(SOON, client.read_to_end(&mut text)).await;
        assert!(read.is_ok(), "its connection ends");
        cut_off += usize::from(text.len() < length);
    }
    assert!(cut_off > 0, "somebody had to make place");
}

const START: &str = r#"{"Type":"container","Action":"start","Actor":{"ID":"a"}}"#;

/// A client that has asked for events, and the engine's end of that.
async fn listening(stage: &Stage, engine: &mut Engine) -> (UnixStream, UnixStream) {
    *engine.answer.lock().unwrap() =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".into();
    let mut client = stage.connect().await;
    let request = "GET /events HTTP/1.1\r\nHost: x\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let source = timeout(SOON, engine.open.recv()).await.unwrap().unwrap();
    (client, source)
}

/// So many events, as the engine sends them.
fn starts(count: usize) -> Vec<u8> {
    let chunk = format!("{:x}\r\n{START}\n\r\n", START.len() + 1);
    chunk.repeat(count).into_bytes()
}

#[tokio::test]
async fn a_client_that_does_not_read_its_events_is_cut_off() {
    let stage = Stage::patient(Duration::from_millis(200));
    let mut engine = Engine::start(&stage.engine());
    let (_client, mut source) = listening(&stage, &mut engine).await;
    let events = starts(100);
    let cut_off = timeout(SOON, async {
        while source.write_all(&events).await.is_ok() {}
    });
    assert!(cut_off.await.is_ok(), "the engine is still read");
}

#[tokio::test]
async fn a_client_that_reads_its_events_is_not_cut_off() {
    let patience = Duration::from_secs(1);
    let stage = Stage::patient(patience);
    let mut engine = Engine::start(&stage.engine());
    let (client, mut source) = listening(&stage, &mut engine).await;
    // So much that it cannot be written at once.
    let batch = starts(100);
    let (mut sent, mut batches) = (batch.len(), 0);
    loop {
        if sent == batch.len() {
            (sent, batches) = (0, batches + 1);
        }
        let taken = timeout(Duration::from_millis(50), source.write(&batch[sent..]));
        let Ok(taken) = taken.await else {
            break;
        };
        sent += taken.unwrap();
    }
    let mut rest = batch[sent..].to_vec();
    let mut count = batches * 100;
    // Then now and then one, for longer than it may take to read them all.
    let mut client = BufReader::new(client);
    let begin = Instant::now();
    let mut pace = interval(Duration::from_millis(50));
    while begin.elapsed() < patience * 2 {
        let (sent, ()) = tokio::join!(source.write_all(&rest), async {
            while count > 0 {
                let mut line = String::new();
                let read = timeout(SOON, client.read_line(&mut line)).await;
                assert!(matches!(read, Ok(Ok(1..))), "cut off: {read:?}");
                count -= usize::from(line.starts_with("{\"Action\":\"start\""));
            }
        });
        sent.unwrap();
        pace.tick().await;
        (rest, count) = (starts(1), 1);
    }
}
