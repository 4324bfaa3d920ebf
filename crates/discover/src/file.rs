//! A source that reads a file and watches it.
//!
//! The file is looked at in short intervals: inode, size and times of what the path leads to. That
//! sees everything an editor, `mv`, `ln -sf` or a Kubernetes volume can do to it, on every file
//! system. What has just changed is read once it has held still for a moment, so that a file
//! being written is not read half. A text that could be the beginning of the last good one has to
//! hold still for longer. Once in a while it is read in any case: not every file system tells
//! states apart that are close to each other.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::MAX_BYTES;
use plimsoll_model::{Route, Service};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::{Entry, EntryKey, Item, Precedence, SourceId, SourceUpdate, Update};

/// How a file is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// How often it is looked at.
    pub interval: Duration,
    /// How long it has to hold still before it is read, above 0.
    pub settle: Duration,
    /// It is read after so long even if it never holds still; and a text that the last good one
    /// begins with has to stay for so long before it counts.
    pub patience: Duration,
}

/// After so long it is read even if nothing seems to have changed.
const READ_AGAIN: Duration = Duration::from_secs(30);

impl Default for Watch {
    /// Every 500 ms, 100 ms to settle, 5 s of patience.
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            settle: Duration::from_millis(100),
            patience: Duration::from_secs(5),
        }
    }
}

/// What a text says, or why it says nothing, fit to be shown.
type Parsed = Result<(Vec<Service>, Vec<Route>), String>;

/// A file that is read and watched.
pub struct FileSource {
    id: SourceId,
    path: Arc<Path>,
    parse: Box<dyn Fn(&str) -> Parsed + Send + Sync>,
    watch: Watch,
    /// The last text that could be parsed.
    good: Option<String>,
    /// A text that is the beginning of the last good one, and since when it is there.
    beginning: Option<(String, Instant)>,
    /// Why the source is stale, if it is.
    stale: Option<Arc<str>>,
}

impl FileSource {
    /// A file in the native format. `settings` is told of every new text that can be parsed, for
    /// those of its tables that are no services and routes.
    pub fn native(
        path: impl Into<PathBuf>,
        settings: impl Fn(&plimsoll_config::Config) + Send + Sync + 'static,
    ) -> Self {
        let path = path.into();
        let name = path.display().to_string();
        let source = format!("file:{name}");
        Self::new(path, move |text| {
            match plimsoll_config::parse(&source, text) {
                Ok(config) => {
                    settings(&config);
                    Ok((config.services, config.routes))
                }
                Err(faults) => {
                    let text = plimsoll_config::render(&name, text, &faults);
                    Err(text.trim_end().into())
                }
            }
        })
    }

    /// A file in the format that `parse` reads; names of services and of routes are unique in what
    /// it gives.
    pub fn new(
        path: impl Into<PathBuf>,
        parse: impl Fn(&str) -> Parsed + Send + Sync + 'static,
    ) -> Self {
        let path = path.into();
        let name = format!("file:{}", path.display());
        Self {
            id: SourceId::new(Precedence::File, name),
            path: path.into(),
            parse: Box::new(parse),
            watch: Watch::default(),
            good: None,
            beginning: None,
            stale: None,
        }
    }

