//! Words, numbers, and text from outside that must not take over where it is shown.

/// A sentence is cut after so many characters.
const MAX_WRAPPED: usize = 1_000;

/// Text in which everything that does not show, or that changes the direction of writing, is visible. Line feeds and tabs
/// stay.
pub(super) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => out.push(character),
            '\r' => out.push('␍'),
            _ if hides(character) => out.push_str(&format!("\\u{{{:x}}}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out
}

/// The same on one line of at most `most` characters.
pub(super) fn line(text: &str, most: usize) -> String {
    let one = visible(&text.replace(['\n', '\t'], " "));
    match one.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &one[..end]),
        None => one,
    }
}

fn hides(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// `1 device`, `2 devices`.
pub(super) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{} {what}s", thousands(n)) }
}

/// `12,345`.
pub(super) fn thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `812 B`, `12.3 KiB`.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{}.{} KiB", bytes / 1_024, bytes % 1_024 * 10 / 1_024),
        _ => format!("{}.{} MiB", bytes / 1_048_576, bytes % 1_048_576 * 10 / 1_048_576),
    }
}

/// Text in lines of at most `width` characters, broken at spaces where there are any.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut current) = (Vec::new(), String::new());
    let mut used = 0;
    for word in line(text, MAX_WRAPPED).split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(std::mem::take(&mut current));
            used = 0;
        }
        if used > 0 {
            current.push(' ');
            used += 1;
        }
        current.push_str(word);
        used += length;
    }
    lines.push(current);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hides() {
        assert_eq!(visible("a\u{1b}[31m\u{202e}b\r\n\tc"), "a\\u{1b}[31m\\u{202e}b␍\n\tc");
        assert_eq!(line("a\nb\u{7}", 10), "a b\\u{7}");
        assert_eq!(visible("a\u{e0041}\u{3164}\u{2800}"), "a\\u{e0041}\\u{3164}\\u{2800}");
        assert_eq!(line("abcdef", 3), "abc…");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((size(5), size(1_536), size(3 << 20)), ("5 B".into(), "1.5 KiB".into(), "3.0 MiB".into()));
        assert_eq!((count(1, "device"), count(0, "device")), ("1 device".into(), "0 devices".into()));
    }

    #[test]
    fn long_text_is_broken_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("averylongword b", 4), ["averylongword", "b"]);
        assert_eq!(wrap("", 4), [""]);
    }
}
