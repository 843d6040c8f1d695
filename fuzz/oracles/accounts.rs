//! The username and email address of a registration, and the password that a user chooses.

use jwksd_core::account::{EMAIL_MAX, Email, USERNAME_MAX, Username};
use jwksd_core::password::{ChosenPassword, InvalidChoice, Password};

/// Visible ASCII within the limits, and nothing around an address. A password within its rule, which is the same when it is
/// chosen again.
pub fn account(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    if let Ok(name) = Username::parse(text) {
        assert_eq!(name.as_ref(), text);
        assert!(!text.is_empty() && text.len() <= USERNAME_MAX);
        assert!(
            text.bytes().all(|byte| byte.is_ascii_graphic()),
            "usernames appear unescaped in logs and tokens"
        );
    }
    if let Ok(password) = Password::assigned(text.to_owned()) {
        choose(&password);
    }
    if let Ok(email) = Email::parse(text) {
        assert_eq!(email.as_ref(), text);
        assert!(text.len() <= EMAIL_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(!text.contains(['<', '>', '"']), "no display name or angle brackets around it");
        let (local, domain) = text.rsplit_once('@').unwrap();
        assert!(!local.is_empty() && domain.contains('.'));
    }
}

fn choose(typed: &Password) {
    let Ok(chosen) = ChosenPassword::parse(typed, "the username") else {
        return;
    };
    let chosen = chosen.into_password();
    let text = chosen.reveal();
    assert!((12..=256).contains(&text.chars().count()), "{text:?}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(
        !text.chars().any(|c| c.is_whitespace() && !matches!(c, ' ' | '\u{2028}' | '\u{2029}')),
        "{text:?}"
    );
    assert_eq!(ChosenPassword::parse(&chosen, "the username").unwrap().into_password().reveal(), text);
    let unchanged = ChosenPassword::parse(&chosen, "the username").unwrap().instead_of(typed);
    assert_eq!(unchanged.unwrap_err(), InvalidChoice::Unchanged);
    assert_eq!(
        ChosenPassword::parse(&chosen, &text.to_uppercase()).is_ok(),
        text.to_uppercase().to_lowercase() != text.to_lowercase()
    );
}