    /// Watches the file in this way.
    #[must_use]
    pub fn watched(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    /// The source; its name is `file:PATH`.
    pub fn id(&self) -> &SourceId {
        &self.id
    }

    /// Reads and watches the file until the receiver of the updates is gone. The first update
    /// comes at once; `reload` reads the file without waiting for it to change or hold still, and
    /// takes it for whole.
    pub async fn run(mut self, updates: Sender<SourceUpdate>, reload: Arc<Notify>) {
        let (mut seen, text) = self.read().await;
        let mut update = self.say(text, false);
        let mut last = Instant::now();
        loop {
            if let Some(update) = update.take() {
                let source = self.id.clone();
                if updates.send(SourceUpdate { source, update }).await.is_err() {
                    return;
                }
            }
            let forced = tokio::select! {
                () = updates.closed() => return,
                () = reload.notified() => true,
                () = sleep(self.watch.interval) => false,
            };
            let mut whole = forced;
            if !forced {
                if self.stamp().await != seen {
                    whole = self.settle(&reload).await;
                } else if !self.is_patience_over() && last.elapsed() < READ_AGAIN {
                    continue;
                }
            }
            let (stamp, text) = self.read().await;
            (seen, last) = (stamp, Instant::now());
            update = self.say(text, whole);
        }
    }

    /// Waits until the file holds still, patience ends, or somebody wants it read now. Whether
    /// somebody does.
    async fn settle(&self, reload: &Notify) -> bool {
        let mut before = self.stamp().await;
        let still = async {
            loop {
                sleep(self.watch.settle).await;
                let now = self.stamp().await;
                if now == before {
                    return;
                }
                before = now;
            }
        };
        tokio::select! {
            () = still => false,
            () = reload.notified() => true,
            () = sleep(self.watch.patience) => false,
        }
    }

    /// Whether what may be the beginning of a text only has been there for long enough.
    fn is_patience_over(&self) -> bool {
        let since = self.beginning.as_ref().map(|(_, since)| since.elapsed());
        since.is_some_and(|time| time >= self.watch.patience)
    }

    async fn stamp(&self) -> Stamp {
        let path = self.path.clone();
        let look = spawn_blocking(move || Stamp::of(&path));
        look.await.unwrap_or(Stamp::None)
    }

    /// The text, and the stamp from before it was read: what changes meanwhile is seen later.
    async fn read(&self) -> (Stamp, Result<String, String>) {
        let path = self.path.clone();
        let read = spawn_blocking(move || (Stamp::of(&path), read(&path)));
        let stopped = |_| (Stamp::None, Err("cannot be read: stopping".into()));
        read.await.unwrap_or_else(stopped)
    }

    /// What to say about a text, if that is anything new; `whole` if it is known to be written to
    /// its end.
    fn say(&mut self, text: Result<String, String>, whole: bool) -> Option<Update> {
        let parsed = self.parse(text);
        let parsed = match parsed {
            Ok(Some((text, _))) if !whole && self.is_beginning(&text) => Err(format!(
                "{}: it ends where the last one went on, as if being written: it counts once it \
                 has stayed so for {:?}, or when told to read it",
                self.path.display(),
                self.watch.patience
            )),
            parsed => {
                self.beginning = None;
                parsed
            }
        };
        match parsed {
            Ok(Some((text, entries))) => {
                self.good = Some(text);
                self.stale = None;
                Some(Update::Reset(entries))
            }
            Ok(None) => self.stale.take().map(|_| Update::Fresh),
            Err(reason) if self.stale.as_deref() == Some(&*reason) => None,
            Err(reason) => {
                let reason: Arc<str> = reason.into();
                self.stale = Some(reason.clone());
                Some(Update::Stale { reason })
            }
        }
    }

    /// Whether a text may be the beginning only of one that is being written: it is one of the
    /// last good text, and has not been there for long.
    fn is_beginning(&mut self, text: &str) -> bool {
        let good = self.good.as_deref();
        let Some(rest) = good.and_then(|good| good.strip_prefix(text)) else {
            return false;
        };
        if is_blank(rest) {
            return false;
        }
        if (self.beginning.as_ref()).is_none_or(|(known, _)| known != text) {
            self.beginning = Some((text.to_owned(), Instant::now()));
        }
        !self.is_patience_over()
    }

    /// The entries of a text; none if it is the last one that was good.
    fn parse(&self, text: Result<String, String>) -> Result<Option<(String, Vec<Entry>)>, String> {
        let text = text.map_err(|reason| format!("{}: {reason}", self.path.display()))?;
        if self.good.as_ref() == Some(&text) {
            return Ok(None);
        }
        let was_empty = self.good.as_ref().is_none_or(|good| is_blank(good));
        if is_blank(&text) && !was_empty {
            return Err(format!(
                "{}: it is empty, as if being written: to have no services, write a comment",
                self.path.display()
            ));
        }
        let (services, routes) = (self.parse)(&text)?;
        let services = services.into_iter().map(|service| Entry {
            key: EntryKey::new(format!("service {}", service.name())),
            item: Item::Service(service.into()),
        });
        let routes = routes.into_iter().map(|route| Entry {
            key: EntryKey::new(format!("route {}", route.name)),
            item: Item::Route(route.into()),
        });
        let entries = services.chain(routes).collect();
        Ok(Some((text, entries)))
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stamp {
    /// There is nothing.
    None,
    /// Device, inode, size, time of the last write, time of the last change of the inode.
    Some(u64, u64, u64, (i64, i64), (i64, i64)),
}

impl Stamp {
    fn of(path: &Path) -> Self {
        let stamp = |m: Metadata| {
            Stamp::Some(
                m.dev(),
                m.ino(),
                m.size(),
                (m.mtime(), m.mtime_nsec()),
                (m.ctime(), m.ctime_nsec()),
            )
        };
        std::fs::metadata(path).map_or(Stamp::None, stamp)
    }
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    // A pipe or a terminal would block for ever.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a regular file".into());
    }
    let file = File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("is not UTF-8 text: byte {at} cannot be part of it")
    })
}
