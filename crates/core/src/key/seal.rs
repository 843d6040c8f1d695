//! Encryption at rest: how private keys are sealed, and where the master key comes from.
//!
//! A sealed value is `0x01 ‖ nonce (12) ‖ AES-256-GCM ciphertext ‖ tag (16)`. Associated data binds it to its row: a row
//! that was edited, swapped or given a later `exp` does not open. An old copy of the whole row does open.

use std::fmt;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _, Nonce};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose;
use rand::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use super::encoded_key;
use super::kid::Kid;
use crate::clock::Timestamp;
use crate::trim::trim_invisible;

/// Length in bytes of the salt for key derivation from a passphrase.
pub const SALT_LEN: usize = 16;

/// Minimum length in characters of a passphrase: a `NOT_MY_KEY` that is neither base64 nor hex.
pub const PASSPHRASE_MIN: usize = 16;

// Not a printable character, so that PEM in plain text has an unknown format.
const FORMAT: u8 = 1;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const CHECK: &[u8] = b"jwksd";

/// The value of `NOT_MY_KEY`: a key, or a passphrase from which one is derived.
#[derive(Clone)]
pub struct MasterSecret {
    kind: Kind,
    /// What an earlier version took for the secret: the text with the white space around it.
    untrimmed: Option<Kind>,
}

#[derive(Clone)]
enum Kind {
    /// A 32-byte key.
    Key(Zeroizing<[u8; 32]>),
    /// A passphrase for Argon2id with the store's salt.
    Passphrase(Zeroizing<String>),
}

impl MasterSecret {
    /// Reads 32 bytes as base64, base64url (padded or not) or 64 hex digits, or any other text as a passphrase. White
    /// space, byte order marks and other invisible characters around the text do not count.
    ///
    /// # Errors
    /// [`InvalidMasterSecret`] for a passphrase shorter than [`PASSPHRASE_MIN`] characters.
    pub fn parse(text: &str) -> Result<Self, InvalidMasterSecret> {
        let trimmed = trim_invisible(text);
        let kind = Kind::parse(trimmed)?;
        let untrimmed = if trimmed == text { None } else { Kind::parse(text).ok() };
        Ok(Self { kind, untrimmed })
    }

    /// The 32 bytes, if the secret is a key and not a passphrase.
    #[must_use]
    pub fn key(&self) -> Option<&[u8; 32]> {
        match &self.kind {
            Kind::Key(key) => Some(key),
            Kind::Passphrase(_) => None,
        }
    }

    /// Whether this passphrase is 32 encoded bytes among other characters, such as quotes, so that a key was meant.
    #[must_use]
    pub fn wraps_key(&self) -> bool {
        matches!(&self.kind, Kind::Passphrase(text) if encoded_key::wraps_key(text))
    }

    /// The secret as versions read it that did not trim it; `None` if it is the same.
    #[must_use]
    pub fn untrimmed(&self) -> Option<Self> {
        self.untrimmed.clone().map(|kind| Self { kind, untrimmed: None })
    }

    /// Makes a random key, as base64url for the `.env` file.
    pub fn generate(rng: &mut impl CryptoRng) -> Zeroizing<String> {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut());
        Zeroizing::new(general_purpose::URL_SAFE.encode(*key))
    }

    /// The sealer for a store with this salt. For a passphrase, this needs 64 MiB and about 0.1 s.
    ///
    /// # Errors
    /// [`KdfError`] if the memory cannot be allocated.
    pub fn sealer(&self, salt: &[u8; SALT_LEN]) -> Result<Sealer, KdfError> {
        match &self.kind {
            Kind::Key(key) => Ok(Sealer::new(key)),
            Kind::Passphrase(text) => {
                // Fixed: other parameters would derive another key and lock existing stores.
                let params = Params::new(64 * 1024, 3, 1, Some(32)).map_err(|_| KdfError)?;
                let mut key = Zeroizing::new([0; 32]);
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(text.as_bytes(), salt, key.as_mut())
                    .map_err(|_| KdfError)?;
                Ok(Sealer::new(&key))
            }
        }
    }
}

impl fmt::Debug for MasterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterSecret")
    }
}

impl Kind {
    fn parse(text: &str) -> Result<Self, InvalidMasterSecret> {
        // A text that decodes to 32 bytes is always a key, even if it is long enough for a passphrase.
        if let Some(key) = encoded_key::decode(text) {
            return Ok(Self::Key(key));
        }
        if text.chars().count() < PASSPHRASE_MIN {
            return Err(InvalidMasterSecret);
        }
        Ok(Self::Passphrase(Zeroizing::new(text.to_owned())))
    }
}

