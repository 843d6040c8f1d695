//! The username and email address of a registration.

use jwksd::domain::account::{EMAIL_MAX, Email, USERNAME_MAX, Username};

/// Visible ASCII within the limits, and nothing around an address.
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
    if let Ok(email) = Email::parse(text) {
        assert_eq!(email.as_ref(), text);
        assert!(text.len() <= EMAIL_MAX && text.bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(!text.contains(['<', '>', '"']), "no display name or angle brackets around it");
        let (local, domain) = text.rsplit_once('@').unwrap();
        assert!(!local.is_empty() && domain.contains('.'));
    }
}
