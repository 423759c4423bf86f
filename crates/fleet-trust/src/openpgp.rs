//! Signers with OpenPGP keys.
//!
//! Stricter than GnuPG: MD5, SHA-1 and RIPEMD-160 are refused in data signatures, and a signing key needs the flag that
//! says so. A revoked key counts for nothing, whenever it was revoked. Where GnuPG looks at today, this looks at the time
//! of the commit: a key that has expired since does not make old commits bad.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pgp::composed::{Deserializable as _, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, Tag};

use crate::ssh::told;

/// Armoured keys longer than this are refused, in bytes.
const MAX_KEYS: usize = 1 << 20;
/// A signature longer than this is none, in bytes.
const MAX_SIGNATURE: usize = 64 << 10;
const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// Public keys with their subkeys.
#[derive(Debug, Clone, Default)]
pub struct Certificates {
    keys: Vec<SignedPublicKey>,
}

/// Text that is not armoured public keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificatesError {
    /// There is no key.
    #[error("there is no PGP PUBLIC KEY BLOCK")]
    None,
    /// It is longer than 1 MiB.
    #[error("it is longer than 1 MiB")]
    TooLarge,
    /// There is something else between the blocks, a private key perhaps.
    #[error("there is something else than PGP PUBLIC KEY BLOCKs")]
    Other,
    /// A block cannot be read.
    #[error("block {0} cannot be read: {1}")]
    Block(usize, String),
}

impl Certificates {
    /// Reads armoured blocks, one after the other.
    ///
    /// # Errors
    /// [`CertificatesError`].
    pub fn parse(text: &str) -> Result<Self, CertificatesError> {
        if text.len() > MAX_KEYS {
            return Err(CertificatesError::TooLarge);
        }
        let mut keys = Vec::new();
        let mut rest = text.trim();
        let mut block = 0;
        while !rest.is_empty() {
            block += 1;
            let end = match (rest.starts_with(BEGIN), rest.find(END)) {
                (true, Some(end)) => end + END.len(),
                (true, None) => return Err(CertificatesError::Block(block, "its end is missing".to_owned())),
                (false, _) => return Err(CertificatesError::Other),
            };
            let (armoured, next) = rest.split_at(end);
            rest = next.trim();
            let read = guarded(|| {
                let (found, _) = SignedPublicKey::from_string_many(armoured).map_err(|error| error.to_string())?;
                found.map(|key| key.map_err(|error| error.to_string())).collect::<Result<Vec<_>, String>>()
            });
            match read {
                Ok(found) if found.is_empty() => {
                    return Err(CertificatesError::Block(block, "it holds no key".to_owned()));
                }
                Ok(found) => keys.extend(found),
                Err(error) => return Err(CertificatesError::Block(block, error)),
            }
        }
        if keys.is_empty() { Err(CertificatesError::None) } else { Ok(Self { keys }) }
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether some key can sign at that time (seconds since 1970) or later.
    pub fn any_from(&self, now: i64) -> bool {
        let last = |part: &Part| part.may_sign && part.expires.is_none_or(|expires| expires > now);
        self.keys.iter().any(|key| guarded(|| Ok(parts(key))).unwrap_or_default().iter().any(last))
    }

    /// Whose signature over `payload` it is, at a time in seconds since 1970.
    ///
    /// # Errors
    /// Why it is nobody's, as a part of a sentence.
    pub fn verify(&self, payload: &[u8], signature: &str, at: i64) -> Result<String, String> {
        guarded(|| self.verify_unguarded(payload, signature, at))
    }

    fn verify_unguarded(&self, payload: &[u8], signature: &str, at: i64) -> Result<String, String> {
        let signature = &read_signature(signature)?;
        let made = signature.created().map(|made| i64::from(made.as_secs()));
        let made = made.ok_or("its OpenPGP signature says no time")?;
        let lasts = signature.signature_expiration_time().map(|lasts| i64::from(lasts.as_secs()));
        if lasts.is_some_and(|lasts| lasts > 0 && at >= made + lasts) {
            return Err("its OpenPGP signature was over when it was committed".to_owned());
        }
        let mut problem = None;
        for key in &self.keys {
            let parts = parts(key);
            for (at_part, part) in parts.iter().enumerate() {
                let fits = match at_part.checked_sub(1).and_then(|at| key.public_subkeys.get(at)) {
                    None => names(signature, &key.primary_key) && signature.verify(&key.primary_key, payload).is_ok(),
                    Some(subkey) => names(signature, &subkey.key) && signature.verify(&subkey.key, payload).is_ok(),
                };
                if !fits {
                    continue;
                }
                let usable = part.usable(at).and_then(|()| part.usable(made));
                // A subkey is nothing without its primary key.
                let usable = usable.and_then(|()| parts[0].alive(at)).and_then(|()| parts[0].alive(made));
                match usable {
                    Ok(()) => return Ok(who(key)),
                    Err(why) => problem = Some(format!("the OpenPGP key of {} {why}", who(key))),
                }
            }
        }
        Err(problem.unwrap_or_else(|| {
            let issuer = signature.issuer_fingerprint().first().map(ToString::to_string);
            let issuer = issuer.or_else(|| signature.issuer_key_id().first().map(ToString::to_string));
            let issuer = issuer.unwrap_or_else(|| "no name".to_owned());
            let known = self.keys.iter().any(|key| {
                names(signature, &key.primary_key) || key.public_subkeys.iter().any(|sub| names(signature, &sub.key))
            });
            match known {
                true => format!("its OpenPGP signature by {issuer} does not fit its content"),
                false => format!("it is signed with the OpenPGP key {issuer}, unknown there"),
            }
        }))
    }
}

/// The primary key or a subkey, as its self-signatures describe it.
#[derive(Debug, Clone)]
struct Part {
    may_sign: bool,
    revoked: bool,
    /// Bound to the primary key, or for the primary key itself: says something about itself.
    bound: bool,
    created: i64,
    expires: Option<i64>,
}

impl Part {
    fn usable(&self, at: i64) -> Result<(), String> {
        self.alive(at)?;
        if self.may_sign { Ok(()) } else { Err("is not one for signing".to_owned()) }
    }

