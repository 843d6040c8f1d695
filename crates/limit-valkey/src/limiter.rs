//! The limiter itself: what is certain is decided here, everything else by the server.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use tokio::time::Instant;

use jwksd_core::client::ClientKey;
use jwksd_core::rate_limit::{Bucket, Check, Decision, LocalRateLimiter, RateLimiter, RateLimits};

use super::link::{Line, Link};
use super::refusals::Refusals;
use super::url::LimitUrl;

/// Admits a request if the n-th latest admission of the client is at least a second old. Returns how many microseconds are missing.
///
/// `KEYS[1]` has the times of the latest admissions, oldest first, by the server's clock. `ARGV[1]` is n. If the clock goes back, the key
/// still ends a second after the last admission (a millisecond more, because the server rounds it down).
const ADMIT: &str = r"
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local nth = redis.call('LINDEX', KEYS[1], -ARGV[1])
if nth then
    local wait = nth + 1000000 - now
    if wait > 0 then
        return math.min(wait, 1000000)
    end
end
redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
redis.call('LTRIM', KEYS[1], -ARGV[1], -1)
redis.call('PEXPIRE', KEYS[1], 1001)
return 0
";

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(ADMIT));

/// Limits that hold for all processes with the same `RATE_LIMIT_URL` together.
///
/// While the server does not answer within 50 ms, and for a second after that, this process limits by itself, at the full limit.
pub struct SharedRateLimiter {
    link: Link,
    /// Counts what this process has admitted. What it refuses, the server would refuse as well.
    local: LocalRateLimiter,
    refusals: Refusals,
}

impl SharedRateLimiter {
    /// Connects to the server. If it is away, that is logged, and it is tried again later.
    pub async fn open(server: &LimitUrl, limits: RateLimits) -> Self {
        Self {
            link: Link::open(server).await,
            local: LocalRateLimiter::new(limits),
            refusals: Refusals::default(),
        }
    }

    /// Asks the server about a request that this process would admit.
    async fn ask(&self, line: Line, limit: u32, bucket: Bucket, client: ClientKey) -> Decision {
        let asked = Instant::now();
        let key = format!("jwksd:{}:{}", name(bucket), client.first_address());
        let mut connection = line.connection.clone();
        let mut question = SCRIPT.key(key);
        let answer = question.arg(limit).invoke_async::<u64>(&mut connection);
        match self.link.ask(&line, answer).await {
            // After an error only this process limits, and its limiter has counted the request.
            Ok(0) | Err(_) => Decision::Admitted,
            Ok(missing) => {
                self.local.take_back(bucket, client);
                let until = asked + Duration::from_micros(missing);
                self.refusals.insert(bucket, client, until);
                Decision::Refused { retry_after: until.saturating_duration_since(Instant::now()) }
            }
        }
    }
}

impl RateLimiter for SharedRateLimiter {
    fn check(&self, bucket: Bucket, client: ClientKey) -> Check<'_> {
        let Some(limit) = self.local.limit(bucket) else {
            return Check::Decided(Decision::Admitted);
        };
        if let Some(retry_after) = self.refusals.remaining(bucket, client) {
            return Check::Decided(Decision::Refused { retry_after });
        }
        let decision = self.local.decide(bucket, client);
        match (decision, self.link.line()) {
            (Decision::Admitted, Some(line)) => {
                Check::Pending(Box::pin(self.ask(line, limit, bucket, client)))
            }
            (decision, _) => Check::Decided(decision),
        }
    }

    fn evict_idle(&self) {
        self.local.evict_idle();
        self.refusals.evict();
        // Connects again if that is due, so that the next burst does not find each process by itself.
        drop(self.link.line());
    }
}

const fn name(bucket: Bucket) -> &'static str {
    match bucket {
        Bucket::SignIn => "sign-in",
        Bucket::Registration => "registration",
        Bucket::Admin => "admin",
    }
}
