//! `jwksd argon2-tune`: finds Argon2id settings with which a hash takes a given time on this machine.
//!
//! One lane, two passes, and as much memory as the time allows, because memory is what an attacker's hardware has least
//! of. More passes only at the maximum of memory. Never below OWASP's minimum.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::output;
use jwksd_core::clock::{Clock as _, SystemClock};
use jwksd_core::password::{Argon2Backend, Hasher, Password, Salt, max_iterations};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// OWASP's minimum for one lane: memory in KiB, and passes.
const MIN_COST: Cost = Cost { memory_kib: 19456, iterations: 2 };

/// Measurements of each cost. The fastest counts, because other processes disturbed it least.
const TRIES: usize = 5;

/// Maximum time for the measurements of one cost.
const MAX_TRYING: Duration = Duration::from_secs(1);

/// Maximum of `--target`.
const MAX_TARGET: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(super) struct TuneArgs {
    /// How long one hash may take
    #[arg(long, default_value = "50ms", value_parser = target)]
    target: Duration,
    /// Maximum memory of one hash in MiB; one hash per core runs at a time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(19..=2048))]
    max_memory: u32,
}

fn target(text: &str) -> Result<Duration, String> {
    let target = humantime::parse_duration(text).ok().filter(|target| *target <= MAX_TARGET);
    target.ok_or_else(|| "use a time such as 50ms or 1s, at most 10s".to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    iterations: u32,
}

pub(super) fn run(args: &TuneArgs) -> anyhow::Result<()> {
    let most = args.max_memory.saturating_mul(1024).max(MIN_COST.memory_kib);
    let (cost, takes) = tune(args.target, most, time)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let per_second = f64::from(u32::try_from(cores)?) / takes.as_secs_f64();
    if takes > args.target {
        output::message("OWASP's minimum takes longer than that here, and anything less is too weak:");
    }
    output::lines([
        format!("ARGON2_MEMORY_KIB={}", cost.memory_kib),
        format!("ARGON2_ITERATIONS={}", cost.iterations),
        "ARGON2_PARALLELISM=1".to_owned(),
    ])?;
    output::message(&format!(
        "one hash takes {} ms here: at most {per_second:.0} sign-ins a second on {cores} cores, with {} MiB of memory. Put \
         the three lines into .env; old hashes are replaced when their owners sign in",
        takes.as_millis(),
        u64::from(cost.memory_kib / 1024).saturating_mul(u64::try_from(cores)?),
    ));
    Ok(())
}

/// The highest cost that takes at most `target`, or else OWASP's minimum, and how long it takes.
fn tune(
    target: Duration,
    most_kib: u32,
    mut time: impl FnMut(Cost) -> anyhow::Result<Duration>,
) -> anyhow::Result<(Cost, Duration)> {
    let mut best = (MIN_COST, time(MIN_COST)?);
    if best.1 >= target {
        return Ok(best);
    }
    // Memory first. Time grows a little faster than memory, so one proportional step is not enough.
    let mut cost = MIN_COST;
    let mut takes = best.1;
    for _ in 0..4 {
        let memory_kib = scaled(cost.memory_kib, target, takes).clamp(MIN_COST.memory_kib, most_kib);
        // Round down to whole MiB.
        cost = Cost { memory_kib: (memory_kib & !1023).max(MIN_COST.memory_kib), ..MIN_COST };
        takes = time(cost)?;
        if takes <= target && cost.memory_kib >= best.0.memory_kib {
            best = (cost, takes);
        }
    }
    while best.0.memory_kib >= most_kib & !1023 {
        // At least one more pass each time, so that the loop ends.
        let iterations = scaled(best.0.iterations, target, best.1)
            .max(best.0.iterations.saturating_add(1))
            .min(max_iterations(best.0.memory_kib));
        if iterations == best.0.iterations {
            break;
        }
        let cost = Cost { iterations, ..best.0 };
        let takes = time(cost)?;
        if takes > target {
            break;
        }
        best = (cost, takes);
    }
    Ok(best)
}

/// The value that takes `target`, if `value` takes `takes` and time is proportional.
fn scaled(value: u32, target: Duration, takes: Duration) -> u32 {
    let scaled = u128::from(value) * target.as_nanos() / takes.as_nanos().max(1);
    u32::try_from(scaled).unwrap_or(u32::MAX)
}

fn time(cost: Cost) -> anyhow::Result<Duration> {
    // A fixed seed is enough, because these hashes are thrown away.
    let mut rng = StdRng::seed_from_u64(0);
    let hasher = Hasher::new(cost.memory_kib, cost.iterations, 1)?
        .with_backend(Argon2Backend::select_verified(&mut rng));
    let (password, salt) = (Password::generate(&mut rng), Salt::generate(&mut rng));
    let clock = SystemClock::start();
    let mut fastest = Duration::MAX;
    for _ in 0..TRIES {
        // Slow hashes vary less, so fewer measurements are enough.
        if clock.monotonic() > MAX_TRYING {
            break;
        }
        let begun = clock.monotonic();
        hasher.hash(&password, &salt).context("there is not enough memory: use a lower --max-memory")?;
        fastest = fastest.min(clock.monotonic().saturating_sub(begun));
    }
    Ok(fastest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which a MiB takes this many microseconds per pass.
    fn machine(micros: u32) -> impl FnMut(Cost) -> anyhow::Result<Duration> {
        move |cost| Ok(Duration::from_micros((cost.memory_kib / 1024 * cost.iterations * micros).into()))
    }

    #[test]
    fn a_faster_machine_gets_more_memory_up_to_the_target() {
        let tuned = |micros| tune(Duration::from_millis(50), 256 * 1024, machine(micros)).unwrap();
        assert_eq!(
            tuned(400),
            (Cost { memory_kib: 62 * 1024, iterations: 2 }, Duration::from_micros(49_600))
        );
        assert_eq!(tuned(200), (Cost { memory_kib: 125 * 1024, iterations: 2 }, Duration::from_millis(50)));
    }

    #[test]
    fn more_passes_are_added_at_the_maximum_of_memory() {
        let tuned = tune(Duration::from_millis(100), 64 * 1024, machine(200)).unwrap();
        assert_eq!(tuned, (Cost { memory_kib: 64 * 1024, iterations: 7 }, Duration::from_micros(89_600)));
    }

    #[test]
    fn no_cost_is_found_that_the_settings_refuse() {
        let tuned = tune(Duration::from_secs(10), 256 * 1024, machine(1)).unwrap();
        assert_eq!(tuned.0, Cost { memory_kib: 256 * 1024, iterations: 16 });
    }

    #[test]
    fn a_machine_too_slow_for_the_target_gets_the_minimum() {
        let tuned = tune(Duration::from_millis(50), 256 * 1024, machine(2000)).unwrap();
        assert_eq!(tuned, (MIN_COST, Duration::from_millis(76)));
    }
}
