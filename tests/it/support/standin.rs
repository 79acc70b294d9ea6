//! A server in this process that answers as a closure says: the clouds' token servers, and registries with habits.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
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
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let (answer, log) = (Arc::new(answer), calls.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (answer.clone(), log.clone());
                std::thread::spawn(move || serve(&stream, &*answer, &log));
            }
        });
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
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let (method, target) = line.trim_end().rsplit_once(' ')?.0.split_once(' ')?;
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_lowercase(), value.trim().to_string());
        }
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length").and_then(|length| length.parse().ok()) {
            body.resize(length, 0);
            reader.read_exact(&mut body).ok()?;
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        let call = Call { method: method.into(), target: target.into(), headers, body };
        log.lock().ok()?.push(call.clone());
        let (status, lines, body) = answer(&call);
        let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", body.len());
        lines.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
        let body = if call.method == "HEAD" { "" } else { &body };
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).ok()?;
    }
}
