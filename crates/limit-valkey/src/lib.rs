//! Rate limits that hold for many processes together, in Valkey or Redis.
//!
//! The server keeps, for each client, the times of its latest admissions, and decides by its own clock. While it is away, each
//! process limits by itself.

mod limiter;
mod link;
mod refusals;
mod url;

pub use self::limiter::SharedRateLimiter;
pub use self::url::{InvalidLimitUrl, LimitUrl};
