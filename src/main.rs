//! `jwksd`: see the library for what it is made of.

use std::process::ExitCode;

fn main() -> ExitCode {
    jwksd::cli::main(std::env::args_os())
}
