//! How fast jwksd is, compared with the ceiling: `cargo bench --bench speed`, on Linux with `wrk` installed.
//!
//! Starts the release binary and the ceiling (`ceiling`), sends both the same requests in alternating rounds, and prints
//! ratios. CPU time per request is the least noisy measure. `--check` fails if a ratio is far below that in docs/speed.md.

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
    /// Seconds of load per measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Rounds per comparison; the median is shown
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only comparisons whose name contains this: jwks, auth, open, limit, cached, alg, crowd, life
    #[arg(long, default_value = "")]
    only: String,
    /// Fail if a ratio is worse than noise explains
    #[arg(long)]
    check: bool,
    /// The binary to measure instead of the one just built
    #[arg(long, default_value = env!("CARGO_BIN_EXE_jwksd"))]
    binary: String,
    /// Write the ratios to this file, as an SVG chart
    #[arg(long)]
    plot: Option<std::path::PathBuf>,
    /// Run the ceiling on this port
    #[arg(long, hide = true)]
    ceiling: Option<u16>,
    /// Passed by cargo to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// The default cost of Argon2 in jwksd: KiB and passes.
const COST: (u32, u32) = (19_456, 2);

fn main() {
    let args = Args::parse();
    if let Some(port) = args.ceiling {
        let cores = std::thread::available_parallelism().map_or(1, Into::into);
        return ceiling::serve(port, cores, COST.0, COST.1);
    }
    println!("{}", server::machine());
    println!("{} s per measurement, medians of {} interleaved rounds\n", args.seconds, args.rounds);
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
