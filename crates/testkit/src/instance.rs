//! The server that runs in containers of the tests, as a good citizen does: told to stop it takes
//! nothing new and finishes what it has.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::server::lock;
use crate::{Head, HttpBackend, HttpBehaviour, Place, TcpAnswer, TcpBackend, TcpBehaviour};

/// Between two looks at whether all is finished.
const STEP: Duration = Duration::from_millis(2);

/// What an instance does when it is told to stop (TERM).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTerm {
    /// Goes on for [`InstancePlan::linger`], then refuses connections, closes idle ones, finishes
    /// what is in flight and ends.
    #[default]
    Finish,
    /// Nothing: it has to be killed.
    Ignore,
    /// Ends at once, in the middle of whatever it does.
    Leave,
}

/// What an instance serves, on all addresses.
#[derive(Clone, Debug, Default)]
pub struct InstancePlan {
    /// Its name in the answers.
    pub name: String,
    /// Ports for HTTP, as a [`HttpBackend`] answers.
    pub http: Vec<u16>,
    /// Ports for exchanges, as a [`TcpBackend`] answers.
    pub tcp: Vec<u16>,
    /// Ports that echo what comes.
    pub echo: Vec<u16>,
    /// Waits so long before it listens.
    pub wait: Duration,
    /// What it does on TERM.
    pub on_term: OnTerm,
    /// Told to stop it goes on as before for so long, as one that waits for its load balancer does.
    pub linger: Duration,
    /// It begins as after `/control?health=down`.
    pub unwell: bool,
}

impl InstancePlan {
    /// Reads a command line: `--name NAME`, `--http PORT`, `--tcp PORT`, `--echo PORT` (each as often
    /// as needed; without any, HTTP on 8080), `--wait MS`, `--linger MS`, `--health up|down`,
    /// `--term finish|ignore|leave`.
    ///
    /// # Errors
    /// In words: an option is unknown, or lacks its value.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut plan = Self::default();
        let mut args = args.into_iter();
        while let Some(option) = args.next() {
            let value = args.next();
            let value = value.ok_or_else(|| format!("{option} has no value"))?;
            let number = || {
                let number = value.parse::<u16>();
                number.map_err(|_| format!("{option} {value}: not a number up to 65535"))
            };
            match option.as_str() {
                "--name" => plan.name.clone_from(&value),
                "--http" => plan.http.push(number()?),
                "--tcp" => plan.tcp.push(number()?),
                "--echo" => plan.echo.push(number()?),
                "--wait" => plan.wait = Duration::from_millis(number()?.into()),
                "--linger" => plan.linger = Duration::from_millis(number()?.into()),
                "--health" => {
                    plan.unwell = match value.as_str() {
                        "up" => false,
                        "down" => true,
                        _ => return Err(format!("--health {value}: not up or down")),
                    }
                }
                "--term" => {
                    plan.on_term = match value.as_str() {
                        "finish" => OnTerm::Finish,
                        "ignore" => OnTerm::Ignore,
                        "leave" => OnTerm::Leave,
                        _ => return Err(format!("--term {value}: not finish, ignore or leave")),
                    }
                }
                _ => return Err(format!("unknown option {option}")),
            }
        }
        if plan.http.is_empty() && plan.tcp.is_empty() && plan.echo.is_empty() {
            plan.http.push(8080);
        }
        Ok(plan)
    }
}

/// A running instance. Some targets of its HTTP ports do something before they answer as any other:
///
/// - `/health` answers 200, or 503 after `/control?health=down` and until `/control?health=up`;
/// - `/slow?ms=N` answers after so many milliseconds;
/// - `/control?eat=N` takes N MiB of memory and keeps them;
/// - `/control?exit=N` ends the process at once with this code.
pub struct Instance {
    http: Vec<HttpBackend>,
    tcp: Vec<TcpBackend>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    down: AtomicBool,
    eaten: Mutex<Vec<u8>>,
    last: Mutex<Option<Instant>>,
}

impl Instance {
    /// Starts to listen: on all addresses of both families, or of IPv4 where there is no IPv6.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start(plan: &InstancePlan) -> io::Result<Self> {
        let state = Arc::new(State {
            down: AtomicBool::new(plan.unwell),
            ..State::default()
        });
        let mut instance = Self {
            http: Vec::new(),
            tcp: Vec::new(),
            state: Arc::clone(&state),
        };
        for port in &plan.http {
            let backend = either(*port, |address| {
                HttpBackend::start_at(&plan.name, &Place::Here, address)
            })?;
            let state = Arc::clone(&state);
            backend.adjust(move |head, behaviour| state.request(head, behaviour));
            instance.http.push(backend);
        }
        let exchanges = plan.tcp.iter().map(|port| (port, TcpAnswer::Exchange));
        let echoes = plan.echo.iter().map(|port| (port, TcpAnswer::Echo));
        for (port, answer) in exchanges.chain(echoes) {
            let backend = either(*port, |address| {
                TcpBackend::start_at(&plan.name, &Place::Here, address)
            })?;
            backend.behave(TcpBehaviour::answering(answer));
            instance.tcp.push(backend);
        }
        Ok(instance)
    }

    /// When the last HTTP request came.
    pub fn last_request(&self) -> Option<Instant> {
        *lock(&self.state.last)
    }

    /// Refuses connections, closes idle ones, and waits until what is in flight is finished.
    pub async fn finish(&self) {
        for backend in &self.http {
            backend.refuse().await;
            backend.behave(HttpBehaviour {
                announce_close: true,
                idle: Some(Duration::ZERO),
                ..HttpBehaviour::default()
            });
        }
        for backend in &self.tcp {
            backend.refuse().await;
        }
        // Idle connections of HTTP end by themselves now; those of TCP have no end of their own.
        while self.http.iter().any(|backend| backend.stats().open > 0)
            || self.tcp.iter().any(|backend| backend.stats().active > 0)
        {
            tokio::time::sleep(STEP).await;
        }
    }
}

