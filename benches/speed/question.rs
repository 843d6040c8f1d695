//! The comparisons: jwksd and another side, both under the same load.

use super::load::{Load, Outcome};
use super::plot::Row;
use super::server::{Memory, Server};

/// Accounts that sign in.
const USERS: usize = 16;

/// One side of a comparison.
#[derive(Clone)]
struct Side {
    name: &'static str,
    server: usize,
    load: Load,
}

struct Question {
    name: &'static str,
    ours: Side,
    theirs: Side,
    connections: &'static [usize],
    /// The lowest ratio (their CPU time to ours) that noise explains.
    at_least: f64,
}

pub(crate) struct Questions {
    servers: Vec<Server>,
    asked: Vec<Question>,
}

const CEILING: usize = 0;
const PASSWORD: usize = 1;
const CACHED: usize = 2;
const OPEN: usize = 3;
const LIMITED: usize = 4;
const PROXIED: usize = 5;
/// The first of the servers with other algorithms than RS256: for each of them one in open mode, and one in password mode.
const ALGORITHMS: usize = 6;

/// The algorithms that are compared with RS256, and the names of the comparisons.
const OTHERS: [(&str, [&str; 2]); 2] = [
    ("ES256", ["alg: open, ES256", "alg: cached, ES256"]),
    ("EdDSA", ["alg: open, EdDSA", "alg: cached, EdDSA"]),
];

impl Questions {
    /// Runs the comparisons whose name contains `only`. Returns their results and the missed targets.
    pub(crate) fn ask(binary: &str, only: &str, seconds: u64, rounds: usize) -> (Vec<Row>, Vec<String>) {
        let questions = Self::new(binary);
        let (mut rows, mut missed) = (Vec::new(), Vec::new());
        println!(
            "{:<22}{:>4}  {:>28}  {:>28}  {:>9}{:>9}{:>14}",
            "",
            "conn",
            "ours: µs CPU, /s, p50, p99",
            "other: µs CPU, /s, p50, p99",
            "CPU",
            "rate",
            "compared with"
        );
        for question in questions.asked.iter().filter(|question| question.name.contains(only)) {
            for connections in question.connections {
                let row = questions.compare(question, *connections, seconds, rounds);
                let cpu = row.theirs / row.ours;
                if cpu < question.at_least {
                    missed.push(format!("{}: {cpu:.2} < {}", row.what, question.at_least));
                }
                rows.push(row);
            }
        }
        if "crowd".contains(only) {
            missed.extend(questions.crowd(seconds));
            missed.extend(questions.memory(seconds));
        }
        (rows, missed)
    }

