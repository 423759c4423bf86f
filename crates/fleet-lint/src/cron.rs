//! Schedules: five cron fields, whether they ever come, how far apart, and the names of time zones.
//!
//! Nothing here reads the clock: distances are measured from [`REFERENCE`], so that a file has the same findings on
//! every day.

use std::ops::Range;
use std::sync::OnceLock;

use croner::parser::{CronParser, Seconds, Year};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

/// From where the next occurrences are counted: a Wednesday, the first minute of 2025 in UTC.
pub(crate) const REFERENCE: &str = "2025-01-01T00:00:00Z";
/// How many intervals are looked at.
const INTERVALS: usize = 5;
/// The longest part of a time zone's name, in characters.
const MAX_ZONE_PART: usize = 14;

/// A schedule that was read.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    fields: [Field; 5],
}

/// What is wrong with an expression, and which bytes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CronProblem {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
}

/// The values of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    /// Bit n: the value n.
    values: u64,
    /// `*` or `?`: not restricted.
    is_any: bool,
}

struct Rule {
    name: &'static str,
    least: u8,
    most: u8,
    words: &'static [&'static str],
}

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const RULES: [Rule; 5] = [
    Rule { name: "minute", least: 0, most: 59, words: &[] },
    Rule { name: "hour", least: 0, most: 23, words: &[] },
    Rule { name: "day of the month", least: 1, most: 31, words: &[] },
    Rule { name: "month", least: 1, most: 12, words: MONTHS },
    // 0 and 7 are Sunday.
    Rule { name: "day of the week", least: 0, most: 7, words: WEEKDAYS },
];
/// The most days that each month can have.
const DAYS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Reads `minute hour day-of-month month day-of-week`: each `*`, `?`, or a list of numbers, names and ranges with steps.
pub(crate) fn parse(text: &str) -> Result<Schedule, CronProblem> {
    let start = |part: &str| part.as_ptr().addr() - text.as_ptr().addr();
    let parts: Vec<&str> = text.split_whitespace().collect();
    if let Some(nickname) = parts.first().filter(|part| part.starts_with('@')) {
        let span = start(nickname)..start(nickname) + nickname.len();
        let message = format!("`{}` is a short form; write five fields", clip(nickname));
        return Err(CronProblem { span, message });
    }
    if parts.len() != 5 {
        let message = format!(
            "a schedule has five fields (minute, hour, day of the month, month, day of the week); this one has {}",
            parts.len()
        );
        return Err(CronProblem { span: 0..text.len(), message });
    }
    let mut fields = [Field { values: 0, is_any: false }; 5];
    for ((field, part), rule) in fields.iter_mut().zip(&parts).zip(&RULES) {
        *field = rule.field(part).map_err(|(span, reason)| CronProblem {
            span: start(part) + span.start..start(part) + span.end,
            message: format!("the field for the {} is not valid: {reason}", rule.name),
        })?;
    }
    Ok(Schedule { fields })
}

fn clip(text: &str) -> String {
    text.chars().take(40).collect()
}

impl Rule {
    fn field(&self, text: &str) -> Result<Field, (Range<usize>, String)> {
        if matches!(text, "*" | "?") {
            return Ok(Field { values: self.range(self.least, self.most, 1), is_any: true });
        }
        let mut values = 0;
        let mut at = 0;
        for item in text.split(',') {
            values |= self.item(item).map_err(|reason| (at..at + item.len(), reason))?;
            at += item.len() + 1;
        }
        Ok(Field { values, is_any: false })
    }

    fn item(&self, item: &str) -> Result<u64, String> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(self.step(step)?)),
            None => (item, None),
        };
        let (first, last) = match (range, range.split_once('-')) {
            ("*" | "?", _) => (self.least, self.most),
            (_, Some((first, last))) => (self.value(first)?, self.value(last)?),
            (_, None) => {
                let value = self.value(range)?;
                (value, if step.is_some() { self.most } else { value })
            }
        };
        if first > last {
            return Err(format!("the range `{}` ends before it begins", clip(range)));
        }
        Ok(self.range(first, last, step.unwrap_or(1)))
    }

    fn step(&self, text: &str) -> Result<u8, String> {
        let span = self.most - self.least + 1;
        let step = number(text).filter(|step| (1..=span).contains(step));
        step.ok_or_else(|| format!("the step `{}` is not a number from 1 to {span}", clip(text)))
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        if text.is_empty() {
            return Err("a number is missing".to_owned());
        }
        let word = self.words.iter().position(|word| word.eq_ignore_ascii_case(text));
        let value = match word.and_then(|at| u8::try_from(at).ok()) {
            Some(at) => Some(at + self.least),
            None => number(text),
        };
        value.filter(|value| (self.least..=self.most).contains(value)).ok_or_else(|| {
            let words = match (self.words.first(), self.words.last()) {
                (Some(first), Some(last)) => format!(" or a name from {first} to {last}"),
                _ => String::new(),
            };
            format!("`{}` is not a number from {} to {}{words}", clip(text), self.least, self.most)
        })
    }

    fn range(&self, first: u8, last: u8, step: u8) -> u64 {
        let sunday = |value: u8| if self.most == 7 { value % 7 } else { value };
        (first..=last).step_by(usize::from(step)).fold(0, |values, value| values | 1 << sunday(value))
    }
}

