//! A source that reads a file and watches it.
//!
//! The file is looked at in short intervals: inode, size and times of what the path leads to. That
//! sees everything an editor, `mv`, `ln -sf` or a Kubernetes volume can do to it, on every file
//! system. What has just changed is read once it has held still for a moment, so that a file
//! being written is not read half. What could be the beginning of the last good text, or of a file
//! that it names, has to hold still for longer. Once in a while it is read in any case: not every file system tells
//! states apart that are close to each other. Files that it names are watched with it: they are a part
//! of what it says.

mod contents;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::Config;
use plimsoll_model::{Route, Service};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

pub use contents::read_named;

use self::contents::{Contents, Named, Stamp, read_all};
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
type Parsed<T> = Result<T, String>;

/// What a text says; in the native format with what else that says.
type Said = (Vec<Service>, Vec<Route>, Option<Config>);

type Parse = dyn Fn(&Contents) -> Parsed<Said> + Send + Sync;

/// Something new that can be parsed.
struct News {
    read: Contents,
    entries: Vec<Entry>,
    config: Option<Config>,
}

/// A file that is read and watched.
pub struct FileSource {
    id: SourceId,
    path: Arc<Path>,
    parse: Box<Parse>,
    settings: Box<dyn Fn(&Config) + Send + Sync>,
    named: Arc<Named>,
    /// The file and those that it named when it was read last.
    paths: Arc<[PathBuf]>,
    watch: Watch,
    /// The last that could be parsed.
    good: Option<Contents>,
    /// What may be the beginning of the last good one, and since when it is there.
    beginning: Option<(Contents, Instant)>,
    /// Why the source is stale, if it is.
    stale: Option<Arc<str>>,
}

impl FileSource {
    /// A file in the native format. `settings` is told of every new text that comes into force, for
    /// those of its tables that are no services and routes; it gets it without these.
    pub fn native(
        path: impl Into<PathBuf>,
        settings: impl Fn(&Config) + Send + Sync + 'static,
    ) -> Self {
        let path = path.into();
        let name = path.display().to_string();
        let source = format!("file:{name}");
        let parse = move |Contents { text, files }: &Contents| match plimsoll_config::parse_with(
            &source, text, files,
        ) {
            Ok(mut config) => {
                let services = std::mem::take(&mut config.services);
                let routes = std::mem::take(&mut config.routes);
                Ok((services, routes, Some(config)))
            }
            Err(faults) => {
                let text = plimsoll_config::render(&name, text, &faults);
                Err(text.trim_end().into())
            }
        };
        let mut source = Self::with(path, parse, plimsoll_config::named_files);
        source.settings = Box::new(settings);
        source
    }

    /// A file in the format that `parse` reads; names of services and of routes are unique in what
    /// it gives.
    pub fn new(
        path: impl Into<PathBuf>,
        parse: impl Fn(&str) -> Parsed<(Vec<Service>, Vec<Route>)> + Send + Sync + 'static,
    ) -> Self {
        let path = path.into();
        let parse = move |contents: &Contents| {
            let (services, routes) = parse(&contents.text)?;
            Ok((services, routes, None))
        };
        Self::with(path, parse, |_| Vec::new())
    }

    fn with(
        path: PathBuf,
        parse: impl Fn(&Contents) -> Parsed<Said> + Send + Sync + 'static,
        named: impl Fn(&str) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        let name = format!("file:{}", path.display());
        Self {
            id: SourceId::new(Precedence::File, name),
            paths: [path.clone()].into(),
            path: path.into(),
            parse: Box::new(parse),
            settings: Box::new(|_| {}),
            named: Arc::new(named),
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
        let (mut seen, read) = self.read().await;
        let mut update = self.say(read, false);
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
            let (stamps, read) = self.read().await;
            (seen, last) = (stamps, Instant::now());
            update = self.say(read, whole);
        }
    }

    /// Waits until the files hold still, patience ends, or somebody wants it read now. Whether
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

    async fn stamp(&self) -> Vec<Stamp> {
        let paths = self.paths.clone();
        let look = spawn_blocking(move || paths.iter().map(|path| Stamp::of(path)).collect());
        look.await.unwrap_or_default()
    }

    /// What the file says, and the stamps from before it was read.
    async fn read(&mut self) -> (Vec<Stamp>, Result<Contents, String>) {
        let (path, named) = (self.path.clone(), self.named.clone());
        let read = spawn_blocking(move || read_all(&path, &*named));
        match read.await {
            Ok((paths, stamps, contents)) => {
                self.paths = paths.into();
                (stamps, contents)
            }
            Err(_) => (Vec::new(), Err("cannot be read: stopping".into())),
        }
    }

    /// What to say about a text, if that is anything new; `whole` if it is known to be written to
    /// its end.
    fn say(&mut self, read: Result<Contents, String>, whole: bool) -> Option<Update> {
        let parsed = self.parse(read);
        let parsed = match parsed {
            Ok(Some(news)) if !whole && self.is_beginning(&news.read) => Err(format!(
                "{}: it, or a file that it names, ends where the last one went on, as if being \
                 written: it counts once it has stayed so for {:?}, or when told to read it",
                self.path.display(),
                self.watch.patience
            )),
            parsed => {
                self.beginning = None;
                parsed
            }
        };
        match parsed {
            Ok(Some(news)) => {
                if let Some(config) = &news.config {
                    (self.settings)(config);
                }
                self.good = Some(news.read);
                self.stale = None;
                Some(Update::Reset(news.entries))
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

    /// Whether this may be the beginning only of what is being written: it is one of the last
    /// good, and has not been there for long.
    fn is_beginning(&mut self, read: &Contents) -> bool {
        let good = self.good.as_ref();
        if !good.is_some_and(|good| read.is_beginning_of(good)) {
            return false;
        }
        if (self.beginning.as_ref()).is_none_or(|(known, _)| known != read) {
            self.beginning = Some((read.clone(), Instant::now()));
        }
        !self.is_patience_over()
    }

    /// The entries of what was read; none if it is the last that was good.
    fn parse(&self, read: Result<Contents, String>) -> Result<Option<News>, String> {
        let read = read.map_err(|reason| format!("{}: {reason}", self.path.display()))?;
        if self.good.as_ref() == Some(&read) {
            return Ok(None);
        }
        let was_empty = (self.good.as_ref()).is_none_or(|good| is_blank(&good.text));
        if is_blank(&read.text) && !was_empty {
            return Err(format!(
                "{}: it is empty, as if being written: to have no services, write a comment",
                self.path.display()
            ));
        }
        let (services, routes, config) = (self.parse)(&read)?;
        let services = services.into_iter().map(|service| Entry {
            key: EntryKey::new(format!("service {}", service.name())),
            item: Item::Service(service.into()),
        });
        let routes = routes.into_iter().map(|route| Entry {
            key: EntryKey::new(format!("route {}", route.name)),
            item: Item::Route(route.into()),
        });
        let entries = services.chain(routes).collect();
        Ok(Some(News {
            read,
            entries,
            config,
        }))
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}
