//! Schedules against what they mean, and against the library that runs them.

use proptest::prelude::*;

use super::*;

fn shortest(text: &str, zone: &str) -> Option<u64> {
    parse(text).unwrap().shortest_interval(&time_zone(zone).unwrap())
}

#[test]
fn schedules_have_five_fields() {
    for good in [
        "* * * * *",
        "0 2 * * *",
        "*/15 0-6 1,15 * ?",
        "0 2 * JAN-mar mon,Fri",
        "5/20 1-23/2 * 1-12/3 0-7",
        "  0   2\t* * 7 ",
        "0 0 29 2 *",
        "0 0 30 2 1",
    ] {
        assert!(parse(good).is_ok_and(|schedule| !schedule.never_comes()), "{good}");
    }
    for (bad, span, words) in [
        ("", 0..0, "this one has 0"),
        ("0 2 * *", 0..7, "this one has 4"),
        ("0 0 2 * * *", 0..11, "this one has 6"),
        ("@daily", 0..6, "short form"),
        ("60 2 * * *", 0..2, "`60` is not a number from 0 to 59"),
        ("0 24 * * *", 2..4, "hour"),
        ("0 2 0 * *", 4..5, "day of the month"),
        ("0 2 * 13 *", 6..8, "JAN to DEC"),
        ("0 2 * * 8", 8..9, "SUN to SAT"),
        ("0 2 * * mon,funday", 12..18, "funday"),
        ("0 5-2 * * *", 2..5, "ends before it begins"),
        ("*/0 2 * * *", 0..3, "step"),
        ("*/61 2 * * *", 0..4, "step"),
        ("0, 2 * * *", 2..2, "missing"),
        ("0 L * * *", 2..3, "`L`"),
        ("0 +2 * * *", 2..4, "`+2`"),
        ("0 2 * * 5#2", 8..11, "5#2"),
        ("ä 2 * * *", 0..2, "ä"),
    ] {
        let problem = parse(bad).unwrap_err();
        assert_eq!(problem.span, span, "{bad}: {}", problem.message);
        assert!(problem.message.contains(words), "{bad}: {}", problem.message);
    }
}

#[test]
fn days_that_no_month_has_never_come() {
    for never in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 30-31 2 ?"] {
        let schedule = parse(never).unwrap();
        assert!(schedule.never_comes(), "{never}");
        assert_eq!(schedule.shortest_interval(&TimeZone::UTC), None);
    }
}

#[test]
fn intervals_are_counted_from_a_fixed_day() {
    assert_eq!(shortest("0 2 * * *", "Local"), Some(86_400));
    assert_eq!(shortest("*/20 * * * *", "UTC"), Some(1_200));
    assert_eq!(shortest("0 2,5 * * *", "Europe/Berlin"), Some(3 * 3_600));
    assert_eq!(shortest("0 0 * * 1", "UTC"), Some(7 * 86_400));
    assert_eq!(shortest("0 0 1,15 * *", "UTC"), Some(14 * 86_400));
    assert_eq!(shortest("0 0 29 2 *", "UTC"), Some(1_461 * 86_400));
}

#[test]
fn time_zones_are_those_of_the_database() {
    for good in ["Local", "UTC", "GMT", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/UTC"] {
        assert!(time_zone(good).is_ok(), "{good}");
    }
    for (bad, hint) in [
        ("local", "write `Local`"),
        ("CET", "IANA name"),
        ("EST", "IANA name"),
        ("Europe/Berlinn", "did you mean `Europe/Berlin`?"),
        ("europe/berlin", "write `Europe/Berlin`"),
        ("Berlin", "did you mean `Europe/Berlin`?"),
        ("Europe/Berlin-and-more", "IANA name"),
        ("", "IANA name"),
        ("+02:00", "IANA name"),
    ] {
        let (message, got) = time_zone(bad).unwrap_err();
        assert!(got.as_deref().is_some_and(|got| got.contains(hint)), "{bad}: {message} {got:?}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in r"[0-9*/,\-? a-zA-Z@äß\t]{0,30}") {
        match parse(&text) {
            Ok(schedule) => { schedule.never_comes(); }
            Err(problem) => prop_assert!(text.get(problem.span).is_some()),
        }
        let _ = time_zone(&text);
    }

    /// Where the library takes the text as it is, it means what the lists of values mean.
    #[test]
    fn what_the_library_runs_is_what_was_read(
        minute in field(0, 59), hour in field(0, 23), day in field(1, 31), month in field(1, 12), weekday in field(0, 7),
    ) {
        let text = [minute, hour, day, month, weekday].join(" ");
        let schedule = parse(&text).unwrap();
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let start = REFERENCE.parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC);
        let Ok(cron) = parser.parse(&text) else { return Ok(()) };
        let next = cron.find_next_occurrence(&start, false);
        if schedule.never_comes() {
            prop_assert!(next.is_err(), "{}", text);
        } else {
            let listed = parser.parse(&schedule.fields.map(Field::listed).join(" ")).unwrap();
            prop_assert_eq!(listed.find_next_occurrence(&start, false).unwrap(), next.unwrap(), "{}", text);
        }
    }
}

fn field(least: u8, most: u8) -> impl Strategy<Value = String> {
    let value = least..=most;
    prop_oneof![
        Just("*".to_owned()),
        value.clone().prop_map(|value| value.to_string()),
        proptest::collection::vec(value.clone(), 1..4).prop_map(|values| values
            .iter()
            .map(u8::to_string)
            .collect::<Vec<_>>()
            .join(",")),
        (value.clone(), value).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        (1..=most).prop_map(|step| format!("*/{step}")),
    ]
}
