//! `jwksd jwk` and `jwksd jwt` as processes: what they print, what they refuse, what they leave on the disk.

#![expect(clippy::disallowed_methods, reason = "the real program runs in real time")]

mod ed25519;
mod faults;
mod jwk;
mod jwt;
mod other_formats;
mod others;
mod pem;
mod seeds;
mod site;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "servers are started here, but their logs are not read")]
mod support;
mod trust;
mod upload;
mod verify;

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

/// A working directory for commands.
pub(crate) struct WorkDir(TempDir);

impl WorkDir {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn run(&self, args: &[&str]) -> CommandOutput {
        self.run_with(args, &[], "")
    }

    pub(crate) fn run_with(&self, args: &[&str], env: &[(&str, &str)], stdin: &str) -> CommandOutput {
        CommandOutput::new(&support::run(self.path(), args, env, stdin))
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
        #[cfg(unix)]
        fs::set_permissions(self.path().join(name), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    pub(crate) fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Generates a key: `{kid}.jwk` is private, `{kid}.pub` public.
    pub(crate) fn key(&self, kid: &str, what: &[&str]) {
        let args = [&["jwk", "generate", "--private", "--kid", kid, "--type"], what].concat();
        self.write(&format!("{kid}.jwk"), &self.run(&args).out());
        self.write(&format!("{kid}.pub"), &self.run(&["jwk", "public", &format!("{kid}.jwk")]).out());
    }

    /// Signs claims with a key of [`WorkDir::key`].
    pub(crate) fn token(&self, kid: &str, claims: &[&str]) -> String {
        let file = format!("{kid}.jwk");
        let mut args = vec!["jwt", "sign", "--key-file", &file];
        args.extend(claims.iter().flat_map(|claim| ["--claim", claim]));
        self.run(&args).out().trim().to_owned()
    }
}

/// The output of a command, and its exit status.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl CommandOutput {
    fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Standard output of a command that must succeed.
    pub(crate) fn out(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.out()).unwrap()
    }

    /// Expects no output, and one line on standard error.
    pub(crate) fn refused(self, code: i32, line: &str) {
        let expected = Self { code: Some(code), stdout: String::new(), stderr: format!("jwksd: {line}\n") };
        assert_eq!(self, expected);
    }
}

/// The examples of the RFCs.
pub(crate) fn examples() -> Value {
    serde_json::from_str(include_str!("../../crates/jose/tests/data/jose.json")).unwrap()
}
