//! Tells of links and addresses that change.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use plimsoll_plane_ebpf::sys::Result;
use plimsoll_plane_ebpf::sys::net::{Change, Monitor};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// What has changed since the last time.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Something has.
    pub(crate) any: bool,
    /// Interfaces that could not carry anything for a while, by their numbers.
    pub(crate) shaken: Vec<u32>,
    /// More has changed than could be told.
    pub(crate) lost: bool,
}

/// Listens in a task of its own, which ends with this.
#[derive(Debug)]
pub(crate) struct Watch {
    changes: Receiver<Change>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    /// Listens to the network namespace of the calling thread, which is one of a runtime, and tells `told`.
    pub(crate) fn start(told: Arc<Notify>) -> Result<Self> {
        let monitor = Monitor::of_addresses()?.watched()?;
        let (sender, changes) = channel();
        let task = tokio::spawn(async move { listen(monitor, &sender, &told).await });
        Ok(Self { changes, task })
    }

    pub(crate) fn news(&self) -> News {
        let mut news = News::default();
        for change in self.changes.try_iter() {
            news.any = true;
            match change {
                Change::Link(link) if !(link.up && link.carrier) => news.shaken.push(link.index),
                Change::LinkGone(link) => news.shaken.push(link.index),
                Change::Lost => news.lost = true,
                _ => {}
            }
        }
        news
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(mut monitor: AsyncFd<Monitor>, sender: &Sender<Change>, told: &Notify) {
    loop {
        let Ok(mut ready) = monitor.readable_mut().await else {
            return;
        };
        let changes = ready.get_inner_mut().changes();
        ready.clear_ready();
        let Ok(changes) = changes else { return };
        if changes.is_empty() {
            continue;
        }
        for change in changes {
            if sender.send(change).is_err() {
                return;
            }
        }
        told.notify_one();
    }
}
