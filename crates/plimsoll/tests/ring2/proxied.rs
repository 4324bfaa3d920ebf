//! The PROXY protocol beside others that speak it: HAProxy before and behind, nginx behind.

use std::process::{Child, Stdio};

use plimsoll_testkit::TempDir;

use crate::config::Service;
use crate::lab::{Lab, SOON};

/// A program that runs until this is dropped.
struct Peer(Child);

impl Peer {
    /// Starts it in a namespace, with its configuration in a file whose name is the last argument.
    fn start(lab: &Lab, label: &str, program: &[&str], dir: &TempDir, config: &str) -> Self {
        let file = dir.path().join(program[0]);
        std::fs::write(&file, config).unwrap();
        let mut command = lab.net().namespace(label).unwrap().command(program[0]);
        let command = command.args(&program[1..]).arg(file).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; a test that needs it has failed by then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One that speaks for its clients in all ways, to plimsoll, and answers with whom it was told of.
fn haproxy(lab: &Lab) -> String {
    let to = |port| lab.at("lb", port);
    let way = |port: u16, to, how: &str| {
        format!(
            "listen way{port}\n  mode tcp\n  bind *:{port}\n  unique-id-format of-{port}\n  \
             server lb {to} {how}\n"
        )
    };
    let v1 = "send-proxy";
    let v2 = "send-proxy-v2 proxy-v2-options crc32c,unique-id";
    [
        "defaults\n  timeout connect 5s\n  timeout client 20s\n  timeout server 20s\n",
        &way(7001, to(9001), v1),
        &way(7002, to(9001), v2),
        &way(7003, to(9002), v2),
        &way(7004, to(9003), v2),
        &way(7005, to(9004), v1),
        &way(7006, to(9004), v2),
        "frontend told\n  mode http\n  bind *:8001 accept-proxy\n  http-request return status 200 \
         content-type text/plain lf-string \"%[src] %[fc_pp_unique_id]\"\n",
    ]
    .concat()
}

/// One that answers with whom it was told of.
fn nginx(dir: &TempDir) -> String {
    let dir = dir.path().display();
    format!(
        "daemon off; master_process off; pid {dir}/pid; error_log stderr;\n\
         events {{}}\n\
         http {{\n\
           access_log off; client_body_temp_path {dir}; proxy_temp_path {dir};\n\
           fastcgi_temp_path {dir}; uwsgi_temp_path {dir}; scgi_temp_path {dir};\n\
           server {{ listen 8002 proxy_protocol; return 200 \"$proxy_protocol_addr \"; }}\n\
         }}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn others_tell_and_are_told_of_clients() {
    let Some(lab) = Lab::new("others_tell_and_are_told_of_clients", &["peer"]) else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let peers = [
        Peer::start(
            &lab,
            "peer",
            &["haproxy", "-db", "-f"],
            &dir,
            &haproxy(&lab),
        ),
        Peer::start(&lab, "peer", &["nginx", "-c"], &dir, &nginx(&dir)),
    ];
    let peer = lab.at("peer", 0).ip();
    let service = |name: &str, port: u16, proto: &str, to: u16, send: &str| {
        let listen = format!("{}/{proto}", lab.at("lb", port));
        Service::new(name, Some(listen), [lab.at("peer", to)])
            .with(&format!("send-proxy = \"{send}\""))
            .with(&format!("accept-proxy = \"{peer}\""))
            // Both peers close a connection that begins with anything but a header.
            .with("check = \"http:/\"")
            .text()
    };
    let config = [
        service("tcp1", 9001, "tcp", 8001, "v1"),
        service("tcp2", 9002, "tcp", 8001, "v2"),
        service("nginx", 9003, "tcp", 8002, "v2"),
        service("web", 9004, "http", 8001, "v2"),
        service("web-nginx", 9005, "http", 8002, "v1"),
    ];
    let lb = lab.start(&config.concat()).await;
    lb.until("all checks pass", async || {
        let status = lb.status().await;
        let services = plimsoll_testkit::list(&status["services"]);
        let backends = services.iter().map(|s| &s["backends"][0]["state"]);
        services.len() == 5 && backends.into_iter().all(|state| state == "ready")
    })
    .await;
    let client = lab.at("client", 0).ip();
    let lb_at = |port| lab.at("lb", port).to_string();
    let at_peer = |port| lab.at("peer", port).to_string();
    for (url, wanted) in [
        // HAProxy to plimsoll and back to HAProxy or nginx: who, and by which unique id.
        (at_peer(7001), format!("{client} ")),
        (at_peer(7002), format!("{client} ")),
        (at_peer(7003), format!("{client} of-7003")),
        (at_peer(7004), format!("{client} ")),
        (at_peer(7005), format!("{client} ")),
        (at_peer(7006), format!("{client} of-7006")),
        // Those who are not from the peer's network are their own.
        (lb_at(9001), format!("{client} ")),
        (lb_at(9002), format!("{client} ")),
        (lb_at(9003), format!("{client} ")),
        (lb_at(9004), format!("{client} ")),
        (lb_at(9005), format!("{client} ")),
    ] {
        let time = SOON.as_secs().to_string();
        // Twice, the second time on the connection of the first.
        let args = ["-sS", "--fail-with-body", "--max-time", &time, &url, &url];
        let ended = lab.run("curl", &args);
        assert_eq!(
            (ended.code, &*ended.out),
            (Some(0), &*wanted.repeat(2)),
            "{url}: {ended:?}"
        );
    }
    lb.until_idle().await;
    drop(peers);
    lab.close(lb);
}
