//! The file source on real files: whatever happens to the file, the right updates come.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll_discover::file::{FileSource, Watch};
use plimsoll_discover::{Item, SourceUpdate, Update};
use plimsoll_model::{Origin, Service, ServiceSpec};
use plimsoll_testkit::TempDir;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const BOUND: Duration = Duration::from_secs(20);

/// A directory of its own, gone at the end.
struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A source that runs.
struct Running {
    updates: Receiver<SourceUpdate>,
    reload: Arc<Notify>,
    task: JoinHandle<()>,
}

/// One service for each word; `!` is an error.
fn words(text: &str) -> Result<(Vec<Service>, Vec<plimsoll_model::Route>), String> {
    if text.contains('!') {
        return Err("1:1: no exclamation".into());
    }
    let service = |word: &str| {
        let origin = Origin::new("test", word);
        Service::new(ServiceSpec::new(word.parse().unwrap(), origin, vec![]), [])
    };
    Ok((text.split_whitespace().map(service).collect(), Vec::new()))
}

fn start(path: &Path, interval: Duration) -> Running {
    let watch = Watch {
        interval,
        settle: Duration::from_millis(30),
        patience: Duration::from_secs(5),
    };
    start_with(path, watch)
}

fn start_with(path: &Path, watch: Watch) -> Running {
    let (sender, updates) = channel(16);
    let reload = Arc::new(Notify::new());
    let source = FileSource::new(path, words).watched(watch);
    assert_eq!(*source.id().name, *format!("file:{}", path.display()));
    let task = tokio::spawn(source.run(sender, reload.clone()));
    Running {
        updates,
        reload,
        task,
    }
}

fn watched(path: &Path) -> Running {
    start(path, Duration::from_millis(10))
}

impl Running {
    async fn next(&mut self) -> Update {
        let update = timeout(BOUND, self.updates.recv()).await;
        update.unwrap().unwrap().update
    }

    /// The services of the next update, which has to be a `Reset`.
    async fn services(&mut self) -> String {
        let Update::Reset(entries) = self.next().await else {
            panic!("not a Reset");
        };
        let names = entries.iter().map(|entry| match &entry.item {
            Item::Service(service) => service.name().to_string(),
            other => panic!("{other:?}"),
        });
        names.collect::<Vec<_>>().join(" ")
    }

