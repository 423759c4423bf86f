//! Verdicts about signatures, against those of the git program with the same keys, and against bytes nobody signed.
#![forbid(unsafe_code)]

mod git;
mod properties;
mod signing;
