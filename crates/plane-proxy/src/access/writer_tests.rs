//! The queue, with a pipe of syslog messages as its reader.

use std::os::unix::net::UnixDatagram;

use plimsoll_testkit::TempDir;

use super::*;

fn log_to(to: LogTo) -> AccessLog {
    let options = AccessOptions {
        to,
        ..AccessOptions::default()
    };
    let log = AccessLog::open(options).unwrap();
    log.start();
    log
}

const BOUND: Duration = Duration::from_secs(10);

fn text(path: &std::path::Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn lines_are_written_in_their_order_before_the_end() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("access.log");
    let log = log_to(LogTo::File(path.clone()));
    let journal = Journal::new(log.clone());
    for n in 0..10_000 {
        journal.add(|out| out.extend_from_slice(format!("line {n}\n").as_bytes()));
    }
    journal.flush();
    log.finish(BOUND);
    let wanted: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
    assert!(text(&path) == wanted);
    assert_eq!((log.lines(), log.dropped()), (10_000, 0));
}

#[test]
fn a_file_that_was_moved_away_is_made_anew() {
    let dir = TempDir::new().unwrap();
    let (path, old) = (dir.path().join("access.log"), dir.path().join("old.log"));
    let log = log_to(LogTo::File(path.clone()));
    log.send(b"one\n".to_vec(), 1);
    assert!(plimsoll_testkit::wait_until(BOUND, || log.lines() == 1));
    std::fs::rename(&path, &old).unwrap();
    // Found without being told.
    assert!(plimsoll_testkit::wait_until(BOUND, || path.exists()));
    log.send(b"two\n".to_vec(), 1);
    assert!(plimsoll_testkit::wait_until(BOUND, || log.lines() == 2));
    // And at once when told.
    std::fs::rename(&path, dir.path().join("older.log")).unwrap();
    log.reopen();
    log.send(b"three\n".to_vec(), 1);
    log.finish(BOUND);
    assert_eq!(
        (text(&old), text(&path)),
        ("one\n".into(), "three\n".into())
    );
}

#[test]
fn what_nobody_takes_is_dropped_and_counted_and_holds_nobody_up() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("syslog");
    let socket = UnixDatagram::bind(&path).unwrap();
    let log = log_to(LogTo::Syslog(path));
    // The socket holds some hundred lines at most, and nobody reads them.
    log.send(b"line\n".to_vec(), 1);
    let long = [&[b'x'; 8_000][..], b"\n"].concat();
    for _ in 0..WAITING / long.len() + 2_000 {
        log.send(long.clone(), 1);
    }
    let dropped = log.dropped();
    assert!(dropped > 0);
    // It is bytes that are counted: small batches have place where large ones have none.
    assert!(log.0.waiting.load(Ordering::Relaxed) <= WAITING);
    // Nor the end.
    log.finish(Duration::from_millis(50));
    let mut message = [0; 256];
    let n = socket.recv(&mut message).unwrap();
    let message = std::str::from_utf8(&message[..n]).unwrap();
    assert!(message.starts_with("<134>"), "{message}");
    assert!(message.ends_with(&format!(" plimsoll[{}]: line", std::process::id())));
    // Whoever is stuck in a write goes on, or sees that the socket is gone.
    drop(socket);
}
