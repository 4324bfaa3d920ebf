//! Docker Compose scales a service.

use std::fs;

use plimsoll_testkit::{Client, ClientPlan, Reuse};

use crate::dock::Dock;
use crate::lb::{list, names};

const FILE: &str = "
version: '3.7'
services:
  web:
    image: instance
    labels:
      plimsoll.host: web.example
  api:
    image: instance
    labels:
      plimsoll.host: web.example
      plimsoll.path: /api
";

#[tokio::test(flavor = "multi_thread")]
async fn a_service_scales_up_and_down_without_a_loss() {
    let Some(dock) = Dock::new("a_service_scales_up_and_down_without_a_loss") else {
        return;
    };
    let lb = dock.run().await;
    let folder = dock.0.dir().join("shop");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("docker-compose.yml"), FILE).unwrap();
    let ready = async |count: usize| {
        let what = format!("{count} are ready");
        lb.until(&what, async || {
            let service = lb.service("shop/web").await;
            let states = list(&service["backends"]).iter().map(|b| &b["state"]);
            states.clone().count() == count && states.into_iter().all(|state| state == "ready")
        })
        .await;
    };
    dock.0.compose(&folder, &["up", "-d"]);
    ready(1).await;
    dock.until_answer("web.example", 200, &[404, 502, 503])
        .await;
    assert_eq!(names(&lb.service("shop/api").await), ["shop_api_1"]);
    let plan = dock.load("web.example");
    let fresh = ClientPlan {
        reuse: Reuse::Never,
        ..plan.clone()
    };
    let long = plan.clone().path("/slow?ms=200");
    let load = [plan, fresh, long].map(Client::start);
    for count in [10, 2] {
        dock.0
            .compose(&folder, &["up", "-d", "--scale", &format!("web={count}")]);
        ready(count).await;
        let all = names(&lb.service("shop/web").await);
        assert_eq!(all.len(), count, "{all:?}");
        for client in &load {
            assert!(client.more(20, crate::dock::SOON).await);
        }
    }
    for client in load {
        let report = client.stop().await;
        report.assert_clean();
    }
    dock.0.compose(&folder, &["down"]);
    dock.until_answer("web.example", 503, &[200, 502, 504])
        .await;
    dock.close(lb);
}
