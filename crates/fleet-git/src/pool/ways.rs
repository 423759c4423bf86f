//! Which URLs are asked in the long way: those of hosts that fail at the quick question, as a proxy may that only knows
//! Git's usual requests.
//!
//! A failure alone says little, since a host that has trouble fails at both. So the next attempt goes the long way, and
//! when that has worked after a failure twice in a row, the quick question is not asked any more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::GitError;

/// So many URLs are remembered.
const MAX_URLS: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The quick question failed just now. `again`: it did before, too, and the long way worked.
    LongOnce { again: bool },
    /// The long way worked after a failure; the quick question has another chance.
    QuickAgain,
    /// The quick question is not asked.
    Long,
}

/// What is remembered of URLs whose hosts failed at the quick question.
#[derive(Debug, Default)]
pub(super) struct Ways(Mutex<HashMap<String, Way>>);

impl Ways {
    /// Whether the next attempt goes the long way.
    pub(super) fn is_long(&self, url: &str) -> bool {
        match self.lock().get(url) {
            Some(Way::LongOnce { .. } | Way::Long) => true,
            Some(Way::QuickAgain) | None => false,
        }
    }

    /// Remembers how an attempt ended.
    pub(super) fn note(&self, url: &str, long_way: bool, failed: Option<&GitError>) {
        let mut known = self.lock();
        let before = known.get(url).copied();
        let after = match (long_way, failed) {
            (false, Some(error)) if error.only_quick => Some(Way::LongOnce { again: before == Some(Way::QuickAgain) }),
            // Others may be on both ways at the same time; who went the quick one knows nothing of the long one.
            (false, Some(_)) => before,
            (false, None) => before.filter(|way| *way == Way::Long),
            (true, None) => match before {
                Some(Way::LongOnce { again: false }) => Some(Way::QuickAgain),
                Some(Way::LongOnce { again: true }) => Some(Way::Long),
                Some(Way::QuickAgain | Way::Long) | None => before,
            },
            // The host has trouble either way.
            (true, Some(_)) => before.filter(|way| *way == Way::Long),
        };
        match after {
            Some(way) => {
                if known.len() >= MAX_URLS && before.is_none() {
                    known.clear();
                }
                known.insert(url.to_owned(), way);
            }
            None => {
                known.remove(url);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Way>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::GitErrorKind;

    const URL: &str = "https://h/a";

    fn failure(only_quick: bool) -> GitError {
        GitError { only_quick, ..GitError::new(GitErrorKind::HostUnreachable, "503") }
    }

    #[test]
    fn a_host_that_never_knows_the_quick_question_is_not_asked_it_for_ever() {
        let (ways, quick) = (Ways::default(), failure(true));
        for _ in 0..2 {
            assert!(!ways.is_long(URL));
            ways.note(URL, false, Some(&quick));
            assert!(ways.is_long(URL) && !ways.is_long("https://h/b"));
            ways.note(URL, true, None);
        }
        assert!(ways.is_long(URL));
        ways.note(URL, true, Some(&failure(false)));
        assert!(ways.is_long(URL), "a failure of the long way does not make the quick one better");
    }

    #[test]
    fn a_host_that_had_trouble_is_asked_the_quick_question_again() {
        let (ways, quick, other) = (Ways::default(), failure(true), failure(false));
        for _ in 0..5 {
            ways.note(URL, false, Some(&quick));
            ways.note(URL, true, Some(&other));
            assert!(!ways.is_long(URL));
        }
        for _ in 0..5 {
            ways.note(URL, false, Some(&quick));
            ways.note(URL, true, None);
            assert!(!ways.is_long(URL));
            ways.note(URL, false, None);
        }
    }

    #[test]
    fn memory_of_urls_is_bounded() {
        let (ways, quick) = (Ways::default(), failure(true));
        for n in 0..(MAX_URLS + 10) {
            ways.note(&format!("https://h/{n}"), false, Some(&quick));
        }
        assert!(ways.lock().len() <= MAX_URLS);
    }
}
