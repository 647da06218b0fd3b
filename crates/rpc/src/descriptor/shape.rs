//! Which function of a descriptor may stand where, and where each ends.
//!
//! Core `ParseScript`, `Expr` and `Func`: in its order and in its words, so that callers can
//! tell the same mistakes apart. What miniscript inside of `wsh()` and `tr()` means is left to
//! `miniscript`.

/// The function that encloses another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parent {
    Top,
    P2sh,
    P2wsh,
    /// A leaf of the tree of `tr()`.
    Leaf,
}

/// Deepest tree of `tr()` (BIP341). Core `TAPROOT_CONTROL_MAX_NODE_COUNT`.
const MAX_DEPTH: usize = 128;

/// Miniscript's fragments that take arguments.
const FRAGMENTS: [&str; 23] = [
    "after",
    "and_b",
    "and_n",
    "and_v",
    "andor",
    "hash160",
    "hash256",
    "multi",
    "multi_a",
    "older",
    "or_b",
    "or_c",
    "or_d",
    "or_i",
    "pk",
    "pk_h",
    "pk_k",
    "pkh",
    "ripemd160",
    "sha256",
    "sortedmulti",
    "sortedmulti_a",
    "thresh",
];

/// Whether the functions of a descriptor without its checksum stand where they may.
pub(super) fn check(body: &str) -> Result<(), String> {
    let (first, rest) = expression(body);
    script(first, Parent::Top)?;
    nothing_follows(rest)
}

/// The text up to a comma or a bracket that belongs to what is around it, and the rest.
fn expression(text: &str) -> (&str, &str) {
    let mut level = 0_usize;
    let end = text.find(|c| {
        match c {
            '(' | '{' => level += 1,
            ')' | '}' | ',' if level == 0 => return true,
            ')' | '}' => level -= 1,
            _ => {}
        }
        false
    });
    text.split_at(end.unwrap_or(text.len()))
}

/// The name and the arguments.
fn function(text: &str) -> Option<(&str, &str)> {
    text.strip_suffix(')')?.split_once('(')
}

/// Core refuses it without a word.
fn nothing_follows(rest: &str) -> Result<(), String> {
    match rest {
        "" => Ok(()),
        _ => Err(format!("Nothing is expected where '{rest}' follows")),
    }
}

fn script(text: &str, parent: Parent) -> Result<(), String> {
    use Parent::{Leaf, P2sh, P2wsh, Top};
    let Some((name, inside)) = function(text) else {
        return fragment(text, None, parent);
    };
    let only = |name: &str, where_: &str| Err(format!("Can only have {name} {where_}"));
    match (name, parent) {
        ("pk", _) | ("pkh", Top | P2sh | P2wsh) | ("combo", Top) | ("wpkh", Top | P2sh) => {
            key(name, inside, parent)
        }
        ("combo", _) => only("combo()", "at top level"),
        ("wpkh", _) => only("wpkh()", "at top level or inside sh()"),
        ("multi" | "sortedmulti", Top | P2sh | P2wsh) => Ok(()),
        ("multi" | "sortedmulti", Leaf) => {
            only("multi/sortedmulti", "at top level, in sh(), or in wsh()")
        }
        ("multi_a" | "sortedmulti_a", Leaf) => Ok(()),
        ("multi_a" | "sortedmulti_a", _) => only("multi_a/sortedmulti_a", "inside tr()"),
        ("sh", Top) => within(inside, P2sh),
        ("sh", _) => only("sh()", "at top level"),
        ("wsh", Top | P2sh) => within(inside, P2wsh),
        ("wsh", _) => only("wsh()", "at top level or inside sh()"),
        ("addr" | "raw", Top) => Ok(()),
        ("addr" | "raw", _) => only(&format!("{name}()"), "at top level"),
        ("tr", Top) => taproot(inside),
        ("rawtr", Top) => match expression(inside) {
            (inside, "") => key(name, inside, Leaf),
            _ => Err("rawtr(): only one key expected.".to_owned()),
        },
        ("tr" | "rawtr", _) => only(name, "at top level"),
        _ => fragment(text, Some(name), parent),
    }
}

fn within(inside: &str, parent: Parent) -> Result<(), String> {
    let (first, rest) = expression(inside);
    script(first, parent)?;
    nothing_follows(rest)
}

/// The key of a function that has one and nothing else.
fn key(name: &str, inside: &str, parent: Parent) -> Result<(), String> {
    if inside.starts_with("musig(") {
        return Err(match parent {
            Parent::Leaf => format!("{name}(): musig() is not supported"),
            _ => format!("{name}(): musig() is only allowed in tr() and rawtr()"),
        });
    }
    match inside.contains([',', '(', ')', '{', '}']) {
        false => Ok(()),
        true => Err(format!("{name}(): key '{inside}' is not valid")),
    }
}

/// The internal key of `tr()`, and its tree of scripts.
fn taproot(inside: &str) -> Result<(), String> {
    let (internal, mut rest) = expression(inside);
    key("tr", internal, Parent::Leaf)?;
    if rest.is_empty() {
        return Ok(());
    }
    if !take(&mut rest, ',') {
        let found = rest.chars().next().unwrap_or(')');
        return Err(format!("tr: expected ',', got '{found}'"));
    }
    // The branches that are open, and of which the right side is.
    let mut branches: Vec<bool> = Vec::new();
    loop {
        while take(&mut rest, '{') {
            branches.push(false);
            if branches.len() > MAX_DEPTH {
                return Err(format!("tr() supports at most {MAX_DEPTH} nesting levels"));
            }
        }
        let (leaf, after) = expression(rest);
        rest = after;
        script(leaf, Parent::Leaf)?;
        while branches.pop_if(|right| *right).is_some() {
            if !take(&mut rest, '}') {
                return Err("tr(): expected '}' after script expression".to_owned());
            }
        }
        let Some(left) = branches.last_mut() else {
            break;
        };
        if !take(&mut rest, ',') {
            return Err("tr(): expected ',' after script expression".to_owned());
        }
        *left = true;
    }
    match rest {
        "" => Ok(()),
        _ => Err("tr(): expected ')' after script expression".to_owned()),
    }
}

