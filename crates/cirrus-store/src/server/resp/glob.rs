//! Patterns of names: `*`, `?`, `[a-z]`, `[^...]` and `\` as KEYS and SCAN know them.
//!
//! Pure. Invariant: a match takes at most time in proportion to pattern times name, whatever the
//! pattern.

/// Whether `name` as a whole matches `pattern`.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at_pattern, mut at_name) = (0, 0);
    // Where to go on when what follows the last star does not match: only the last one can
    // matter, since a star before it may always take less.
    let mut again: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at_pattern) == Some(&b'*') {
            while pattern.get(at_pattern) == Some(&b'*') {
                at_pattern += 1;
            }
            if at_pattern == pattern.len() {
                return true;
            }
            again = Some((at_pattern, at_name));
        }
        let step = match (pattern.get(at_pattern..), name.get(at_name)) {
            (None | Some([]), None) => return true,
            (None | Some([]), Some(_)) => None,
            (Some(_), None) => return false,
            (Some(rest), Some(byte)) => one(rest, *byte),
        };
        match (step, again) {
            (Some(consumed), _) => {
                at_pattern += consumed;
                at_name += 1;
            }
            (None, None) => return false,
            (None, Some((after_star, from))) => {
                again = Some((after_star, from + 1));
                (at_pattern, at_name) = (after_star, from + 1);
            }
        }
    }
}

/// How much of the pattern stands for this one byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            let (matched, consumed) = class(rest, byte);
            matched.then_some(1 + consumed)
        }
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

/// Whether a class has the byte, and how long the class is; one that does not end goes to the
/// pattern's end.
fn class(pattern: &[u8], byte: u8) -> (bool, usize) {
    let is_negated = pattern.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut found = false;
    loop {
        match pattern.get(at..).unwrap_or_default() {
            [] => break,
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [from, b'-', to, ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
    (found != is_negated, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_redis() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hbllo", true),
            ("h[^e]llo", "hello", false),
            ("h[b-a]llo", "hallo", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("[a", "a", true),
            ("[]", "]", false),
            ("[\\]]", "]", true),
            ("a**b", "ab", true),
            ("?", "", false),
            ("a*", "a", true),
            ("*[0-9]", "key7", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        let pattern = "a*".repeat(200) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(1000).as_bytes()));
    }
}
