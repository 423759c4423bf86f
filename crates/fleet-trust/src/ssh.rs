//! Signers with SSH keys: lines of OpenSSH's `allowed_signers`, and signatures in its format (SSHSIG).

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::{HashAlg, PublicKey, SshSig};

/// What Git signs in.
const NAMESPACE: &str = "git";
/// RSA keys with fewer bits are refused.
const MIN_RSA_BITS: usize = 2048;
/// A line longer than this is refused, in bytes.
const MAX_LINE: usize = 16 << 10;
/// A signature longer than this is none, in bytes.
const MAX_SIGNATURE: usize = 32 << 10;

/// Keys and when they count.
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners {
    signers: Vec<Signer>,
}

#[derive(Debug, Clone)]
struct Signer {
    principals: String,
    /// For Git's namespace.
    for_git: bool,
    valid_after: Option<i64>,
    valid_before: Option<i64>,
    key: PublicKey,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct LineError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl AllowedSigners {
    /// Reads the lines of an `allowed_signers` file; empty lines and comments (`#`) are passed over. What is wrong with lines
    /// that cannot be used comes along, and they allow nobody. Certificate authorities are not supported; times without a
    /// `Z` are UTC, whatever the machine's time zone.
    pub fn parse(text: &str) -> (Self, Vec<LineError>) {
        let (mut found, mut errors) = (Self::default(), Vec::new());
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match signer(line) {
                Ok(signer) => found.signers.push(signer),
                Err(message) => errors.push(LineError { line: at + 1, message }),
            }
        }
        (found, errors)
    }

    /// Whether there is no usable line.
    pub fn is_empty(&self) -> bool {
        self.signers.is_empty()
    }

    /// Whether somebody's key counts at that time (seconds since 1970) or later.
    pub fn any_from(&self, now: i64) -> bool {
        self.signers.iter().any(|signer| signer.for_git && signer.valid_before.is_none_or(|before| before >= now))
    }

    /// Whose signature over `payload` it is, at a time in seconds since 1970.
    ///
    /// # Errors
    /// Why it is nobody's, as a part of a sentence.
    pub fn verify(&self, payload: &[u8], signature: &str, at: i64) -> Result<String, String> {
        if signature.len() > MAX_SIGNATURE {
            return Err("its SSH signature is too long".to_owned());
        }
        let signature = SshSig::from_pem(signature).map_err(|_| "its SSH signature cannot be read".to_owned())?;
        let print = signature.public_key().fingerprint(HashAlg::Sha256);
        if signature.namespace() != NAMESPACE || !signature.reserved().is_empty() {
            return Err(format!("its SSH signature by {print} is not one for Git"));
        }
        let known: Vec<&Signer> =
            self.signers.iter().filter(|signer| signer.key.key_data() == signature.public_key()).collect();
        let Some(first) = known.first() else {
            return Err(format!("it is signed with the SSH key {print}, unknown there"));
        };
        if first.key.verify(NAMESPACE, payload, &signature).is_err() {
            return Err(format!("its SSH signature by {print} does not fit its content"));
        }
        if let Some(signer) = known.iter().find(|signer| signer.for_git && signer.is_valid(at)) {
            return Ok(format!("{} ({print})", signer.principals));
        }
        let who = &first.principals;
        if known.iter().all(|signer| !signer.for_git) {
            return Err(format!("the SSH key {print} of {who} is not allowed for the namespace git"));
        }
        Err(format!("the SSH key {print} of {who} was not valid when it was committed, {}", told(at)))
    }
}

impl Signer {
    fn is_valid(&self, at: i64) -> bool {
        self.valid_after.is_none_or(|after| at >= after) && self.valid_before.is_none_or(|before| at <= before)
    }
}

pub(crate) fn told(at: i64) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |time| time.to_string())
}

