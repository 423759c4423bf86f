//! Verdicts about signatures, against those of the git program with the same keys, and against bytes nobody signed.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that does not work")]

mod git;
mod properties;
mod range;
mod signing;
