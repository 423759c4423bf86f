//! Frames on the pipe: one byte of kind, four bytes of length (big endian), the payload.
//!
//! The decoder takes bytes in any portions, never trusts a length further than its limit, and allocates only for bytes
//! that have arrived.

use bytes::{Buf as _, Bytes, BytesMut};

/// The longest JSON payload. 200,000 tree entries need about 30 MiB.
pub(crate) const MAX_JSON_BYTES: usize = 64 << 20;
/// The longest blob.
pub(crate) const MAX_BLOB_BYTES: usize = 256 << 20;
const HEADER_BYTES: usize = 5;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// A request or an answer.
    Json,
    /// The content of one blob.
    Blob,
    /// Nothing; the worker is alive and getting on.
    Progress,
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            Self::Json => b'J',
            Self::Blob => b'B',
            Self::Progress => b'P',
        }
    }

    fn limit(self) -> usize {
        match self {
            Self::Json => MAX_JSON_BYTES,
            Self::Blob => MAX_BLOB_BYTES,
            Self::Progress => 0,
        }
    }
}

/// A complete frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) payload: Bytes,
}

/// Why bytes are not frames.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("unknown frame kind {0:#04x}")]
    UnknownKind(u8),
    #[error("a {kind:?} frame of {length} bytes is longer than {limit} bytes")]
    TooLong { kind: FrameKind, length: usize, limit: usize },
}

/// The header of a frame with a payload of `length` bytes.
///
/// # Errors
/// [`FrameError::TooLong`] when the other side would refuse it.
pub(crate) fn header(kind: FrameKind, length: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
    let too_long = FrameError::TooLong { kind, length, limit: kind.limit() };
    if length > kind.limit() {
        return Err(too_long);
    }
    let [a, b, c, d] = u32::try_from(length).map_err(|_| too_long)?.to_be_bytes();
    Ok([kind.code(), a, b, c, d])
}

/// Turns bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Adds bytes that arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer to read into, for readers that append.
    pub(crate) fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether bytes of an incomplete frame are waiting.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next complete frame, if it has arrived.
    ///
    /// # Errors
    /// [`FrameError`] for bytes that no worker of ours sends; the stream is useless from there on.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(&[code, a, b, c, d]) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let kind = match code {
            b'J' => FrameKind::Json,
            b'B' => FrameKind::Blob,
            b'P' => FrameKind::Progress,
            unknown => return Err(FrameError::UnknownKind(unknown)),
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > kind.limit() {
            return Err(FrameError::TooLong { kind, length, limit: kind.limit() });
        }
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let payload = self.buffer.split_to(length).freeze();
        Ok(Some(Frame { kind, payload }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
        let mut bytes = header(kind, payload.len()).unwrap().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 1_usize..40) {
            let mut decoder = Decoder::default();
            for part in bytes.chunks(cut) {
                decoder.push(part);
                while let Ok(Some(frame)) = decoder.next_frame() {
                    prop_assert!(frame.payload.len() <= bytes.len());
                }
            }
        }

        #[test]
        fn frames_survive_any_cutting(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..8),
            cut in 1_usize..30,
        ) {
            let stream: Vec<u8> = payloads.iter().flat_map(|p| encoded(FrameKind::Blob, p)).collect();
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for part in stream.chunks(cut) {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame.payload.to_vec());
                }
            }
            prop_assert_eq!(seen, payloads);
            prop_assert!(decoder.is_empty());
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_it_is_believed() {
        let mut decoder = Decoder::default();
        decoder.push(&[b'J', 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong { .. })));
        assert!(header(FrameKind::Progress, 1).is_err());
    }
}
