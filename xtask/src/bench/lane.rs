//! One proxy with its own backends and load.

use std::time::{Duration, Instant};

use super::Error;
use super::backend::Backend;
use super::engine::Engine;
use super::load::{Load, Reuse, Spec};
use super::measure::{Cores, Sample};
use super::proxies::{Kind, Paths, Proxy};
use super::report::Memory;
use super::rows::{CONNECTIONS, Row};

/// A proxy under load, with backends of its own.
pub(crate) struct Lane {
    /// Which one.
    pub(crate) kind: Kind,
    /// Its process.
    pub(crate) proxy: Proxy,
    engine: Engine,
    /// The rounds that are done.
    pub(crate) rounds: Vec<Sample>,
}

impl Lane {
    /// Starts a proxy with two backends behind it.
    pub(crate) fn start(
        kind: Kind,
        row: &Row,
        reuse: Reuse,
        paths: &Paths,
        cores: Cores,
    ) -> Result<Self, Error> {
        let backend = Backend::start(row.mode, row.bytes, 2)?;
        let proxy = Proxy::start(kind, paths, row.mode, &backend.ports(), cores, reuse)?;
        let load = Load::new(Spec {
            mode: row.mode,
            bytes: row.bytes,
            reuse,
            port: proxy.port(),
            connections: if reuse == Reuse::Once { 1 } else { CONNECTIONS },
        });
        Ok(Self {
            kind,
            proxy,
            engine: Engine::new(backend, load)?,
            rounds: Vec::new(),
        })
    }

    /// One round: warm up, measure, hang up.
    pub(crate) fn round(&mut self, window: Duration) -> Result<Sample, Error> {
        let name = self.kind.name();
        self.engine.load.open_all();
        let warm = window.mul_f64(0.15).max(Duration::from_millis(50));
        self.engine.run(name, Instant::now() + warm, |_| false)?;
        self.engine.load.start_counting();
        let cpu = self.proxy.cpu()?;
        let start = Instant::now();
        self.engine.run(name, start + window, |_| false)?;
        let wall = start.elapsed();
        let cpu = self.proxy.cpu()?.saturating_sub(cpu);
        let counted = self.engine.load.stop_counting();
        self.engine.load.close_all();
        Sample::new(wall, cpu, counted).ok_or_else(|| {
            Error::Run(format!(
                "{name} answered nothing; its log: {}",
                self.proxy.log()
            ))
        })
    }

    /// Resident memory with none and with `idle` connections.
    pub(crate) fn memory(&mut self, idle: usize) -> Result<Memory, Error> {
        let name = self.kind.name();
        // What is set up once, at the first requests, is not the price of a connection.
        for _ in 0..100 {
            self.open_idle(1)?;
            self.engine.load.close_all();
        }
        self.settle()?;
        let before_kib = self.proxy.settled_rss_kib()?;
        self.open_idle(idle)?;
        self.settle()?;
        let after_kib = self.proxy.settled_rss_kib()?;
        let open = self.engine.load.idle();
        if open != idle {
            return Err(Error::Run(format!(
                "{name} kept {open} of {idle} idle connections: {}",
                self.engine.load.first_failure()
            )));
        }
        Ok(Memory {
            connections: idle,
            before_kib,
            after_kib,
        })
    }

    fn open_idle(&mut self, idle: usize) -> Result<(), Error> {
        self.engine.load.keep_idle(idle);
        self.engine.load.open_all();
        let until = Instant::now() + Duration::from_secs(60);
        self.engine
            .run(self.kind.name(), until, |load| load.idle() >= idle)
    }

    /// Serves whatever is still on its way.
    fn settle(&mut self) -> Result<(), Error> {
        let until = Instant::now() + Duration::from_millis(200);
        self.engine.drain(until)
    }
}
