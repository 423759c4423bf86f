//! Claims about templates: what each construct gives, what is refused, and that nothing runs away.

use proptest::prelude::*;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Evaluates for the device `dev1` with labels `site=Berlin`, `empty=` and `my-key=dashed`.
fn run(text: &str) -> Result<String, TemplateError> {
    let labels = labels(&[("site", "Berlin"), ("empty", ""), ("my-key", "dashed")]);
    Template::parse(text)?.evaluate(&Subject { name: "dev1", labels: &labels })
}

#[track_caller]
fn gives(table: &[(&str, &str)]) {
    for (text, expected) in table {
        assert_eq!(run(text).as_deref(), Ok(*expected), "{text}");
    }
}

#[track_caller]
fn fails(table: &[(&str, &str)]) {
    for (text, part) in table {
        let error = run(text).expect_err(text);
        assert!(error.message.contains(part), "{text}: {error}");
        assert!(text.get(error.span.clone()).is_some(), "{text}: {:?}", error.span);
    }
}

#[test]
fn text_and_fields_are_printed() {
    gives(&[
        ("", ""),
        ("plain }} text", "plain }} text"),
        ("{{ .metadata.name }}", "dev1"),
        ("{{.metadata.name}}/{{$.metadata.labels.site}}", "dev1/Berlin"),
        ("{{ .metadata.labels }}", "map[empty: my-key:dashed site:Berlin]"),
        ("{{ .metadata.labels.empty }}", ""),
        ("{{ (.metadata.name) }}", "dev1"),
        ("{{\n.metadata.name\n}}", "dev1"),
    ]);
}

