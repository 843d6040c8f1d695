//! Starts, idle memory, and the size of the binary.

use std::time::{Duration, Instant};

use super::server::{Memory, Server};

const FIRST_STARTS: usize = 50;
const RESTARTS: usize = 30;

pub(crate) fn measure(binary: &str) -> Vec<String> {
    let size = f64::from(u32::try_from(std::fs::metadata(binary).unwrap().len()).unwrap()) / 1e6;
    let (first, servers): (Vec<_>, Vec<_>) = (0..FIRST_STARTS)
        .map(|_| {
            let begun = Instant::now();
            let server = Server::start(binary, tempfile::tempdir().unwrap(), &[]);
            let took = begun.elapsed();
            let memory = server.memory(Memory::Now);
            (took, (server.stop(), memory))
        })
        .unzip();
    let (mut dir, idle) = servers.into_iter().next_back().unwrap();
    let mut again = Vec::new();
    for _ in 0..RESTARTS {
        let begun = Instant::now();
        let server = Server::start(binary, dir, &[]);
        again.push(begun.elapsed());
        dir = server.stop();
    }
    println!("life: {FIRST_STARTS} first starts, to the first 200: {}", spread(first.clone()));
    println!("life: {RESTARTS} restarts on an existing store: {}", spread(again.clone()));
    println!("life: {idle:.1} MiB idle, the program has {size:.1} MB\n");
    let mut missed = Vec::new();
    let mut expect = |is_so: bool, what: &str| missed.extend((!is_so).then(|| what.to_owned()));
    expect(median(first.clone()) < Duration::from_millis(500), "first start over 500 ms");
    expect(first.iter().all(|took| *took < Duration::from_millis(900)), "a first start over 900 ms");
    expect(median(again) < Duration::from_millis(60), "restart over 60 ms");
    expect(idle < 20.0, "idle memory over 20 MiB");
    expect(size < 20.0, "program over 20 MB");
    missed
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let [fastest, slowest] = [times[0], times[times.len() - 1]].map(|time| time.as_millis());
    format!("fastest {fastest} ms, median {} ms, slowest {slowest} ms", median(times).as_millis())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
