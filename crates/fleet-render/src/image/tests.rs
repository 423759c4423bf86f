//! Image references against their grammar, and templates against what substitution makes of them.

use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn image_references_follow_the_grammar() {
    for good in [
        "a",
        "a:1",
        "q.io/o/i:latest-prod",
        "localhost:5000/i",
        "localhost/i",
        "REG.example.com/i",
        "[::1]:5000/i",
        "h/a__b/c--d.e_f",
        "library/nginx",
        &format!("q.io/i:1@{DIGEST}"),
        &format!("q.io/i@{DIGEST}"),
        "q.io/i@md5+b64:0123456789abcdef0123456789ABCDEF",
        "q.io/i:_x.Y-Z",
    ] {
        assert_eq!(check_image_reference(good), Ok(()), "{good}");
    }
}

#[test]
fn every_problem_names_its_part() {
    let long = format!("q.io/{}", "a".repeat(256));
    for (bad, span, words) in [
        ("", 0..0, "empty"),
        ("https://q.io/i", 0..8, "no scheme"),
        ("docker://q.io/i", 0..9, "no scheme"),
        ("q.io/o/Image:1", 7..12, "capital"),
        ("Nginx", 0..5, "capital"),
        ("q.io:x/i", 0..6, "registry"),
        ("-q.io/i", 0..5, "registry"),
        ("q..io/i", 0..5, "registry"),
        ("[::1/i", 0..4, "registry"),
        ("q.io//i", 5..5, "part of an image's name"),
        ("/i", 0..0, "registry"),
        ("q.io/", 5..5, "part of an image's name"),
        ("q.io/a___b", 5..10, "part of an image's name"),
        ("q.io/i x", 5..8, "part of an image's name"),
        (long.as_str(), 5..261, "at most 255"),
        ("q.io/i:", 7..7, "tag"),
        ("q.io/i:-a", 7..9, "tag"),
        ("q.io/i:a b", 7..10, "tag"),
        ("q.io/i@sha256:12", 7..16, "64 lower-case"),
        ("q.io/i@12", 7..9, "not a digest"),
        ("q.io/ä", 5..7, "part of an image's name"),
    ] {
        let problem = check_image_reference(bad).unwrap_err();
        assert_eq!(problem.span, span, "{bad}: {problem}");
        assert!(problem.to_string().contains(words), "{bad}: {problem}");
    }
}

#[test]
fn a_reference_is_fully_qualified_when_it_names_its_registry() {
    for (text, expected) in [
        ("nginx", false),
        ("nginx:1.2", false),
        ("library/nginx", false),
        ("docker.io/library/nginx", true),
        ("localhost/i", true),
        ("reg:5000/i", true),
        ("nginx:{{ .metadata.labels.v }}", false),
        ("library/nginx:{{ .metadata.labels.v }}", false),
        ("q.io/i:{{ .metadata.labels.v }}", true),
        ("{{ .metadata.labels.image }}", true),
        ("{{ .metadata.labels.registry }}/i", true),
        ("reg-{{ .metadata.labels.site }}/i", true),
    ] {
        assert_eq!(is_fully_qualified(text), expected, "{text}");
    }
}

#[test]
fn a_template_must_be_able_to_become_a_reference() {
    for good in [
        "q.io/i:{{ .metadata.labels.v }}",
        "q.io/i:latest-{{ .metadata.labels.v }}",
        "q.io/{{ .a }}/i:1",
        "{{ .a }}",
        "{{ .a }}:{{ .b }}",
        "q.io/i:{{ if .a }}1{{ else }}2 {{ end }}",
        "q.io/i{{/* which */}}:1",
        &format!("q.io/i:{{{{ .a }}}}@{DIGEST}"),
        "q.io/i@sha256:{{ .a }}",
    ] {
        assert_eq!(check_image_template(good), Ok(()), "{good}");
    }
    for (bad, span) in [
        ("q.io/i:{{ .a }} ", 15..16),
        ("q.io/I:{{ .a }}", 5..6),
        ("q.io//i:{{ .a }}", 5..6),
        ("https://q.io/i:{{ .a }}", 0..8),
        ("q.io/i:{{ .a }}-ä", 16..18),
        ("q.io/i {{ .a }}", 6..7),
        ("q.io/i:{{/* none */}}", 0..21),
        ("q.io/i:{{ .a }}/", 15..16),
    ] {
        let problem = check_image_template(bad).unwrap_err();
        assert_eq!(problem.span, span, "{bad}: {problem}");
    }
}

/// The grammar as the states have it.
fn by_states(text: &str) -> bool {
    let mut states = vec![State::Host(Edge::Start), State::Path(Sep::Start)];
    for c in text.chars() {
        states = next_states(&states, c);
    }
    states.iter().any(State::is_end)
}

proptest! {
    #[test]
    fn both_forms_of_the_grammar_say_the_same(text in r"[abA0.\-_/:@\[\] ä]{0,12}(@md5:[0-9aF]{30,34})?") {
        prop_assert_eq!(check_image_reference(&text).is_ok(), by_states(&text), "{}", text);
    }

    #[test]
    fn a_template_is_accepted_when_one_of_its_results_is(
        parts in proptest::collection::vec(r"[abA0.\-_/:@]{0,4}", 1..4),
        fills in proptest::collection::vec(r"[ab0.\-_/:]{0,4}", 4),
    ) {
        let template = parts.join("{{ .metadata.name }}");
        let mut result = String::new();
        for (part, fill) in parts.iter().zip(std::iter::once("").chain(fills.iter().map(String::as_str))) {
            result.push_str(fill);
            result.push_str(part);
        }
        if check_image_reference(&result).is_ok() {
            prop_assert_eq!(check_image_template(&template), Ok(()), "{} as {}", template, result);
        }
    }

    #[test]
    fn places_of_problems_are_on_character_boundaries(text in r#"([abA0.\-_/:@ ä"\n]|\{\{|\}\}|if |end){0,30}"#) {
        for result in [check_image_reference(&text), check_image_template(&text)] {
            if let Err(problem) = result {
                prop_assert!(text.get(problem.span).is_some());
            }
        }
        is_fully_qualified(&text);
    }
}
