//! Tokens as people read them. Every text in one is a stranger's.

use serde_json::{Map, Value};

use super::super::text::printable;
use crate::domain::clock::Timestamp;
use crate::domain::jose::numeric_date;

/// A heading, and a line for each member; times are told beside their numbers.
pub(super) fn members(heading: &str, members: &Map<String, Value>, now: Timestamp) -> Vec<String> {
    let names: Vec<_> = members.keys().map(|name| printable(name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let lines = names.iter().zip(members).map(|(shown, (name, value))| {
        let told =
            numeric_date::describe(name, value, now).map(|told| format!("  ({told})")).unwrap_or_default();
        format!("  {shown:<width$}  {}{told}", printable(&value.to_string()))
    });
    std::iter::once(heading.to_owned()).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_told_beside_their_numbers() {
        let claims = json!({"exp": 1_300_819_380, "iss": "joe", "n": 1_300_819_380});
        assert_eq!(
            members("claims", claims.as_object().unwrap(), Timestamp::from_secs(1_300_819_320)),
            [
                "claims",
                "  exp  1300819380  (2011-03-22T18:43:00Z, in 1m)",
                "  iss  \"joe\"",
                "  n    1300819380",
            ]
        );
    }
}
