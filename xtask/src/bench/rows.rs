//! The rows of the bench and their targets.

use super::Mode;
use super::load::Reuse;
use super::udp::Exchange;

/// What a row measures.
pub(crate) enum Measured {
    /// CPU, throughput and latency under load.
    Load(Reuse),
    /// Resident memory per idle connection.
    IdleMemory,
    /// CPU, throughput and latency of datagrams; CPU and throughput per datagram.
    Datagrams(Exchange),
}

/// One row of the bench.
pub(crate) struct Row {
    /// Its name on the command line and in the report.
    pub(crate) name: &'static str,
    /// The traffic.
    pub(crate) mode: Mode,
    /// Bytes of a body, or of a TCP request and its answer.
    pub(crate) bytes: usize,
    /// What is measured.
    pub(crate) measured: Measured,
    /// At most this ratio to HAProxy (UDP: to nginx), or at most so many KiB.
    pub(crate) target: f64,
}

const KIB: usize = 1024;

/// Connections of the load.
pub(crate) const CONNECTIONS: usize = 64;

/// The rows and their targets.
pub(crate) const ROWS: [Row; 10] = [
    Row {
        name: "keepalive-1k",
        mode: Mode::Http,
        bytes: KIB,
        measured: Measured::Load(Reuse::Keep),
        target: 1.00,
    },
    Row {
        name: "keepalive-64k",
        mode: Mode::Http,
        bytes: 64 * KIB,
        measured: Measured::Load(Reuse::Keep),
        target: 0.90,
    },
    Row {
        name: "newconn-1k",
        mode: Mode::Http,
        bytes: KIB,
        measured: Measured::Load(Reuse::Never),
        target: 1.05,
    },
    Row {
        name: "idle-memory",
        mode: Mode::Http,
        bytes: KIB,
        measured: Measured::IdleMemory,
        target: 12.0,
    },
    Row {
        name: "exchange-1k",
        mode: Mode::Tcp,
        bytes: KIB,
        measured: Measured::Load(Reuse::Keep),
        target: 1.00,
    },
    Row {
        name: "exchange-64k",
        mode: Mode::Tcp,
        bytes: 64 * KIB,
        measured: Measured::Load(Reuse::Keep),
        target: 1.00,
    },
    Row {
        name: "newconn-1k",
        mode: Mode::Tcp,
        bytes: KIB,
        measured: Measured::Load(Reuse::Never),
        target: 1.05,
    },
    Row {
        name: "dns-64",
        mode: Mode::Udp,
        bytes: 64,
        measured: Measured::Datagrams(Exchange {
            clients: 64,
            asks: 1,
            answers: 1,
            reuse: Reuse::Never,
        }),
        target: 0.80,
    },
    Row {
        name: "kept-64",
        mode: Mode::Udp,
        bytes: 64,
        measured: Measured::Datagrams(Exchange {
            clients: 64,
            asks: 1,
            answers: 1,
            reuse: Reuse::Keep,
        }),
        target: 0.80,
    },
    Row {
        name: "quic-1200",
        mode: Mode::Udp,
        bytes: 1200,
        measured: Measured::Datagrams(Exchange {
            clients: 4,
            asks: 2,
            answers: 10,
            reuse: Reuse::Keep,
        }),
        target: 0.80,
    },
];

impl Row {
    /// What it does, for people.
    pub(crate) fn describe(&self) -> String {
        let size = self.bytes / KIB;
        let what = match self.mode {
            Mode::Http => format!("{size} KiB bodies"),
            Mode::Tcp => format!("{size} KiB there and {size} KiB back"),
            Mode::Udp => format!("datagrams of {} bytes", self.bytes),
        };
        match self.measured {
            Measured::Datagrams(exchange) => {
                let Exchange {
                    clients,
                    asks,
                    answers,
                    reuse,
                } = exchange;
                let port = match reuse {
                    Reuse::Never => "each exchange from a new port",
                    _ => "each from one port",
                };
                format!(
                    "{what}, {clients} clients, {asks} there and {} back, {port}",
                    asks * answers
                )
            }
            Measured::Load(Reuse::Never) => {
                format!("{what}, a new connection each, {CONNECTIONS} at a time")
            }
            _ => format!("{what}, {CONNECTIONS} connections kept alive"),
        }
    }
}
