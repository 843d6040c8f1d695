//! The reasons why the text or file of a key is rejected.

use thiserror::Error;

use super::invalid_jwk::InvalidJwk;

/// Why an input is not a usable key in PEM or DER: what it is instead, and how to convert it. Errors quote only a label.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidPem {
    /// The algorithm or curve is not supported.
    #[error("the key type is not supported: use RSA, EC on P-256, P-384 or P-521, or Ed25519")]
    Algorithm,
    /// The base64 of a key without the lines around it.
    #[error(
        "this is base64 without its BEGIN and END lines: convert it with `openssl base64 -d -A -in FILE | openssl pkey \
         -inform DER -out KEY.pem`"
    )]
    BareBase64,
    /// A certificate.
    #[error(
        "this is a certificate, which has only a public key: extract it with `openssl x509 -in FILE -noout -pubkey`"
    )]
    Certificate,
    /// A PEM block whose content does not decode.
    #[error("the PEM is damaged or incomplete: copy all of it again, from its BEGIN line to its END line")]
    Damaged,
    /// A private key in DER, where PEM is required.
    #[error("this is DER, not PEM: convert it with `openssl pkey -inform DER -in FILE -out KEY.pem`")]
    Der,
    /// A public key in DER, where PEM is required.
    #[error("this is DER, not PEM: convert it with `openssl pkey -pubin -inform DER -in FILE -out KEY.pem`")]
    DerPublic,
    /// Nothing, or only white space.
    #[error("there is nothing in it: use a file with a key in PEM")]
    Empty,
    /// A key that is encrypted with a password.
    #[error("the key is encrypted: decrypt it with `openssl pkey -in FILE -out PLAIN`")]
    Encrypted,
    /// PEM whose line breaks were replaced by `\n`, as in JSON or an environment variable.
    #[error("its line breaks are written as \\n: convert it with `printf '%b' \"$(cat FILE)\" >KEY.pem`")]
    EscapedLineBreaks,
    /// JSON, such as a JWK.
    #[error(
        "this is JSON, not PEM: if it is a JWK, convert it with `jwksd jwk to-pem FILE --output KEY.pem`"
    )]
    Json,
    /// A Java keystore (JKS or JCEKS).
    #[error(
        "this is a Java keystore: convert it with `keytool -importkeystore -srckeystore FILE -deststoretype PKCS12 \
         -destkeystore KEY.p12`, then extract the key with `openssl pkcs12 -in KEY.p12 -nocerts -nodes -out KEY.pem`"
    )]
    JavaKeystore,
    /// The key parameters are invalid.
    #[error(transparent)]
    Key(#[from] InvalidJwk),
    /// PEM with another label.
    #[error("this is PEM with the label {0:?}, which is not a supported key")]
    Label(String),
    /// None of the known formats.
    #[error("not a key in PEM")]
    Malformed,
    /// A private key in the format of OpenSSH.
    #[error(
        "this is an OpenSSH private key: convert a copy of it with `ssh-keygen -p -m PKCS8 -f COPY` (for Ed25519, an \
         older ssh-keygen leaves the file as it is)"
    )]
    OpenSsh,
    /// A public key in the format of OpenSSH.
    #[error("this is an OpenSSH public key: convert it with `ssh-keygen -e -m PKCS8 -f FILE >KEY.pem`")]
    OpenSshPublic,
    /// A PKCS#12 file (RFC 7292).
    #[error(
        "this is a PKCS#12 file: extract its key with `openssl pkcs12 -in FILE -nocerts -nodes -out KEY.pem`"
    )]
    Pkcs12,
    /// A public key, where a private key is required.
    #[error("this is a public key: use the private key")]
    Public,
    /// A private key in the format of `PuTTY`.
    #[error("this is a PuTTY key: convert it with `puttygen FILE -O private-openssh -o KEY.pem`")]
    Putty,
    /// A key with the OID of RSASSA-PSS (RFC 4055 §1.2).
    #[error(
        "this is an RSA-PSS key (its type is id-RSASSA-PSS), which is not supported: use a plain RSA key, which can sign \
         PS256 too (`jwksd jwk generate --alg PS256 --save`)"
    )]
    RsaPss,
    /// More than one PEM block.
    #[error("more than one key or certificate: leave only one in the file")]
    Several,
    /// Text in UTF-16.
    #[error("this is UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8 FILE >KEY.pem`")]
    Utf16,
}
