//! `jwksd jwt`: signs, verifies and inspects tokens of any issuer.

mod command;
mod inspect;
mod show;
mod sign;
mod token_args;
mod verify;

pub(super) use self::command::{JwtCommand, run};
