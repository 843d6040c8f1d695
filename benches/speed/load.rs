//! Load by `wrk`: the request, the number of responses and their latency.

use std::fmt::Write as _;
use std::process::Command;

/// The request of a load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// Sent with every request.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Sent in turn, one for each request; empty for requests without a body.
    pub(crate) bodies: Vec<String>,
    /// Whether each request has another address in `X-Forwarded-For`.
    pub(crate) other_addresses: bool,
    /// The status that each response must have.
    pub(crate) status: u16,
}

/// The result of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Responses with another status, and failed connections.
    pub(crate) wrong: f64,
}

impl Load {
    pub(crate) fn get(path: &'static str) -> Self {
        Self {
            method: "GET",
            path,
            headers: Vec::new(),
            bodies: Vec::new(),
            other_addresses: false,
            status: 200,
        }
    }

    pub(crate) fn post(path: &'static str, bodies: Vec<String>) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { method: "POST", path, headers, bodies, other_addresses: false, status: 200 }
    }

    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn other_addresses(self) -> Self {
        Self { other_addresses: true, ..self }
    }

    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sends the request on this many connections for this many seconds.
    pub(crate) fn run(&self, port: u16, connections: usize, seconds: u64) -> Outcome {
        let script = tempfile::Builder::new().suffix(".lua").tempfile().unwrap();
        std::fs::write(script.path(), self.script()).unwrap();
        let output = Command::new("wrk")
            .args(["--threads", "1", "--timeout", "30s"])
            .args(["--connections", &connections.to_string(), "--duration", &format!("{seconds}s")])
            .arg("--script")
            .arg(script.path())
            .arg(format!("http://127.0.0.1:{port}{}", self.path))
            .output()
            .expect("wrk is installed");
        let text = String::from_utf8(output.stdout).unwrap();
        let figures = text.lines().find_map(|line| line.strip_prefix("RESULT ")).expect(&text);
        let figures: Vec<f64> = figures.split(' ').map(|figure| figure.parse().unwrap()).collect();
        let [requests, micros, p50, p99, wrong] = figures[..] else { panic!("{text}") };
        Outcome { requests, seconds: micros / 1e6, p50: p50 / 1e3, p99: p99 / 1e3, wrong }
    }

    fn script(&self) -> String {
        let mut lua = format!("wrk.method = {:?}\n", self.method);
        for (name, value) in &self.headers {
            writeln!(lua, "wrk.headers[{name:?}] = {value:?}").unwrap();
        }
        if self.other_addresses {
            writeln!(lua, "wrk.body = {:?}\nlocal n, d = 0, math.floor", self.bodies.concat()).unwrap();
            lua.push_str("request = function()\n  n = n + 1\n  wrk.headers['x-forwarded-for'] = ");
            lua.push_str("string.format('198.%d.%d.%d', d(n / 65536) % 256, d(n / 256) % 256, n % 256)\n");
            lua.push_str("  return wrk.format()\nend\n");
        } else if !self.bodies.is_empty() {
            writeln!(lua, "local bodies, n = {{").unwrap();
            for body in &self.bodies {
                writeln!(lua, "{body:?},").unwrap();
            }
            lua.push_str("}, 0\nlocal made = {}\n");
            lua.push_str("request = function()\n  n = n % #bodies + 1\n");
            lua.push_str("  if not made[n] then made[n] = wrk.format(nil, nil, nil, bodies[n]) end\n");
            lua.push_str("  return made[n]\nend\n");
        }
        // With a `response` function, wrk reads every response twice; without one, it counts statuses from 400 on.
        let wrong = if self.status < 400 { "e.status" } else { "summary.requests - e.status" };
        write!(
            lua,
            "done = function(summary, latency)\n  local e = summary.errors\n  \
             io.write(string.format('RESULT %d %d %f %f %d\\n', summary.requests, summary.duration,\n    \
             latency:percentile(50), latency:percentile(99), {wrong} + e.connect + e.read + e.write + e.timeout))\nend\n"
        )
        .unwrap();
        lua
    }
}
