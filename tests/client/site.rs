//! A web server with fixed responses on a free port.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;

/// A received request: its first line, its headers in lower case, its body.
#[derive(Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

/// A site that responds with the head and body of the first route whose path matches.
pub(crate) struct Site {
    pub(crate) url: String,
    requests: mpsc::Receiver<ReceivedRequest>,
}

impl Site {
    /// Starts a site. Routes are path, head and body; `URL` in them becomes the site's URL.
    pub(crate) fn start(routes: &[(&str, &str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let here = |text: &str| text.replace("URL", &url);
        let routes: Vec<_> =
            routes.iter().map(|(path, head, body)| ((*path).to_owned(), here(head), here(body))).collect();
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let Some(request) = read(&mut reader) else { continue };
                let path = request.line.split(' ').nth(1).unwrap_or_default().to_owned();
                let missing = (path.clone(), "404 Not Found".to_owned(), String::new());
                let (_, head, body) = routes.iter().find(|route| route.0 == path).unwrap_or(&missing);
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
                let _ = reader.get_mut().write_all(answer.as_bytes());
                let _ = sender.send(request);
            }
        });
        Self { url, requests }
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        std::iter::from_fn(|| self.requests.recv_timeout(std::time::Duration::from_millis(200)).ok())
            .collect()
    }
}

fn read(reader: &mut BufReader<std::net::TcpStream>) -> Option<ReceivedRequest> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: Vec<_> = lines.split_off(1).iter().map(|line| lower_name(line)).collect();
    let length = headers.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(ReceivedRequest { line: lines.pop()?, headers, body: String::from_utf8(body).ok()? })
}

fn lower_name(line: &str) -> String {
    let (name, value) = line.split_once(": ").unwrap_or((line, ""));
    format!("{}: {value}", name.to_ascii_lowercase())
}
