//! How fast jwksd is beside the bare cost of what it does: `cargo bench --bench speed`, on Linux with `wrk` installed.
//!
//! Starts the release binary and a ceiling of its own (`ceiling`), asks both the same in turn, round by round, and prints
//! ratios. The figure that noise disturbs least is CPU time a request. `--check` fails where a ratio is far from what
//! docs/speed.md says.

#![expect(clippy::disallowed_methods, reason = "it measures real time")]

mod ceiling;
mod life;
mod load;
mod plot;
mod question;
mod server;

use clap::Parser;

use self::question::Questions;

#[derive(Parser)]
struct Args {
    /// Seconds of load for each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Measurements of each kind; the median is shown
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only what has this in its name: jwks, auth, open, limit, cached, crowd, life
    #[arg(long, default_value = "")]
    only: String,
    /// Fail where a ratio is worse than a noisy machine explains
    #[arg(long)]
    check: bool,
    /// The program to measure instead of the one that was just built
    #[arg(long, default_value = env!("CARGO_BIN_EXE_jwksd"))]
    binary: String,
    /// Draw the ratios into this file, as SVG
    #[arg(long)]
    plot: Option<std::path::PathBuf>,
    /// Be the ceiling, on this port
    #[arg(long, hide = true)]
    ceiling: Option<u16>,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// Argon2's default cost here: KiB and passes.
const COST: (u32, u32) = (19_456, 2);

fn main() {
    let args = Args::parse();
    if let Some(port) = args.ceiling {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        return ceiling::serve(port, cores, COST.0, COST.1);
    }
    println!("{}", server::machine());
    println!("{} s a measurement, medians of {} interleaved rounds\n", args.seconds, args.rounds);
    let mut missed = Vec::new();
    if "life".contains(&args.only) {
        missed.extend(life::measure(&args.binary));
    }
    let (rows, missed_ratios) = Questions::ask(&args.binary, &args.only, args.seconds, args.rounds);
    missed.extend(missed_ratios);
    if let Some(file) = args.plot {
        std::fs::write(file, plot::svg(&rows, &server::machine())).unwrap();
    }
    if args.check && !missed.is_empty() {
        eprintln!("\nworse than noise explains: {}", missed.join(", "));
        std::process::exit(1);
    }
}
