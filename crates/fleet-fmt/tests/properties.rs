//! Any text: no panic, the layout is stable, and what it says stays.

use fleet_fmt::format;
use proptest::prelude::*;

/// Pieces that YAML is made of, put together at random: most results are no YAML, many are odd YAML.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b: ",
        "- ",
        "-   ",
        "? ",
        ": ",
        "\n",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        "\n ",
        "# c",
        " # d",
        "|",
        "|-",
        ">+",
        "|2",
        "'q'",
        "\"r\"",
        "'",
        "\"",
        "[",
        "]",
        "{",
        "}",
        ",",
        "&x ",
        "*x",
        "!t ",
        "!!str ",
        "---\n",
        "...\n",
        "<<: ",
        "{{ x }}",
        "\t",
        "  ",
        "é",
        "\r\n",
        "block",
        "0644",
        "%YAML 1.2\n",
        "key: |\n    text\n",
        "- name: x\n",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A manifest with blocks, lists and comments at random indentations.
fn documents() -> impl Strategy<Value = String> {
    let text = prop::collection::vec("[a-z{}#:|> -]{0,12}", 1..5);
    let entry = (1..5_usize, 0..4_usize, 1..4_usize, text, prop::sample::select(vec!["|", "|-", "|+", ">", ">-"]));
    prop::collection::vec(entry, 1..6).prop_map(|entries| {
        let mut out = String::new();
        for (number, (indent, style, more, lines, header)) in entries.into_iter().enumerate() {
            let pad = " ".repeat(indent);
            match style {
                0 => {
                    out.push_str(&format!("k{number}:   # why\n{pad}in:   {header}\n"));
                    for line in &lines {
                        out.push_str(&format!("{}x{line}\n", " ".repeat(indent + more)));
                    }
                }
                1 => {
                    out.push_str(&format!("k{number}:\n"));
                    for line in &lines {
                        out.push_str(&format!("{pad}-   'x{line}'  # {line}\n{pad}# after\n"));
                    }
                }
                2 => out.push_str(&format!("k{number}:   {{a:   [1,{pad}2], b: \"{}\"}}\n\n\n\n", lines.join(" "))),
                _ => {
                    out.push_str(&format!("k{number}:\n{pad}- - {header}\n"));
                    for line in &lines {
                        out.push_str(&format!("{}x{line}\n\n", " ".repeat(indent + 2 + more)));
                    }
                }
            }
        }
        out
    })
}

fn comments_in(text: &str) -> usize {
    text.matches("# after").count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_is_refused_or_has_a_stable_layout(text in pieces()) {
        if let Ok(once) = format(&text) {
            prop_assert_eq!(format(&once), Ok(once));
        }
    }

    #[test]
    fn documents_are_laid_out_and_keep_their_comments(text in documents()) {
        let once = format(&text);
        prop_assert!(once.is_ok(), "{:?}\n{}", once, text);
        let once = once.unwrap_or_default();
        prop_assert_eq!(comments_in(&once), comments_in(&text));
        prop_assert!(!once.contains("block0") && !once.contains("\n\n\n") || text.contains("+\n"), "{}", once);
        prop_assert_eq!(format(&once), Ok(once));
    }
}