    fn alive(&self, at: i64) -> Result<(), String> {
        if self.revoked {
            return Err("is revoked".to_owned());
        }
        if !self.bound {
            return Err("is not bound to its owner".to_owned());
        }
        if at < self.created {
            return Err(format!("was not made yet at {}", told(at)));
        }
        match self.expires {
            Some(expires) if at >= expires => Err(format!("expired at {}", told(expires))),
            Some(_) | None => Ok(()),
        }
    }

    /// What the newest of the valid statements says.
    fn of(created: i64, statements: &[&Signature], revoked: bool) -> Self {
        let newest = statements.iter().max_by_key(|statement| statement.created().map(|made| made.as_secs()));
        let lasts = newest.and_then(|newest| newest.key_expiration_time()).map(|lasts| i64::from(lasts.as_secs()));
        Self {
            may_sign: newest.is_some_and(|newest| newest.key_flags().sign()),
            revoked,
            bound: newest.is_some(),
            created,
            expires: lasts.filter(|lasts| *lasts > 0).map(|lasts| created + lasts),
        }
    }
}

/// The primary key, then its subkeys in their order.
fn parts(key: &SignedPublicKey) -> Vec<Part> {
    let primary = &key.primary_key;
    let created = |key: &dyn KeyDetails| i64::from(key.created_at().as_secs());
    let mut statements: Vec<&Signature> = key
        .details
        .direct_signatures
        .iter()
        .filter(|sig| is(sig, SignatureType::Key) && sig.verify_key(primary).is_ok())
        .collect();
    for user in &key.details.users {
        let valid: Vec<&Signature> = user
            .signatures
            .iter()
            .filter(|signature| signature.verify_certification(primary, Tag::UserId, &user.id).is_ok())
            .collect();
        let newest = valid.iter().max_by_key(|signature| signature.created().map(|made| made.as_secs()));
        // A name that was taken back vouches for nothing, and neither do its older statements.
        if newest.is_some_and(|newest| newest.is_certification()) {
            statements.extend(valid.into_iter().filter(|signature| signature.is_certification()));
        }
    }
    let revoked = key.details.revocation_signatures.iter().any(|signature| signature.verify_key(primary).is_ok());
    let first = Part::of(created(primary), &statements, revoked);
    std::iter::once(first).chain(key.public_subkeys.iter().map(|subkey| subpart(key, subkey))).collect()
}

fn subpart(key: &SignedPublicKey, subkey: &SignedPublicSubKey) -> Part {
    let primary = &key.primary_key;
    let valid: Vec<&Signature> =
        subkey.signatures.iter().filter(|sig| sig.verify_subkey_binding(primary, &subkey.key).is_ok()).collect();
    let revoked = valid.iter().any(|signature| is(signature, SignatureType::SubkeyRevocation));
    let bindings: Vec<&Signature> =
        valid.into_iter().filter(|signature| is(signature, SignatureType::SubkeyBinding)).collect();
    let mut part = Part::of(i64::from(subkey.key.created_at().as_secs()), &bindings, revoked);
    // A subkey that signs says itself that it belongs to the primary key; otherwise anybody could adopt it.
    let newest = bindings.iter().max_by_key(|binding| binding.created().map(|made| made.as_secs()));
    let back = newest.and_then(|binding| binding.embedded_signature());
    part.may_sign &= back.is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok());
    part
}

