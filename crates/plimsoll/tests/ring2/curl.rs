//! curl as the client: what a peer that is not ours makes of it.

use std::fmt::Write;

use plimsoll_testkit::{HttpBackend, HttpBehaviour, TempDir, WANT_HEADER};

use crate::config;
use crate::lab::{HTTP, Lab, Lb};

/// FNV-1a of 64 bits: what servers say of what they received.
fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

struct Stage {
    lab: Lab,
    lb: Lb,
    server: HttpBackend,
    url: String,
}

impl Stage {
    async fn new(test: &str) -> Option<Self> {
        let lab = Lab::new(test, &["servers"])?;
        let server = lab.http("servers", 8001);
        let web = config::web(lab.at("lb", HTTP), &[server.address()]);
        let lb = lab.start(&web.text()).await;
        let url = format!("http://{}/", lab.at("lb", HTTP));
        Some(Self {
            lab,
            lb,
            server,
            url,
        })
    }

    /// What curl writes; it has to be content.
    #[track_caller]
    fn curl(&self, args: &[&str]) -> String {
        let always = ["-sS", "--fail-with-body", "--max-time", "20"];
        let ended = self.lab.run("curl", &[&always, args].concat());
        assert_eq!(
            ended.code,
            Some(0),
            "{args:?}: {}\n{}",
            ended.err,
            ended.out
        );
        ended.out
    }

