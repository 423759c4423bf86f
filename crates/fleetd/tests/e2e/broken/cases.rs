//! The broken trees: slips in manifests, files that are no manifests, and what only a repository can hold.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use fleet_test::GitRepo;

use super::changes::{FLEET, FLEET_CHANGES};
use super::localized;

/// Where a finding of the table is: code, line, column.
type Place = (&'static str, u32, u32);

/// What the source has to say.
pub(super) enum Says {
    /// What lint says of the work tree.
    Lint,
    /// The same, and that is this, of `fleets/kiosks.yaml`.
    Places(&'static [Place]),
    /// What lint of a work tree cannot know.
    Finding { file: &'static str, code: &'static str },
    /// It is not broken in itself and waits for a person.
    Held,
}

/// Breaks a work tree; the number is the lane's.
type Break = Box<dyn Fn(&GitRepo, usize) + Send + Sync>;

/// A broken tree.
pub(super) struct Case {
    pub(super) name: String,
    /// Breaks the work tree of a lane.
    pub(super) make: Break,
    /// What a work tree cannot hold is put into the index.
    pub(super) stage: Option<fn(&GitRepo)>,
    /// Whether the commit has no parent.
    pub(super) orphan: bool,
    pub(super) says: Says,
    /// The lane that it needs; any when absent.
    pub(super) lane: Option<usize>,
}

const KIOSKS: &str = "fleets/kiosks.yaml";

const POLICY: &str = "apiVersion: shorebase/v1alpha1\nkind: EnrollmentPolicy\nmetadata:\n  name: more\nspec:\n  rules:\n    - match:\n        \
    systemInfo:\n          hostname: none-*\n      labels:\n        role: none\n";
const REPOSITORY: &str = "apiVersion: v1beta1\nkind: Repository\nmetadata:\n  name: more\nspec:\n  type: git\n  url: https://git.example.com/more.git\n";
const SYNC: &str = "apiVersion: flightctl.io/v1beta1\nkind: ResourceSync\nmetadata:\n  name: more\nspec:\n  repository: more\n  \
    targetRevision: main\n  path: fleets\n";
const DEVICE: &str = "apiVersion: flightctl.io/v1beta1\nkind: Device\nmetadata:\n  \
    name: r1qtmvff4ch3dbm7733b1epug0a2un8fr3qdu97uqrnfbitl1mfg\nspec:\n  config:\n    - name: files\n      inline:\n        \
    - path: /etc/a\n          content: hello\n";
const RULES: &str = "apiVersion: shorebase/v1alpha1\nkind: SyncPolicy\nmetadata:\n  name: more\nspec:\n  forcedPush: Hold\n  limits:\n    \
    removedFleets:\n      count: 3\n";

fn case(name: impl Into<String>, says: Says, make: impl Fn(&GitRepo, usize) + Send + Sync + 'static) -> Case {
    Case { name: name.into(), make: Box::new(make), stage: None, orphan: false, says, lane: None }
}

/// A case of one more file.
fn file(name: impl Into<String>, path: &'static str, content: impl Into<Vec<u8>>) -> Case {
    let content = content.into();
    case(name, Says::Lint, move |repo, _| {
        repo.write(path, &content);
    })
}

/// A case of a file with a name that is not text.
fn file_named(name: &'static str, path: &'static [u8], content: impl Into<Vec<u8>>) -> Case {
    let content = content.into();
    case(name, Says::Lint, move |repo, _| {
        let file = repo.path().join(OsStr::from_bytes(path));
        std::fs::create_dir_all(file.parent().expect("below the work tree")).unwrap();
        std::fs::write(file, &content).unwrap();
    })
}

/// Everything.
pub(super) fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = FLEET_CHANGES
        .iter()
        .map(|(name, (from, to), places)| {
            case(format!("table: {name}"), Says::Places(places), move |repo, n| {
                repo.write(KIOSKS, localized(n, &FLEET.replacen(from, to, 1)));
            })
        })
        .collect();
    all.extend(slips());
    all.extend(files());
    all.extend(trees());
    all
}

/// One slip in each line of each kind of manifest: a key that nobody knows, a key twice, a tab, a byte that is no text.
fn slips() -> Vec<Case> {
    let mut all = Vec::new();
    let kinds = [("policy", POLICY), ("repository", REPOSITORY), ("sync", SYNC), ("device", DEVICE), ("rules", RULES)];
    for (kind, text) in kinds {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let mut with = |what: &str, slip: Vec<u8>| {
                let mut bytes = Vec::new();
                for (n, line) in lines.iter().enumerate() {
                    bytes.extend_from_slice(if n == at { &slip } else { line.as_bytes() });
                    bytes.push(b'\n');
                }
                all.push(file(format!("{kind}, line {}: {what}", at + 1), "more/more.yaml", bytes));
            };
            if let Some(colon) = line.find(':') {
                let (key, value) = line.split_at(colon);
                with("a key that nobody knows", format!("{key}x{value}").into_bytes());
            }
            match at % 3 {
                0 => with("a tab", format!("\t{}", line.trim_start()).into_bytes()),
                1 => with("no text", [line.as_bytes(), b"\xff"].concat()),
                _ => with("a key twice", format!("{line}\n{line}\n{}again: 1", " ".repeat(indent)).into_bytes()),
            }
        }
    }
    all
}

