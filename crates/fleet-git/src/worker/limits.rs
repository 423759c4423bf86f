//! What a worker may take from the machine.

use rustix::process::{Resource, Rlimit, setrlimit};

const DEFAULT_MEMORY_BYTES: u64 = 2 << 30;
/// Packs are mapped read-only and may be larger than the memory limit; so is the address space that threads reserve.
const ADDRESS_SPACE_FACTOR: u64 = 8;
const SMALLEST_MEMORY_BYTES: u64 = 64 << 20;

/// Limits writable memory to `memory` bytes (decimal text) and the address space to eight times that, and forbids core
/// dumps, which would hold credentials. Children inherit the limits.
pub(super) fn apply(memory: Option<&str>) -> std::io::Result<()> {
    let memory = match memory {
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| {
                std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("{text:?} is not a number of bytes"))
            })?
            .max(SMALLEST_MEMORY_BYTES),
        None => DEFAULT_MEMORY_BYTES,
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Data, memory)?;
    limit(Resource::As, memory.saturating_mul(ADDRESS_SPACE_FACTOR))
}

fn limit(resource: Resource, bytes: u64) -> std::io::Result<()> {
    let present = rustix::process::getrlimit(resource);
    let bytes = present.maximum.map_or(bytes, |maximum| maximum.min(bytes));
    setrlimit(resource, Rlimit { current: Some(bytes), maximum: Some(bytes) }).map_err(Into::into)
}
