//! The rule for passwords that users choose.

use std::sync::LazyLock;

use thiserror::Error;
use zeroize::Zeroizing;

use super::cleartext::Password;

/// Minimum length of a chosen password in characters. Longer than NIST SP 800-63B asks for, because nothing else is
/// required of it.
pub const CHOSEN_MIN: usize = 12;

/// Maximum length of a chosen password in characters. At most 1024 bytes, the limit of all passwords.
pub const CHOSEN_MAX: usize = 256;

/// Common passwords in lower case, sorted. Shorter ones than `CHOSEN_MIN` are left out, because their length refuses them.
static COMMON: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("common/passwords.txt").lines().collect());

/// A password that a user may choose for an account.
#[derive(Clone, Debug)]
pub struct ChosenPassword(Password);

impl ChosenPassword {
    /// Parses a password for the account of this name. It is normalised first, so that its length does not depend on the
    /// keyboard.
    ///
    /// # Errors
    /// [`InvalidChoice`] names the rule that the password breaks.
    pub fn parse(password: &Password, username: &str) -> Result<Self, InvalidChoice> {
        let password = password.normalized();
        let text = password.reveal();
        if text.chars().any(char::is_control) {
            return Err(InvalidChoice::ControlCharacter);
        }
        match text.chars().count() {
            ..CHOSEN_MIN => return Err(InvalidChoice::TooShort),
            CHOSEN_MIN..=CHOSEN_MAX => {}
            _ => return Err(InvalidChoice::TooLong),
        }
        let folded = Zeroizing::new(text.to_lowercase());
        if *folded == username.to_lowercase() {
            return Err(InvalidChoice::Username);
        }
        if COMMON.binary_search(&folded.as_str()).is_ok() {
            return Err(InvalidChoice::Common);
        }
        Ok(Self(password))
    }

    /// The same password, if it differs from the one that it replaces.
    ///
    /// # Errors
    /// [`InvalidChoice::Unchanged`]
    pub fn instead_of(self, old: &Password) -> Result<Self, InvalidChoice> {
        // Both were typed by the same client in one request, so the time of the comparison reveals nothing.
        if self.0.reveal() == old.normalized().reveal() { Err(InvalidChoice::Unchanged) } else { Ok(self) }
    }

    /// The password, for hashing it.
    #[must_use]
    pub fn into_password(self) -> Password {
        self.0
    }
}

/// Why a user may not choose a password.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidChoice {
    /// It is among the most common passwords.
    #[error("The new password is one of the most common: choose another")]
    Common,
    /// It has a control character.
    #[error("The new password has a control character, such as a tab or a line break: leave it out")]
    ControlCharacter,
    /// More than `CHOSEN_MAX` characters.
    #[error("The new password has more than {CHOSEN_MAX} characters: choose a shorter one")]
    TooLong,
    /// Fewer than `CHOSEN_MIN` characters.
    #[error("The new password has fewer than {CHOSEN_MIN} characters: choose a longer one")]
    TooShort,
    /// It is the password that it replaces.
    #[error("The new password is the same as the old one: choose another")]
    Unchanged,
    /// It is the username, in any case.
    #[error("The new password is the username: choose another")]
    Username,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, InvalidChoice> {
        let password = Password::typed(text.to_owned());
        ChosenPassword::parse(&password, "Alice.in.Wonderland").map(|chosen| chosen.0.reveal().to_owned())
    }

    #[test]
    fn twelve_to_256_characters_of_any_script_can_be_chosen_and_are_normalised() {
        for text in
            ["twelve chars", "päßwörter mit Umlaut", "パスワードは長い方がいい!!", "👩‍💻🥳🥳🥳🥳🥳🥳🥳🥳🥳🥳"]
        {
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
        assert_eq!(parse(&"🥳".repeat(256)), Ok("🥳".repeat(256)));
        // NFD becomes NFC, and spaces of other scripts become U+0020; the case stays.
        assert_eq!(parse("Cafe\u{301}\u{a0}au\u{3000}lait").as_deref(), Ok("Café au lait"));
    }

    #[test]
    fn other_passwords_are_refused_with_the_rule_that_they_break() {
        let cases = [
            (String::new(), InvalidChoice::TooShort),
            ("eleven char".to_owned(), InvalidChoice::TooShort),
            // 12 code points, but 11 characters once normalised.
            ("eleven cha\u{301}r".replace("cha\u{301}r", "ch\u{e1}r"), InvalidChoice::TooShort),
            ("eleven cha\u{301}r".to_owned(), InvalidChoice::TooShort),
            ("🥳".repeat(257), InvalidChoice::TooLong),
            ("x".repeat(16 * 1024), InvalidChoice::TooLong),
            ("twelve\tchars".to_owned(), InvalidChoice::ControlCharacter),
            ("twelve chars\n".to_owned(), InvalidChoice::ControlCharacter),
            ("\u{85}".repeat(12), InvalidChoice::ControlCharacter),
            ("alice.IN.wonderland".to_owned(), InvalidChoice::Username),
            ("passwordpassword".to_owned(), InvalidChoice::Common),
            ("Password1234".to_owned(), InvalidChoice::Common),
        ];
        for (text, why) in cases {
            assert_eq!(parse(&text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn the_same_password_in_another_normal_form_is_unchanged() {
        let typed = |text: &str| Password::typed(text.to_owned());
        let chosen = || ChosenPassword::parse(&typed("crème brûlée, please"), "alice").unwrap();
        let old = typed("cre\u{300}me bru\u{302}le\u{301}e, please");
        assert_eq!(chosen().instead_of(&old).unwrap_err(), InvalidChoice::Unchanged);
        assert!(chosen().instead_of(&typed("Crème brûlée, please")).is_ok());
    }

    #[test]
    fn the_list_of_common_passwords_is_sorted_in_lower_case_and_has_only_what_can_match() {
        assert!(COMMON.is_sorted_by(|one, next| one < next));
        for password in COMMON.iter() {
            assert!(password.is_ascii() && !password.bytes().any(|byte| byte.is_ascii_uppercase()));
            assert!((CHOSEN_MIN..=CHOSEN_MAX).contains(&password.len()), "{password}");
        }
        assert!(COMMON.len() > 1000, "{}", COMMON.len());
        assert!(include_str!("common/passwords.txt").len() < 100_000);
    }
}