fn bomb() -> String {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    text
}

/// Files that are no manifests.
fn files() -> Vec<Case> {
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let long = "x".repeat(100_000);
    vec![
        file("anchors that explode", "more/bomb.yaml", bomb()),
        file("nesting without end", "more/deep.yaml", "[".repeat(1_000_000)),
        file(
            "nesting in blocks",
            "more/deep.yaml",
            (0..80).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<String>(),
        ),
        file("10 MB", "more/big.yaml", format!("{POLICY}{}", "# nothing\n".repeat(1 << 20))),
        file("10 MB of one line", "more/big.yaml", "x".repeat(10 << 20)),
        file("100,000 documents", "more/many.yaml", "---\n".repeat(100_000)),
        file("100,000 documents with something in them", "more/many.yaml", "---\na: 1\n".repeat(100_000)),
        file("a byte-order mark and a slip", "more/a.yaml", format!("\u{feff}{}", POLICY.replace("rules:", "rulez:"))),
        file("CRLF and a slip", "more/a.yaml", crlf(&POLICY.replace("rules:", "rulez:"))),
        file("CR alone", "more/a.yaml", POLICY.replace('\n', "\r")),
        file("UTF-16", "more/a.yaml", POLICY.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()),
        file("UTF-16 with a mark", "more/a.yaml", [&[0xff_u8, 0xfe][..], b"a\0:\0"].concat()),
        file("Latin-1", "more/a.yaml", &b"kind: Fleet\nname: b\xe4r\n"[..]),
        file("NUL", "more/a.yaml", &b"kind: \0Fleet\n"[..]),
        file("only NULs", "more/a.yaml", vec![0_u8; 4096]),
        file("an escape character", "more/a.yaml", &b"kind: \x1b[31mFleet\n"[..]),
        file("a list", "more/a.yaml", "- a\n- b\n"),
        file("a word", "more/a.yaml", "hello\n"),
        file("a kind that is a list", "more/a.yaml", "apiVersion: v1beta1\nkind: [Fleet]\n"),
        file(
            "a kind that is long",
            "more/a.yaml",
            format!("apiVersion: v1beta1\nkind: {long}\nmetadata: {{name: a}}\n"),
        ),
        file("a name that is long", "more/a.yaml", POLICY.replace("more", &long)),
        file("a name with capitals", "more/a.yaml", POLICY.replace("more", "More")),
        file("a kind in small letters", "more/a.yaml", POLICY.replace("EnrollmentPolicy", "enrollmentpolicy")),
        file("another tool's file", "more/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"),
        file("a list of manifests", "more/a.yaml", "apiVersion: v1\nkind: List\nitems: []\n"),
        file("a template of another tool", "more/a.yaml", "{{- range .Values.fleets }}\nkind: Fleet\n{{- end }}\n"),
        file("a merge conflict", "more/a.yaml", format!("<<<<<<< ours\n{POLICY}=======\n{SYNC}>>>>>>> theirs\n")),
        file("a directive", "more/a.yaml", format!("%YAML 1.2\n---\n{POLICY}")),
        file("only an end", "more/a.yaml", "...\n"),
        file("the second document is broken", "more/a.yaml", format!("{POLICY}---\nkind: [\n")),
        file("the first document is broken", "more/a.yaml", format!("kind: [\n---\n{POLICY}")),
        file("good after a bad alias", "more/a.yaml", format!("a:\n  - b: [*nothing]\n---\n{POLICY}")),
        file("JSON with a comma too many", "more/a.json", "{\"kind\": \"Fleet\",}"),
        file("JSON with a key twice", "more/a.json", "{\"kind\": \"Fleet\", \"kind\": \"Fleet\"}"),
        file("a list in JSON", "more/a.json", "[1]"),
        file("YAML in a JSON file", "more/a.json", POLICY),
        file("half of JSON", "more/a.json", "{\"apiVersion\": \"v1beta1\", \"kind\": "),
        file(
            "a Git LFS pointer for a manifest",
            KIOSKS,
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        ),
        file("an empty Fleet", "more/a.yaml", "apiVersion: flightctl.io/v1beta1\nkind: Fleet\n"),
        file(
            "many mistakes",
            "more/a.yaml",
            format!(
                "apiVersion: v1beta1\nkind: Fleet\nmetadata: {{name: many}}\n{}",
                (0..400).map(|n| format!("u{n}: 1\n")).collect::<String>()
            ),
        ),
        file("a lint configuration that is broken", ".fleetlint.yaml", "rules: [\n"),
        file("in a directory with blanks", "more/a b/c d.yaml", "kind: Flet\n"),
        file("in a directory in another script", "more/флот/парк.yaml", "kind: Flet\n"),
        file(
            "in a deep directory",
            "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/a.yml",
            "kind: Flet\n",
        ),
        file_named("a name with a line break", b"more/a\nb.yaml", "kind: Flet\n"),
        file_named("a name with a tab", b"more/a\tb.yaml", "kind: Flet\n"),
        file_named("a name with a backslash", b"more/a\\b.yaml", "kind: Flet\n"),
        file_named("a name with an escape character", b"more/a\x1b[31m.yaml", "kind: Flet\n"),
        file_named("a name with quotes", b"more/'a\".yaml", "kind: Flet\n"),
    ]
}

