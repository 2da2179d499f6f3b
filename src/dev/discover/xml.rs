//! XML as cameras send it: bytes of any size and kind come in, elements by their local names go out. Prefixes and namespaces are
//! not compared, since cameras mix up those of drafts and standards; document types are refused.

use roxmltree::{Document, Node, ParsingOptions};
use twinsight_client::hub::text::brief;

/// A document may have this many elements, texts and comments; that of a camera with many profiles has some thousand.
const MAX_NODES: u32 = 20_000;

/// A document may declare this many namespaces, and have this many attributes: the parser compares each with many others, and would take
/// minutes for as many as fit into an answer. Real ones have some dozens and some thousand.
const MAX_NAMESPACES: usize = 1000;
const MAX_ATTRIBUTES: usize = 10_000;

/// The text of an answer. Bytes that are no UTF-8 are replaced, since cameras write names in other encodings and tags in ASCII, and
/// what some send around the document is left out.
pub(super) fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let is_around = |c: char| c.is_whitespace() || c == '\0' || c == '\u{feff}';
    text.trim_matches(is_around).to_owned()
}

/// Reads a document. The error is a sentence's end: what is wrong with it, and where.
pub(super) fn parse(text: &str) -> Result<Document<'_>, String> {
    if text.matches("xmlns").count() > MAX_NAMESPACES || text.matches('=').count() > MAX_ATTRIBUTES
    {
        return Err("it has more namespaces or attributes than any camera sends".to_owned());
    }
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: MAX_NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).map_err(|error| brief(&error.to_string()))
}

/// The elements within this one that have a name.
pub(super) fn children<'a, 'i>(
    node: Node<'a, 'i>,
    name: &'a str,
) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children()
        .filter(move |child| child.is_element() && child.tag_name().name() == name)
}

/// The element at the end of a path of names, each the first of its name.
pub(super) fn find<'a, 'i>(node: Node<'a, 'i>, path: &[&str]) -> Option<Node<'a, 'i>> {
    path.iter().try_fold(node, |node, name| {
        node.children()
            .find(|child| child.is_element() && child.tag_name().name() == *name)
    })
}

/// What an element at the end of a path says, without blanks around it; nothing if that is empty.
pub(super) fn string<'a>(node: Node<'a, '_>, path: &[&str]) -> Option<&'a str> {
    let text = find(node, path)?.text()?.trim();
    (!text.is_empty()).then_some(text)
}

/// The same for people to read: what a camera says of itself may be long, and may have control characters in it.
pub(super) fn shown(node: Node<'_, '_>, path: &[&str]) -> Option<String> {
    string(node, path).map(brief)
}

/// A text as it may stand in a document.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            // Nothing else of them may be in XML at all.
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_whatever_their_prefixes_are() {
        let text =
            text(b"\xef\xbb\xbf\n<a:A xmlns:a='x' xmlns='y'><a:B> 1 </a:B><B>2</B><C/></a:A>\0\0");
        let document = parse(&text).unwrap();
        let root = document.root();
        assert_eq!(string(root, &["A", "B"]), Some("1"));
        assert_eq!(string(root, &["A", "C"]), None);
        assert_eq!(string(root, &["A", "D"]), None);
        let a = find(root, &["A"]).unwrap();
        assert_eq!(children(a, "B").count(), 2);
    }

    #[test]
    fn entities_depths_and_masses_are_refused_or_harmless() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"cc\">]><a>&b;</a>";
        assert!(
            parse(bomb).unwrap_err().contains("DTD"),
            "{:?}",
            parse(bomb)
        );
        assert!(parse(&"<a/>".repeat(2)).is_err());
        let wide = format!("<a>{}</a>", "<b/>".repeat(30_000));
        assert!(
            parse(&wide).unwrap_err().contains("limit"),
            "{:?}",
            parse(&wide)
        );
        let deep = "<a>".repeat(19_000) + &"</a>".repeat(19_000);
        let document = parse(&deep).unwrap();
        assert!(find(document.root(), &["a", "a", "b"]).is_none());
        assert!(parse("").is_err());
    }

    #[test]
    fn attributes_and_namespaces_in_masses_are_refused() {
        let attributes: String = (0..60_000).map(|n| format!(" a{n}=''")).collect();
        let nested: String = (0..15_000).map(|n| format!("<a xmlns:b{n}='c'>")).collect();
        for text in [format!("<a{attributes}/>"), nested + &"</a>".repeat(15_000)] {
            let reason = parse(&text).unwrap_err();
            assert!(reason.contains("more namespaces or attributes"), "{reason}");
        }
    }

    #[test]
    fn bytes_of_another_encoding_are_no_reason_to_give_up() {
        let text = text(b"<a><b>\xc9\xe3\xcf\xf1\xcd\xb7</b></a>");
        assert!(parse(&text).is_ok());
    }

    #[test]
    fn what_is_escaped_comes_back() {
        let odd = "a&b<c>\"d'\u{1}";
        let text = format!("<a>{}</a>", escaped(odd));
        assert_eq!(
            string(parse(&text).unwrap().root(), &["a"]),
            Some("a&b<c>\"d'")
        );
    }
}
