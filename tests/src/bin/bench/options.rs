//! The command line.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use handfast_tests::process::Program;

use crate::attack::Choice;

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
    /// Starts and syncs, in this order.
    pub(crate) chains: Vec<Chain>,
    /// Cycles of each churn; `None`: no churn.
    pub(crate) churn: Option<usize>,
    /// Cycles of the fuzzer; `None`: it is not measured.
    pub(crate) fuzz: Option<usize>,
    /// Calls of the RPC.
    pub(crate) rpc: bool,
    /// Hashes of headers.
    pub(crate) mining: bool,
    /// Hostile peers; `None`: not tried. Takes half an hour, so not a part of all.
    pub(crate) attack: Option<Choice>,
    /// Churn this node, which is running already, and nothing else: to watch or to
    /// profile it meanwhile.
    pub(crate) against: Option<SocketAddr>,
}

/// Cycles of a churn: about two seconds.
pub(crate) const CYCLES: usize = 20_000;

/// Within which the attacks that nobody chose begin, minutes.
const ATTACK_MINUTES: usize = 40;

const BENCHES: [&str; 7] = ["sync", "churn", "fuzz", "rpc", "mining", "attack", "all"];

const USAGE: &str = "usage: bench [--runs N] [--bench sync|churn|fuzz|rpc|mining|attack|all] \
                     [--chain start|light|signed]... [--cycles N] [--against ADDR]\n\
                     with --bench attack: [--attack NAME]... [--hostile N]... \
                     [--program handfast|bitcoind] [--minutes N] [--quick] [--public]\n\
                     default: 3 runs of all but attack; --chain alone means --bench sync";

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut runs = 3;
        let mut cycles = CYCLES;
        let mut chains = vec![];
        let mut bench = None;
        let mut against = None;
        let mut attack = Choice {
            minutes: ATTACK_MINUTES,
            ..Choice::default()
        };
        let unchosen = attack.clone();
        while let Some(arg) = args.next() {
            if arg == "--quick" {
                attack.quick = true;
                continue;
            }
            if arg == "--public" {
                attack.public = true;
                continue;
            }
            let value = args
                .next()
                .ok_or_else(|| format!("{arg} needs a value\n{USAGE}"))?;
            match arg.as_str() {
                "--runs" => runs = number(&arg, &value, 1..=100)?,
                "--cycles" => cycles = number(&arg, &value, 1_000..=10_000_000)?,
                "--bench" => bench = Some(value),
                "--attack" => {
                    let chosen = value.parse();
                    attack
                        .attacks
                        .push(chosen.map_err(|why| format!("{why}\n{USAGE}"))?);
                }
                "--hostile" => attack.counts.push(number(&arg, &value, 0..=1_000)?),
                "--minutes" => attack.minutes = number(&arg, &value, 1..=1_000)?,
                "--program" => attack.programs.push(program(&value)?),
                "--against" => {
                    let address = value.parse();
                    against = Some(address.map_err(|_| format!("no address: {value:?}\n{USAGE}"))?);
                }
                "--chain" => {
                    let chain = Chain::ALL.into_iter().find(|chain| chain.name() == value);
                    chains.push(
                        chain.ok_or_else(|| format!("no chain is called {value:?}\n{USAGE}"))?,
                    );
                }
                _ => return Err(format!("unknown option {arg:?}\n{USAGE}")),
            }
        }
        let default = if chains.is_empty() { "all" } else { "sync" };
        let bench = bench.as_deref().unwrap_or(default);
        if !BENCHES.contains(&bench) {
            return Err(format!("no benchmark is called {bench:?}\n{USAGE}"));
        }
        let wanted = |name| bench == name || bench == "all";
        let sync = wanted("sync");
        if sync && chains.is_empty() {
            chains.extend(Chain::ALL);
        }
        if !sync && !chains.is_empty() {
            return Err(format!("only syncs have a chain\n{USAGE}"));
        }
        let attacking = bench == "attack";
        if !attacking && attack != unchosen {
            return Err(format!("only attacks are chosen so\n{USAGE}"));
        }
        Ok(Self {
            runs,
            chains,
            churn: wanted("churn").then_some(cycles),
            fuzz: wanted("fuzz").then_some(cycles),
            rpc: wanted("rpc"),
            mining: wanted("mining"),
            attack: attacking.then_some(attack),
            against,
        })
    }
}

fn program(name: &str) -> Result<Program, String> {
    let programs = [Program::Handfast, Program::Bitcoind];
    let found = programs
        .into_iter()
        .find(|program| crate::report::name(*program) == name);
    found.ok_or_else(|| format!("no program is called {name:?}\n{USAGE}"))
}

fn number(name: &str, value: &str, range: RangeInclusive<usize>) -> Result<usize, String> {
    let number = value.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        let (least, most) = range.into_inner();
        format!("{name} takes {least} to {most}, not {value:?}\n{USAGE}")
    })
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
                chains: Chain::ALL.to_vec(),
                churn: Some(CYCLES),
                fuzz: Some(CYCLES),
                rpc: true,
                mining: true,
                attack: None,
                against: None,
            })
        );
        assert_eq!(parse("--bench all"), parse(""));
    }

    #[test]
    fn a_chain_and_a_number_of_runs_can_be_chosen() {
        assert_eq!(
            parse("--runs 5 --chain light"),
            Ok(Options {
                runs: 5,
                chains: vec![Chain::Light],
                churn: None,
                fuzz: None,
                rpc: false,
                mining: false,
                attack: None,
                against: None,
            })
        );
    }

    #[test]
    fn churn_alone_can_be_chosen_and_how_long_it_goes_on() {
        assert_eq!(
            parse("--bench churn --cycles 5000"),
            Ok(Options {
                runs: 3,
                chains: vec![],
                churn: Some(5_000),
                fuzz: None,
                rpc: false,
                mining: false,
                attack: None,
                against: None,
            })
        );
    }

    #[test]
    fn rpc_alone_can_be_chosen() {
        let options = parse("--bench rpc --runs 1").expect("valid");
        assert!(options.rpc && options.churn.is_none() && options.chains.is_empty());
        assert!(!options.mining);
    }

    #[test]
    fn mining_alone_can_be_chosen() {
        let options = parse("--bench mining").expect("valid");
        assert!(options.mining && options.churn.is_none() && options.chains.is_empty());
        assert!(!options.rpc);
    }

    #[test]
    fn attacks_can_be_chosen_by_name_number_and_program() {
        let line = "--bench attack --attack withhold --hostile 8 --program handfast --quick";
        let options = parse(line).expect("valid");
        let choice = options.attack.expect("they are wanted");
        assert_eq!(
            choice.attacks,
            [handfast_tests::adversary::Attack::Withhold]
        );
        assert_eq!(choice.counts, [8]);
        assert_eq!(choice.programs, [Program::Handfast]);
        assert!(choice.quick && options.chains.is_empty() && !options.rpc);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "--runs",
            "--runs 0",
            "--runs many",
            "--cycles 10",
            "--chain heavy",
            "--bench speed",
            "--bench churn --chain light",
            "--bench rpc --chain light",
            "--bench mining --chain light",
            "--against everybody",
            "--fast 1",
            "--bench attack --attack everybody",
            "--bench attack --program btcd",
            "--bench rpc --attack withhold",
            "--quick",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