/// The text is not a master key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("use 32 bytes as base64 or hex, or a passphrase of {PASSPHRASE_MIN} characters or more")]
pub struct InvalidMasterSecret;

/// Key derivation from the passphrase failed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("cannot derive the master key from NOT_MY_KEY: 64 MiB of memory are not available")]
pub struct KdfError;

/// The row that a sealed value belongs to. The value opens only with the same context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealContext<'a> {
    /// The row of `keys` with this `kid` and `exp`.
    Key(Kid, Timestamp),
    /// The row of `uploaded_keys` with this `kid` and `exp`.
    External(&'a str, Option<Timestamp>),
    /// The check value, which distinguishes a wrong master key from a corrupt row.
    Check,
}

impl SealContext<'_> {
    fn associated_data(self) -> String {
        match self {
            // One prefix per table, so that a value cannot be moved to the other table.
            Self::Key(kid, exp) => format!("jwksd:keys:{kid}:{}", exp.as_secs()),
            Self::External(kid, exp) => {
                // The kid comes last, because it may contain colons.
                let exp = exp.map_or_else(|| "-".to_owned(), |exp| exp.as_secs().to_string());
                format!("jwksd:uploaded_keys:{exp}:{kid}")
            }
            Self::Check => "jwksd:master_key".to_owned(),
        }
    }
}

/// Seals and opens under one master key.
#[derive(Clone)]
pub struct Sealer {
    cipher: Aes256Gcm,
}

impl Sealer {
    fn new(key: &[u8; 32]) -> Self {
        Self { cipher: Aes256Gcm::new(&(*key).into()) }
    }

    /// Seals a text for its context, with a new random nonce.
    ///
    /// Random 96-bit nonces allow 2³² values per key (NIST SP 800-38D §8.3): at one key a minute, 8,000 years.
    ///
    /// # Errors
    /// [`SealError::Overlong`] above the limit of AES-GCM (64 GiB).
    pub fn seal(
        &self,
        context: SealContext<'_>,
        text: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, SealError> {
        // Random, because a counter would have to survive restores of old backups.
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let aad = context.associated_data();
        let payload = Payload { msg: text, aad: aad.as_bytes() };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| SealError::Overlong)?;
        Ok([&[FORMAT], nonce.as_slice(), &sealed].concat())
    }

    /// Opens a value that was sealed for this context.
    ///
    /// # Errors
    /// [`SealError`] distinguishes foreign formats from changed values.
    pub fn open(&self, context: SealContext<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let Some((&FORMAT, rest)) = sealed.split_first() else {
            return Err(SealError::UnknownFormat);
        };
        let Some((nonce, ciphertext)) = rest.split_first_chunk::<NONCE_LEN>() else {
            return Err(SealError::UnknownFormat);
        };
        // Too short to be ours, so it is a foreign format and not a changed value.
        if ciphertext.len() < TAG_LEN {
            return Err(SealError::UnknownFormat);
        }
        let aad = context.associated_data();
        let payload = Payload { msg: ciphertext, aad: aad.as_bytes() };
        self.cipher
            .decrypt(&Nonce::from(*nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| SealError::AuthenticationFailed)
    }

    /// Seals the check value of a store, for [`Sealer::matches`].
    ///
    /// # Errors
    /// As [`Sealer::seal`].
    pub fn check_value(&self, rng: &mut impl CryptoRng) -> Result<Vec<u8>, SealError> {
        self.seal(SealContext::Check, CHECK, rng)
    }

    /// Whether a check value was sealed with this master key.
    #[must_use]
    pub fn matches(&self, check_value: &[u8]) -> bool {
        self.open(SealContext::Check, check_value).is_ok_and(|text| text.as_slice() == CHECK)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// Why a value cannot be opened or sealed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SealError {
    /// The bytes do not have the format of a sealed value.
    #[error("it is not sealed by jwksd: another program wrote it")]
    UnknownFormat,
    /// The text is longer than AES-GCM allows.
    #[error("it is too long to seal")]
    Overlong,
    /// The bytes, `kid` or `exp` were changed, or the master key is another one.
    #[error("it was changed after it was sealed: its bytes, its kid or its exp")]
    AuthenticationFailed,
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const RAW: [u8; 32] = [0xA5; 32];

    fn sealer() -> Sealer {
        Sealer::new(&RAW)
    }

    fn context() -> SealContext<'static> {
        SealContext::Key(Kid(3), Timestamp::from_secs(1_800_000_000))
    }

    #[test]
    fn all_encodings_of_32_bytes_are_the_same_key() {
        let bytes: Vec<u8> = (224..=255).collect();
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02X}"));
        let forms = [
            general_purpose::STANDARD.encode(&bytes),
            general_purpose::STANDARD_NO_PAD.encode(&bytes),
            general_purpose::URL_SAFE.encode(&bytes),
            general_purpose::URL_SAFE_NO_PAD.encode(&bytes),
            hex.to_lowercase(),
            hex,
        ];
        for form in forms {
            for text in [form.clone(), format!("\u{feff} {form}\r\n")] {
                let secret = MasterSecret::parse(&text).unwrap();
                assert_eq!(secret.key().map(<[u8; 32]>::as_slice), Some(bytes.as_slice()), "{text}");
            }
        }
    }