fn take(text: &mut &str, mark: char) -> bool {
    let rest = text.strip_prefix(mark);
    *text = rest.unwrap_or(text);
    rest.is_some()
}

/// Miniscript, if it can be: with wrappers before a colon. Without a name it is no function.
fn fragment(text: &str, name: Option<&str>, parent: Parent) -> Result<(), String> {
    let bare = |name: &str| name.rsplit(':').next().unwrap_or(name).to_owned();
    let known = match name {
        Some(name) => FRAGMENTS.contains(&bare(name).as_str()),
        None => ["0", "1"].contains(&bare(text).as_str()),
    };
    match parent {
        Parent::P2wsh | Parent::Leaf if known && is_closed(text) => Ok(()),
        Parent::Top | Parent::P2sh if known && is_closed(text) => {
            Err("Miniscript expressions can only be used in wsh or tr.".to_owned())
        }
        Parent::P2sh => Err("A function is needed within P2SH".to_owned()),
        Parent::P2wsh => Err("A function is needed within P2WSH".to_owned()),
        Parent::Top | Parent::Leaf => Err(format!("'{text}' is not a valid descriptor function")),
    }
}

/// Whether every bracket that is opened is closed.
fn is_closed(text: &str) -> bool {
    let count = |marks: [char; 2]| text.matches(marks).count();
    count(['(', '{']) == count([')', '}'])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of Bitcoin Core, which `tests/tests/interop/descriptors.rs` compares with a
    /// running one.
    #[test]
    fn a_function_in_the_wrong_place_is_refused_in_the_words_of_core() {
        for (text, said) in [
            ("sh(sh(pkh(K)))", "Can only have sh() at top level"),
            ("sh(sh(pkh(K))", "Can only have sh() at top level"),
            (
                "wsh(wsh(pkh(K)))",
                "Can only have wsh() at top level or inside sh()",
            ),
            (
                "sh(wsh(wpkh(K)))",
                "Can only have wpkh() at top level or inside sh()",
            ),
            ("sh(tr(K))", "Can only have tr at top level"),
            ("tr(K,rawtr(K))", "Can only have rawtr at top level"),
            ("wsh(raw(51))", "Can only have raw() at top level"),
            (
                "multi_a(1,K)",
                "Can only have multi_a/sortedmulti_a inside tr()",
            ),
            ("wsh(musig(K,K))", "A function is needed within P2WSH"),
            (
                "wpkh(musig(K,K))",
                "wpkh(): musig() is only allowed in tr() and rawtr()",
            ),
            ("pkh(K", "'pkh(K' is not a valid descriptor function"),
            ("wsh(pkh(K)", "A function is needed within P2WSH"),
            (
                "wsh(and_v(v:pk(K),pk(K))",
                "A function is needed within P2WSH",
            ),
            ("sh(xpk(K))", "A function is needed within P2SH"),
            (
                "sh(and_v(v:pk(K),pk(K)))",
                "Miniscript expressions can only be used in wsh or tr.",
            ),
            ("tr(K,)", "'' is not a valid descriptor function"),
            ("tr(K,pk(K)", "'pk(K' is not a valid descriptor function"),
            (
                "tr(K,{pk(K)})",
                "tr(): expected ',' after script expression",
            ),
            (
                "tr(K,{pk(K),pk(K))",
                "tr(): expected '}' after script expression",
            ),
            (
                "tr(K,pk(K),pk(K))",
                "tr(): expected ')' after script expression",
            ),
            (
                "tr(K,pk(K)})",
                "'tr(K,pk(K)}' is not a valid descriptor function",
            ),
            ("rawtr(K,pk(K))", "rawtr(): only one key expected."),
            (")", "'' is not a valid descriptor function"),
            ("pkh", "'pkh' is not a valid descriptor function"),
            ("wsh(pk)", "A function is needed within P2WSH"),
            // Core refuses these without an error text, or can derive them.
            ("pkh(K))", "Nothing is expected where ')' follows"),
            (
                "wsh(pk(K),pk(K))",
                "Nothing is expected where ',pk(K)' follows",
            ),
            ("tr(musig(K,K))", "tr(): musig() is not supported"),
            ("tr(K,pk(musig(K,K)))", "pk(): musig() is not supported"),
        ] {
            assert_eq!(check(text), Err(said.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_function_where_it_may_stand_is_accepted() {
        for text in [
            "pk(K)",
            "sh(wsh(sortedmulti(1,K,K)))",
            "sortedmulti(2,K,K)",
            "tr(K)",
            "tr(K,{pk(K),{multi_a(1,K),and_v(v:pk(K),older(9))}})",
            "wsh(andor(pk(K),older(9),pk(K)))",
            "sh(wpkh(K))",
            "rawtr(K)",
            "addr(A)",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        let deep = |levels: usize| {
            format!(
                "tr(K,{}pk(K){})",
                "{".repeat(levels),
                ",pk(K)}".repeat(levels)
            )
        };
        assert_eq!(check(&deep(MAX_DEPTH)), Ok(()));
        assert!(check(&deep(MAX_DEPTH + 1)).is_err_and(|said| said.contains("nesting levels")));
    }
}
