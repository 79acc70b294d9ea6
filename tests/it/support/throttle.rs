//! Slow lines, which hand a TCP port on: so many bytes a second from the caller to the server, or every answer so late.

use super::server::listen;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes passed on at once.
const PIECE: usize = 8 << 10;

/// Starts a line to `127.0.0.1:port`; its own port comes back. All connections share the rate. It ends with the process.
pub fn slow_line(port: u16, bytes_per_second: u64) -> u16 {
    // When the next byte may go.
    let next = Arc::new(Mutex::new(Instant::now()));
    let forth = move |from, to| pass(from, to, |n| pace(&next, n as u64, bytes_per_second));
    line(port, forth, |from, to| pass(from, to, |_| ()))
}

/// The same where each answer takes `delay` longer: what a round trip to a registry far away costs.
pub fn long_line(port: u16, delay: Duration) -> u16 {
    line(port, |from, to| pass(from, to, |_| ()), move |from, to| pass_late(from, to, delay))
}

fn line(
    port: u16,
    forth: impl Fn(TcpStream, TcpStream) + Send + Sync + 'static,
    back: impl Fn(TcpStream, TcpStream) + Clone + Send + Sync + 'static,
) -> u16 {
    let hand_on = move |caller: TcpStream| {
        let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let (back_from, back_to) = (server.try_clone().expect("a socket"), caller.try_clone().expect("a socket"));
        let back = back.clone();
        std::thread::spawn(move || back(back_from, back_to));
        forth(caller, server);
    };
    listen(hand_on).port()
}

fn pass(mut from: TcpStream, mut to: TcpStream, wait: impl Fn(usize)) {
    let mut buffer = [0; PIECE];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 {
            break;
        }
        wait(n);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    // The other end may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}

/// Each piece as much later as all others.
fn pass_late(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (send, receive) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (due, bytes) in receive {
            // A distance, not a synchronisation.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
    let mut buffer = [0; PIECE];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || send.send((Instant::now() + delay, buffer[..n].to_vec())).is_err() {
            break;
        }
    }
}

/// Waits until `bytes` more are allowed. A rate, not a synchronisation.
fn pace(next: &Mutex<Instant>, bytes: u64, rate: u64) {
    let until = {
        let mut next = next.lock().expect("no panic");
        *next = (*next).max(Instant::now()) + Duration::from_micros(bytes * 1_000_000 / rate);
        *next
    };
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
}
