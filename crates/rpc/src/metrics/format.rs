//! The two text formats of Prometheus: OpenMetrics 1.0, and the older plain one (0.0.4),
//! which every scraper reads.

use std::fmt::Write as _;

/// A format of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `text/plain; version=0.0.4`
    Plain,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

impl Format {
    /// The format for this `Accept` header: OpenMetrics if it is listed and not preferred less
    /// than the plain format, else the plain one. `*/*` gets the plain one, as from every
    /// exporter.
    pub(crate) fn accepted(accept: &str) -> Self {
        let (mut open, mut plain) = (0.0_f64, 0.0_f64);
        for entry in accept.split(',') {
            let mut parts = entry.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            let quality = match quality {
                Some(number) => number.trim().parse().unwrap_or(0.0),
                None => 1.0,
            };
            if name.eq_ignore_ascii_case("application/openmetrics-text") {
                open = open.max(quality);
            } else if name.eq_ignore_ascii_case("text/plain") {
                plain = plain.max(quality);
            }
        }
        match open > 0.0 && open >= plain {
            true => Self::OpenMetrics,
            false => Self::Plain,
        }
    }

    /// For the header of the answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The page in this format. `page`: in OpenMetrics.
    pub(crate) fn write(self, page: &str) -> String {
        match self {
            Self::OpenMetrics => page.to_owned(),
            Self::Plain => to_plain(page),
        }
    }
}

/// OpenMetrics names a counter without the `_total` of its samples in the lines about it, and
/// ends with a line of its own. All else on our page is the same in both formats.
fn to_plain(page: &str) -> String {
    let mut plain = String::with_capacity(page.len());
    // Help precedes the type, which decides the name.
    let mut help: Option<(&str, &str)> = None;
    for line in page.lines() {
        if line == "# EOF" {
            continue;
        }
        if let Some(about) = line.strip_prefix("# HELP ") {
            help = about.split_once(' ');
            continue;
        }
        let kind = line
            .strip_prefix("# TYPE ")
            .and_then(|it| it.split_once(' '));
        let Some((name, kind)) = kind else {
            plain.push_str(line);
            plain.push('\n');
            continue;
        };
        let suffix = if kind == "counter" { "_total" } else { "" };
        if let Some((of, text)) = help.take().filter(|(of, _)| *of == name) {
            let _ = writeln!(plain, "# HELP {of}{suffix} {text}");
        }
        let _ = writeln!(plain, "# TYPE {name}{suffix} {kind}");
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_gets_openmetrics_only_when_it_asks_for_it() {
        use Format::{OpenMetrics, Plain};
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            ("", Plain),
            ("*/*", Plain),
            ("text/plain", Plain),
            ("text/html, application/xml", Plain),
            (prometheus, OpenMetrics),
            ("Application/OpenMetrics-Text", OpenMetrics),
            ("application/openmetrics-text;q=0", Plain),
            ("application/openmetrics-text; q=0.3, text/plain", Plain),
            ("application/openmetrics-text; q=nonsense", Plain),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn the_plain_format_names_counters_as_their_samples_are_named() {
        let open = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{c=\"d\"} 1\n\
                    # HELP g Level.\n# TYPE g gauge\ng 2.0\n\
                    # HELP h Times.\n# TYPE h histogram\nh_sum 0.0\nh_count 0\nh_bucket{le=\"+Inf\"} 0\n# EOF\n";
        let plain = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{c=\"d\"} 1\n\
                     # HELP g Level.\n# TYPE g gauge\ng 2.0\n\
                     # HELP h Times.\n# TYPE h histogram\nh_sum 0.0\nh_count 0\nh_bucket{le=\"+Inf\"} 0\n";
        assert_eq!(Format::Plain.write(open), plain);
        assert_eq!(Format::OpenMetrics.write(open), open);
    }
}
