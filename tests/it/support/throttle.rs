//! A slow line: hands a TCP port on, so many bytes a second from the caller to the server.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes passed on at once.
const PIECE: usize = 8 << 10;

/// Starts the line to `127.0.0.1:port`; its own port comes back. All connections share the rate. It ends with the process.
pub fn slow_line(port: u16, bytes_per_second: u64) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let own = listener.local_addr().expect("an address").port();
    // When the next byte may go.
    let next = Arc::new(Mutex::new(Instant::now()));
    std::thread::spawn(move || {
        for caller in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
            let (back_from, back_to) = (server.try_clone().expect("a socket"), caller.try_clone().expect("a socket"));
            let next = next.clone();
            std::thread::spawn(move || pass(caller, server, |n| pace(&next, n as u64, bytes_per_second)));
            std::thread::spawn(move || pass(back_from, back_to, |_| ()));
        }
    });
    own
}

fn pass(mut from: TcpStream, mut to: TcpStream, wait: impl Fn(usize)) {
    let mut buffer = [0; PIECE];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
        wait(n);
    }
    // The other end may be gone already.
    let _ = to.shutdown(Shutdown::Write);
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