fn number(text: &str) -> Option<u8> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Field {
    fn has(self, value: u8) -> bool {
        self.values & (1 << value) != 0
    }

    /// The field as the list of its values.
    fn listed(self) -> String {
        if self.is_any {
            return "*".to_owned();
        }
        let values: Vec<String> = (0..64).filter(|value| self.has(*value)).map(|value| value.to_string()).collect();
        values.join(",")
    }
}

impl Schedule {
    /// Whether no day is in the schedule, such as 30 February.
    pub(crate) fn never_comes(&self) -> bool {
        let [_, _, days, months, weekdays] = self.fields;
        // With both kinds of days restricted, either is enough.
        if !weekdays.is_any {
            return false;
        }
        let fits = |month: u8| months.has(month) && (1..=DAYS[usize::from(month - 1)]).any(|day| days.has(day));
        !(1..=12).any(fits)
    }

    /// The shortest of the first five intervals after [`REFERENCE`], in seconds.
    pub(crate) fn shortest_interval(&self, zone: &TimeZone) -> Option<u64> {
        if self.never_comes() {
            return None;
        }
        // As lists the fields mean the same to every reader.
        let listed = self.fields.map(Field::listed).join(" ");
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&listed).ok()?;
        let mut last = REFERENCE.parse::<Timestamp>().ok()?.to_zoned(zone.clone());
        let mut shortest = None;
        for number in 0..=INTERVALS {
            let next = cron.find_next_occurrence(&last, false).ok()?;
            if number > 0 {
                let seconds = u64::try_from(next.timestamp().as_second() - last.timestamp().as_second()).ok()?;
                shortest = Some(shortest.map_or(seconds, |known: u64| known.min(seconds)));
            }
            last = next;
        }
        shortest
    }
}

/// Reads the name of a time zone: `Local`, or one of the IANA database that is built in.
///
/// # Errors
/// What is wrong, and the likely fix.
pub(crate) fn time_zone(name: &str) -> Result<TimeZone, (String, Option<String>)> {
    static DATABASE: OnceLock<TimeZoneDatabase> = OnceLock::new();
    if name == "Local" {
        return Ok(TimeZone::UTC);
    }
    let database = DATABASE.get_or_init(TimeZoneDatabase::bundled);
    let example =
        Some("write an IANA name such as Europe/Berlin, or `Local` for the time zone of the device".to_owned());
    if name.eq_ignore_ascii_case("local") {
        return Err((format!("{:?} is not a time zone", clip(name)), Some("write `Local`".to_owned())));
    }
    if name.len() == 3 && !matches!(name, "GMT" | "UTC") {
        let message =
            format!("the short name {name:?} means different zones to different people; only GMT and UTC do not");
        return Err((message, example));
    }
    if let Some(part) = name.split('/').find(|part| part.chars().count() > MAX_ZONE_PART) {
        let message = format!("the part {:?} of the time zone has more than {MAX_ZONE_PART} characters", clip(part));
        return Err((message, example));
    }
    let Ok(zone) = database.get(name) else {
        let is_short = name.len() <= 4 * MAX_ZONE_PART;
        let known: Vec<String> = database.available().filter(|_| is_short).map(|name| name.to_string()).collect();
        let city = |name: &str| name.rsplit('/').next().map(str::to_owned);
        let near = crate::finding::nearest(name, known.iter().map(String::as_str))
            .or_else(|| known.iter().map(String::as_str).find(|known| city(known) == city(name)))
            .map(|near| format!("did you mean `{near}`?"));
        return Err((format!("{:?} is not a time zone of the IANA database", clip(name)), near.or(example)));
    };
    match zone.iana_name() {
        Some(exact) if exact != name => {
            Err((format!("the time zone {name:?} is written {exact:?}"), Some(format!("write `{exact}`"))))
        }
        Some(_) | None => Ok(zone),
    }
}

#[cfg(test)]
mod tests;
