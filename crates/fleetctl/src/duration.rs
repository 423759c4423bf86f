//! Durations on the command line: a whole number and a unit.

use std::time::Duration;

/// Reads `90s`, `30m`, `12h` or `7d`; at least 1 s, at most 10 years.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is not a duration: write a whole number and s, m, h or d, such as 30m or 7d");
    let unit = text.chars().next_back().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let number = &text[..text.len() - unit.len_utf8()];
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let total = number.parse::<u64>().ok().and_then(|n| n.checked_mul(seconds)).ok_or_else(bad)?;
    if (1..=10 * 366 * 86_400).contains(&total) { Ok(Duration::from_secs(total)) } else { Err(bad()) }
}

/// How long ago, for people: one unit.
pub(crate) fn ago(seconds: i64) -> String {
    match seconds {
        i64::MIN..=-1 => "in the future".to_owned(),
        0..=119 => format!("{seconds}s ago"),
        120..=7199 => format!("{}m ago", seconds / 60),
        7200..=172_799 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// How much time is left, for people: one unit.
pub(crate) fn left(seconds: i64) -> String {
    match seconds {
        i64::MIN..=119 => format!("{}s left", seconds.max(0)),
        120..=7199 => format!("{}m left", seconds / 60),
        7200..=172_799 => format!("{}h left", seconds / 3600),
        _ => format!("{}d left", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,12}") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn whole_numbers_are_read(n in 1..1000_u64) {
            prop_assert_eq!(parse_duration(&format!("{n}m")), Ok(Duration::from_secs(n * 60)));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "s", "0s", "-1h", "1.5h", "12", "1w", "99999999999999999999d", "1é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
