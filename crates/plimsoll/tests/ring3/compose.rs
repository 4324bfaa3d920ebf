//! Docker Compose scales a service, and runs the examples.

use std::fs;

use plimsoll_testkit::{Client, ClientPlan, Reuse, list};

use crate::dock::{Dock, SOON, WEB, root};
use crate::lb::names;

/// One service goes on for a moment when it is told to stop, the other refuses at once.
const FILE: &str = "
version: '3.7'
services:
  web:
    image: instance
    command: --linger 300
    labels:
      plimsoll.host: web.example
  api:
    image: instance
    labels:
      plimsoll.host: web.example
      plimsoll.path: /slow
";

#[tokio::test(flavor = "multi_thread")]
async fn services_scale_up_and_down_without_a_loss() {
    let Some(dock) = Dock::new("services_scale_up_and_down_without_a_loss") else {
        return;
    };
    let lb = dock.run().await;
    let folder = dock.0.dir().join("shop");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("docker-compose.yml"), FILE).unwrap();
    let ready = async |count: usize| {
        for service in ["shop/web", "shop/api"] {
            let what = format!("{count} of {service} are ready");
            lb.until(&what, async || {
                let service = lb.service(service).await;
                let states = list(&service["backends"]).iter().map(|b| &b["state"]);
                states.clone().count() == count && states.into_iter().all(|s| s == "ready")
            })
            .await;
        }
    };
    dock.0.compose(&folder, &["up", "-d"]);
    ready(1).await;
    assert_eq!(names(&lb.service("shop/api").await), ["shop_api_1"]);
    dock.until_answer("web.example", 200, &[502, 503]).await;
    let plan = dock.load("web.example");
    let fresh = ClientPlan {
        reuse: Reuse::Never,
        ..plan.clone()
    };
    // What is refused as it is being sent must not be sent elsewhere if it is a POST.
    let gets = ClientPlan {
        post_every: 0,
        ..fresh.clone().path("/slow?ms=50")
    };
    let load = [plan, fresh, gets].map(Client::start);
    for count in [10, 2] {
        let scale = ["web", "api"].map(|service| format!("{service}={count}"));
        let up = ["up", "-d", "--scale", &scale[0], "--scale", &scale[1]];
        dock.0.compose(&folder, &up);
        ready(count).await;
        for client in &load {
            assert!(client.more(20, SOON).await);
        }
    }
    for client in load {
        client.stop().await.assert_clean();
    }
    dock.0.compose(&folder, &["down"]);
    dock.until_answer("web.example", 503, &[200, 502, 504])
        .await;
    dock.close(lb);
}

/// Runs an example: its services are built of this repository.
async fn example(dock: &Dock, file: &str) {
    let folder = root().join("examples/compose");
    let compose = |args: &[&str]| dock.0.compose(&folder, &[&["-f", file], args].concat());
    compose(&["up", "-d"]);
    let host = "whoami.localhost";
    dock.until_answer(host, 200, &[0, 404, 502, 503]).await;
    let instances = |count: usize| {
        let lb = compose(&["ps", "-q", "plimsoll"]);
        let shown = ["exec", &lb, "/plimsoll", "status", "--json"];
        let status: serde_json::Value = serde_json::from_str(&dock.0.docker(&shown)).unwrap();
        let services = list(&status["services"]).iter();
        let mut whoami = services.filter(|s| s["name"] == "compose/whoami");
        whoami.any(|service| names(service).len() == count)
    };
    dock.until("two instances serve", || instances(2)).await;
    compose(&["up", "-d", "--scale", "whoami=5"]);
    dock.until("five instances serve", || instances(5)).await;
    assert_eq!(dock.answer(WEB, host).await, 200);
    compose(&["down", "--volumes"]);
    assert_eq!(dock.answer(WEB, host).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_run() {
    let Some(dock) = Dock::new("the_examples_run") else {
        return;
    };
    dock.build_plimsoll();
    let examples = root().join("examples/compose");
    let files = fs::read_dir(examples).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["compose.yaml", "simple.yaml"]);
    for file in files {
        example(&dock, file.to_str().unwrap()).await;
    }
    dock.0.close().unwrap();
}
