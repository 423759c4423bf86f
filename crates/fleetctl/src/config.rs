//! Where the service is and how one proves who one is: command line, then environment, then configuration file.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::cli::Connection;

/// The configuration file.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ConfigFile {
    server: Option<String>,
    /// PEM file; relative to the configuration file.
    certificate_authority: Option<PathBuf>,
    /// Base64 of PEM.
    certificate_authority_data: Option<String>,
    token: Option<String>,
    /// File with the token; relative to the configuration file.
    token_file: Option<PathBuf>,
}

/// A bearer token. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

impl Token {
    fn new(text: &str, place: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            bail!("{place} holds no bearer token");
        }
        Ok(Self(text.to_owned()))
    }

    /// The secret itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// All that is needed to talk to the service.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) server: reqwest::Url,
    pub(crate) ca_pem: Option<Vec<u8>>,
    pub(crate) token: Option<Token>,
}

impl Settings {
    /// Reads the settings; `None` when no service is named anywhere.
    pub(crate) fn find(connection: &Connection) -> anyhow::Result<Option<Self>> {
        let (file, dir) = read_file(connection.config.as_deref())?;
        let Some(server) = connection.server.clone().or_else(|| file.server.clone()) else { return Ok(None) };
        let ca_pem = match (&connection.ca, &file.certificate_authority, &file.certificate_authority_data) {
            (Some(path), _, _) => Some(read(path)?),
            (None, Some(_), Some(_)) => bail!("give certificate-authority or certificate-authority-data, not both"),
            (None, Some(path), None) => Some(read(&dir.join(path))?),
            (None, None, Some(data)) => {
                Some(STANDARD.decode(data.trim()).context("certificate-authority-data is not base64")?)
            }
            (None, None, None) => None,
        };
        Ok(Some(Self { server: server_url(&server)?, ca_pem, token: find_token(connection, &file, &dir)? }))
    }

    /// The settings, or what to do to have some.
    pub(crate) fn require(connection: &Connection) -> anyhow::Result<Self> {
        Self::find(connection)?.context(
            "no service is named: give --server https://host:3443, set FLEETCTL_SERVER, or write `server:` to ~/.config/fleetctl/config.yaml",
        )
    }
}

fn find_token(connection: &Connection, file: &ConfigFile, dir: &Path) -> anyhow::Result<Option<Token>> {
    let from_file = |path: &Path| {
        let text = String::from_utf8(read(path)?).ok().unwrap_or_default();
        Token::new(&text, &path.display().to_string())
    };
    if let Some(path) = &connection.token_file {
        return from_file(path).map(Some);
    }
    if let Ok(text) = std::env::var("FLEETCTL_TOKEN")
        && !text.is_empty()
    {
        return Token::new(&text, "FLEETCTL_TOKEN").map(Some);
    }
    match (&file.token, &file.token_file) {
        (Some(_), Some(_)) => bail!("give token or token-file, not both"),
        (Some(text), None) => Token::new(text, "token in the configuration file").map(Some),
        (None, Some(path)) => from_file(&dir.join(path)).map(Some),
        (None, None) => Ok(None),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The configuration file and its directory. One that was named must exist; the default one need not.
fn read_file(named: Option<&Path>) -> anyhow::Result<(ConfigFile, PathBuf)> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => {
            let Some(home) = std::env::var_os("HOME") else { return Ok((ConfigFile::default(), PathBuf::new())) };
            let path = Path::new(&home).join(".config/fleetctl/config.yaml");
            if !path.is_file() {
                return Ok((ConfigFile::default(), PathBuf::new()));
            }
            path
        }
    };
    let bytes = read(&path)?;
    let file: Option<ConfigFile> =
        serde_yaml::from_slice(&bytes).with_context(|| format!("configuration file {}", path.display()))?;
    let dir = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok((file.unwrap_or_default(), dir))
}

/// The service's URL. The token must not travel in the clear, except on this machine.
fn server_url(text: &str) -> anyhow::Result<reqwest::Url> {
    let url = reqwest::Url::parse(text).with_context(|| format!("server {text:?} is not a URL (https://host:3443)"))?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    match url.scheme() {
        "https" => {}
        "http" if local => {}
        _ => bail!("server {text:?} must begin with https:// (http:// is allowed to this machine only)"),
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.path() != "/" {
        bail!("server {text:?} must be https://host:port and no more");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_servers_are_accepted() {
        for good in ["https://fleet.example:3443", "http://127.0.0.1:1", "http://[::1]:1/"] {
            assert!(server_url(good).is_ok(), "{good}");
        }
        for bad in ["fleet.example", "http://fleet.example", "https://u:p@x", "https://x/api", "ftp://x"] {
            assert!(server_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yaml");
        std::fs::write(&config, "server: https://file:1\ntoken-file: t\ncertificate-authority: ca.pem\n").unwrap();
        std::fs::write(dir.path().join("t"), "from-file\n").unwrap();
        std::fs::write(dir.path().join("ca.pem"), "PEM").unwrap();
        let connection = Connection { config: Some(config.clone()), ..Connection::default() };
        let settings = Settings::require(&connection).unwrap();
        assert_eq!(settings.server.as_str(), "https://file:1/");
        assert_eq!(settings.token, Some(Token("from-file".to_owned())));
        assert_eq!(settings.ca_pem.as_deref(), Some(&b"PEM"[..]));
        assert!(!format!("{settings:?}").contains("from-file"));

        let token = dir.path().join("other");
        std::fs::write(&token, "other").unwrap();
        let connection =
            Connection { server: Some("https://flag:2".to_owned()), token_file: Some(token), ..connection };
        let settings = Settings::require(&connection).unwrap();
        assert_eq!((settings.server.as_str(), settings.token), ("https://flag:2/", Some(Token("other".to_owned()))));

        std::fs::write(&config, "servre: x\n").unwrap();
        let error = format!("{:#}", Settings::require(&connection).unwrap_err());
        assert!(error.contains("servre") && error.contains("config.yaml"), "{error}");
    }
}
