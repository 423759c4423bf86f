//! Wake-ups between processes. A lost one costs time, never correctness: everybody looks again on a period.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use crate::StoreResult;

/// What a wake-up is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Rows of `devices` changed in a way that agents must see.
    Devices,
    /// Devices are dirty, or enrolment requests wait for a decision or a certificate.
    Enrollment,
    /// Sources should be polled now; the payload names one, or is empty for all.
    Sources,
}

impl Channel {
    /// All channels.
    pub const ALL: [Self; 3] = [Self::Devices, Self::Enrollment, Self::Sources];

    /// The channel's name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Devices => "shorebase_devices",
            Self::Enrollment => "shorebase_enrollment",
            Self::Sources => "shorebase_sources",
        }
    }

    /// Sends a wake-up when the transaction commits.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn notify(self, connection: &mut PgConnection, payload: &str) -> StoreResult<()> {
        sqlx::query("select pg_notify($1, $2)").bind(self.as_str()).bind(payload).execute(connection).await?;
        Ok(())
    }
}

/// Hears wake-ups on a connection of its own.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Listener {
    pub(crate) async fn connect(options: PgConnectOptions) -> StoreResult<Self> {
        // A pool of one, used by this listener alone: closing the big pool never waits for it.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options)
            .await?;
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen_all(Channel::ALL.map(Channel::as_str)).await?;
        Ok(Self(listener))
    }

    /// The next wake-up: its channel and payload. `None` after the connection was lost and made again: wake-ups may
    /// have been missed, so look at everything.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn next(&mut self) -> StoreResult<Option<(Channel, String)>> {
        loop {
            let Some(notification) = self.0.try_recv().await? else { return Ok(None) };
            if let Some(channel) = Channel::ALL.into_iter().find(|c| c.as_str() == notification.channel()) {
                return Ok(Some((channel, notification.payload().to_owned())));
            }
        }
    }
}
