//! `jwksd jwk`: make keys and convert them. The private half leaves only where somebody asked for it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{ArgMatches, Args, Subcommand, ValueEnum};
use serde_json::Value;
use zeroize::Zeroizing;

use super::exit::UsageError as Refused;
use super::files;
use super::output::{lines as list, message as say};
use super::upload::{ServerArgs, Upload};
use crate::domain::jose::algorithm::{Algorithm, Curve};
use crate::domain::jose::json::SecretJson;
use crate::domain::jose::jwk::{InvalidJwk, PublicJwk, to_public};
use crate::domain::jose::pem::{self, Key};
use crate::domain::jose::private_key::{NewKey, PrivateKey, private_jwk};
use crate::domain::jose::public_key::PublicKey;

#[derive(Debug, Subcommand)]
pub(super) enum JwkCommand {
    /// Make a key, and print its public half as a JWK
    Generate(GenerateArgs),
    /// Print the SHA-256 thumbprint of a JWK (RFC 7638)
    Thumbprint {
        /// The JWK, public or private; - for standard input
        file: String,
    },
    /// Print the public half of a JWK, or of every key of a JWK Set
    Public {
        /// The JWK or JWK Set; - for standard input
        file: String,
    },
    /// Turn a JWK into PEM: SPKI of a public one, PKCS#8 of a private one
    ToPem {
        /// The JWK; - for standard input
        file: String,
        #[command(flatten)]
        private: PrivateArgs,
    },
    /// Turn a PEM into a JWK, the public half unless told otherwise
    FromPem {
        /// PKCS#8, PKCS#1, SEC 1 or SPKI; - for standard input
        file: String,
        #[command(flatten)]
        about: AboutArgs,
        #[command(flatten)]
        private: PrivateArgs,
    },
    /// Send the public half of a key to a server
    Upload {
        /// A PEM or a JWK; - for standard input
        file: String,
        #[command(flatten)]
        about: AboutArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
}

#[derive(Args, Debug)]
pub(super) struct GenerateArgs {
    /// What kind of key
    #[arg(long = "type", value_name = "TYPE", default_value = "rsa")]
    kind: Kind,
    /// Bits of an RSA key: 2048 unless told otherwise
    #[arg(long, value_name = "BITS", value_parser = ["2048", "3072", "4096"])]
    key_size: Option<String>,
    /// Curve of an EC key: P-256 unless told otherwise
    #[arg(long, value_name = "CURVE", value_parser = ["P-256", "P-384", "P-521"])]
    curve: Option<String>,
    #[command(flatten)]
    about: AboutArgs,
    /// Write the private key to KID.pem: PKCS#8, mode 0600, never over another file
    #[arg(long)]
    save: bool,
    /// Send the public key to the server's /upload, with `ADMIN_TOKEN`
    #[arg(long)]
    upload: bool,
    /// Print the private JWK instead of the public one
    #[arg(long)]
    private: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Rsa,
    Ec,
    Ed25519,
}

/// What a JWK says beside its numbers.
#[derive(Args, Debug)]
pub(super) struct AboutArgs {
    /// What tokens will call the key: its thumbprint unless told otherwise
    #[arg(long)]
    kid: Option<String>,
    /// The one algorithm it is for: the usual one of its type unless told otherwise
    #[arg(long, value_name = "ALG")]
    alg: Option<String>,
}

impl AboutArgs {
    fn jwk(&self, key: PublicKey) -> anyhow::Result<PublicJwk> {
        let kid = self.kid.clone().unwrap_or_else(|| key.thumbprint());
        let algorithm = match &self.alg {
            Some(name) => named(name)?,
            None => key.key_type().usual_algorithm(),
        };
        Ok(PublicJwk::new(key, kid, algorithm).map_err(|error| Refused(error.to_string()))?)
    }
}

#[derive(Args, Debug)]
pub(super) struct PrivateArgs {
    /// Print the private key on standard output
    #[arg(long)]
    private: bool,
    /// Write to a file: mode 0600, never over another file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(command: JwkCommand, matches: &ArgMatches) -> anyhow::Result<()> {
    match command {
        JwkCommand::Generate(args) => generate(&args, matches),
        JwkCommand::Thumbprint { file } => {
            let json = read_json(&file)?;
            let key = public_key(json.reveal()).with_context(|| about(&file))?;
            show(&key.thumbprint())
        }
        JwkCommand::Public { file } => print_public(&file),
        JwkCommand::ToPem { file, private } => to_pem(&file, &private),
        JwkCommand::FromPem { file, about, private } => from_pem(&file, &about, &private),
        JwkCommand::Upload { file, about, server } => {
            let upload = Upload::prepare(&server, matches)?;
            upload.send(&upload_key(&file, &about)?)
        }
    }
}

/// The algorithm of this name.
pub(super) fn named(name: &str) -> Result<Algorithm, Refused> {
    Algorithm::named(name).ok_or_else(|| {
        let names = Algorithm::ALL.map(Algorithm::name).join(", ");
        Refused(format!("{name:?} is no algorithm that is known: {names} would do"))
    })
}

fn generate(args: &GenerateArgs, matches: &ArgMatches) -> anyhow::Result<()> {
    let what = what_to_make(args)?;
    if args.upload && !args.save && !args.private {
        return Err(Refused(
            "--upload without --save would lose the private key: --save keeps it as KID.pem".to_owned(),
        )
        .into());
    }
    if let Some(kid) = args.about.kid.as_deref().filter(|_| args.save) {
        check_file_name(kid)?;
    }
    if args.upload
        && args.about.kid.as_deref().is_some_and(|kid| kid.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Err(
            Refused("--kid: names of digits alone are those of the server's own keys".to_owned()).into()
        );
    }
    let upload = args.upload.then(|| Upload::prepare(&args.server, matches)).transpose()?;
    // The name is looked at before a key is made in vain.
    args.about.alg.as_deref().map(named).transpose()?;

    let key = PrivateKey::generate(what)?;
    let public = args.about.jwk(key.public().clone())?;
    let file = args.save.then(|| save(&key, &public)).transpose()?;
    let sent = upload.map(|upload| send(&upload, &public, file.as_deref(), &args.server));
    // Whatever became of the upload, the key is shown; whoever reads no more has seen enough.
    if args.private {
        print_private(&private_jwk(&key, &public)?)?;
    } else {
        show(&serde_json::to_string_pretty(&public)?)?;
    }
    if file.is_none() && !args.private {
        say("the private key was not kept: --save writes it to a file, --private prints it");
    }
    sent.unwrap_or(Ok(()))
}

fn send(upload: &Upload, public: &PublicJwk, file: Option<&str>, server: &ServerArgs) -> anyhow::Result<()> {
    upload.send(public).with_context(|| match file {
        Some(file) => {
            let (kid, server) = (public.kid().unwrap_or_default(), &server.server);
            let alg = public.algorithm().unwrap_or(public.key().key_type().usual_algorithm());
            format!(
                "the key is kept, but not uploaded: `jwksd jwk upload {file} --kid={kid} --alg {alg} --server {server}` \
                 tries again"
            )
        }
        None => "the key is printed, but not uploaded".to_owned(),
    })
}

/// On standard output.
fn show(text: &str) -> anyhow::Result<()> {
    list([text.to_owned()])?;
    Ok(())
}

fn what_to_make(args: &GenerateArgs) -> Result<NewKey, Refused> {
    if args.key_size.is_some() && args.kind != Kind::Rsa {
        return Err(Refused("--key-size is for --type rsa alone".to_owned()));
    }
    if args.curve.is_some() && args.kind != Kind::Ec {
        return Err(Refused("--curve is for --type ec alone".to_owned()));
    }
    Ok(match (args.kind, args.key_size.as_deref(), args.curve.as_deref()) {
        (Kind::Rsa, Some("4096"), _) => NewKey::Rsa4096,
        (Kind::Rsa, Some("3072"), _) => NewKey::Rsa3072,
        (Kind::Rsa, _, _) => NewKey::Rsa2048,
        (Kind::Ec, _, name) => {
            let curve = Curve::ALL.into_iter().find(|curve| Some(curve.name()) == name);
            NewKey::Ec(curve.unwrap_or(Curve::P256))
        }
        (Kind::Ed25519, _, _) => NewKey::Ed25519,
    })
}

/// A `kid` becomes the name of a file, which must stay in this directory and be seen there.
fn check_file_name(kid: &str) -> Result<(), Refused> {
    let is_plain = kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_plain && !kid.is_empty() && !kid.starts_with(['.', '-']) && kid.len() <= 200 {
        return Ok(());
    }
    Err(Refused(format!(
        "{kid:?} cannot be the name of a file: with --save, a kid of letters, digits and . _ - would do, which does \
         not begin with . or -"
    )))
}

fn save(key: &PrivateKey, public: &PublicJwk) -> anyhow::Result<String> {
    let kid = public.kid().unwrap_or_default();
    // A thumbprint may begin with a dash, which a command would take for a flag.
    let name = if kid.starts_with('-') { format!("./{kid}.pem") } else { format!("{kid}.pem") };
    files::write_new(Path::new(&name), pem::private_pem(key)?.as_bytes())?;
    say(&format!("the private key is in {name}"));
    Ok(name)
}

fn print_public(file: &str) -> anyhow::Result<()> {
    let json = read_json(file)?;
    let value = json.reveal();
    let public = match value.get("keys").and_then(Value::as_array) {
        None => to_public(value).with_context(|| about(file))?,
        Some(keys) => {
            let halves: Result<Vec<_>, _> = keys.iter().map(to_public).collect();
            serde_json::json!({ "keys": halves.with_context(|| about(file))? })
        }
    };
    show(&serde_json::to_string_pretty(&public)?)
}

fn to_pem(file: &str, wanted: &PrivateArgs) -> anyhow::Result<()> {
    let json = read_json(file)?;
    let members = json.reveal().as_object().ok_or(InvalidJwk::NoObject).with_context(|| about(file))?;
    if members.contains_key("d") {
        if !wanted.private && wanted.output.is_none() {
            return Err(Refused(format!(
                "{} is a private key: --output FILE writes it to a file, --private prints it; `jwksd jwk public` \
                 gives the public half",
                files::shown(file)
            ))
            .into());
        }
        let key = PrivateKey::of_members(members).with_context(|| about(file))?;
        return deliver(wanted, pem::private_pem(&key)?.trim_end());
    }
    let key = public_key(json.reveal()).with_context(|| about(file))?;
    if wanted.private {
        return Err(InvalidJwk::Public).with_context(|| about(file));
    }
    deliver(wanted, pem::public_pem(&key)?.trim_end())
}

fn from_pem(file: &str, told: &AboutArgs, wanted: &PrivateArgs) -> anyhow::Result<()> {
    let key = read_pem(file)?;
    let public = told.jwk(key.public().clone())?;
    if !wanted.private {
        return deliver(wanted, &serde_json::to_string_pretty(&public)?);
    }
    let Key::Private(key) = key else {
        return Err(InvalidJwk::Public).with_context(|| about(file));
    };
    let json = private_jwk(&key, &public)?;
    let text = Zeroizing::new(serde_json::to_string_pretty(json.reveal())?);
    deliver(wanted, &text)
}

/// The public half of a PEM, or of a JWK with what that says of itself.
fn upload_key(file: &str, told: &AboutArgs) -> anyhow::Result<PublicJwk> {
    let text = files::read(file)?;
    if !text.trim_ascii_start().starts_with(b"{") {
        return told.jwk(parse_pem(file, &text)?.public().clone());
    }
    let json = SecretJson::parse(&text).with_context(|| about(file))?;
    let key = PublicJwk::parse(&to_public(json.reveal()).with_context(|| about(file))?);
    let key = key.with_context(|| about(file))?;
    let said = AboutArgs {
        kid: told.kid.clone().or_else(|| key.kid().map(str::to_owned)),
        alg: told.alg.clone().or_else(|| key.algorithm().map(|algorithm| algorithm.name().to_owned())),
    };
    said.jwk(key.key().clone())
}

fn public_key(json: &Value) -> Result<PublicKey, InvalidJwk> {
    let members = json.as_object().ok_or(InvalidJwk::NoObject)?;
    if members.get("keys").is_some_and(Value::is_array) {
        return Err(InvalidJwk::Set);
    }
    PublicKey::of_members(members)
}

fn read_json(file: &str) -> anyhow::Result<SecretJson> {
    SecretJson::parse(&files::read(file)?).with_context(|| about(file))
}

fn read_pem(file: &str) -> anyhow::Result<Key> {
    parse_pem(file, &files::read(file)?)
}

/// A key in PEM, of either half.
pub(super) fn parse_pem(file: &str, text: &[u8]) -> anyhow::Result<Key> {
    let text =
        std::str::from_utf8(text).map_err(|_| pem::InvalidPem::Malformed).with_context(|| about(file))?;
    Key::from_pem(text).with_context(|| about(file))
}

/// What an error in a file is about.
pub(super) fn about(file: &str) -> String {
    format!("cannot use {}", files::shown(file))
}

fn print_private(json: &SecretJson) -> anyhow::Result<()> {
    let text = Zeroizing::new(serde_json::to_string_pretty(json.reveal())?);
    show(&text)
}

fn deliver(wanted: &PrivateArgs, text: &str) -> anyhow::Result<()> {
    match &wanted.output {
        Some(path) => files::write_new(path, Zeroizing::new(format!("{text}\n")).as_bytes()),
        None => show(text),
    }
}
