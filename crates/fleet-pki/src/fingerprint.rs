//! A device's name: the fingerprint of its public key.
//!
//! SHA-256 over the big-endian coordinates X then Y of a P-256 key (of the modulus of an RSA key), **without leading
//! zero bytes**, in lower-case base32hex without padding. One key in 128 has such a byte, so hashing 32-byte
//! coordinates names most devices right and strands the others.

use fleet_model::{DeviceName, Digest};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// Why a public key names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FingerprintError {
    /// Not the DER of one SubjectPublicKeyInfo.
    #[error("the public key cannot be read: it is not one DER SubjectPublicKeyInfo")]
    Malformed,
    /// Neither P-256 nor RSA.
    #[error("the public key is of kind {algorithm}: use an ECDSA P-256 key, or RSA of at least 2048 bits")]
    Unsupported {
        /// Object identifier of the key's algorithm (and curve).
        algorithm: String,
    },
    /// A P-256 key that is not written as an uncompressed point.
    #[error("the P-256 public key is not an uncompressed point of 65 bytes")]
    Point,
    /// An RSA modulus outside the accepted sizes.
    #[error("the RSA public key has {bits} bits: use 2048 to 8192, or better an ECDSA P-256 key")]
    RsaSize {
        /// Bits of the modulus.
        bits: usize,
    },
}

/// The device name of a P-256 key given as an uncompressed point: `04`, X, Y; 65 bytes.
///
/// # Errors
/// [`FingerprintError::Point`] for any other form. That the point lies on the curve is not checked.
pub fn device_name_from_point(point: &[u8]) -> Result<DeviceName, FingerprintError> {
    match point {
        [0x04, coordinates @ ..] if coordinates.len() == 64 => {
            let (x, y) = coordinates.split_at(32);
            Ok(name_of(&[minimal(x), minimal(y)].concat()))
        }
        _ => Err(FingerprintError::Point),
    }
}

/// The device name of a public key given as DER SubjectPublicKeyInfo.
///
/// # Errors
/// [`FingerprintError`] if the DER cannot be read or the key is neither P-256 nor RSA of 2048 to 8192 bits.
pub fn device_name_from_spki(der: &[u8]) -> Result<DeviceName, FingerprintError> {
    match SubjectPublicKeyInfo::from_der(der) {
        Ok(([], spki)) => device_name(&spki),
        _ => Err(FingerprintError::Malformed),
    }
}

pub(crate) fn device_name(spki: &SubjectPublicKeyInfo<'_>) -> Result<DeviceName, FingerprintError> {
    let algorithm = &spki.algorithm;
    if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 => device_name_from_point(&spki.subject_public_key.data),
            Some(curve) => Err(FingerprintError::Unsupported { algorithm: format!("EC on curve {curve}") }),
            None => Err(FingerprintError::Malformed),
        };
    }
    if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        let Ok(PublicKey::RSA(key)) = spki.parsed() else { return Err(FingerprintError::Malformed) };
        let modulus = minimal(key.modulus);
        let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        return if (2048..=8192).contains(&bits) {
            Ok(name_of(modulus))
        } else {
            Err(FingerprintError::RsaSize { bits })
        };
    }
    Err(FingerprintError::Unsupported { algorithm: algorithm.algorithm.to_id_string() })
}

/// The number without its leading zero bytes.
fn minimal(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn name_of(key_bytes: &[u8]) -> DeviceName {
    let mut text = data_encoding::BASE32HEX_NOPAD.encode(Digest::of(key_bytes).as_bytes());
    text.make_ascii_lowercase();
    text.parse().expect("32 bytes are 52 characters of the device name's alphabet")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Private scalar, X and Y of the public point, device name.
    const GOLDEN: [(u32, &str, &str, &str); 5] = [
        (
            1,
            "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
            "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
            "r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrnfbitl1mfg",
        ),
        (
            2,
            "7cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978",
            "07775510db8ed040293d9ac69f7430dbba7dade63ce982299e04b79d227873d1",
            "q1tem4q882ol4gn15l50djhqmi9snk10tf1rqmlepm12ukf0ofc0",
        ),
        (
            3,
            "5ecbe4d1a6330a44c8f7ef951d4bf165e6c6b721efada985fb41661bc6e7fd6c",
            "8734640c4998ff7e374b06ce1a64a2ecd82ab036384fb83d9a79b127a27d5032",
            "95ri4uslb869164frg0raohhe2losc9vs1i1c8i0qr7knmm7spf0",
        ),
        // Y has 31 bytes.
        (
            43,
            "986ae2506f1ff104d04230861d8f4b498f4bc4c6d009b30f7544dc129b82d28d",
            "003cccc0a6460e0ae328a4d97d3c7b61d86fc6289c189f2525110c441bb07e97",
            "sl6cls5g2vp5gf6fch16i81ncjcqh0sqiham1lbjjih6gtbadqtg",
        ),
        // X has 31 bytes.
        (
            379,
            "005543894af3d00ed7d740abdbd75c96b06877b787db5f70eea78b90a8d7c00a",
            "bb4c85a3d8ea29efaafa24406912dd84d5b14dc32bf656ef6c6bd58a5d943f92",
            "nhaumep7ufddl17ula72jl94i7ef7kq6054i3hoiii0gsggfvb6g",
        ),
    ];

    fn point(x: &str, y: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(format!("04{x}{y}").as_bytes()).unwrap()
    }

    #[test]
    fn golden_keys_have_their_names() {
        for (scalar, x, y, name) in GOLDEN {
            assert_eq!(device_name_from_point(&point(x, y)).unwrap().as_str(), name, "d={scalar}");
        }
    }

    #[test]
    fn a_public_key_in_der_has_the_name_of_its_point() {
        let mut der = data_encoding::HEXLOWER.decode(b"3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
        let (_, x, y, name) = GOLDEN[3];
        der.extend(point(x, y));
        assert_eq!(device_name_from_spki(&der).unwrap().as_str(), name);
        der.push(0);
        assert_eq!(device_name_from_spki(&der), Err(FingerprintError::Malformed));
    }

    #[test]
    fn rsa_keys_are_named_by_their_modulus_and_short_ones_refused() {
        use rcgen::PublicKeyData as _;
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        assert_eq!(device_name_from_spki(&key.subject_public_key_info()).unwrap().as_str().len(), 52);
        let short = data_encoding::BASE64
            .decode(b"MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAK0mvVr8CD83QVEhDVGyBCVdbSZsTimVtuj82xdJB/0KVqg47vQPHlJppfQKdDY3WKO+W8epmVEUR+UrkSUnKMsCAwEAAQ==")
            .unwrap();
        assert_eq!(device_name_from_spki(&short), Err(FingerprintError::RsaSize { bits: 512 }));
    }

    #[test]
    fn other_keys_are_named_in_the_refusal() {
        use rcgen::PublicKeyData as _;
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let error = device_name_from_spki(&key.subject_public_key_info()).unwrap_err();
        assert!(error.to_string().contains("1.3.132.0.34"), "{error}");
        assert_eq!(device_name_from_point(&[2; 33]), Err(FingerprintError::Point));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_fingerprint_panic(bytes: Vec<u8>) {
            let _ = device_name_from_spki(&bytes);
            let _ = device_name_from_point(&bytes);
        }
    }
}
