//! `jwksd jwt inspect`: shows a token without verifying it.

use serde_json::json;

use super::show;
use super::token_args::TokenArgs;
use crate::cli::output;
use crate::cli::text::printable_lines;
use jwksd_core::clock::{Clock as _, SystemClock};
use jwksd_jose::inspect;
use jwksd_jose::jws::Jws;

pub(super) fn run(token: &TokenArgs, json: bool) -> anyhow::Result<()> {
    let now = SystemClock::start().now();
    let jws = match Jws::parse(&token.read()?) {
        Ok(jws) => jws,
        Err(invalid) => anyhow::bail!("cannot read the token: {}", invalid.message),
    };
    let (claims, odd) = (jws.unverified_claims().ok(), inspect::inspect(&jws, now));
    if json {
        let shown = json!({"verified": false, "header": jws.header(), "claims": claims, "odd": odd});
        output::lines([printable_lines(&serde_json::to_string_pretty(&shown)?)])?;
        return Ok(());
    }
    let mut lines = vec!["not verified: anyone could have written this".to_owned()];
    lines.extend(show::members("header", jws.header(), now));
    if let Some(claims) = claims {
        lines.extend(show::members("claims", &claims, now));
    }
    if !odd.is_empty() {
        lines.push("odd".to_owned());
        lines.extend(odd.into_iter().map(|line| format!("  {line}")));
    }
    output::lines(lines)?;
    Ok(())
}
