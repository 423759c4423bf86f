//! Reads the body of an answer, bounded in size and time, and undoes its compression.

use std::io::{self, Write as _};

use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use reqwest::{Response, Version};
use zeroize::Zeroizing;

use super::{FetchLimits, words};
use crate::error::{FetchError, FetchErrorKind};
use crate::place::HttpPlace;

/// Where the bytes go.
enum Sink {
    Plain(Bounded),
    Gzip(Box<flate2::write::MultiGzDecoder<Bounded>>),
}

/// Takes so many bytes and refuses the next.
struct Bounded {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) async fn read(
    place: &HttpPlace,
    mut response: Response,
    limits: FetchLimits,
) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    let too_large = || {
        let message = format!("cannot fetch {}: it is larger than {} bytes", place.display_url(), limits.max_bytes);
        FetchError::new(FetchErrorKind::TooLarge, message)
    };
    if response.content_length().is_some_and(|length| usize::try_from(length).is_ok_and(|n| n > limits.max_bytes)) {
        return Err(too_large());
    }
    if ends_with_the_connection(&response) {
        return Err(place.unfit("the server does not say where the answer ends, so a cut one would look whole"));
    }
    let mut sink = Sink::of(place, &response, limits.max_bytes)?;
    let mut received = 0_usize;
    loop {
        let chunk = match tokio::time::timeout(limits.no_progress, response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(words::of_transport(place, error)),
            Err(_) => return Err(words::late(place, "nothing more came", limits.no_progress)),
        };
        received = received.saturating_add(chunk.len());
        if received > limits.max_bytes {
            return Err(too_large());
        }
        sink.take(&chunk).map_err(|error| if is_full(&error) { too_large() } else { broken(place) })?;
    }
    sink.finish().map_err(|error| if is_full(&error) { too_large() } else { broken(place) })
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::FileTooLarge
}

fn broken(place: &HttpPlace) -> FetchError {
    place.unfit("its compressed form is damaged or cut")
}

/// Without TLS nothing tells the end of such an answer from a connection that broke.
fn ends_with_the_connection(response: &Response) -> bool {
    let headers = response.headers();
    response.url().scheme() == "http"
        && response.version() <= Version::HTTP_11
        && response.status().is_success()
        && !headers.contains_key(CONTENT_LENGTH)
        && !headers.contains_key(TRANSFER_ENCODING)
}

impl Sink {
    fn of(place: &HttpPlace, response: &Response, limit: usize) -> Result<Self, FetchError> {
        let bounded = Bounded { bytes: Zeroizing::default(), limit };
        let mut encodings = response.headers().get_all(CONTENT_ENCODING).iter();
        match (
            encodings.next().map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase()).as_deref(),
            encodings.next(),
        ) {
            (None | Some("identity"), None) => Ok(Self::Plain(bounded)),
            (Some("gzip" | "x-gzip"), None) => Ok(Self::Gzip(Box::new(flate2::write::MultiGzDecoder::new(bounded)))),
            _ => Err(place.unfit("the server sends it in an encoding that nobody asked for (gzip is understood)")),
        }
    }

    fn take(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(bounded) => bounded.write_all(piece),
            Self::Gzip(decoder) => decoder.write_all(piece),
        }
    }

    fn finish(self) -> io::Result<Zeroizing<Vec<u8>>> {
        match self {
            Self::Plain(bounded) => Ok(bounded.bytes),
            Self::Gzip(decoder) => decoder.finish().map(|bounded| bounded.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gunzip(pieces: &[&[u8]], limit: usize) -> io::Result<Vec<u8>> {
        let bounded = Bounded { bytes: Zeroizing::default(), limit };
        let mut sink = Sink::Gzip(Box::new(flate2::write::MultiGzDecoder::new(bounded)));
        pieces.iter().try_for_each(|piece| sink.take(piece))?;
        sink.finish().map(|bytes| bytes.to_vec())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_small_form_of_much_is_too_much() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert!(bomb.len() < 4096);
        assert!(is_full(&gunzip(&[&bomb], (1 << 20) - 1).unwrap_err()));
        assert_eq!(gunzip(&[&bomb], 1 << 20).unwrap().len(), 1 << 20);
    }

    proptest! {
        #[test]
        fn a_cut_form_is_never_a_document(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>()) {
            let whole = gzip(&bytes);
            let cut = at.index(whole.len());
            prop_assert!(gunzip(&[&whole[..cut]], 1000).is_err(), "cut at {cut}");
            prop_assert_eq!(gunzip(&[&whole[..cut], &whole[cut..]], 1000).unwrap(), bytes);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = gunzip(&[&bytes], 1000);
        }
    }
}
