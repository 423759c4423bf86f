//! Texts as people write them, and what becomes of them.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use fleet_fmt::{MAX_BYTES, Refusal, format};

/// The layout, which must also stay as it is.
fn laid_out(text: &str) -> String {
    let once = format(text).unwrap();
    assert_eq!(format(&once).as_deref(), Ok(once.as_str()), "the layout of {text:?} is not stable");
    once
}

#[test]
fn a_manifest_gets_one_layout_and_keeps_its_comments() {
    let text = r#"# The screens.


apiVersion:   flightctl.io/v1beta1   # the version
kind: Fleet
metadata:
    name: kiosks

    labels: { team: 'retail',   tier:  "1" }  # flow
spec:
    selector:
        matchExpressions:
        - key: role
          operator: In
          values: [kiosk,screen,   'wall']
        # - key: site
        #   operator: Exists
        -   key: retired
            operator: DoesNotExist
            # about this one
    # dedented
    template:
        spec:
            config:
            - name: identity
              inline:
              - content: |
                   {{ if eq .metadata.name "x" -}}
                     two more
                   {{- end }}
                   # not a comment
                mode: 0644
                path: "/etc/{{ .metadata.name }}"
# the end
"#;
    let wanted = r#"# The screens.

apiVersion: flightctl.io/v1beta1 # the version
kind: Fleet
metadata:
  name: kiosks

  labels: {team: "retail", tier: "1"} # flow
spec:
  selector:
    matchExpressions:
      - key: role
        operator: In
        values: [kiosk, screen, "wall"]
      # - key: site
      #   operator: Exists
      - key: retired
        operator: DoesNotExist
        # about this one
  # dedented
  template:
    spec:
      config:
        - name: identity
          inline:
            - content: |
                {{ if eq .metadata.name "x" -}}
                  two more
                {{- end }}
                # not a comment
              mode: 0644
              path: "/etc/{{ .metadata.name }}"
# the end
"#;
    assert_eq!(laid_out(text), wanted);
}

#[test]
fn the_text_of_block_scalars_is_moved_and_nothing_else() {
    for (text, wanted) in [
        ("a:\n    b: |\n        x  \n          y\t\n\n\n        z\n", "a:\n  b: |\n    x  \n      y\t\n\n\n    z\n"),
        ("a: |2-\n     lead\n   two\nb: 1\n", "a: |2-\n     lead\n   two\nb: 1\n"),
        ("a:\n    - k: |1\n        x\n       y\n", "a:\n  - k: |1\n      x\n     y\n"),
        (
            "a:\n-   |+\n    x\n\n\n-   >-\n    y\n    z\n\n\n\n- q\n",
            "a:\n  - |+\n    x\n\n\n  - >-\n    y\n    z\n\n  - q\n",
        ),
        ("a: |\nb: >-\n\n\nc: |+\n\nd: 1\n", "a: |\nb: >-\n\nc: |+\n\nd: 1\n"),
        (
            "a: | # why\n   x # text\n   # text\n  # comment\nb: 1\n",
            "a: | # why\n  x # text\n  # text\n# comment\nb: 1\n",
        ),
        ("a:   &x !!str |\n   x\nb:   *x\n", "a: &x !!str |\n  x\nb: *x\n"),
        ("a:\n  # why | so\n  |\n  x\n", "a:\n  # why | so\n  |\n  x\n"),
        ("---   |\n  x\n---\na:   |\n  block\n  block0\n", "---\n|\n  x\n---\na: |\n  block\n  block0\n"),
        ("- -   |\n       x\n  - y\n", "- - |\n    x\n  - y\n"),
        ("a:  |\n    x", "a: |\n  x"),
        ("a:  |\r\n    x\r\n    y\r\n", "a: |\n  x\n  y\n"),
        ("a:  |\n    \n\n    x\n      \n    y\n     \nb: 1\n", "a: |\n\n\n  x\n    \n  y\n   \nb: 1\n"),
    ] {
        assert_eq!(laid_out(text), wanted, "{text:?}");
    }
}

#[test]
fn quotes_change_only_where_nothing_depends_on_them() {
    for (text, wanted) in [
        ("a:  'x'\n", "a: \"x\"\n"),
        ("a:  'say \"x\"'\n", "a: 'say \"x\"'\n"),
        ("a:  'back\\slash'\n", "a: 'back\\slash'\n"),
        ("a:  'it''s'\n", "a: 'it''s'\n"),
        ("a:  'true'\nb:  yes\nc:  010\nd:  '1.10'\n", "a: \"true\"\nb: yes\nc: 010\nd: \"1.10\"\n"),
        ("a:  \"tab\\t\\u00e9\"\n", "a: \"tab\\t\\u00e9\"\n"),
        ("a:  '{{ .metadata.name }}'\n", "a: \"{{ .metadata.name }}\"\n"),
    ] {
        assert_eq!(laid_out(text), wanted, "{text:?}");
    }
}

#[test]
fn other_notations_are_laid_out_too() {
    for (text, wanted) in [
        ("", ""),
        ("\n\n", ""),
        ("# only\n\n\n\n# comments", "# only\n\n# comments\n"),
        ("\u{feff}a:  1\n", "a: 1\n"),
        ("a:  1\r\n# c \r\nb: 2\r\n", "a: 1\n# c\nb: 2\n"),
        ("a:  1\n---\n# b\nb:   2\n...\n---\n", "a: 1\n---\n# b\nb: 2\n...\n---\n"),
        ("a:\n- &x {b:   1}\n- *x\n-   <<:   *x\n", "a:\n  - &x {b: 1}\n  - *x\n  - <<: *x\n"),
        ("a: [ # why\n1, # one\n2\n]\n", "a: [\n  # why\n  1, # one\n  2\n]\n"),
        ("a:   plain\n   on two lines\n", "a: plain\n  on two lines\n"),
    ] {
        assert_eq!(laid_out(text), wanted, "{text:?}");
    }
}

#[test]
fn what_cannot_be_laid_out_is_refused_with_its_place() {
    let unreadable = |text: &str| match format(text) {
        Err(Refusal::Unreadable { line, column, message }) => (line, column, message),
        other => panic!("{text:?}: {other:?}"),
    };
    let (line, column, message) = unreadable("a: 1\nb: [1,\nc: 2");
    assert!((line, column) == (2, 4) && !message.is_empty(), "{line}:{column}: {message}");
    assert_eq!(unreadable("a: *gone\n").0, 1);
    assert_eq!(unreadable(&"[".repeat(100_000)).0, 1);
    let lone = format("a: 1\nb: 2\rc: 3\n");
    assert!(matches!(lone, Err(Refusal::Unusual { line: 2, .. })), "{lone:?}");
    let key = format("a: 1\n? |\n  key\n: value\n");
    assert!(matches!(key, Err(Refusal::Unusual { line: 2, .. })), "{key:?}");
    let deep = format(&format!("a:\n{0}b:\n{0}  c: 1\n", " ".repeat(60)));
    assert!(matches!(deep, Err(Refusal::Unusual { line: 3, .. })), "{deep:?}");
    assert!(format(&format!("a:\n{0}b:\n{0}  c: 1\n", " ".repeat(58))).is_ok());
    let large = format(&"#".repeat(MAX_BYTES + 1));
    assert_eq!(large, Err(Refusal::TooLarge { bytes: MAX_BYTES + 1 }));
}
