//! `fleetctl token`: a token signed with the service's own key. Needs the key file, not the service.

use anyhow::Context as _;
use fleet_model::local_token;
use fleet_pki::DeviceKey;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::cli::TokenArgs;
use crate::{Io, Outcome};

pub(crate) fn token(args: &TokenArgs, io: &mut Io<'_>) -> anyhow::Result<Outcome> {
    let path = match (&args.key, &args.data_dir) {
        (Some(key), _) => key.clone(),
        (None, Some(dir)) => dir.join(local_token::KEY_FILE),
        (None, None) => anyhow::bail!("give --data-dir or --key"),
    };
    anyhow::ensure!(!args.subject.trim().is_empty(), "--subject must not be empty");
    let seconds = i64::try_from(args.ttl.as_secs()).unwrap_or(i64::MAX);
    anyhow::ensure!(seconds <= local_token::MAX_SECONDS, "--ttl must be at most 366d");
    let key = DeviceKey::load(&path)
        .context("cannot use the service's signing key; fleetd makes it at its first start, in its data directory")?;
    let key = EncodingKey::from_ec_pem(key.pem().as_bytes()).context("the signing key is not PKCS#8")?;
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(Jwk::from_encoding_key(&key, Algorithm::ES256)?.thumbprint(ThumbprintHash::SHA256)?);
    let claims = local_token::Claims::new(&args.subject, args.role, io.clock.now().as_second(), seconds);
    writeln!(io.out, "{}", jsonwebtoken::encode(&header, &claims, &key)?)?;
    Ok(Outcome::Good)
}
