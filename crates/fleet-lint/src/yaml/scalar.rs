//! What a plain YAML scalar means, and where the two dialects of YAML read it differently.

/// The meaning of a plain scalar in YAML 1.2's core schema.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Plain {
    Null,
    Bool(bool),
    Int(i128),
    /// An integer that no reader can hold.
    HugeInt,
    Float(f64),
    Text,
}

/// Reads a plain scalar as YAML 1.2's core schema does, with `0b` as one more prefix.
pub(crate) fn resolve(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Bool(true),
        "false" | "False" | "FALSE" => return Plain::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
        _ => {}
    }
    let first = text.as_bytes()[0];
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return Plain::Text;
    }
    let (negative, body) = match first {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if matches!(body, ".inf" | ".Inf" | ".INF") {
        return Plain::Float(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let radix = match body.as_bytes() {
        [b'0', b'x', ..] => 16,
        [b'0', b'o', ..] => 8,
        [b'0', b'b', ..] => 2,
        _ => 10,
    };
    let digits = if radix == 10 { body } else { &body[2..] };
    if !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix)) {
        return match i128::from_str_radix(digits, radix) {
            Ok(value) => Plain::Int(if negative { -value } else { value }),
            Err(_) => Plain::HugeInt,
        };
    }
    if is_float(body) { text.parse().map_or(Plain::Text, Plain::Float) } else { Plain::Text }
}

/// `[0-9]*(\.[0-9]*)?([eE][-+]?[0-9]+)?` with at least one digit before the exponent.
fn is_float(body: &str) -> bool {
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(at) => (&body[..at], Some(&body[at + 1..])),
        None => (body, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['-', '+']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_fits
}

/// What an older YAML reader takes this plain scalar for, when that is not what it is in YAML 1.2.
pub(crate) fn ambiguity(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let first = *bytes.first()?;
    if matches!(first, b'y' | b'Y' | b'n' | b'N' | b'o' | b'O') {
        let word = matches!(
            text,
            "y" | "Y"
                | "yes"
                | "Yes"
                | "YES"
                | "n"
                | "N"
                | "no"
                | "No"
                | "NO"
                | "on"
                | "On"
                | "ON"
                | "off"
                | "Off"
                | "OFF"
        );
        return word.then_some("a boolean");
    }
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-')) {
        return None;
    }
    let body = if first.is_ascii_digit() { text } else { &text[1..] };
    let bytes = body.as_bytes();
    if !bytes.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let digit_or_mark = |b: &u8| b.is_ascii_digit() || *b == b'_';
    if bytes.len() > 1 && bytes[0] == b'0' && bytes.iter().all(digit_or_mark) {
        return Some("an octal number");
    }
    if let [b'0', radix @ (b'o' | b'b' | b'x'), rest @ ..] = bytes {
        let digits = !rest.is_empty() && rest.iter().all(|b| b.is_ascii_hexdigit() || *b == b'_');
        return match radix {
            b'o' => digits.then_some("text"),
            b'b' => digits.then_some("a binary number"),
            _ => (digits && rest.contains(&b'_')).then_some("a hexadecimal number"),
        };
    }
    if bytes.contains(&b'_') && bytes.iter().all(|b| digit_or_mark(b) || *b == b'.') {
        return Some("a number");
    }
    let mut parts = body.split(':');
    let head_fits = parts.next().is_some_and(|head| head.bytes().all(|b| digit_or_mark(&b)));
    let mut tail = parts.peekable();
    let sexagesimal = |part: &str| {
        let whole = part.split_once('.').map_or(part, |(whole, _)| whole);
        matches!(whole.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9'])
    };
    (head_fits && tail.peek().is_some() && tail.all(sexagesimal)).then_some("a number in base 60")
}

/// The value of a file mode that is written with leading zeros, as octal: `0644` is 420.
pub(crate) fn octal_mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix('0')?;
    let fits = !digits.is_empty() && digits.len() <= 8 && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    if fits { u32::from_str_radix(digits, 8).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_yaml_1_2_says() {
        for (text, want) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("true", Plain::Bool(true)),
            ("yes", Plain::Text),
            ("12", Plain::Int(12)),
            ("-12", Plain::Int(-12)),
            ("0x1F", Plain::Int(31)),
            ("0o17", Plain::Int(15)),
            ("1.5", Plain::Float(1.5)),
            ("1e3", Plain::Float(1000.0)),
            (".5", Plain::Float(0.5)),
            ("1.", Plain::Float(1.0)),
            (".", Plain::Text),
            ("-", Plain::Text),
            ("1.2.3", Plain::Text),
            ("e3", Plain::Text),
            ("99999999999999999999999999999999999999999", Plain::HugeInt),
        ] {
            assert_eq!(resolve(text), want, "{text:?}");
        }
    }

    #[test]
    fn scalars_that_the_dialects_read_differently_are_named() {
        for text in
            ["yes", "No", "on", "OFF", "y", "0644", "08", "1_000", "12:30:45", "12:30", "0b11", "0o17", "-012", "0x1_F"]
        {
            assert!(ambiguity(text).is_some(), "{text:?}");
        }
        for text in [
            "0",
            "10",
            "true",
            "yesterday",
            "1.10",
            "0x1F",
            "12:75",
            "a:1",
            "10.0.0.1",
            "-",
            "fe80::1",
            "1e3",
            "-x",
            "12:",
        ] {
            assert_eq!(ambiguity(text), None, "{text:?}");
        }
    }

    #[test]
    fn modes_with_leading_zeros_are_octal() {
        assert_eq!(octal_mode("0644"), Some(420));
        assert_eq!(octal_mode("00755"), Some(493));
        assert_eq!(octal_mode("0"), None);
        assert_eq!(octal_mode("0649"), None);
    }
}
