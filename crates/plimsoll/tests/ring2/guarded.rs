//! Lists of clients and limits, with curl from two hosts.

use crate::config::{self, Service};
use crate::lab::{HTTP, Lab, ended};

/// The status that curl gets from that host, with the time after which it may try again.
fn get(lab: &Lab, host: &str, port: u16) -> (String, String) {
    let mut curl = lab.net().namespace(host).unwrap().command("curl");
    let url = format!("http://{}/", lab.at("lb", port));
    let shown = "%{http_code} %header{retry-after}";
    curl.args([
        "-sS",
        "--max-time",
        "20",
        "-o",
        "/dev/null",
        "-w",
        shown,
        &url,
    ]);
    let ended = ended(curl);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let (status, wait) = ended.out.split_once(' ').unwrap();
    (status.to_owned(), wait.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_has_its_own_limits_and_some_are_not_let_in() {
    let hosts = ["servers", "other"];
    let Some(lab) = Lab::new("each_host_has_its_own_limits", &hosts) else {
        return;
    };
    let server = lab.http("servers", 8001);
    let limits = "limits = { per-source = { request-rate = { rate = \"1/h\", burst = 3 } } }";
    let other = lab.at("other", 1).ip();
    let shut = Service::new(
        "shut",
        Some(format!("{}/http", lab.at("lb", HTTP + 1))),
        [server.address()],
    );
    let config = [
        config::web(lab.at("lb", HTTP), &[server.address()])
            .with(limits)
            .text(),
        shut.with(&format!("deny = \"{other}\"")).text(),
    ];
    let lb = lab.start(&config.concat()).await;
    for host in ["servers", "other"] {
        for n in 1..=5 {
            let (status, wait) = get(&lab, host, HTTP);
            if n <= 3 {
                assert_eq!((&*status, &*wait), ("200", ""), "{host}, {n}");
            } else {
                assert_eq!(status, "429", "{host}, {n}");
                assert!(
                    (3000..=3600).contains(&wait.parse::<u32>().unwrap()),
                    "{wait}"
                );
            }
        }
    }
    assert_eq!(get(&lab, "servers", HTTP + 1).0, "200");
    assert_eq!(get(&lab, "other", HTTP + 1).0, "403");
    assert_eq!(server.stats().requests, 7);
    let shown = lb.tell(&["status"]);
    assert!(
        shown.contains("limits: refused 4 by per-source request-rate"),
        "{shown}"
    );
    assert!(shown.contains("1 denied"), "{shown}");
    let status = lb.status().await;
    let mut services = plimsoll_testkit::list(&status["services"]).iter();
    let web = services.find(|service| service["name"] == "web").unwrap();
    assert_eq!(web["limits"]["sources"], 2);
    lb.until_idle().await;
    lab.close(lb);
}
