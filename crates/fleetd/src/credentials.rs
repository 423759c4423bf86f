//! Takes up Git credentials that were replaced on disk, without a restart.

use std::time::Duration;

use fleet_runtime::{CancellationToken, ErrorChain};
use fleet_store::{Channel, Store, StoreResult};
use fleet_syncer::GitCredentials;
use tracing::{debug, info, warn};

use crate::config::CredentialFiles;

/// How often the files are read.
const PERIOD: Duration = Duration::from_secs(10);

/// Reads the files again and again. While something is wrong with any of them, all credentials of before stay in force. Others
/// are used at once: a source that was not let in may be in a long pause.
pub(crate) async fn keep_credentials(
    files: CredentialFiles,
    current: GitCredentials,
    store: Store,
    shutdown: CancellationToken,
) {
    let mut told = Vec::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let files = files.clone();
        let read = tokio::task::spawn_blocking(move || files.read(&|name| std::env::var(name).ok())).await;
        let problems = match read {
            Ok(Ok(credentials)) => {
                if current.replace(credentials) {
                    info!("Git credentials were replaced");
                    if let Err(error) = wake_sources(&store).await {
                        debug!(error = %ErrorChain(&error), "Cannot wake the sources; they look when they do");
                    }
                }
                Vec::new()
            }
            Ok(Err(problems)) => problems,
            Err(error) => vec![format!("the reader ended early: {error}")],
        };
        if problems != told {
            for problem in &problems {
                warn!(problem, "Cannot read Git credentials again; keeping those of before");
            }
            told = problems;
        }
    }
}

async fn wake_sources(store: &Store) -> StoreResult<()> {
    let mut transaction = store.begin().await?;
    Channel::Sources.notify(&mut transaction, "").await?;
    Ok(transaction.commit().await?)
}
