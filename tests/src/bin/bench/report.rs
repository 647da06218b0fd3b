//! Medians and ratios.

use std::time::Duration;

use handfast_tests::process::Program;
use handfast_tests::usage::Usage;

/// One run of one program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Process start to the first RPC answer.
    pub(crate) answered: Duration,
    /// Process start to what was awaited.
    pub(crate) wall: Duration,
    /// Used by then.
    pub(crate) usage: Usage,
}

/// All runs of one program.
#[derive(Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// The middle value; of an even number the upper one of the two.
    fn median<T: Ord>(&self, value: impl Fn(&Sample) -> T) -> T {
        let mut values: Vec<T> = self.0.iter().map(value).collect();
        values.sort_unstable();
        values.swap_remove(values.len() / 2)
    }
}

pub(crate) fn name(program: Program) -> &'static str {
    match program {
        Program::Handfast => "handfast",
        Program::Bitcoind => "bitcoind",
    }
}

pub(crate) fn line(program: Program, sample: &Sample) -> String {
    format!(
        "{:9} {:7.2} s  {:7.2} CPU s  {:4} MB peak",
        name(program),
        sample.wall.as_secs_f64(),
        sample.usage.cpu.as_secs_f64(),
        megabytes(sample.usage.peak_resident)
    )
}

/// The medians of a sync.
pub(crate) fn print(title: &str, programs: [Program; 2], samples: &[Samples; 2]) {
    println!("{title}");
    let seconds = |value: Duration| value.as_secs_f64();
    let wall = samples
        .each_ref()
        .map(|all| seconds(all.median(|sample| sample.wall)));
    let cpu = samples
        .each_ref()
        .map(|all| seconds(all.median(|sample| sample.usage.cpu)));
    let peak = samples
        .each_ref()
        .map(|all| all.median(|sample| sample.usage.peak_resident));
    for index in 0..2 {
        println!(
            "  {:9} {:7.2} s  {:7.2} CPU s  {:4} MB peak",
            name(programs[index]),
            wall[index],
            cpu[index],
            megabytes(peak[index])
        );
    }
    println!(
        "  ratio     {:7.2}    {:7.2}        {:4.2}",
        wall[0] / wall[1],
        cpu[0] / cpu[1],
        ratio(peak)
    );
}

/// The medians of starts.
pub(crate) fn print_start(programs: [Program; 2], samples: &[Samples; 2]) {
    println!("start, empty regtest");
    for (program, samples) in programs.into_iter().zip(samples) {
        println!(
            "  {:9} first RPC answer {:4} ms, idle {:4.1} MB resident",
            name(program),
            samples.median(|sample| sample.answered).as_millis(),
            samples.median(|sample| sample.usage.resident) as f64 / 1e6
        );
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a ratio of sizes is shown with two digits"
)]
fn ratio(values: [u64; 2]) -> f64 {
    values[0] as f64 / values[1] as f64
}

fn megabytes(bytes: u64) -> u64 {
    bytes / 1_000_000
}