    fn new(binary: &str) -> Self {
        let users: Vec<_> = (0..USERS).map(|n| format!("user{n}")).collect();
        let unlimited = ("AUTH_RATE_LIMIT", "0");
        let (password, passwords) =
            Server::jwksd(binary, &[unlimited, ("CREDENTIAL_CACHE_TTL", "0")], &users);
        let (cached, cached_passwords) = Server::jwksd(binary, &[unlimited], &users);
        let (open, _) = Server::jwksd(binary, &[unlimited, ("AUTH_MODE", "open")], &[]);
        let (proxied, _) = Server::jwksd(
            binary,
            &[("TRUSTED_PROXIES", "127.0.0.1"), ("AUTH_MODE", "open"), ("OPEN_AUTH_ANYWAY", "true")],
            &[],
        );
        let (limited, _) = Server::jwksd(binary, &[("AUTH_RATE_LIMIT", "1"), ("AUTH_MODE", "open")], &[]);
        let etag = password.get("/jwks").and_then(|answer| etag(&answer)).unwrap();

        let side = |name, server, load: &Load| Side { name, server, load: load.clone() };
        let jwks = Load::get("/jwks");
        let cold = Load::post("/auth", bodies(&users, &passwords));
        let warm = Load::post("/auth", bodies(&users, &cached_passwords));
        let bare = Load::post("/auth", vec![body("user0", "password")]);
        let sign = Load { path: "/sign", ..bare.clone() };
        let refused = Load::post("/auth", vec![body("user0", "x")]).with_status(429);
        let open_to = Load::post("/auth", vec![r#"{"username":"user0"}"#.to_owned()]);
        let mut asked = vec![
            Question {
                name: "jwks",
                ours: side("", PASSWORD, &jwks),
                theirs: side("ceiling", CEILING, &jwks),
                connections: &[1, 8, 64],
                at_least: 0.85,
            },
            Question {
                name: "jwks 304",
                ours: side("", PASSWORD, &jwks.clone().with("if-none-match", etag)),
                theirs: side("our 200", PASSWORD, &jwks),
                connections: &[8, 64],
                at_least: 0.9,
            },
            Question {
                name: "limit: a 429",
                ours: side("", LIMITED, &refused),
                theirs: side("our JWKS", PASSWORD, &jwks),
                connections: &[8, 64],
                at_least: 0.9,
            },
            Question {
                name: "open /auth",
                ours: side("", OPEN, &open_to),
                theirs: side("signature only", CEILING, &sign),
                connections: &[1, 8, 64],
                at_least: 0.8,
            },
            Question {
                name: "limit: new addresses",
                ours: side("", PROXIED, &open_to.clone().other_addresses()),
                theirs: side("no limit", OPEN, &open_to.clone().other_addresses()),
                connections: &[64],
                at_least: 0.8,
            },
            Question {
                name: "password /auth",
                ours: side("", PASSWORD, &cold),
                theirs: side("ceiling", CEILING, &bare),
                connections: &[1, 8, 64],
                at_least: 0.85,
            },
            Question {
                name: "cached /auth",
                ours: side("", CACHED, &warm),
                theirs: side("uncached", PASSWORD, &cold),
                connections: &[8, 64],
                at_least: 15.0,
            },
        ];
        let mut servers = vec![Server::ceiling(), password, cached, open, limited, proxied];
        for (number, (algorithm, [open_name, cached_name])) in OTHERS.into_iter().enumerate() {
            let settings = [unlimited, ("KEY_ALG", algorithm)];
            let (open, _) = Server::jwksd(binary, &[&settings[..], &[("AUTH_MODE", "open")]].concat(), &[]);
            let (cached, passwords) = Server::jwksd(binary, &settings, &users);
            servers.extend([open, cached]);
            let at = ALGORITHMS + 2 * number;
            let warm_here = Load::post("/auth", bodies(&users, &passwords));
            for (name, server, load, rs256) in [
                (open_name, at, &open_to, (OPEN, &open_to)),
                (cached_name, at + 1, &warm_here, (CACHED, &warm)),
            ] {
                asked.push(Question {
                    name,
                    ours: side("", server, load),
                    theirs: side("RS256", rs256.0, rs256.1),
                    connections: &[8],
                    at_least: 1.0,
                });
            }
        }
        Self { servers, asked }
    }

    fn ours(&self, name: &str) -> &Side {
        &self.asked.iter().find(|question| question.name == name).unwrap().ours
    }

    fn compare(&self, question: &Question, connections: usize, seconds: u64, rounds: usize) -> Row {
        let Question { name, ours, theirs, .. } = question;
        // Warm-up of connections, caches and memory.
        for side in [ours, theirs] {
            self.measure(side, connections, 1);
        }
        let mut pairs: Vec<_> = (0..rounds)
            .map(|_| (self.measure(ours, connections, seconds), self.measure(theirs, connections, seconds)))
            .collect();
        pairs.sort_by(|a, b| (a.1.cpu / a.0.cpu).total_cmp(&(b.1.cpu / b.0.cpu)));
        let (our, their) = &pairs[rounds / 2];
        let (cpu, rate) = (their.cpu / our.cpu, our.rate() / their.rate());
        println!(
            "{name:<22}{connections:>4}  {our:>28}  {their:>28}  {cpu:>8.2}x{rate:>8.2}x  {}",
            theirs.name
        );
        let what = format!("{name}, {connections} conn.");
        Row { what, ours: our.cpu, theirs: their.cpu, compared_with: theirs.name }
    }

    fn measure(&self, side: &Side, connections: usize, seconds: u64) -> Measured {
        let server = &self.servers[side.server];
        let before = server.cpu();
        let outcome = side.load.run(server.port, connections, seconds);
        let cpu = (server.cpu() - before) * 1e6 / outcome.requests;
        // The limit lets some requests through, which is not a failure.
        let let_through = if side.load.status == 429 { outcome.seconds + 3.0 } else { 0.0 };
        assert!(outcome.wrong <= let_through, "{}: {outcome:?}", side.load.path);
        // Requests that are still queued when the clients disconnect must not count in the next measurement.
        std::thread::sleep(std::time::Duration::from_millis(400));
        Measured { cpu, outcome }
    }

    /// The JWKS while 64 clients sign in.
    fn crowd(&self, seconds: u64) -> Option<String> {
        let (crowd, jwks) = (self.ours("password /auth"), self.ours("jwks"));
        let port = self.servers[crowd.server].port;
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| crowd.load.run(port, 64, seconds + 2));
            std::thread::sleep(std::time::Duration::from_secs(1));
            jwks.load.run(port, 8, seconds)
        });
        println!(
            "\ncrowd: JWKS on 8 connections while 64 sign in: p50 {:.2} ms, p99 {:.2} ms",
            outcome.p50, outcome.p99
        );
        (outcome.p99 > 40.0).then(|| format!("JWKS during 64 sign-ins: p99 {:.1} ms > 40", outcome.p99))
    }

    /// Memory during 64 concurrent sign-ins and after them, compared with the idle server.
    fn memory(&self, seconds: u64) -> Option<String> {
        let crowd = self.ours("password /auth");
        let server = &self.servers[crowd.server];
        std::thread::sleep(std::time::Duration::from_secs(12));
        let idle = server.memory(Memory::Now);
        server.forget_peak();
        crowd.load.run(server.port, 64, seconds);
        let peak = server.memory(Memory::Peak);
        std::thread::sleep(std::time::Duration::from_secs(12));
        let after = server.memory(Memory::Now);
        println!(
            "crowd: memory {idle:.1} MiB idle, {peak:.1} MiB during 64 concurrent sign-ins, {after:.1} MiB after them"
        );
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        let allowed = idle + f64::from(u32::try_from(cores).unwrap()) * 19.0 + 20.0;
        let is_kept = peak <= allowed && after <= idle + 10.0;
        (!is_kept).then(|| format!("memory {idle:.0}, {peak:.0} (at most {allowed:.0}), {after:.0} MiB"))
    }
}

struct Measured {
    /// Microseconds per request.
    cpu: f64,
    outcome: Outcome,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.outcome.requests / self.outcome.seconds
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu, outcome: Outcome { p50, p99, .. } } = self;
        f.pad(&format!("{cpu:.1} {:.0} {p50:.2} {p99:.2}", self.rate()))
    }
}

fn bodies(users: &[String], passwords: &[String]) -> Vec<String> {
    users.iter().zip(passwords).map(|(name, password)| body(name, password)).collect()
}

fn body(username: &str, password: &str) -> String {
    serde_json::json!({ "username": username, "password": password }).to_string()
}

fn etag(answer: &str) -> Option<String> {
    answer.lines().find_map(|line| Some(line.strip_prefix("etag: ")?.trim().to_owned()))
}
