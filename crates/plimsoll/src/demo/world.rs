//! A thread where load runs.

use std::io;

use plimsoll_plane_ebpf::node::Namespace;
use tokio::runtime::Handle;

/// A thread with a runtime, which ends when this is dropped.
pub(super) struct World {
    handle: Handle,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl World {
    /// Starts one, in another network namespace if one is given.
    pub(super) fn start(inside: Option<Namespace>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = tokio::sync::oneshot::channel();
        let live = move || {
            // The end is the end, whether said or dropped.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("demo".into());
        let thread = thread.spawn(move || match inside {
            // Without it nothing is sent, which the counts will show.
            Some(namespace) => {
                let _ = namespace.run(|| {
                    live();
                    Ok(())
                });
            }
            None => live(),
        })?;
        Ok(Self {
            handle,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Where to put tasks.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}
