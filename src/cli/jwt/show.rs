//! Displays tokens. Their text is untrusted, so control characters are escaped.

use serde_json::{Map, Value};

use super::super::text::printable;
use jwksd_core::clock::Timestamp;
use jwksd_jose::numeric_date;

/// A heading and one line for each member. Times are also shown as dates.
pub(super) fn members(heading: &str, members: &Map<String, Value>, now: Timestamp) -> Vec<String> {
    let names: Vec<_> = members.keys().map(|name| printable(name)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let lines = names.iter().zip(members).map(|(shown, (name, value))| {
        let date = numeric_date::describe(name, value, now);
        let date = date.map(|date| format!("  ({date})")).unwrap_or_default();
        format!("  {shown:<width$}  {}{date}", printable(&value.to_string()))
    });
    std::iter::once(heading.to_owned()).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_also_shown_as_dates() {
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
