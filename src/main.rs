//! The program `jwksd`. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    jwksd::cli::main(std::env::args_os())
}
