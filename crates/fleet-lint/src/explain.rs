//! A page for every code: what it means, a wrong and a right example, and what to do.
//!
//! The pages are the files `explain/SBxxxx.md`. A test keeps them and [`codes`](crate::codes) together and lints the
//! examples: what a page calls wrong really gives its code, and what it calls right has no error.

macro_rules! pages {
    ($($code:literal)*) => {
        /// Pages by code, in order.
        const PAGES: &[(&str, &str)] = &[$(($code, include_str!(concat!("explain/", $code, ".md")))),*];
    };
}

pages! {
    "SB0001" "SB0002" "SB0003" "SB0004" "SB0005"
    "SB0101" "SB0102" "SB0103" "SB0104" "SB0105" "SB0106" "SB0107" "SB0108" "SB0109" "SB0110"
    "SB0111" "SB0112" "SB0113" "SB0114"
    "SB0201" "SB0202" "SB0203" "SB0204" "SB0205" "SB0206" "SB0207" "SB0208" "SB0209" "SB0210"
    "SB0211"
    "SB0301" "SB0302" "SB0303" "SB0304" "SB0305" "SB0306" "SB0307" "SB0308"
    "SB0401" "SB0402" "SB0403" "SB0404" "SB0405" "SB0406" "SB0407" "SB0408" "SB0409" "SB0410"
    "SB0411" "SB0412" "SB0413" "SB0414" "SB0415" "SB0416" "SB0417" "SB0418" "SB0419" "SB0420"
    "SB0421" "SB0422" "SB0423" "SB0424" "SB0425" "SB0426" "SB0427" "SB0428" "SB0440" "SB0441"
    "SB0442" "SB0443" "SB0444" "SB0445" "SB0446" "SB0447" "SB0448" "SB0449" "SB0450" "SB0451" "SB0452"
    "SB0453" "SB0454" "SB0455" "SB0456" "SB0457" "SB0458" "SB0459" "SB0460" "SB0461" "SB0462"
    "SB0463" "SB0464" "SB0465" "SB0466" "SB0467" "SB0468" "SB0469"
    "SB0480" "SB0481" "SB0482" "SB0483" "SB0484"
    "SB0501" "SB0502" "SB0503" "SB0504" "SB0505" "SB0506" "SB0507" "SB0508" "SB0509" "SB0510"
    "SB0511" "SB0512"
    "SB0601" "SB0602" "SB0603" "SB0604" "SB0605" "SB0606"
    "SB0701" "SB0702" "SB0703" "SB0704" "SB0705" "SB0706" "SB0707"
}

/// The page of a code such as `SB0103`, as Markdown: a heading with code and title, what it means, the sections `Wrong`
/// and `Right` (or `Example`, where YAML cannot show it) and `Fix`. `None` when there is no such code.
pub fn explain(code: &str) -> Option<&'static str> {
    PAGES.binary_search_by_key(&code, |(known, _)| known).ok().map(|at| PAGES[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let codes: Vec<&str> = codes::ALL.iter().map(|code| code.code).collect();
        let pages: Vec<&str> = PAGES.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, pages);
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/explain");
        let mut files: Vec<String> = std::fs::read_dir(dir)
            .expect("the pages are there")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        files.sort();
        assert_eq!(files, pages.iter().map(|code| format!("{code}.md")).collect::<Vec<_>>(), "files without a row");
        assert_eq!(explain("SB9999"), None);
    }
}
