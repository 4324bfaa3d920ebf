//! The server in containers of the tests, as a program of its own.
//!
//! `instance serve [OPTION]…` serves until it is told to stop ([`InstancePlan`] has the options), and
//! says at its end when the last request came: `last request N µs after TERM`, or before.
//! `instance check http://HOST:PORT/TARGET` is for a HEALTHCHECK: it succeeds if the answer is 200.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use plimsoll_testkit::{Instance, InstancePlan, OnTerm};
use tokio::signal::unix::{SignalKind, signal};

/// A check has so long for each of its steps.
const CHECK: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let done = match args.next().as_deref() {
        Some("serve") => serve(args.collect()),
        Some("check") => check(&args.next().unwrap_or_default()),
        _ => Err("usage: instance serve [OPTION]… | instance check URL".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody else to tell.
            let _told = writeln!(io::stderr(), "instance: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: Vec<String>) -> Result<(), String> {
    let mut plan = InstancePlan::parse(args)?;
    if plan.name.is_empty() {
        // The engine sets it to the container's id, or its host name.
        plan.name = env::var("HOSTNAME").unwrap_or_else(|_| "instance".to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime
        .block_on(run(&plan))
        .map_err(|error| error.to_string())
}

async fn run(plan: &InstancePlan) -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    // What is told to stop before it listens has nothing to finish.
    tokio::select! {
        () = tokio::time::sleep(plan.wait) => {}
        _ = term.recv(), if plan.on_term != OnTerm::Ignore => return Ok(()),
    }
    let instance = Instance::start(plan)?;
    let told = loop {
        term.recv().await;
        let now = Instant::now();
        match plan.on_term {
            OnTerm::Finish => break now,
            OnTerm::Ignore => {}
            OnTerm::Leave => return Ok(()),
        }
    };
    tokio::time::sleep(plan.linger).await;
    instance.finish().await;
    if let Some(last) = instance.last_request() {
        let after = last.checked_duration_since(told);
        let apart = after.unwrap_or_else(|| told.duration_since(last));
        let side = if after.is_some() { "after" } else { "before" };
        // For whoever reads the container's log; without one it is lost.
        let _said = writeln!(
            io::stdout(),
            "last request {} µs {side} TERM",
            apart.as_micros()
        );
    }
    Ok(())
}

fn check(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let (host, target) = rest.split_once('/').unwrap_or((rest, ""));
    let ask = || {
        let mut stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(CHECK))?;
        let request =
            format!("GET /{target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error: io::Error| format!("{url}: {error}"))?;
    let first = String::from_utf8_lossy(&answer);
    let first = first.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(format!("{url}: {first:?}"))
}