fn is(signature: &Signature, kind: SignatureType) -> bool {
    signature.typ() == Some(kind)
}

fn read_signature(text: &str) -> Result<Signature, String> {
    if text.len() > MAX_SIGNATURE {
        return Err("its OpenPGP signature is too long".to_owned());
    }
    let unreadable = |_| "its OpenPGP signature cannot be read".to_owned();
    let (mut found, _) = DetachedSignature::from_string_many(text).map_err(unreadable)?;
    let (first, second) = (found.next(), found.next());
    let signature = match (first, second) {
        (Some(first), None) => first.map_err(unreadable)?.signature,
        (None, _) => return Err("its OpenPGP signature is empty".to_owned()),
        (Some(_), Some(_)) => return Err("it has several OpenPGP signatures in one".to_owned()),
    };
    if !is(&signature, SignatureType::Binary) {
        return Err("its OpenPGP signature is not one over data".to_owned());
    }
    let weak = [HashAlgorithm::Md5, HashAlgorithm::Sha1, HashAlgorithm::Ripemd160];
    if signature.hash_alg().is_none_or(|used| weak.contains(&used)) {
        return Err("its OpenPGP signature uses a weak hash".to_owned());
    }
    let config = signature.config().ok_or_else(|| "its OpenPGP signature has an unknown version".to_owned())?;
    let unknown = |data: &SubpacketData| {
        matches!(data, SubpacketData::Notation(_) | SubpacketData::Other(..) | SubpacketData::Experimental(..))
    };
    if config.hashed_subpackets().any(|part| part.is_critical && unknown(&part.data)) {
        return Err("its OpenPGP signature has a critical part that is not known here".to_owned());
    }
    Ok(signature)
}

/// Whether the signature says that the key made it. One that names nobody could be anybody's.
fn names(signature: &Signature, key: &impl KeyDetails) -> bool {
    let (print, id) = (key.fingerprint(), key.legacy_key_id());
    signature.issuer_fingerprint().contains(&&print) || signature.issuer_key_id().contains(&&id)
}

fn who(key: &SignedPublicKey) -> String {
    let user = key.details.users.first().map(|user| String::from_utf8_lossy(user.id.id()).into_owned());
    let print = key.primary_key.fingerprint();
    let clean = |text: String| text.chars().filter(|c| !c.is_control()).take(100).collect::<String>();
    user.map_or_else(|| print.to_string(), |user| format!("{} ({print})", clean(user)))
}

/// The library reads many formats; should it panic on one, the signature is nobody's.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("its OpenPGP data cannot be read".to_owned()))
}