#[test]
fn literals_are_those_of_go() {
    gives(&[
        (r#"{{ "a\tb\"\\\n" }}"#, "a\tb\"\\\n"),
        (r#"{{ "\x41\101\u00e9\U0001F600" }}"#, "AAé😀"),
        ("{{ `raw \\n {{ }} \"` }}", "raw \\n {{ }} \""),
        (r#"{{ "}}" }}"#, "}}"),
        ("{{ 42 }} {{ -7 }} {{ +1 }} {{ 0x1f }} {{ 0o17 }} {{ 017 }} {{ 0b101 }}", "42 -7 1 31 15 15 5"),
        (
            "{{ 1.5 }} {{ .5 }} {{ 1e3 }} {{ 1e21 }} {{ 1e-5 }} {{ 1e20 }}",
            "1.5 0.5 1000 1e+21 1e-05 100000000000000000000",
        ),
        ("{{ true }} {{ false }}", "true false"),
    ]);
    fails(&[
        (r#"{{ "open }}"#, "never closed"),
        ("{{ \"a\nb\" }}", "never closed"),
        ("{{ `open }}", "never closed"),
        (r#"{{ "\q" }}"#, "unknown escape"),
        (r#"{{ "\xff" }}"#, "escape"),
        (r#"{{ "\ud800" }}"#, "escape"),
        (r#"{{ "\u12" }}"#, "escape"),
        ("{{ 'a' }}", "double quotes"),
        ("{{ 12ab }}", "not a number"),
        ("{{ 99999999999999999999 }}", "not a number"),
        ("{{ 08 }}", "not a number"),
        ("{{ nil }}", "nil"),
    ]);
}

#[test]
fn trim_markers_eat_white_space_of_the_text() {
    gives(&[
        ("a \n {{- .metadata.name -}} \n b", "adev1b"),
        ("a {{ .metadata.name -}}  b", "a dev1b"),
        ("a  {{- .metadata.name }} b", "adev1 b"),
        ("a {{-3}} b", "a -3 b"),
        ("a {{- -3 -}} b", "a-3b"),
    ]);
    fails(&[("{{ .metadata.name-}}", "'-'"), ("{{ 3-}}", "")]);
}

#[test]
fn comments_vanish() {
    gives(&[("a{{/* x }} y */}}b", "ab"), ("a {{- /* x */ -}} b", "ab")]);
    fails(&[("{{/* x }}", "comment"), ("{{/* x */ .metadata.name }}", "comment"), ("{{/*/}}", "comment")]);
}

#[test]
fn conditions_choose_one_arm() {
    gives(&[
        ("{{ if .metadata.labels.site }}y{{ else }}n{{ end }}", "y"),
        ("{{ if .metadata.labels.empty }}y{{ else }}n{{ end }}", "n"),
        ("{{ if false }}a{{ else if eq .metadata.name \"dev1\" }}b{{ else }}c{{ end }}", "b"),
        ("{{ if 0 }}a{{ end }}{{ if .metadata.labels }}b{{ end }}{{ if 0.0 }}c{{ end }}", "b"),
        ("{{ with .metadata.labels.site }}<{{ . }}|{{ $.metadata.name }}>{{ else }}none{{ end }}", "<Berlin|dev1>"),
        ("{{ with .metadata.labels.empty }}x{{ else with .metadata.name }}{{ . }}{{ end }}", "dev1"),
        ("{{ with .metadata.name }}{{ with upper . }}{{ . }}{{ end }}{{ . }}{{ end }}", "DEV1dev1"),
        ("{{ with false }}a{{ else }}{{ .metadata.name }}{{ end }}", "dev1"),
        ("{{ with .metadata.labels }}{{ index . \"site\" }}{{ end }}", "Berlin"),
    ]);
    fails(&[
        ("{{ if .metadata.name }}", "never closed"),
        ("{{ if .metadata.name }}{{ else }}", "never closed"),
        ("{{ if true }}{{ else }}{{ else }}{{ end }}", "second `else`"),
        ("{{ if true }}{{ else with true }}{{ end }}", "`else if`"),
        ("{{ end }}", "without"),
        ("{{ else }}", "without"),
        ("{{ if }}{{ end }}", "missing"),
        ("{{ if true }}{{ end end }}", "nothing may follow"),
        ("{{ if true }}{{ else true }}{{ end }}", "nothing may follow"),
        ("{{ with true }}{{ .metadata.name }}{{ end }}", "$.metadata.name"),
    ]);
}

#[test]
fn a_missing_label_is_false_as_a_condition() {
    gives(&[
        ("{{ if .metadata.labels.no }}y{{ else }}n{{ end }}", "n"),
        ("{{ with .metadata.labels.no }}{{ . }}{{ else }}none{{ end }}", "none"),
        ("{{ if not .metadata.labels.no }}y{{ end }}", "y"),
        ("{{ if and .metadata.labels.site .metadata.labels.no }}y{{ else }}n{{ end }}", "n"),
        ("{{ or .metadata.labels.no \"fallback\" }}", "fallback"),
        ("{{ if index .metadata.labels \"no\" }}y{{ else }}n{{ end }}", "n"),
        ("[{{ index .metadata.labels \"no\" }}]", "[]"),
        ("{{ getOrDefault .metadata.labels \"no\" \"d\" }}", "d"),
    ]);
}

#[test]
fn a_missing_label_as_a_value_is_an_error_that_names_it() {
    for text in [
        "a {{ .metadata.labels.no }}",
        "{{ $.metadata.labels.no | upper }}",
        "{{ if eq .metadata.labels.no \"x\" }}{{ end }}",
        "{{ and true .metadata.labels.no }}",
        "{{ print .metadata.labels.no }}",
    ] {
        let error = run(text).expect_err(text);
        assert_eq!(error.kind, TemplateErrorKind::MissingLabel("no".to_owned()), "{text}");
        assert!(error.message.contains("getOrDefault .metadata.labels \"no\""), "{error}");
        assert!(text[error.span.clone()].ends_with(".metadata.labels.no"), "{text}: {:?}", error.span);
    }
}

#[test]
fn text_functions_work_as_in_go() {
    gives(&[
        ("{{ upper .metadata.labels.site }}{{ lower .metadata.labels.site }}", "BERLINberlin"),
        (r#"{{ upper "straße" }}{{ lower "ÀB" }}"#, "STRAßEàb"),
        (r#"{{ replace "l" "LL" "hello" }}"#, "heLLLLo"),
        (r#"{{ replace "" "-" "ab" }}"#, "-a-b-"),
        (r#"{{ .metadata.labels.site | lower | replace "berlin" "ber" | upper }}"#, "BER"),
        (r#"{{ getOrDefault .metadata.labels "site" "x" }}{{ getOrDefault .metadata.labels "empty" "x" }}"#, "Berlin"),
        (r#"{{ "x" | getOrDefault .metadata.labels "no" }}"#, "x"),
        (r#"{{ index .metadata.labels "my-key" }}"#, "dashed"),
        (r#"{{ len "é" }} {{ len .metadata.labels }}"#, "2 3"),
        (r#"{{ print "a" 1 2 "b" true false }}|{{ print }}|{{ println "a" 1 }}"#, "a1 2btrue false||a 1\n"),
        (r#"{{ printf "%s-%d-%v-100%%" .metadata.name 7 true }}"#, "dev1-7-true-100%"),
    ]);
    fails(&[
        ("{{ upper 1 }}", "must be text"),
        ("{{ upper .metadata.labels }}", "must be text"),
        ("{{ upper }}", "takes 1 argument, got 0"),
        (r#"{{ upper "a" "b" }}"#, "got 2"),
        (r#"{{ replace "a" "b" }}"#, "takes 3 arguments"),
        (r#"{{ index .metadata.name "a" }}"#, ".metadata.labels"),
        (r#"{{ index .metadata.labels 1 }}"#, "must be text"),
        (r#"{{ getOrDefault .metadata.name "a" "b" }}"#, ".metadata.labels"),
        (r#"{{ getOrDefault .metadata.labels "a" 1 }}"#, "must be text"),
        ("{{ len 3 }}", "`len`"),
        (r#"{{ printf "%d" "a" }}"#, "does not fit"),
        (r#"{{ printf "%s" }}"#, "fewer"),
        (r#"{{ printf "a" 1 }}"#, "more values"),
        (r#"{{ printf "%05d" 1 }}"#, "verbs"),
        (r#"{{ printf "%" 1 }}"#, "verbs"),
    ]);
}

#[test]
fn comparisons_and_logic_work_as_in_go() {
    for (text, expected) in [
        ("eq 1 1", true),
        ("eq 1 2 3 1", true),
        ("eq 1 2 3", false),
        (r#"eq .metadata.name "a" "dev1""#, true),
        ("ne 1 2", true),
        ("ne true true", false),
        ("lt 1 2", true),
        ("le 2 2", true),
        ("gt 1 2", false),
        ("ge 2.5 2.5", true),
        (r#"lt "a" "b""#, true),
        ("not true", false),
        (r#"not """#, true),
    ] {
        assert_eq!(run(&format!("{{{{ {text} }}}}")), Ok(expected.to_string()), "{text}");
    }
    gives(&[
        (r#"{{ and "a" "" "b" }}|{{ and "a" "b" }}"#, "|b"),
        (r#"{{ or "" 0 "b" "c" }}|{{ or "" 0 }}"#, "b|0"),
        (r#"{{ or "a" (upper .metadata.labels.no) }}"#, "a"),
    ]);
    fails(&[
        (r#"{{ eq 1 "1" }}"#, "cannot be compared"),
        ("{{ eq 1 1.0 }}", "cannot be compared"),
        ("{{ eq .metadata.labels .metadata.labels }}", "cannot be compared"),
        ("{{ lt true false }}", "no order"),
        ("{{ eq 1 }}", "at least 2"),
        ("{{ ne 1 2 3 }}", "takes 2"),
        ("{{ and }}", "at least 1 argument,"),
    ]);
}

#[test]
fn what_is_left_out_is_refused_by_name() {
    for word in ["range", "define", "template", "block", "break", "continue"] {
        let error = run(&format!("x{{{{ {word} .metadata.labels }}}}")).expect_err(word);
        assert_eq!(error.kind, TemplateErrorKind::Unsupported, "{word}");
        assert!(error.message.contains(word), "{error}");
    }
    fails(&[
        ("{{ $x := .metadata.name }}", "variables"),
        ("{{ $x }}", "$x"),
        ("{{ $ }}", "is not available"),
        ("{{ . }}", "whole device"),
        ("{{ .metadata }}", "not available"),
        ("{{ .spec.os }}", "not available"),
        ("{{ .metadata.annotations.x }}", "not available"),
        ("{{ .metadata.labels.a.b }}", "\"a.b\""),
        ("{{ .metadata.labels.my-key }}", "index .metadata.labels \"my-key\""),
        ("{{ (.metadata.labels).site }}", "cannot follow"),
        ("{{ .metadata.labels.example.com/site }}", "'/'"),
        ("{{ html .metadata.name }}", "`html` is not supported"),
        ("{{ toUpper .metadata.name }}", "no function `toUpper`"),
        ("{{ upper lower }}", "parentheses"),
        ("{{ eq 1 if }}", "first"),
        ("{{ }}", "missing"),
        ("{{ .metadata.name", "never closed"),
        ("{{", "never closed"),
        ("{{ .metadata.name | }}", "missing"),
        ("{{ | upper }}", "missing"),
        ("{{ .metadata.name | .metadata.name }}", "after `|`"),
        ("{{ .metadata.name 1 }}", "no arguments"),
        ("{{ ( .metadata.name }}", "never closed"),
        ("{{ .metadata.name ) }}", "before it"),
        ("{{ eq \"a\"\"b\" }}", "space"),
        ("{{ () }}", "missing"),
        ("{{ a, b }}", "no function"),
        ("{{ % }}", "unexpected"),
        ("{{ true.x }}", "cannot follow"),
    ]);
}

#[test]
fn spans_point_into_the_text() {
    let text = "é {{ upper nope }}";
    let error = run(text).expect_err("nope is unknown");
    assert_eq!(&text[error.span], "nope");
}

#[test]
fn sizes_depth_and_work_are_bounded() {
    let limit = |text: &str| assert_eq!(run(text).expect_err("beyond a limit").kind, TemplateErrorKind::Limit);
    limit(&"x".repeat(MAX_TEMPLATE_BYTES + 1));
    limit(&"{{1}}".repeat(MAX_ACTIONS + 1));
    limit(&format!("{}{}", "{{if true}}".repeat(11), "{{end}}".repeat(11)));
    limit(&format!("{{{{{}1{}}}}}", "(".repeat(11), ")".repeat(11)));
    limit(&format!("{{{{ \"a\"{} }}}}", "| upper".repeat(16)));
    assert!(run(&format!("{}{}", "{{if true}}".repeat(10), "{{end}}".repeat(10))).is_ok());
    assert!(run(&format!("{{{{{}1{}}}}}", "(".repeat(10), ")".repeat(10))).is_ok());
    assert!(run(&format!("{{{{if 0}}}}{}{{{{end}}}}", "{{else if 0}}".repeat(5000))).is_ok());
    // 400 * 400 * 400 * … bytes, were they made.
    let grow = format!("| replace \"a\" \"{}\"", "a".repeat(400));
    limit(&format!("{{{{ \"a\" {} }}}}", grow.repeat(8)));
    // Each placeholder is within the limits; all of them together are too much work.
    let half = "a".repeat(500_000);
    limit(&format!("{{{{with \"{half}\"}}}}{}{{{{end}}}}", "{{if eq (upper .) \"b\"}}{{end}}".repeat(100)));
}

#[test]
fn a_text_without_placeholders_is_literal() {
    let template = Template::parse("no } placeholder { here").unwrap();
    assert!(template.is_literal() && template.inputs().is_empty());
    assert!(Template::literal("{{ nonsense").is_literal());
    assert!(!Template::parse("{{ 1 }}").unwrap().is_literal());
}

#[test]
fn inputs_name_exactly_what_is_looked_at() {
    let inputs = |text: &str| Template::parse(text).unwrap().inputs().clone();
    let of = |name, keys: &[&str], all_labels| Inputs {
        name,
        labels: keys.iter().map(|key| (*key).to_owned()).collect(),
        all_labels,
    };
    for (text, expected) in [
        ("{{ .metadata.name }}", of(true, &[], false)),
        ("{{ .metadata.labels.a }}{{ $.metadata.labels.b }}", of(false, &["a", "b"], false)),
        (r#"{{ index .metadata.labels "a" }}"#, of(false, &["a"], false)),
        (r#"{{ getOrDefault .metadata.labels "a" .metadata.labels.b }}"#, of(false, &["a", "b"], false)),
        (r#"{{ "d" | getOrDefault $.metadata.labels "a" }}"#, of(false, &["a"], false)),
        ("{{ index .metadata.labels .metadata.name }}", of(true, &[], true)),
        ("{{ len .metadata.labels }}", of(false, &[], true)),
        (r#"{{ with .metadata.labels }}{{ index . "a" }}{{ end }}"#, of(false, &[], true)),
        (
            "{{ if .metadata.labels.a }}{{ else if .metadata.labels.b }}{{ .metadata.name }}{{ else }}{{ .metadata.labels.c }}{{ end }}",
            of(true, &["a", "b", "c"], false),
        ),
    ] {
        assert_eq!(inputs(text), expected, "{text}");
    }
}

/// Pieces of templates, right and wrong, glued at random.
fn soup() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{{",
        "}}",
        "{{-",
        "-}}",
        " ",
        " ",
        "\n",
        "if",
        "else",
        "end",
        "with",
        "range",
        ".metadata.name",
        ".metadata.labels",
        ".metadata.labels.a",
        "$.metadata.labels.b",
        "$",
        "$x",
        ".",
        "upper",
        "lower",
        "replace",
        "getOrDefault",
        "index",
        "eq",
        "ne",
        "lt",
        "and",
        "or",
        "not",
        "len",
        "print",
        "printf",
        "|",
        "(",
        ")",
        "\"a\"",
        "\"\"",
        "`b`",
        "\"",
        "`",
        "\\",
        "1",
        "-2",
        "0x",
        "1.5",
        "1e",
        "true",
        "nil",
        ":=",
        "=",
        ",",
        "/*",
        "*/",
        "é",
        "\u{0}",
        "x",
        "%s",
        "\"%v\"",
        "{{if .metadata.labels.a}}",
        "{{else}}",
        "{{end}}",
        "{{with .metadata.name}}",
        "{{ . }}",
        "{{ .metadata.labels.b }}",
        "{{ index .metadata.labels \"a\" }}",
        "{{ upper .metadata.name }}",
    ]);
    prop::collection::vec(token, 0..24).prop_map(|tokens| tokens.concat())
}

fn check_any(text: &str) {
    let labels = labels(&[("a", "1")]);
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(error) => {
            assert!(text.get(error.span.clone()).is_some(), "{text:?}: {error:?}");
            return;
        }
    };
    match template.evaluate(&Subject { name: "d", labels: &labels }) {
        Ok(out) => assert!(out.len() <= MAX_OUTPUT_BYTES),
        Err(error) => assert!(text.get(error.span.clone()).is_some(), "{text:?}: {error:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_mix_of_tokens_panics(text in soup()) {
        check_any(&text);
    }

    #[test]
    fn no_text_at_all_panics(text in any::<String>(), inner in any::<String>()) {
        check_any(&text);
        check_any(&format!("{{{{{inner}}}}}{text}"));
    }

    #[test]
    fn equal_inputs_give_equal_results(
        text in soup(),
        left in prop::collection::btree_map("[a-d]", "[x-z]{0,2}", 0..4),
        right in prop::collection::btree_map("[a-d]", "[x-z]{0,2}", 0..4),
    ) {
        let Ok(template) = Template::parse(&text) else { return Ok(()) };
        let inputs = template.inputs();
        // The right device agrees with the left one in all inputs, and in nothing else.
        let mut twin = if inputs.all_labels { left.clone() } else { right };
        for key in &inputs.labels {
            match left.get(key) {
                Some(value) => twin.insert(key.clone(), value.clone()),
                None => twin.remove(key),
            };
        }
        let twin_name = if inputs.name { "one" } else { "two" };
        prop_assert_eq!(
            template.evaluate(&Subject { name: "one", labels: &left }),
            template.evaluate(&Subject { name: twin_name, labels: &twin })
        );
    }
}