/// `alice@example.com,bob@example.com namespaces="git" ssh-ed25519 AAAA... comment`
fn signer(line: &str) -> Result<Signer, String> {
    if line.len() > MAX_LINE {
        return Err(format!("is longer than {MAX_LINE} bytes"));
    }
    let (principals, rest) = token(line)?;
    let principals = principals.trim_matches('"').to_owned();
    if principals.is_empty() {
        return Err("names nobody".to_owned());
    }
    let (word, after) = token(rest)?;
    let (options, key) = if is_key_type(word) { ("", rest) } else { (word, after) };
    let mut signer_options = Options::default();
    for option in split(options)? {
        signer_options.add(option)?;
    }
    let Options { for_git, valid_after, valid_before } = signer_options;
    if let (Some(after), Some(before)) = (valid_after, valid_before)
        && before <= after
    {
        return Err("is never valid: valid-before is not after valid-after".to_owned());
    }
    let mut parts = key.split_ascii_whitespace();
    let (Some(kind), Some(data)) = (parts.next(), parts.next()) else { return Err("has no key".to_owned()) };
    if !is_key_type(kind) {
        return Err(format!("{} is no type of key; a line is: names, options, type of key, key", shown(kind)));
    }
    let key = PublicKey::from_openssh(&format!("{kind} {data}"))
        .map_err(|error| format!("the key of {} cannot be read: {error}", shown(&principals)))?;
    if let Some(rsa) = key.key_data().rsa() {
        let bits = rsa.n.as_positive_bytes().map_or(0, |bytes| bytes.len() * 8);
        if bits < MIN_RSA_BITS {
            return Err(format!("the RSA key of {} is shorter than {MIN_RSA_BITS} bits", shown(&principals)));
        }
    }
    Ok(Signer { principals, for_git: for_git.unwrap_or(true), valid_after, valid_before, key })
}

const KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

fn is_key_type(word: &str) -> bool {
    KEY_TYPES.contains(&word)
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(60).collect::<String>())
}

#[derive(Default)]
struct Options {
    for_git: Option<bool>,
    valid_after: Option<i64>,
    valid_before: Option<i64>,
}

impl Options {
    fn add(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let quoted = || {
            let inner = value.and_then(|value| value.strip_prefix('"')).and_then(|value| value.strip_suffix('"'));
            inner.filter(|inner| !inner.contains('"')).ok_or_else(|| format!("{name} needs a value in quotes"))
        };
        let once = |is_new: bool| if is_new { Ok(()) } else { Err(format!("{name} is given twice")) };
        match name.to_ascii_lowercase().as_str() {
            "cert-authority" => Err("cert-authority is not supported; list the signers' own keys".to_owned()),
            "namespaces" => {
                once(self.for_git.is_none())?;
                self.for_git = Some(matches_list(NAMESPACE, quoted()?));
                Ok(())
            }
            "valid-after" => {
                once(self.valid_after.is_none())?;
                self.valid_after = Some(time(quoted()?)?);
                Ok(())
            }
            "valid-before" => {
                once(self.valid_before.is_none())?;
                self.valid_before = Some(time(quoted()?)?);
                Ok(())
            }
            _ => Err(format!("{} is neither an option nor a type of key that is known", shown(name))),
        }
    }
}

/// The first word and what comes after it; quotes keep blanks inside.
fn token(text: &str) -> Result<(&str, &str), String> {
    let text = text.trim_start();
    let mut in_quotes = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => in_quotes = !in_quotes,
            ' ' | '\t' if !in_quotes => return Ok((&text[..at], text[at..].trim_start())),
            _ => {}
        }
    }
    if in_quotes { Err("a quote is not closed".to_owned()) } else { Ok((text, "")) }
}

