//! Counts and times in text form: for reasons, the log and `status`.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

/// `1 block`, `2 blocks`. `noun`: the singular; only nouns with a plural in `s`.
#[must_use]
pub fn count<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = match count == N::from(1) {
        true => "",
        false => "s",
    };
    format!("{count} {noun}{ending}")
}

/// `3d 4h`, `4h 5m`, `5m 6s`, `6s`: elapsed whole seconds.
#[must_use]
pub fn passed(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// The same for a time to come, rounded up: half a second is not over yet.
#[must_use]
pub fn left(time: Duration) -> String {
    let part = u64::from(time.subsec_nanos() > 0);
    passed(Duration::from_secs(time.as_secs().saturating_add(part)))
}

/// Removes the number that Rust appends to an error of the system, ` (os error 104)`: a log is read
/// by people. The rest of `text` is unchanged.
#[must_use]
pub fn without_error_numbers(text: &str) -> Cow<'_, str> {
    const HEAD: &str = " (os error ";
    let mut parts = text.split(HEAD);
    let first = parts.next().unwrap_or_default();
    if first.len() == text.len() {
        return Cow::Borrowed(text);
    }
    let mut plain = first.to_owned();
    for part in parts {
        let number = part.split_once(')');
        match number.filter(|(number, _)| number.parse::<i32>().is_ok()) {
            Some((_, rest)) => plain.push_str(rest),
            None => {
                plain.push_str(HEAD);
                plain.push_str(part);
            }
        }
    }
    Cow::Owned(plain)
}

/// The system's text for an error of a socket or a look-up, to be part of a sentence: `connection
/// refused`.
#[must_use]
pub fn system_words(error: &impl Display) -> String {
    let text = error.to_string();
    let text = text
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text);
    let text = without_error_numbers(text);
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_lowercase);
    first.chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_all_other_counts_are_plural() {
        assert_eq!(count(1u32, "block"), "1 block");
        assert_eq!(count(0usize, "block"), "0 blocks");
        assert_eq!(count(12u64, "peer"), "12 peers");
    }

    #[test]
    fn an_error_of_the_system_is_shown_without_its_number() {
        for (text, plain) in [
            (
                "a: Connection reset by peer (os error 104)",
                "a: Connection reset by peer",
            ),
            ("x (os error 2); y (os error 13) z", "x; y z"),
            ("said (os error by somebody)", "said (os error by somebody)"),
            ("cut (os error 1", "cut (os error 1"),
            ("", ""),
        ] {
            assert_eq!(without_error_numbers(text), plain);
        }
    }

    #[test]
    fn errors_of_dials_and_look_ups_are_only_the_systems_text() {
        for (error, words) in [
            ("Connection refused (os error 111)", "connection refused"),
            (
                "failed to lookup address information: Name or service not known",
                "name or service not known",
            ),
            ("", ""),
        ] {
            assert_eq!(system_words(&error), words);
        }
    }

    #[test]
    fn times_show_their_two_largest_units() {
        for (seconds, text) in [
            (6, "6s"),
            (306, "5m 6s"),
            (14_700, "4h 5m"),
            (273_600, "3d 4h"),
        ] {
            assert_eq!(passed(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_time_to_come_is_rounded_up_and_one_that_has_passed_down() {
        let time = Duration::from_millis(59_100);
        assert_eq!((left(time), passed(time)), ("1m 0s".into(), "59s".into()));
        assert_eq!(left(Duration::ZERO), "0s");
    }
}