fn with(mut case: Case, stage: fn(&GitRepo)) -> Case {
    case.stage = Some(stage);
    case
}

fn finding(file: &'static str, code: &'static str) -> Says {
    Says::Finding { file, code }
}

/// What is wrong with whole trees and repositories.
fn trees() -> Vec<Case> {
    vec![
        case("a symbolic link for a manifest", finding("fleets/z.yaml", "SB0604"), |repo, _| {
            symlink("kiosks.yaml", repo.path().join("fleets/z.yaml")).unwrap();
        }),
        case("a link to itself", finding("fleets/loop.yaml", "SB0604"), |repo, _| {
            symlink("loop.yaml", repo.path().join("fleets/loop.yaml")).unwrap();
        }),
        case("a link out of the repository", finding("fleets/z.yaml", "SB0604"), |repo, _| {
            symlink("/etc/passwd", repo.path().join("fleets/z.yaml")).unwrap();
        }),
        case("a manifest becomes a link", finding(KIOSKS, "SB0604"), |repo, _| {
            repo.remove(KIOSKS);
            symlink("gates.yaml", repo.path().join(KIOSKS)).unwrap();
        }),
        with(case("a submodule named like a manifest", finding("fleets/sub.yaml", "SB0604"), |_, _| {}), |repo| {
            let commit = repo.head();
            repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},fleets/sub.yaml")]);
        }),
        with(case("a submodule among a fleet's files", finding(KIOSKS, "SB0601"), |_, _| {}), |repo| {
            let commit = repo.head();
            repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},config/kiosk/sub")]);
        }),
        with(
            case("a submodule takes the place of a fleet's files", finding(KIOSKS, "SB0601"), |repo, _| {
                repo.remove("config/kiosk");
            }),
            |repo| {
                let commit = repo.head();
                repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},config/kiosk")]);
            },
        ),
        case("a Git LFS pointer among a fleet's files", finding(KIOSKS, "SB0601"), |repo, _| {
            repo.write("config/kiosk/etc/motd", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
        }),
        case("a link among a fleet's files", finding(KIOSKS, "SB0601"), |repo, _| {
            symlink("/etc/shadow", repo.path().join("config/kiosk/etc/shadow")).unwrap();
        }),
        case("a file takes the place of a fleet's directory", Says::Lint, |repo, _| {
            repo.remove("config/kiosk").write("config/kiosk", "a file\n");
        }),
        case("a fleet's directory is gone", Says::Lint, |repo, _| {
            repo.remove("config");
        }),
        case("a fleet's directory is written in capitals", Says::Lint, |repo, _| {
            repo.git(&["mv", "config/kiosk", "config/Kiosk"]);
        }),
        case("the same object in a file that differs in capitals", Says::Lint, |repo, n| {
            repo.write("fleets/Kiosks.yaml", localized(n, FLEET));
        }),
        case("the same object in two kinds of files", Says::Lint, |repo, n| {
            repo.write("fleets/kiosks.yml", localized(n, FLEET));
        }),
        case("the same object twice in a file", Says::Lint, |repo, n| {
            repo.write(KIOSKS, localized(n, &format!("{FLEET}---\n{FLEET}")));
        }),
        case("every manifest twice", Says::Lint, |repo, n| {
            repo.write("copy/kiosks.yaml", localized(n, FLEET))
                .write("copy/gates.yaml", super::fleet(&format!("gates{n}"), "x"));
        }),
        case("an object of another source", Says::Finding { file: "fleets/theirs.yaml", code: "SB0602" }, |repo, n| {
            repo.write("fleets/theirs.yaml", localized((n + 1) % super::LANES, FLEET));
        }),
        unnamed(file_named("a manifest whose name is no text", b"fleets/\xff.yaml", POLICY)),
        unnamed(file_named("a manifest in a directory whose name is no text", b"\xfe\xff/a.yaml", POLICY)),
        unnamed(file_named("a fleet's file whose name is no text", b"config/kiosk/etc/b\xe4r", "x\n")),
        case("an empty tree", finding("/", "SB0603"), |repo, _| empty(repo)),
        case("only a README", finding("/", "SB0603"), |repo, _| {
            empty(repo);
            repo.write("README.md", "Gone\n");
        }),
        case("manifests that are called otherwise", finding("/", "SB0603"), |repo, _| {
            repo.git(&["mv", "fleets/kiosks.yaml", "fleets/kiosks.yaml.bak"]);
            repo.git(&["mv", "fleets/gates.yaml", "fleets/gates.txt"]);
            repo.remove("policies");
        }),
        case("manifests in a hidden directory", finding("/", "SB0603"), |repo, _| {
            repo.git(&["mv", "fleets", ".fleets"]);
            repo.remove("policies");
        }),
        case("empty manifests", finding("/", "SB0603"), |repo, _| {
            repo.write(KIOSKS, "").write("fleets/gates.yaml", "# nothing\n").remove("policies");
        }),
        Case {
            orphan: true,
            lane: Some(3),
            ..case("a branch without a past and without manifests", finding("/", "SB0603"), |repo, _| {
                empty(repo);
                repo.write("README.md", "New\n");
            })
        },
        Case { orphan: true, lane: Some(3), ..case("a branch without a past", Says::Held, |_, _| {}) },
    ]
}

/// Lint of a work tree fails where the source has a finding of the whole commit.
fn unnamed(mut case: Case) -> Case {
    case.says = finding("/", "SB0604");
    case
}

fn empty(repo: &GitRepo) {
    for path in ["fleets", "config", "policies", "README.md"] {
        repo.remove(path);
    }
}
