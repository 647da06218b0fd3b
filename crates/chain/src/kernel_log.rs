//! What the kernel's log says of its trouble.

/// The kernel's own words about its trouble: its last error.
pub(crate) fn last_line(log: &[String]) -> String {
    log.iter()
        .rev()
        .find(|line| line.starts_with("[error]"))
        .or(log.last())
        .map_or_else(
            || "the kernel gave no reason".into(),
            |line| body(line).to_owned(),
        )
}

/// All that the kernel called an error, from the cause to the consequence.
pub(crate) fn errors(log: &[String]) -> String {
    let errors: Vec<&str> = log
        .iter()
        .filter(|line| line.starts_with("[error]"))
        .map(|line| body(line))
        .collect();
    let errors = each_once(errors);
    match errors.is_empty() {
        true => last_line(log),
        false => errors.join("; "),
    }
}

/// Without those that an earlier one tells in other words: what LevelDB says is logged by it,
/// and again by its caller.
fn each_once(errors: Vec<&str>) -> Vec<&str> {
    let mut told: Vec<&str> = Vec::new();
    for error in errors {
        let cause = error.split_once(": ").map_or(error, |(_, cause)| cause);
        if !told.iter().any(|earlier| earlier.contains(cause)) {
            told.push(error);
        }
    }
    told
}

/// The line without its `[category:level] ` prefix.
pub(crate) fn body(line: &str) -> &str {
    match line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((_, body)) => body,
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_is_logged_by_two_is_told_once() {
        let log = [
            "[error] Fatal LevelDB error: IO error: /d/LOCK: Permission denied".to_owned(),
            "[error] IO error: /d/LOCK: Permission denied".to_owned(),
            "[error] Failed to open the block database".to_owned(),
        ];
        assert_eq!(
            errors(&log),
            "Fatal LevelDB error: IO error: /d/LOCK: Permission denied; \
             Failed to open the block database"
        );
    }

    #[test]
    fn all_errors_are_told_from_the_cause_to_the_consequence() {
        let log = [
            "[error] Disk space is too low!".to_owned(),
            "[error] ProcessNewBlock: ActivateBestChain failed (x)".to_owned(),
        ];
        assert!(errors(&log).starts_with("Disk space is too low!; "));
        assert_eq!(last_line(&[]), "the kernel gave no reason");
    }
}
