//! Label selectors as they are written on a command line: `a=b,c in (d,e),!f`.

use fleet_model::{LabelSelector, MatchExpression, MatchOperator};

/// Reads a selector; every requirement must hold.
///
/// # Errors
/// One sentence.
pub(super) fn parse(text: &str) -> Result<LabelSelector, String> {
    let requirements: Result<Vec<MatchExpression>, String> = split(text)?.into_iter().map(requirement).collect();
    let selector = LabelSelector { match_labels: None, match_expressions: Some(requirements?) };
    selector.validate().map_err(|error| error.to_string())?;
    Ok(selector)
}

/// At the commas outside parentheses.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut start, mut inside) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        match character {
            '(' if !inside => inside = true,
            ')' if inside => inside = false,
            '(' | ')' => return Err(format!("the parentheses in {text:?} do not fit")),
            ',' if !inside => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(format!("a parenthesis in {text:?} is not closed"));
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn requirement(text: &str) -> Result<MatchExpression, String> {
    let text = text.trim();
    let of = |key: &str, operator, values: Option<Vec<String>>| MatchExpression {
        key: key.trim().to_owned(),
        operator,
        values,
    };
    if let Some(key) = text.strip_prefix('!') {
        return Ok(of(key, MatchOperator::DoesNotExist, None));
    }
    if let Some((key, values)) = text.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        let values = Some(values.split(',').map(|value| value.trim().to_owned()).collect());
        return match key.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => Ok(of(key, MatchOperator::In, values)),
            Some((key, "notin")) => Ok(of(key, MatchOperator::NotIn, values)),
            _ => Err(format!("{text:?} is not KEY in (A,B) or KEY notin (A,B)")),
        };
    }
    let one = |value: &str| Some(vec![value.trim().to_owned()]);
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(of(key, MatchOperator::NotIn, one(value)));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(of(key, MatchOperator::In, one(value)));
    }
    Ok(of(text, MatchOperator::Exists, None))
}

#[cfg(test)]
mod tests {
    use fleet_model::Labels;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_selects_what_it_says() {
        let labels: Labels = [("a", "b"), ("c", "d"), ("e", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        for yes in
            ["a=b", "a==b", "a!=c", "x!=c", "a", "!x", "c in (x, d)", "c notin (x,y)", " a = b , !x,c in (d)", "e="]
        {
            assert!(parse(yes).unwrap().matches(&labels), "{yes}");
        }
        for no in ["a=c", "a!=b", "x", "!a", "c in (x)", "c notin (d)", "a=b,x", "x in (a)"] {
            assert!(!parse(no).unwrap().matches(&labels), "{no}");
        }
        for bad in ["", ",", "a in b", "a in (b", "a)", "a of (b)", "a b", "!", "=b", "a=b c", "a in ((b))", "-a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn selector_like_text_does_not_either(text in "[a(),!= in]{0,20}") {
            let _ = parse(&text);
        }
    }
}
