//! The little DER that the certificate extensions of the agent protocol need: one string per extension.

/// Name of the signer that issued a certificate.
pub(crate) const SIGNER_NAME: Extension = Extension { arcs: &[1, 3, 6, 1, 4, 1, 99999, 1, 1], last: 1 };
/// Organisation of the holder, as UUID text.
pub(crate) const ORGANIZATION: Extension = Extension { arcs: &[1, 3, 6, 1, 4, 1, 99999, 1, 2], last: 2 };
/// Full common name of a management certificate.
pub(crate) const DEVICE: Extension = Extension { arcs: &[1, 3, 6, 1, 4, 1, 99999, 1, 3], last: 3 };

/// Encoded 1.3.6.1.4.1.99999.1, the common start of the extensions' identifiers.
const ARC: [u8; 9] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x86, 0x8d, 0x1f, 0x01];

const PRINTABLE_STRING: u8 = 0x13;
const UTF8_STRING: u8 = 0x0c;
/// Longest text whose DER length is one byte; every text of the protocol is far shorter.
const MAX_TEXT: usize = 127;

/// Identifier of a certificate extension.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extension {
    /// The object identifier as numbers.
    pub(crate) arcs: &'static [u64],
    last: u8,
}

impl Extension {
    /// Whether `encoded`, the content bytes of an object identifier, is this one.
    pub(crate) fn is(self, encoded: &[u8]) -> bool {
        encoded.split_last().is_some_and(|(last, arc)| *last == self.last && arc == ARC)
    }

    /// The extension with `text` as its value, not critical. `None` if the text is longer than 127 bytes.
    pub(crate) fn with_text(self, text: &str) -> Option<rcgen::CustomExtension> {
        Some(rcgen::CustomExtension::from_oid_content(self.arcs, encode_text(text)?))
    }
}

/// `text` as a DER PrintableString, or UTF8String where it holds other characters; `None` above 127 bytes.
pub(crate) fn encode_text(text: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(text.len()).ok().filter(|length| usize::from(*length) <= MAX_TEXT)?;
    let tag = if text.bytes().all(is_printable) { PRINTABLE_STRING } else { UTF8_STRING };
    let mut der = vec![tag, length];
    der.extend_from_slice(text.as_bytes());
    Some(der)
}

/// The text of exactly one DER PrintableString or UTF8String of at most 127 bytes.
pub(crate) fn decode_text(der: &[u8]) -> Option<&str> {
    let [tag, length, text @ ..] = der else { return None };
    if usize::from(*length) != text.len() || text.len() > MAX_TEXT {
        return None;
    }
    match *tag {
        PRINTABLE_STRING if text.iter().copied().all(is_printable) => std::str::from_utf8(text).ok(),
        UTF8_STRING => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

fn is_printable(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_encoded_as_the_agent_protocol_shows_them() {
        let der = encode_text("flightctl.io/device-enrollment").unwrap();
        assert_eq!(&der[..2], [0x13, 0x1e]);
        assert_eq!(encode_text("a_b").unwrap()[0], UTF8_STRING);
        assert_eq!(encode_text(&"a".repeat(128)), None);
    }

    proptest::proptest! {
        #[test]
        fn texts_survive_their_encoding(text in "\\PC{0,31}") {
            let der = encode_text(&text).unwrap();
            proptest::prop_assert_eq!(decode_text(&der), Some(text.as_str()));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = decode_text(&bytes);
        }
    }
}
