//! The daemon starts where it cannot reach an engine.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use plimsoll_testkit::{Daemon, DaemonPlan, Ready};

use crate::dock::Dock;
use crate::lb::{BINARY, Lb};

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_appears_later_is_found() {
    let Some(dock) = Dock::new("an_engine_that_appears_later_is_found") else {
        return;
    };
    let labels = "--label plimsoll.host=web.example --restart always";
    dock.start("web", labels, "");
    dock.0.stop().unwrap();
    fs::remove_file(dock.0.socket()).ok();
    let lb = Lb(Daemon::start(dock.plan(&[])).await.unwrap());
    lb.until("it says that there is no socket", async || {
        let reason = lb.source().await["reason"].to_string();
        reason.contains(&dock.0.socket().display().to_string())
    })
    .await;
    dock.0.resume().unwrap();
    dock.until_answer("web.example", 200, &[0, 404, 502, 503])
        .await;
    let source = lb.source().await;
    assert_eq!(
        (&source["state"], &source["reason"]),
        (&"fresh".into(), &"".into())
    );
    dock.close(lb);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_leave_the_group_is_named() {
    let Some(dock) = Dock::new("without_leave_the_group_is_named") else {
        return;
    };
    // Some group that is not root's owns the socket, as after an installation.
    let groups = fs::read_to_string("/etc/group").unwrap();
    let group = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?);
        (gid != "0").then(|| (name.to_owned(), gid.parse::<u32>().unwrap()))
    });
    let (group, gid) = group.unwrap();
    chown(dock.0.socket(), None, Some(gid)).unwrap();
    // The way there is open, and so is a folder for the daemon's own socket.
    fs::set_permissions(dock.0.dir(), Permissions::from_mode(0o711)).unwrap();
    let nobody = 65534;
    let own = dock.0.dir().join("nobody");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(nobody), Some(nobody)).unwrap();
    let program = own.join("plimsoll");
    fs::copy(BINARY, &program).unwrap();
    let (user, admin) = (format!("--reuid={nobody}"), own.join("admin.sock"));
    let words = [
        user.as_str(),
        &format!("--regid={nobody}"),
        "--clear-groups",
        &program.display().to_string(),
        "run",
        "--admin",
        &admin.display().to_string(),
    ];
    let daemon = Daemon::start(DaemonPlan {
        program: "setpriv".into(),
        args: words.map(str::to_owned).into(),
        ready: Ready::Spawned,
        ..dock.plan(&[])
    });
    let daemon = daemon.await.unwrap();
    let names_it = || daemon.log().contains(&format!("{group} (gid {gid})"));
    dock.until("it says which group it lacks", names_it).await;
    let log = daemon.log();
    assert!(log.contains("permission denied"), "{log}");
    // Let in, it goes on by itself.
    chown(dock.0.socket(), None, Some(nobody)).unwrap();
    dock.until("it reads", || daemon.log().contains("INFO read source"))
        .await;
    drop(daemon);
    dock.0.close().unwrap();
}