/// Starts something on a port of all addresses.
fn either<T>(port: u16, start: impl Fn(std::net::SocketAddr) -> io::Result<T>) -> io::Result<T> {
    start((Ipv6Addr::UNSPECIFIED, port).into())
        .or_else(|_| start((Ipv4Addr::UNSPECIFIED, port).into()))
}

impl State {
    fn request(&self, head: &Head, behaviour: &mut HttpBehaviour) {
        *lock(&self.last) = Some(Instant::now());
        let (path, query) = head.target().split_once('?').unwrap_or((head.target(), ""));
        let query: BTreeMap<&str, &str> =
            query.split('&').filter_map(|p| p.split_once('=')).collect();
        let number = |key| query.get(key).and_then(|value| value.parse::<u32>().ok());
        match path {
            "/health" if self.down.load(Ordering::SeqCst) => behaviour.status = 503,
            "/slow" => behaviour.delay = Duration::from_millis(number("ms").unwrap_or(0).into()),
            "/control" => {
                if let Some(word) = query.get("health") {
                    self.down.store(*word == "down", Ordering::SeqCst);
                }
                if let Some(code) = number("exit") {
                    std::process::exit(i32::try_from(code).unwrap_or(1));
                }
                let more = usize::try_from(number("eat").unwrap_or(0)).unwrap_or(0) << 20;
                let mut eaten = lock(&self.eaten);
                let length = eaten.len() + more;
                // Written, not only asked for: else the kernel gives none.
                eaten.resize(length, 1);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, ClientPlan, Port, Reuse};

    fn words(line: &str) -> Result<InstancePlan, String> {
        InstancePlan::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_line_is_read() {
        let plan = words("--name a --http 1 --http 2 --tcp 3 --term ignore --wait 5 --health down");
        let plan = plan.unwrap();
        assert_eq!(
            (plan.name.as_str(), plan.http, plan.tcp),
            ("a", vec![1, 2], vec![3])
        );
        assert_eq!(
            (plan.on_term, plan.wait, plan.unwell),
            (OnTerm::Ignore, Duration::from_millis(5), true)
        );
        assert_eq!(words("").unwrap().http, [8080]);
        for bad in [
            "--http",
            "--http x",
            "--http 70000",
            "--term soon",
            "--health fine",
            "--what 1",
        ] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn targets_do_what_they_say() {
        let port = Port::take().unwrap();
        let plan = words(&format!("--name i1 --http {}", port.number())).unwrap();
        let _instance = Instance::start(&plan).unwrap();
        let ask = |path: &str, status| {
            let plan = ClientPlan {
                status,
                tasks: 1,
                ..ClientPlan::http(port.address(), "a")
            };
            Client::run(plan.path(path), 1)
        };
        ask("/health", 200).await.assert_clean();
        ask("/control?health=down&eat=2", 200).await.assert_clean();
        ask("/health", 503).await.assert_clean();
        ask("/", 200).await.assert_clean();
        ask("/control?health=up", 200).await.assert_clean();
        ask("/health", 200).await.assert_clean();
        let slow = ask("/slow?ms=50", 200).await;
        slow.assert_clean();
        assert!(slow.slowest >= Duration::from_millis(50));
        assert_eq!(slow.of("i1"), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_in_flight_is_finished_and_nothing_else_taken() {
        let port = Port::take().unwrap();
        let plan = words(&format!("--name i1 --http {}", port.number())).unwrap();
        let instance = Instance::start(&plan).unwrap();
        let plan = ClientPlan::http(port.address(), "a");
        // Idle connections, which must not hold it up.
        let idle = Client::start(ClientPlan {
            pause: Duration::from_secs(3600),
            ..plan.clone()
        });
        assert!(idle.more(8, Duration::from_secs(10)).await);
        let slow = Client::start(ClientPlan {
            requests: Some(8),
            ..plan.clone().path("/slow?ms=300")
        });
        let all = || {
            instance
                .http
                .iter()
                .all(|backend| backend.stats().active == 8)
        };
        assert!(crate::wait_until_async(Duration::from_secs(10), all).await);
        instance.finish().await;
        slow.finished().await.assert_clean();
        let refused = ClientPlan {
            reuse: Reuse::Never,
            ..plan
        };
        assert_eq!(Client::run(refused, 4).await.failures.len(), 4);
    }
}