    async fn close(self) {
        self.lb.until_idle().await;
        self.lab.close(self.lb);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_uploads_in_every_way() {
    let Some(stage) = Stage::new("curl_uploads_in_every_way").await else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let mut text = String::new();
    for number in 0.. {
        if text.len() >= 8 << 20 {
            break;
        }
        writeln!(text, "line {number}").unwrap();
    }
    text.truncate(8 << 20);
    let path = dir.path().join("upload");
    std::fs::write(&path, &text).unwrap();
    let (file, url) = (path.to_str().unwrap(), &*stage.url);
    let data = format!("@{file}");
    let right = format!("length={} sum={:016x}", 8 << 20, sum(text.as_bytes()));
    let expect = "Expect: 100-continue";
    let chunked = "Transfer-Encoding: chunked";
    let ways: [(&str, &[&str]); 6] = [
        ("POST", &["--data-binary", &data, url]),
        ("POST", &["--data-binary", &data, "-H", expect, url]),
        ("POST", &["--data-binary", &data, "-H", "Expect:", url]),
        ("POST", &["--data-binary", &data, "-H", chunked, url]),
        ("PUT", &["-T", file, "-H", expect, url]),
        ("PUT", &["-T", file, "-H", chunked, "-H", expect, url]),
    ];
    for (method, args) in ways {
        let said = stage.curl(args);
        let right = format!("method={method} {right}");
        assert!(said.contains(&right), "{args:?}: {said}, not {right}");
    }
    // HTTP/1.0 has no chunks and no 100.
    let said = stage.curl(&["-0", "--data-binary", &data, url]);
    assert!(said.contains(&right), "{said}");
    assert_eq!(stage.server.stats().requests, 7);
    // The backend was asked whether to go on wherever the client did: RFC 9110 §10.1.1.
    let seen = stage.server.seen();
    let asked = seen.iter().filter(|s| s.head.get("expect").is_some());
    assert!(asked.count() >= 3, "{seen:?}");
    // What it said to that reached the client, which else would have waited for a second.
    let said = stage.curl(&["-v", "--stderr", "-", "-T", file, "-H", expect, url]);
    assert!(said.contains("HTTP/1.1 100 Continue"), "{said}");
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_downloads_and_keeps_its_connection() {
    let Some(stage) = Stage::new("curl_downloads_and_keeps_its_connection").await else {
        return;
    };
    let url = &*stage.url;
    let want = format!("{WANT_HEADER}: 5000000");
    let told = "%{http_version} %{http_code} %{size_download} %{num_connects}\\n";
    let written = ["-o", "/dev/null", "-w", told, "-H", &want];
    // The second on the connection of the first.
    let said = stage.curl(&[&written[..], &[url, "-o", "/dev/null", url]].concat());
    assert_eq!(said, "1.1 200 5000000 1\n1.1 200 5000000 0\n");
    let said = stage.curl(&[&["-0"], &written[..], &[url]].concat());
    assert!(said.ends_with(" 200 5000000 1\n"), "{said}");
    let said = stage.curl(&["-I", url]);
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    // A body without length comes in chunks, or until the end of the connection in HTTP/1.0.
    stage
        .server
        .behave(plimsoll_testkit::HttpBehaviour::answering(
            plimsoll_testkit::Answer::Chunked {
                chunk: 1000,
                trailers: Vec::new(),
            },
        ));
    for version in ["--http1.1", "-0"] {
        let said = stage.curl(&[&[version], &written[..], &[url]].concat());
        assert!(said.contains(" 200 5000000 "), "{version}: {said}");
    }
    // curl offers to go on with HTTP/2 in clear, and goes on with HTTP/1.1.
    stage.server.behave(plimsoll_testkit::HttpBehaviour {
        upgrade: false,
        ..plimsoll_testkit::HttpBehaviour::default()
    });
    let said = stage.curl(&[&["--http2"], &written[..], &[url]].concat());
    assert_eq!(said, "1.1 200 5000000 1\n");
    // What nobody answers is an error that curl understands.
    stage.server.kill(plimsoll_testkit::Ending::Close).await;
    let ended = stage.lab.run("curl", &["-sS", "--fail-with-body", url]);
    assert_eq!(ended.code, Some(22), "{ended:?}");
    assert!(
        ended.err.contains("502") || ended.err.contains("503"),
        "{ended:?}"
    );
    stage.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_follows_a_redirect_to_a_route_that_strips_its_prefix() {
    let test = "curl_follows_a_redirect_to_a_route_that_strips_its_prefix";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let server = lab.http("servers", 8001);
    let web = config::web(lab.at("lb", HTTP), &[server.address()]);
    let web = web.with(
        "request-id = { response = true }\nresponse-headers.set = { X-Via = \"{host}{path}\" }",
    );
    let old = config::route("*", "/old", &[("web", 1)]);
    let api = config::route("*", "/api", &[("web", 1)]);
    let lb = lab
        .start(&format!(
            "{}{}redirect = {{ to = \"/api\", status = 308 }}\n{}strip-prefix = \"/api\"\n",
            web.text(),
            old.trim_end().to_owned() + "\n",
            api.trim_end().to_owned() + "\n",
        ))
        .await;
    let url = format!("http://{}/old/x?y=1", lab.at("lb", HTTP));
    let args = ["-sS", "--max-time", "20", "-L", "-i", "-d", "body", &url];
    let ended = lab.run("curl", &args);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = ended.out;
    assert!(
        said.contains("HTTP/1.1 308 ") && said.contains("HTTP/1.1 200 "),
        "{said}"
    );
    assert!(said.contains("location: /api/x?y=1"), "{said}");
    assert!(
        said.contains("/api/x\r\n") && said.contains("x-via: "),
        "{said}"
    );
    assert_eq!(said.matches("x-request-id: ").count(), 2, "{said}");
    let seen = server.seen();
    let starts: Vec<&str> = seen.iter().map(|seen| &*seen.head.start).collect();
    assert_eq!(starts, ["POST /x?y=1 HTTP/1.1"], "the method was kept");
    lb.until_idle().await;
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_stays_with_its_cookie_jar() {
    let Some(lab) = Lab::new("curl_stays_with_its_cookie_jar", &["servers"]) else {
        return;
    };
    let servers = [8001, 8002, 8003].map(|port| lab.http("servers", port));
    let all: Vec<_> = servers.iter().map(HttpBackend::address).collect();
    let web = config::web(lab.at("lb", HTTP), &all).with("cookie = \"SRV\"");
    let lb = lab.start(&web.text()).await;
    let dir = TempDir::new().unwrap();
    let jar = dir.path().join("jar");
    let url = format!("http://{}/", lab.at("lb", HTTP));
    let get = |jar: &str| {
        let args = ["-sSf", "--max-time", "20", "-b", jar, "-c", jar, &url];
        assert_eq!(lab.run("curl", &args).code, Some(0));
    };
    let served = || -> Vec<u64> { servers.iter().map(|s| s.stats().requests).collect() };
    for _ in 0..9 {
        get(jar.to_str().unwrap());
    }
    let mut counts = served();
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 9], "one has all: {:?}", served());
    // Clients of their own are spread.
    for number in 0..6 {
        get(dir.path().join(number.to_string()).to_str().unwrap());
    }
    let counts = served();
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    lb.until_idle().await;
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_in_with_the_password_that_htpasswd_took() {
    let test = "curl_gets_in_with_the_password_that_htpasswd_took";
    let Some(lab) = Lab::new(test, &["servers"]) else {
        return;
    };
    let server = lab.http("servers", 8001);
    let web = config::web(lab.at("lb", HTTP), &[server.address()]);
    let hash = |kind: &str, name: &str| {
        let ended = lab.run("htpasswd", &[&format!("-nb{kind}"), name, "open: sesame"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        format!("\"{}\"", ended.out.trim())
    };
    let users = [
        hash("B", "ali"),
        hash("m", "kasim"),
        hash("2", "murdjana"),
        hash("5", "aladin"),
    ];
    let cave = config::route("*", "/cave", &[("web", 1)]);
    let lb = lab
        .start(&format!(
            "{}{}\nbasic-auth = [{}]\n",
            web.text(),
            cave.trim_end(),
            users.join(", ")
        ))
        .await;
    let url = format!("http://{}/cave/gold", lab.at("lb", HTTP));
    let get = |user: &str| {
        let args = [
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-u",
            user,
            &url,
        ];
        lab.run("curl", &args).out
    };
    for name in ["ali", "kasim", "murdjana", "aladin"] {
        assert_eq!(get(&format!("{name}:open: sesame")), "200", "{name}");
        assert_eq!(get(&format!("{name}:open: barley")), "401", "{name}");
    }
    assert_eq!(get("thief:open: sesame"), "401");
    assert_eq!(server.stats().requests, 4);
    lb.until_idle().await;
    lab.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_unpacks_what_is_compressed_for_it() {
    let Some(lab) = Lab::new("curl_unpacks_what_is_compressed_for_it", &["servers"]) else {
        return;
    };
    let server = lab.http("servers", 8001);
    server.behave(HttpBehaviour {
        headers: vec![("Content-Type".into(), "text/plain".into())],
        ..HttpBehaviour::default()
    });
    let web = config::web(lab.at("lb", HTTP), &[server.address()]).with("compress = true");
    let lb = lab.start(&web.text()).await;
    let url = format!("http://{}/", lab.at("lb", HTTP));
    let want = format!("{WANT_HEADER}: 300000");
    let says = [
        "--write-out",
        "\n%header{content-encoding} %{size_download}",
    ];
    let get = |args: &[&str]| {
        let always = ["-sS", "--fail-with-body", "--max-time", "20", "-H", &want];
        let ended = lab.run("curl", &[&always, args, &says, &[&*url]].concat());
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.err);
        let (body, said) = ended.out.rsplit_once('\n').unwrap();
        let (coding, size) = said.split_once(' ').unwrap();
        (
            body.to_owned(),
            coding.to_owned(),
            size.parse::<usize>().unwrap(),
        )
    };
    let (plain, coding, size) = get(&[]);
    assert_eq!((coding.as_str(), size), ("", plain.len()));
    for coding in ["gzip", "br", "zstd"] {
        let only = format!("Accept-Encoding: {coding}");
        let (body, said, size) = get(&["--compressed", "-H", &only]);
        assert_eq!(said, coding);
        assert!(
            body == plain,
            "{coding}: {} bytes of {}",
            body.len(),
            plain.len()
        );
        assert!(size < plain.len(), "{coding}: {size}");
    }
    // What curl says by itself.
    let (body, said, _) = get(&["--compressed"]);
    assert!(body == plain && !said.is_empty());
    lb.until_idle().await;
    lab.close(lb);
}