/// At commas outside quotes.
fn split(options: &str) -> Result<Vec<&str>, String> {
    let (mut found, mut begin, mut in_quotes) = (Vec::new(), 0, false);
    for (at, c) in options.char_indices() {
        match c {
            '"' => in_quotes = !in_quotes,
            ',' if !in_quotes => {
                found.push(&options[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !options.is_empty() {
        found.push(&options[begin..]);
    }
    if found.contains(&"") { Err("an option is empty".to_owned()) } else { Ok(found) }
}

/// OpenSSH's lists of patterns: `*` and `?`, commas, and `!` for what is not meant, which wins.
fn matches_list(name: &str, list: &str) -> bool {
    let mut any = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(name.as_bytes(), pattern.as_bytes()) => return false,
            Some(_) => {}
            None => any |= matches(name.as_bytes(), pattern.as_bytes()),
        }
    }
    any
}

/// The name is short and fixed, so that trying all ways is cheap: `reached[i]` says whether the first `i` bytes can be read.
fn matches(name: &[u8], pattern: &[u8]) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for step in pattern {
        let before = reached.clone();
        for at in 0..=name.len() {
            reached[at] = match step {
                b'*' => before[at] || (at > 0 && reached[at - 1]),
                _ if at == 0 => false,
                b'?' => before[at - 1],
                byte => before[at - 1] && name[at - 1] == *byte,
            };
        }
    }
    reached[name.len()]
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, with or without `Z`.
fn time(text: &str) -> Result<i64, String> {
    let bad = || format!("{} is no time: write YYYYMMDD, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ", shown(text));
    let digits = text.strip_suffix('Z').unwrap_or(text);
    if ![8, 12, 14].contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number = |at: usize, len: usize| digits.get(at..at + len).map_or(Ok(0), str::parse::<i8>).map_err(|_| bad());
    let year: i16 = digits[..4].parse().map_err(|_| bad())?;
    let date = DateTime::new(year, number(4, 2)?, number(6, 2)?, number(8, 2)?, number(10, 2)?, number(12, 2)?, 0);
    let zoned = date.and_then(|date| date.to_zoned(TimeZone::UTC)).map_err(|_| bad())?;
    Ok(zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn error(line: &str) -> String {
        let (found, errors) = AllowedSigners::parse(line);
        assert!(found.is_empty(), "{line}");
        errors.into_iter().next().unwrap().message
    }

    #[test]
    fn lines_are_read_as_openssh_reads_them() {
        let text = format!(
            "# people\n\n a@b,c@d namespaces=\"file,g*\",valid-after=\"20260101Z\",valid-before=\"202601021530\" {KEY} me\n\
             \"Ann Other\" {KEY}\n*@b NAMESPACES=\"!git,*\" {KEY}\n"
        );
        let (found, errors) = AllowedSigners::parse(&text);
        assert_eq!(errors, []);
        let told: Vec<_> =
            found.signers.iter().map(|s| (s.principals.as_str(), s.for_git, s.valid_after, s.valid_before)).collect();
        let expected = [
            ("a@b,c@d", true, Some(1_767_225_600), Some(1_767_367_800)),
            ("Ann Other", true, None, None),
            ("*@b", false, None, None),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn lines_that_cannot_be_used_say_why() {
        for (line, part) in [
            (format!("a@b cert-authority {KEY}"), "not supported"),
            ("a@b".to_owned(), "has no key"),
            ("a@b ssh-dss AAAA".to_owned(), "neither an option nor a type of key"),
            ("a@b ssh-ed25519 AAAA".to_owned(), "cannot be read"),
            (format!("a@b valid-after=20260101 {KEY}"), "in quotes"),
            (format!("a@b valid-after=\"20261301\" {KEY}"), "is no time"),
            (format!("a@b valid-after=\"20260102\",valid-before=\"20260101\" {KEY}"), "never valid"),
            (format!("a@b valid-after=\"20260102\",valid-after=\"20260101\" {KEY}"), "twice"),
            (format!("a@b namespaces=\"git {KEY}"), "not closed"),
        ] {
            assert!(error(&line).contains(part), "{line}: {}", error(&line));
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        for (list, yes) in
            [("git", true), ("g?t", true), ("*", true), ("gi", false), ("gitx", false), ("*t,!git", false)]
        {
            assert_eq!(matches_list("git", list), yes, "{list}");
        }
    }
}
