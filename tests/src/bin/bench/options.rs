//! The command line.

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    /// Process start to first answer, and idle memory.
    Start,
    /// 14,000 signet blocks that are empty but for their coinbases.
    Light,
    /// 510 regtest blocks with 900,000 signed inputs.
    Signed,
}

impl Chain {
    const ALL: [Self; 3] = [Self::Start, Self::Light, Self::Signed];

    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Light => "light",
            Self::Signed => "signed",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Start => "start, empty regtest",
            Self::Light => "light: 14,000 signet blocks",
            Self::Signed => "signed: 510 regtest blocks, 900,000 inputs",
        }
    }
}

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// How often each program does each thing.
    pub(crate) runs: usize,
    /// In this order.
    pub(crate) chains: Vec<Chain>,
}

const USAGE: &str =
    "usage: bench [--runs N] [--chain start|light|signed]... (default: 3 runs of all)";

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            runs: 3,
            chains: vec![],
        };
        while let Some(arg) = args.next() {
            let value = args
                .next()
                .ok_or_else(|| format!("{arg} needs a value\n{USAGE}"))?;
            match arg.as_str() {
                "--runs" => {
                    let runs = value.parse().ok().filter(|runs| (1..=100).contains(runs));
                    options.runs = runs
                        .ok_or_else(|| format!("--runs takes 1 to 100, not {value:?}\n{USAGE}"))?;
                }
                "--chain" => {
                    let chain = Chain::ALL.into_iter().find(|chain| chain.name() == value);
                    options.chains.push(
                        chain.ok_or_else(|| format!("no chain is called {value:?}\n{USAGE}"))?,
                    );
                }
                _ => return Err(format!("unknown option {arg:?}\n{USAGE}")),
            }
        }
        if options.chains.is_empty() {
            options.chains.extend(Chain::ALL);
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_arguments_everything_is_measured_three_times() {
        assert_eq!(
            parse(""),
            Ok(Options {
                runs: 3,
                chains: Chain::ALL.to_vec()
            })
        );
    }

    #[test]
    fn a_chain_and_a_number_of_runs_can_be_chosen() {
        assert_eq!(
            parse("--runs 5 --chain light"),
            Ok(Options {
                runs: 5,
                chains: vec![Chain::Light]
            })
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--runs",
            "--runs 0",
            "--runs many",
            "--chain heavy",
            "--fast 1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
