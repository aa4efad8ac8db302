//! `cirrus put`, `get`, `stat`, `ls` and `rm`: objects of a node, from a shell.
//!
//! Owns how a shell names nodes and objects. Invariant: a file that `get` writes is whole or not
//! there.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use cirrus::{output, print};
use cirrus_store::wire::PageItem;
use cirrus_store::{BlockingClient, ClientOptions, Key, Token};
use cirrus_units::ByteSize;
use serde_json::json;

use crate::failure::Failure;

/// Which node.
#[derive(Debug, clap::Args)]
struct At {
    /// The node, as cirrus://HOST:PORT
    #[arg(long = "at", value_name = "URL")]
    at: String,
    /// Show the node the secret in this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl At {
    fn client(&self) -> Result<BlockingClient, Failure> {
        let address = self.at.strip_prefix("cirrus://").map(|rest| rest.trim_end_matches('/'));
        let address = address.filter(|address| {
            address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        });
        let address = address.ok_or_else(|| {
            let at = &self.at;
            Failure::input(format!("`{at}` is no node; expected cirrus://HOST:PORT"))
        })?;
        let mut options = ClientOptions::default();
        options.token = read_token(self.token_file.as_deref())?;
        // A person waits: say soon that nobody is there.
        options.request_timeout = std::time::Duration::from_secs(10);
        Ok(BlockingClient::new(address, options))
    }
}

/// The secret in a file, without the line's end; empty without a file.
pub(crate) fn read_token(path: Option<&Path>) -> Result<Token, Failure> {
    let Some(path) = path else { return Ok(Token::default()) };
    let text = std::fs::read(path)
        .map_err(|error| Failure::input(format!("cannot read {}: {error}", path.display())))?;
    let token = text.trim_ascii_end().to_vec();
    match token.len() {
        0 => Err(Failure::input(format!("the token file {} is empty", path.display()))),
        len if len > cirrus_store::wire::TOKEN_BYTES_MAX => Err(Failure::input(format!(
            "the token in {} has {len} bytes; at most {} are allowed",
            path.display(),
            cirrus_store::wire::TOKEN_BYTES_MAX
        ))),
        _ => Ok(token.into()),
    }
}

/// Arguments of `put`.
#[derive(Debug, clap::Args)]
pub(crate) struct Put {
    #[command(flatten)]
    at: At,
    /// The object's key
    key: String,
    /// The file to store; `-` or nothing reads standard input
    file: Option<PathBuf>,
}

impl Put {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let key = Key::try_from(self.key)?;
        let mut value = Vec::new();
        match self.file.as_deref().filter(|file| *file != Path::new("-")) {
            Some(file) => {
                value = std::fs::read(file).map_err(|error| {
                    Failure::input(format!("cannot read {}: {error}", file.display()))
                })?;
            }
            None => {
                std::io::stdin().read_to_end(&mut value).map_err(|error| {
                    Failure::fault(format!("cannot read standard input: {error}"))
                })?;
            }
        }
        let version = self.at.client()?.put(&key, value)?;
        Ok(print(&version.to_string())?)
    }
}

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    #[command(flatten)]
    at: At,
    /// The object's key
    key: String,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Get {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let object = self.at.client()?.get(&Key::try_from(self.key)?)?;
        match self.out {
            Some(path) => write_whole(&path, &object.value),
            None => Ok(output(|out| out.write_all(&object.value))?),
        }
    }
}

/// The folder in which a file is to be.
pub(crate) fn folder_of(path: &Path) -> Result<&Path, Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let text = format!(
            "cannot write {}: {} is no folder; make it (mkdir -p), or write elsewhere",
            path.display(),
            folder.display()
        );
        return Err(Failure::input(text));
    }
    Ok(folder)
}

/// Writes a file that is whole or not there; a pipe or a device is written to as it is.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::input(format!("cannot write {}: {error}", path.display()));
    let folder = folder_of(path)?;
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        let mut file = std::fs::File::options().write(true).open(path).map_err(failed)?;
        return file.write_all(bytes).map_err(failed);
    }
    // Readable by whom the umask says, as any file that a shell writes.
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Arguments of `stat`.
#[derive(Debug, clap::Args)]
pub(crate) struct Stat {
    #[command(flatten)]
    at: At,
    /// The object's key
    key: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Stat {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let stat = self.at.client()?.stat(&Key::try_from(self.key.as_str())?)?;
        let (version, bytes) = (stat.version.0, stat.size);
        let (expires_at, modified_at) = (stat.expires_at, stat.modified_at);
        if self.json {
            let key = &self.key;
            let stat = json!({
                "key": key,
                "version": version,
                "bytes": bytes,
                "expires_at": expires_at,
                "modified_at": modified_at,
            });
            return Ok(print(&stat.to_string())?);
        }
        let modified = match modified_at {
            Some(ms) => format!(", written at {ms} ms (Unix)"),
            None => String::new(),
        };
        Ok(print(&format!(
            "{}: {} ({bytes} bytes), version {version}{modified}",
            self.key,
            ByteSize::new(bytes)
        ))?)
    }
}

/// Arguments of `ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    at: At,
    /// Only keys that begin so
    #[arg(default_value = "")]
    prefix: String,
    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
}

impl Ls {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut items = self.at.client()?.list(self.prefix.as_bytes())?;
        items.sort_by(|a, b| a.key.cmp(&b.key));
        for PageItem { key, version, size, .. } in items {
            if self.json {
                let name = String::from_utf8_lossy(key.as_bytes());
                print(&json!({"key": name, "version": version.0, "bytes": size}).to_string())?;
            } else {
                print(&format!("{size:>12} {key}"))?;
            }
        }
        Ok(())
    }
}

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    #[command(flatten)]
    at: At,
    /// The objects' keys
    #[arg(required = true)]
    keys: Vec<String>,
}

impl Rm {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let mut client = self.at.client()?;
        for key in self.keys {
            client.delete(&Key::try_from(key)?)?;
        }
        Ok(())
    }
}
