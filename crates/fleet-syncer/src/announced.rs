//! Whether webhooks announce what polls find. A push that no webhook announced, at a source that webhooks announce pushes
//! of, is a sign that a hook broke; the poll has found it all the same.

use fleet_model::OrgId;
use fleet_store::{PgConnection, StoreResult, last_hint};
use jiff::{SignedDuration, Timestamp};

/// How long after a poll found something its announcement may still come.
const GRACE: SignedDuration = SignedDuration::from_secs(5);
/// How far the clocks of the service and of the database may be apart.
const SKEW: SignedDuration = SignedDuration::from_secs(2);

/// What is known of one source.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    last_look: Option<Timestamp>,
    /// News that nobody has judged yet.
    open: Option<News>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct News {
    /// When the news was not there yet.
    since: Timestamp,
    found: Timestamp,
}

impl News {
    /// Whether nothing announced it. `None` as long as something still may.
    fn was_missed(self, last_hint: Option<Timestamp>, now: Timestamp) -> Option<bool> {
        match last_hint {
            // No webhook ever spoke of this source.
            None => Some(false),
            Some(at) if at >= self.since - SKEW => Some(false),
            Some(_) => (now >= self.found + GRACE).then_some(true),
        }
    }
}

impl Announcements {
    /// Notes a look at the host that began at `began`, and whether it found something new there.
    pub(crate) fn looked(&mut self, began: Timestamp, now: Timestamp, found_news: bool) {
        // What was new at the first look says nothing: it may be as old as the source.
        if let (true, Some(since), None) = (found_news, self.last_look, self.open) {
            self.open = Some(News { since, found: now });
        }
        self.last_look = Some(began);
    }

    /// Notes that a look failed: how long the next news will have been there is not known.
    pub(crate) fn failed(&mut self) {
        self.last_look = None;
    }

    /// Whether there is something to judge.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Judges what was found last. Returns whether webhooks missed it.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn judge(
        &mut self,
        connection: &mut PgConnection,
        org: OrgId,
        source: &str,
        now: Timestamp,
    ) -> StoreResult<bool> {
        let Some(news) = self.open else { return Ok(false) };
        let hint = last_hint(connection, org, source).await?.map(fleet_store::Ts::to_jiff);
        let verdict = news.was_missed(hint, now);
        if verdict.is_some() {
            self.open = None;
        }
        Ok(verdict == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn news_without_a_hint_is_missed_once_it_had_time_to_come() {
        let news = News { since: at(100), found: at(115) };
        for (hint, now, verdict) in [
            (None, 115, Some(false)),
            (Some(50), 116, None),
            (Some(50), 120, Some(true)),
            (Some(97), 120, Some(true)),
            (Some(98), 116, Some(false)),
            (Some(110), 116, Some(false)),
            (Some(118), 130, Some(false)),
        ] {
            assert_eq!(news.was_missed(hint.map(at), at(now)), verdict, "{hint:?} {now}");
        }
    }

    #[test]
    fn only_news_between_two_good_looks_is_judged() {
        let mut announcements = Announcements::default();
        announcements.looked(at(0), at(1), true);
        assert!(!announcements.is_open(), "the first look");
        announcements.failed();
        announcements.looked(at(10), at(11), true);
        assert!(!announcements.is_open(), "the first look after a failure");
        announcements.looked(at(20), at(21), false);
        assert!(!announcements.is_open());
        announcements.looked(at(30), at(31), true);
        assert_eq!(announcements.open, Some(News { since: at(20), found: at(31) }));
        announcements.looked(at(32), at(33), true);
        assert_eq!(announcements.open, Some(News { since: at(20), found: at(31) }), "the older one first");
    }
}
