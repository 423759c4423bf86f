//! What every program needs to run well: a clock that tests can set, tasks that are joined, backoff, shutdown and logging.
//!
//! It knows nothing of fleets.
#![forbid(unsafe_code)]

mod backoff;
mod clock;
mod error_chain;
mod logging;
mod pace;
mod supervisor;

pub use backoff::{Backoff, BackoffError};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error_chain::ErrorChain;
pub use logging::{LogFormat, LoggingError, check_log_filter, init_logging};
pub use pace::Pace;
pub use supervisor::{Supervisor, TaskFailure, shutdown_signal};
pub use tokio_util::sync::CancellationToken;
