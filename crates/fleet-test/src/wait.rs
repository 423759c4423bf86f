//! Waiting for a fact instead of for a time.

use std::future::Future;
use std::time::{Duration, Instant};

/// Asks `probe` again and again until it gives a value, and returns that value. The pause between two questions grows from
/// 5 ms to 100 ms; a probe that hangs is cut off at the deadline.
///
/// # Panics
/// When `deadline` has passed; the message says `what` was waited for and how long.
pub async fn wait_for<T, P, F>(what: &str, deadline: Duration, mut probe: P) -> T
where
    P: FnMut() -> F,
    F: Future<Output = Option<T>>,
{
    let started = Instant::now();
    let mut asked = 0_u32;
    let answer = tokio::time::timeout(deadline, async {
        let mut pause = Duration::from_millis(5);
        loop {
            asked += 1;
            if let Some(value) = probe().await {
                return value;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    })
    .await;
    match answer {
        Ok(value) => value,
        Err(_) => {
            panic!("waited {:.1} s for {what}; it did not happen ({asked} looks)", started.elapsed().as_secs_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_value_is_returned_as_soon_as_it_is_there() {
        let mut looks = 0;
        let value = wait_for("the third look", Duration::from_secs(5), || {
            looks += 1;
            let seen = looks;
            async move { (seen == 3).then_some(seen) }
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "for the moon; it did not happen")]
    async fn a_probe_that_hangs_is_cut_off() {
        wait_for::<(), _, _>("the moon", Duration::from_millis(30), std::future::pending).await;
    }
}
