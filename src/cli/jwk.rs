//! `jwksd jwk`: generates and converts keys. Private keys are written only if the user asks for it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{ArgMatches, Args, Subcommand, ValueEnum};
use serde_json::Value;
use zeroize::Zeroizing;

use super::exit::UsageError;
use super::files;
use super::output;
use super::upload::{ServerArgs, Upload};
use jwksd_jose::algorithm::{Algorithm, Curve};
use jwksd_jose::invalid_jwk::InvalidJwk;
use jwksd_jose::json::{self, SecretJson};
use jwksd_jose::jwk::{Jwk, to_public};
use jwksd_jose::jwk_set::{self, SkippedKey};
use jwksd_jose::pem::{self, Key};
use jwksd_jose::private_key::{NewKey, PrivateKey, private_jwk};
use jwksd_jose::public_key::PublicKey;

#[derive(Debug, Subcommand)]
pub(super) enum JwkCommand {
    /// Generate a key and print its public JWK
    Generate(GenerateArgs),
    /// Print the SHA-256 thumbprint of a JWK (RFC 7638)
    Thumbprint {
        /// The JWK, public or private; - for standard input
        file: String,
    },
    /// Print the public JWK of a JWK, or of every key in a JWK Set
    Public {
        /// The JWK or JWK Set; - for standard input
        file: String,
    },
    /// Convert a JWK to PEM: SPKI for a public key, PKCS#8 for a private key
    ToPem {
        /// The JWK; - for standard input
        file: String,
        #[command(flatten)]
        private: PrivateArgs,
    },
    /// Convert PEM to a JWK, the public one by default
    FromPem {
        /// PKCS#8, PKCS#1, SEC 1 or SPKI; - for standard input
        file: String,
        #[command(flatten)]
        about: AboutArgs,
        #[command(flatten)]
        private: PrivateArgs,
    },
    /// Send the public key to a server
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
    /// Type of the key
    #[arg(long = "type", value_name = "TYPE", default_value = "rsa")]
    key_type: TypeArg,
    /// Size of an RSA key in bits [default: 2048]
    #[arg(long, value_name = "BITS", value_parser = ["2048", "3072", "4096"])]
    key_size: Option<String>,
    /// Curve of an EC key [default: P-256]
    #[arg(long, value_name = "CURVE", value_parser = ["P-256", "P-384", "P-521"])]
    curve: Option<String>,
    #[command(flatten)]
    about: AboutArgs,
    /// Write the private key to KID.pem: PKCS#8, mode 0600, never replacing a file
    #[arg(long)]
    save: bool,
    /// Send the public key to /upload of the server, with `ADMIN_TOKEN`
    #[arg(long)]
    upload: bool,
    /// Print the private JWK instead of the public one
    #[arg(long)]
    private: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TypeArg {
    Rsa,
    Ec,
    Ed25519,
}

/// The metadata of a JWK.
#[derive(Args, Debug)]
pub(super) struct AboutArgs {
    /// Key ID that tokens will name [default: the thumbprint]
    #[arg(long)]
    kid: Option<String>,
    /// Algorithm of the key [default: the default algorithm of its type]
    #[arg(long, value_name = "ALG")]
    alg: Option<String>,
}

impl AboutArgs {
    fn jwk(&self, key: PublicKey) -> anyhow::Result<Jwk> {
        let kid = self.kid.clone().unwrap_or_else(|| key.thumbprint());
        let algorithm = match &self.alg {
            Some(name) => algorithm_from_name(name)?,
            None => key.key_type().default_algorithm(),
        };
        Ok(Jwk::new(key, kid, algorithm).map_err(|error| UsageError(error.to_string()))?)
    }
}

#[derive(Args, Debug)]
pub(super) struct PrivateArgs {
    /// Print the private key on standard output
    #[arg(long)]
    private: bool,
    /// Write to a file: mode 0600, never replacing a file
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(command: JwkCommand, matches: &ArgMatches) -> anyhow::Result<()> {
    match command {
        JwkCommand::Generate(args) => generate(&args, matches),
        JwkCommand::Thumbprint { file } => {
            let json = read_json(&file)?;
            let key = public_key(json.reveal()).with_context(|| cannot_use(&file))?;
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

/// Finds an algorithm by its name.
pub(super) fn algorithm_from_name(name: &str) -> Result<Algorithm, UsageError> {
    Algorithm::from_name(name).ok_or_else(|| {
        let names = Algorithm::ALL.map(Algorithm::name).join(", ");
        UsageError(format!("{name:?} is not a supported algorithm: use {names}"))
    })
}

fn generate(args: &GenerateArgs, matches: &ArgMatches) -> anyhow::Result<()> {
    let new = new_key(args)?;
    if args.upload && !args.save && !args.private {
        return Err(UsageError(
            "--upload without --save would lose the private key: add --save to keep it as KID.pem".to_owned(),
        )
        .into());
    }
    if let Some(kid) = args.about.kid.as_deref().filter(|_| args.save) {
        check_file_name(kid)?;
    }
    if args.upload
        && args.about.kid.as_deref().is_some_and(|kid| kid.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Err(UsageError(
            "--kid: only the server's own keys may consist of digits: use another kid".to_owned(),
        )
        .into());
    }
    // Address and token are checked first, so that no key is generated for an upload that cannot work.
    let upload = args.upload.then(|| Upload::prepare(&args.server, matches)).transpose()?;
    // Checked before the key is generated, because RSA 4096 takes seconds.
    args.about.alg.as_deref().map(algorithm_from_name).transpose()?;

    let key = PrivateKey::generate(new)?;
    let public = args.about.jwk(key.public().clone())?;
    // Saved before the upload: a published key is useless once its private key is lost.
    let file = args.save.then(|| save(&key, &public)).transpose()?;
    let sent = upload.map(|upload| send(&upload, &public, file.as_deref(), &args.server));
    // The key is printed even if the upload failed, because it may be the only copy.
    if args.private {
        print_private(&private_jwk(&key, &public)?, file.is_some())?;
    } else {
        show(&serde_json::to_string_pretty(&public)?)?;
    }
    if file.is_none() && !args.private {
        output::message(
            "the private key was not kept: use --save to write it to a file, or --private to print it",
        );
    }
    sent.unwrap_or(Ok(()))
}

fn send(upload: &Upload, public: &Jwk, file: Option<&str>, server: &ServerArgs) -> anyhow::Result<()> {
    upload.send(public).with_context(|| match file {
        Some(file) => {
            let (kid, server) = (public.kid().unwrap_or_default(), &server.server);
            let alg = public.algorithm().unwrap_or(public.key().key_type().default_algorithm());
            format!(
                "the key was saved, but not uploaded: try again with `jwksd jwk upload {file} --kid={kid} --alg {alg} \
                 --server {server}`"
            )
        }
        None => "the key was printed, but not uploaded".to_owned(),
    })
}

/// Prints to standard output.
fn show(text: &str) -> anyhow::Result<()> {
    output::lines([text.to_owned()])?;
    Ok(())
}

fn new_key(args: &GenerateArgs) -> Result<NewKey, UsageError> {
    if args.key_size.is_some() && args.key_type != TypeArg::Rsa {
        return Err(UsageError("--key-size is only for --type rsa".to_owned()));
    }
    if args.curve.is_some() && args.key_type != TypeArg::Ec {
        return Err(UsageError("--curve is only for --type ec".to_owned()));
    }
    Ok(match (args.key_type, args.key_size.as_deref(), args.curve.as_deref()) {
        (TypeArg::Rsa, Some("4096"), _) => NewKey::Rsa4096,
        (TypeArg::Rsa, Some("3072"), _) => NewKey::Rsa3072,
        (TypeArg::Rsa, _, _) => NewKey::Rsa2048,
        (TypeArg::Ec, _, name) => {
            let curve = Curve::ALL.into_iter().find(|curve| Some(curve.name()) == name);
            NewKey::Ec(curve.unwrap_or(Curve::P256))
        }
        (TypeArg::Ed25519, _, _) => NewKey::Ed25519,
    })
}

/// Checks that a `kid` is a file name in this directory, and not a hidden one.
fn check_file_name(kid: &str) -> Result<(), UsageError> {
    // 200 bytes and `.pem` fit into 255, the limit of most file systems.
    let is_plain = kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_plain && !kid.is_empty() && !kid.starts_with(['.', '-']) && kid.len() <= 200 {
        return Ok(());
    }
    Err(UsageError(format!(
        "{kid:?} cannot be a file name: with --save, use a kid of letters, digits and . _ - that does not start with \
         . or -"
    )))
}

fn save(key: &PrivateKey, public: &Jwk) -> anyhow::Result<String> {
    let kid = public.kid().unwrap_or_default();
    // A thumbprint may start with a dash, which commands would read as a flag.
    let name = if kid.starts_with('-') { format!("./{kid}.pem") } else { format!("{kid}.pem") };
    files::write_new(Path::new(&name), pem::private_pem(key)?.as_bytes())?;
    output::message(&format!("the private key is in {name}"));
    Ok(name)
}

fn print_public(file: &str) -> anyhow::Result<()> {
    let json = read_json(file)?;
    let value = json.reveal();
    let public = match value.get("keys").and_then(Value::as_array) {
        None => to_public(value).with_context(|| cannot_use(file))?,
        Some(keys) => serde_json::json!({ "keys": public_keys(keys).with_context(|| cannot_use(file))? }),
    };
    show(&serde_json::to_string_pretty(&public)?)
}

/// The public keys of a set. Notes on standard error name those that cannot be read.
fn public_keys(keys: &[Value]) -> Result<Vec<Value>, InvalidJwk> {
    let (mut public, mut skipped) = (Vec::new(), Vec::new());
    for (number, key) in (1..).zip(keys) {
        match to_public(key) {
            Ok(key) => public.push(key),
            Err(why) => {
                let kid = key.get("kid").and_then(Value::as_str).map(str::to_owned);
                skipped.push(SkippedKey { number, kid, why });
            }
        }
    }
    match skipped.first() {
        // An empty set would look like success.
        Some(first) if public.is_empty() => Err(first.why.clone()),
        _ => {
            for note in jwk_set::notes(&skipped) {
                output::message(&note);
            }
            Ok(public)
        }
    }
}

fn to_pem(file: &str, private: &PrivateArgs) -> anyhow::Result<()> {
    let json = read_json(file)?;
    let members = json.reveal().as_object().ok_or(InvalidJwk::NotObject).with_context(|| cannot_use(file))?;
    if members.contains_key("d") {
        // Terminals and CI systems keep what commands print, so a private key needs an explicit flag.
        if !private.private && private.output.is_none() {
            return Err(UsageError(format!(
                "{} is a private key: use --output FILE to write it to a file, --private to print it, or `jwksd jwk public` \
                 to get its public key",
                files::shown(file)
            ))
            .into());
        }
        let key = PrivateKey::from_members(members).with_context(|| cannot_use(file))?;
        return deliver(private, pem::private_pem(&key)?.trim_end());
    }
    let key = public_key(json.reveal()).with_context(|| cannot_use(file))?;
    if private.private {
        return Err(InvalidJwk::Public).with_context(|| cannot_use(file));
    }
    deliver(private, pem::public_pem(&key)?.trim_end())
}

fn from_pem(file: &str, about: &AboutArgs, private: &PrivateArgs) -> anyhow::Result<()> {
    let key = read_pem(file)?;
    let public = about.jwk(key.public().clone())?;
    if !private.private {
        return deliver(private, &serde_json::to_string_pretty(&public)?);
    }
    let Key::Private(key) = key else {
        return Err(InvalidJwk::Public).with_context(|| cannot_use(file));
    };
    let json = private_jwk(&key, &public)?;
    let text = Zeroizing::new(serde_json::to_string_pretty(json.reveal())?);
    deliver(private, &text)
}

/// The public JWK of a PEM or JWK file. Flags win over the metadata in the file.
fn upload_key(file: &str, about: &AboutArgs) -> anyhow::Result<Jwk> {
    let text = files::read(file)?;
    if !json::begins_like_object(&text) {
        return about.jwk(parse_pem(file, &text)?.public().clone());
    }
    let json = SecretJson::parse(&text).with_context(|| cannot_use(file))?;
    let key = Jwk::parse(&to_public(json.reveal()).with_context(|| cannot_use(file))?);
    let key = key.with_context(|| cannot_use(file))?;
    let about = AboutArgs {
        kid: about.kid.clone().or_else(|| key.kid().map(str::to_owned)),
        alg: about.alg.clone().or_else(|| key.algorithm().map(|algorithm| algorithm.name().to_owned())),
    };
    about.jwk(key.key().clone())
}

fn public_key(json: &Value) -> Result<PublicKey, InvalidJwk> {
    PublicKey::from_members(json.as_object().ok_or(InvalidJwk::NotObject)?)
}

fn read_json(file: &str) -> anyhow::Result<SecretJson> {
    SecretJson::parse(&files::read(file)?).with_context(|| cannot_use(file))
}

fn read_pem(file: &str) -> anyhow::Result<Key> {
    parse_pem(file, &files::read(file)?)
}

/// Reads a private or public key in PEM.
pub(super) fn parse_pem(file: &str, text: &[u8]) -> anyhow::Result<Key> {
    Key::from_pem(text).with_context(|| cannot_use(file))
}

/// The context of an error in a file.
pub(super) fn cannot_use(file: &str) -> String {
    format!("cannot use {}", files::shown(file))
}

fn print_private(json: &SecretJson, is_saved: bool) -> anyhow::Result<()> {
    let text = Zeroizing::new(serde_json::to_string_pretty(json.reveal())?);
    // Not `show`, which ignores a closed pipe: this may be the only copy of the key.
    if is_saved {
        output::value(&text).context("the private key was saved, but could not be printed")
    } else {
        output::secret(&text)
            .context("the private key could not be printed, and was not kept: generate another one")
    }
}

fn deliver(private: &PrivateArgs, text: &str) -> anyhow::Result<()> {
    match &private.output {
        Some(path) => files::write_new(path, Zeroizing::new(format!("{text}\n")).as_bytes()),
        None => show(text),
    }
}