    /// The reason of the next update, which has to be `Stale`.
    async fn stale(&mut self) -> String {
        match self.next().await {
            Update::Stale { reason } => reason.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn changes_in_place_and_by_rename() {
    let dir = Dir::new();
    let path = dir.file("conf");
    fs::write(&path, "a b").unwrap();
    let mut source = watched(&path);
    assert_eq!(source.services().await, "a b");
    fs::write(&path, "a c").unwrap();
    assert_eq!(source.services().await, "a c");
    fs::write(dir.file("new"), "a d").unwrap();
    fs::rename(dir.file("new"), &path).unwrap();
    assert_eq!(source.services().await, "a d");
}

#[tokio::test]
async fn symbolic_links_are_swapped() {
    let dir = Dir::new();
    for (version, text) in [("v1", "a"), ("v2", "b")] {
        fs::create_dir(dir.file(version)).unwrap();
        fs::write(dir.file(version).join("conf"), text).unwrap();
    }
    symlink("v1", dir.file("data")).unwrap();
    symlink("data/conf", dir.file("conf")).unwrap();
    let mut source = watched(&dir.file("conf"));
    assert_eq!(source.services().await, "a");
    symlink("v2", dir.file("data.new")).unwrap();
    fs::rename(dir.file("data.new"), dir.file("data")).unwrap();
    assert_eq!(source.services().await, "b");
}

#[tokio::test]
async fn what_is_broken_or_gone_is_stale() {
    let dir = Dir::new();
    let path = dir.file("conf");
    let mut source = watched(&path);
    assert!(source.stale().await.contains("cannot be read"));
    fs::write(&path, "a").unwrap();
    assert_eq!(source.services().await, "a");
    fs::write(&path, "a b!").unwrap();
    assert_eq!(source.stale().await, "1:1: no exclamation");
    fs::write(&path, "a").unwrap();
    assert_eq!(source.next().await, Update::Fresh);
    fs::remove_file(&path).unwrap();
    assert!(source.stale().await.contains("cannot be read"));
    fs::write(&path, "a\n").unwrap();
    assert_eq!(source.services().await, "a");
    fs::write(&path, "").unwrap();
    assert!(source.stale().await.contains("empty"));
    fs::write(&path, [b'a', 0xff]).unwrap();
    assert!(source.stale().await.contains("UTF-8"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(source.stale().await.contains("not a regular file"));
}

/// A text that ends between two of its tables is a good one, and still may be half of one.
#[tokio::test]
async fn the_beginning_of_the_last_text_has_to_stay() {
    let dir = Dir::new();
    let path = dir.file("conf");
    let watch = Watch {
        interval: Duration::from_millis(10),
        settle: Duration::from_millis(30),
        patience: Duration::from_millis(700),
    };
    fs::write(&path, "a b c\n").unwrap();
    let mut source = start_with(&path, watch);
    assert_eq!(source.services().await, "a b c");
    // Half written, and then whole: nothing has changed.
    fs::write(&path, "a b").unwrap();
    assert!(source.stale().await.contains("as if being written"));
    fs::write(&path, "a b c\n").unwrap();
    assert_eq!(source.next().await, Update::Fresh);
    // What stays is meant.
    let written = std::time::Instant::now();
    fs::write(&path, "a b").unwrap();
    assert!(source.stale().await.contains("as if being written"));
    assert_eq!(source.services().await, "a b");
    assert!(written.elapsed() >= watch.patience);
    // So is what one is told to read, and what has lost nothing but white space.
    fs::write(&path, "a b c\n").unwrap();
    assert_eq!(source.services().await, "a b c");
    fs::write(&path, "a b c").unwrap();
    assert_eq!(source.services().await, "a b c");
    fs::write(&path, "a").unwrap();
    source.stale().await;
    source.reload.notify_one();
    assert_eq!(source.services().await, "a");
}

#[tokio::test]
async fn an_empty_file_is_fine_at_the_start() {
    let dir = Dir::new();
    fs::write(dir.file("conf"), "").unwrap();
    let mut source = watched(&dir.file("conf"));
    assert_eq!(source.services().await, "");
}

#[tokio::test]
async fn too_long_a_file_is_not_read() {
    let dir = Dir::new();
    let path = dir.file("conf");
    let file = fs::File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(watched(&path).stale().await.contains("longer"));
}

#[tokio::test]
async fn the_same_text_is_no_update() {
    let dir = Dir::new();
    let path = dir.file("conf");
    fs::write(&path, "a").unwrap();
    let mut source = watched(&path);
    assert_eq!(source.services().await, "a");
    fs::write(dir.file("new"), "a").unwrap();
    fs::rename(dir.file("new"), &path).unwrap();
    source.reload.notify_one();
    fs::write(&path, "b").unwrap();
    assert_eq!(source.services().await, "b");
}

#[tokio::test]
async fn reload_does_not_wait() {
    let dir = Dir::new();
    let path = dir.file("conf");
    fs::write(&path, "a").unwrap();
    let mut source = start(&path, Duration::from_secs(3600));
    assert_eq!(source.services().await, "a");
    fs::write(&path, "b").unwrap();
    source.reload.notify_one();
    assert_eq!(source.services().await, "b");
    fs::write(&path, "!").unwrap();
    source.reload.notify_one();
    source.stale().await;
    fs::write(&path, "b").unwrap();
    source.reload.notify_one();
    assert_eq!(source.next().await, Update::Fresh);
}

/// Texts are only ever read whole: each is longer than the one before, written in pieces faster
/// than the file settles.
#[tokio::test]
async fn what_is_being_written_is_not_read() {
    use std::io::Write;
    let dir = Dir::new();
    let path = dir.file("conf");
    fs::write(&path, "a").unwrap();
    let watch = Watch {
        interval: Duration::from_millis(5),
        settle: Duration::from_millis(500),
        patience: BOUND,
    };
    let (sender, mut updates) = channel(16);
    let source = FileSource::new(&path, words).watched(watch);
    tokio::spawn(source.run(sender, Arc::new(Notify::new())));
    updates.recv().await.unwrap();
    let writer = tokio::task::spawn_blocking(move || {
        let mut file = fs::File::create(&path).unwrap();
        for word in 0..20 {
            write!(file, "w{word} ").unwrap();
            file.flush().unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let update = timeout(BOUND, updates.recv()).await.unwrap().unwrap();
    assert!(matches!(update.update, Update::Reset(entries) if entries.len() == 20));
    writer.await.unwrap();
}

#[tokio::test]
async fn ends_with_its_receiver() {
    let dir = Dir::new();
    fs::write(dir.file("conf"), "a").unwrap();
    let Running { updates, task, .. } = start(&dir.file("conf"), Duration::from_secs(3600));
    drop(updates);
    timeout(BOUND, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn reads_the_native_format() {
    let dir = Dir::new();
    let path = dir.file("plimsoll.toml");
    let text = "[[service]]\nname = \"web\"\nlisten = \"127.0.0.1:8080/http\"\n\
                backends = [\"127.0.0.1:9001\"]\n";
    fs::write(&path, text).unwrap();
    let (sender, mut updates) = channel(16);
    let reload = Arc::new(Notify::new());
    let drains = Arc::new(Mutex::new(Vec::new()));
    let seen = drains.clone();
    let source = FileSource::native(&path, move |config| {
        seen.lock().unwrap().push(config.daemon.drain);
    });
    tokio::spawn(source.run(sender, reload.clone()));
    let update = timeout(BOUND, updates.recv()).await.unwrap().unwrap();
    let Update::Reset(entries) = update.update else {
        panic!("{update:?}");
    };
    assert_eq!(entries.len(), 1);
    let Item::Service(service) = &entries[0].item else {
        panic!("{entries:?}");
    };
    assert_eq!(service.spec.origin.source, update.source.name);
    assert_eq!(service.backends.len(), 1);
    fs::write(&path, text.replace("8080", "0")).unwrap();
    reload.notify_one();
    let update = timeout(BOUND, updates.recv()).await.unwrap().unwrap();
    let Update::Stale { reason } = update.update else {
        panic!("{update:?}");
    };
    assert!(reason.contains("plimsoll.toml:3:"), "{reason}");
    assert_eq!(*drains.lock().unwrap(), [Duration::from_secs(30)]);
    fs::write(&path, format!("[daemon]\ndrain = \"5s\"\n{text}")).unwrap();
    reload.notify_one();
    timeout(BOUND, updates.recv()).await.unwrap().unwrap();
    assert_eq!(drains.lock().unwrap().last(), Some(&Duration::from_secs(5)));
}

#[tokio::test]
async fn files_that_it_names_are_watched_with_it() {
    let dir = Dir::new();
    let (path, page) = (dir.file("plimsoll.toml"), dir.file("sorry.html"));
    let text = "[[service]]\nname = \"web\"\nlisten = \"127.0.0.1:8080/http\"\n\
                backends = []\nerror-pages = { 503 = \"sorry.html\" }\n";
    fs::write(&path, text).unwrap();
    fs::write(&page, "one").unwrap();
    let (sender, mut updates) = channel(16);
    let watch = Watch {
        interval: Duration::from_millis(10),
        settle: Duration::from_millis(30),
        patience: Duration::from_secs(5),
    };
    let source = FileSource::native(&path, |_| {}).watched(watch);
    tokio::spawn(source.run(sender, Arc::new(Notify::new())));
    let mut next = async || {
        timeout(BOUND, updates.recv())
            .await
            .unwrap()
            .unwrap()
            .update
    };
    let shown = |update: Update| {
        let Update::Reset(entries) = update else {
            panic!("{update:?}");
        };
        let Item::Service(service) = &entries[0].item else {
            panic!("{entries:?}");
        };
        let http = service.spec.http.as_ref().unwrap();
        http.error_pages.get(503).unwrap().text().to_string()
    };
    assert_eq!(shown(next().await), "one");
    fs::write(&page, "three").unwrap();
    assert_eq!(shown(next().await), "three");
    // Gone, of no use, and there again.
    fs::remove_file(&page).unwrap();
    let Update::Stale { reason } = next().await else {
        panic!("it is gone");
    };
    for part in [
        "plimsoll.toml:5:23: ",
        "error-pages.503",
        "sorry.html: cannot be read",
    ] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    fs::write(&page, vec![0xff; 40]).unwrap();
    let Update::Stale { reason } = next().await else {
        panic!("it is no text");
    };
    assert!(reason.contains("sorry.html: is not UTF-8 text"), "{reason}");
    fs::write(&page, "three").unwrap();
    assert!(matches!(next().await, Update::Fresh));
    fs::write(&page, "four").unwrap();
    assert_eq!(shown(next().await), "four");
}

/// A page has no end of its own, so its beginning alone is as good a page.
#[tokio::test]
async fn the_beginning_of_a_page_has_to_stay() {
    let dir = Dir::new();
    let (path, page) = (dir.file("plimsoll.toml"), dir.file("sorry.html"));
    fs::write(&path, "[error-pages]\n5xx = \"sorry.html\"\n").unwrap();
    let write = |text: &str| {
        fs::write(dir.file("new"), text).unwrap();
        fs::rename(dir.file("new"), &page).unwrap();
    };
    write("<p>one</p>");
    let (sender, mut updates) = channel(16);
    let watch = Watch {
        interval: Duration::from_millis(10),
        settle: Duration::from_millis(30),
        patience: Duration::from_secs(600),
    };
    let shown = Arc::new(Mutex::new(Vec::new()));
    let told = shown.clone();
    let source = FileSource::native(&path, move |config| {
        let page = config.error_pages.get(503).unwrap();
        told.lock().unwrap().push(page.text().to_string());
    });
    let reload = Arc::new(Notify::new());
    tokio::spawn(source.watched(watch).run(sender, reload.clone()));
    let mut next = async || {
        timeout(BOUND, updates.recv())
            .await
            .unwrap()
            .unwrap()
            .update
    };
    assert!(matches!(next().await, Update::Reset(_)));
    // Half written, and then whole: nothing has changed.
    write("<p>on");
    let Update::Stale { reason } = next().await else {
        panic!("it may be half written");
    };
    assert!(reason.contains("as if being written"), "{reason}");
    write("<p>one</p>");
    assert_eq!(next().await, Update::Fresh);
    assert_eq!(*shown.lock().unwrap(), ["<p>one</p>"]);
    // What one is told to read is meant.
    write("<p>");
    assert!(matches!(next().await, Update::Stale { .. }));
    reload.notify_one();
    assert!(matches!(next().await, Update::Reset(_)));
    assert_eq!(*shown.lock().unwrap(), ["<p>one</p>", "<p>"]);
}
