//! A server in this process that answers as a closure says: the clouds' token servers, and registries with habits.

use super::server::{Received, listen, receive};
use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Call {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Fields of the form in the body, or of the query.
    pub fn form(&self) -> BTreeMap<String, String> {
        let text = if self.body.is_empty() { self.target.split_once('?').map_or("", |(_, q)| q) } else { &self.body };
        let url = dockless::http::Url::parse(&format!("http://x/?{text}")).expect("a form");
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }
}

/// Status, more lines of the head, body.
pub type Reply = (u16, Vec<String>, String);

/// The server; it ends with the process.
pub struct StandIn {
    address: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl StandIn {
    pub fn start(answer: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> StandIn {
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let log = calls.clone();
        let address = listen(move |stream| _ = serve(&stream, &answer, &log)).to_string();
        StandIn { address, calls }
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn port(&self) -> &str {
        self.address.rsplit_once(':').expect("host:port").1
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("no panic").clone()
    }
}

fn serve(mut stream: &TcpStream, answer: &dyn Fn(&Call) -> Reply, log: &Mutex<Vec<Call>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let Received { method, target, headers, body } = receive(&mut reader)?;
        let call = Call { method, target, headers, body: String::from_utf8_lossy(&body).into_owned() };
        log.lock().ok()?.push(call.clone());
        let (status, lines, body) = answer(&call);
        let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", body.len());
        lines.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
        let body = if call.method == "HEAD" { "" } else { &body };
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).ok()?;
    }
}