    #[test]
    fn other_text_of_16_characters_or_more_is_a_passphrase() {
        assert_eq!(MasterSecret::parse("sixteen letters!").unwrap().key(), None);
        assert_eq!(MasterSecret::parse(" fifteen letters ").unwrap_err(), InvalidMasterSecret);
        assert_eq!(MasterSecret::parse("fifteen letters").unwrap_err(), InvalidMasterSecret);
        assert_eq!(MasterSecret::parse("").unwrap_err(), InvalidMasterSecret);
    }

    #[test]
    fn a_passphrase_with_another_salt_is_another_key() {
        let secret = MasterSecret::parse("correct horse battery staple").unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        let check = secret.sealer(&[1; SALT_LEN]).unwrap().check_value(&mut rng).unwrap();
        assert!(secret.sealer(&[1; SALT_LEN]).unwrap().matches(&check));
        assert!(!secret.sealer(&[2; SALT_LEN]).unwrap().matches(&check));
    }

    // From the reference implementation in C (64 MiB, 3 passes, 1 lane). Never replace it by a value computed here.
    #[test]
    fn argon2id_derives_the_master_key_of_the_reference_implementation() {
        let derived = "2059d35e11f775944efac46541cfcd82013946a4ce55030871f5891aacf73b07";
        let check =
            Sealer::new(&encoded_key::decode(derived).unwrap()).check_value(&mut StdRng::seed_from_u64(1));
        let secret = MasterSecret::parse("correct horse battery staple").unwrap();
        assert!(secret.sealer(&[1; SALT_LEN]).unwrap().matches(&check.unwrap()));
    }

    #[test]
    fn sealing_twice_uses_two_nonces_and_gives_unrelated_ciphertexts() {
        let mut rng = StdRng::seed_from_u64(1);
        let [one, two] = [(); 2].map(|()| sealer().seal(context(), &[0; 64], &mut rng).unwrap());
        assert_ne!(one[1..13], two[1..13]);
        assert!(one[13..].windows(4).all(|part| !two[13..].windows(4).any(|other| other == part)));
    }

    #[test]
    fn a_sealed_value_opens_in_its_context() {
        let sealed = sealer().seal(context(), b"secret", &mut StdRng::seed_from_u64(1)).unwrap();
        assert_eq!(sealer().open(context(), &sealed).unwrap().as_slice(), b"secret");
    }

    #[test]
    fn any_flipped_bit_is_detected() {
        let sealed = sealer().seal(context(), b"secret", &mut StdRng::seed_from_u64(1)).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 8 { SealError::UnknownFormat } else { SealError::AuthenticationFailed };
            assert_eq!(sealer().open(context(), &flipped).unwrap_err(), expected, "bit {bit}");
        }
    }

    #[test]
    fn a_value_does_not_open_in_another_context_or_under_another_key() {
        let sealed = sealer().seal(context(), b"secret", &mut StdRng::seed_from_u64(1)).unwrap();
        let exp = Timestamp::from_secs(1_800_000_000);
        for other in [
            SealContext::Key(Kid(4), exp),
            SealContext::Key(Kid(3), exp.plus(std::time::Duration::from_secs(1))),
            SealContext::External("3", Some(exp)),
            SealContext::External("3", None),
            SealContext::Check,
        ] {
            assert_eq!(sealer().open(other, &sealed).unwrap_err(), SealError::AuthenticationFailed);
        }
        assert_eq!(
            Sealer::new(&[0; 32]).open(context(), &sealed).unwrap_err(),
            SealError::AuthenticationFailed
        );
    }

    #[test]
    fn truncated_values_and_plaintext_pem_have_an_unknown_format() {
        for bytes in [b"".as_slice(), &[1], &[1; 28], b"-----BEGIN RSA PRIVATE KEY-----\n"] {
            assert_eq!(sealer().open(context(), bytes).unwrap_err(), SealError::UnknownFormat);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = MasterSecret::parse("correct horse battery staple").unwrap();
        assert_eq!(format!("{secret:?} {:?}", sealer()), "MasterSecret Sealer");
    }
}
