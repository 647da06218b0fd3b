//! The kernel without a network: validates a file of blocks from memory. `make bench`
//! compares the node with it.
//!
//! ```text
//! cargo run --release -p handfast-chain --example replay -- FILE
//!     [--network regtest|mainnet|testnet4|signet] [--signet-challenge HEX]
//!     [--threads N] [--no-precheck] [--headers-first] [--shuffle N] [--datadir DIR]
//! ```
//!
//! FILE holds magic (4 bytes), length (4, little-endian), block; repeated. One line
//! per run: wall time from opening to the last verdict, busy time of the kernel
//! thread, CPU time of the process, peak resident memory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bytes::Bytes;
use handfast_chain::{BlockOutcome, Chain, ChainOptions, Change, Event, KernelEvent, Persist};
use handfast_wire::Network;

/// Blocks in the queue at once, as a downloader's window.
const WINDOW: usize = 1_024;

struct Args {
    file: PathBuf,
    network: Network,
    threads: Option<i32>,
    precheck: bool,
    headers_first: bool,
    shuffle: usize,
    datadir: Option<PathBuf>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|args| run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args {
        file: PathBuf::new(),
        network: Network::Regtest,
        threads: None,
        precheck: true,
        headers_first: false,
        shuffle: 1,
        datadir: None,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--network" => args.network = network(&value()?)?,
            "--signet-challenge" => {
                let challenge = hex(&value()?).ok_or("--signet-challenge: not hexadecimal")?;
                args.network = Network::CustomSignet { challenge };
            }
            "--threads" => args.threads = Some(number(&value()?)?),
            "--no-precheck" => args.precheck = false,
            "--headers-first" => args.headers_first = true,
            "--shuffle" => args.shuffle = number::<usize>(&value()?)?.clamp(1, WINDOW),
            "--datadir" => args.datadir = Some(value()?.into()),
            _ if word.starts_with('-') => return Err(format!("unknown option {word}")),
            _ => args.file = word.into(),
        }
    }
    match args.file.as_os_str().is_empty() {
        true => Err("give a file of blocks".into()),
        false => Ok(args),
    }
}

fn network(name: &str) -> Result<Network, String> {
    Ok(match name {
        "mainnet" => Network::Mainnet,
        "testnet4" => Network::Testnet4,
        "testnet3" => Network::Testnet3,
        "signet" => Network::Signet,
        "regtest" => Network::Regtest,
        _ => return Err(format!("unknown network {name}")),
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text}: not a number"))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

fn run(args: &Args) -> Result<(), String> {
    let file = std::fs::read(&args.file).map_err(|e| format!("{}: {e}", args.file.display()))?;
    let mut blocks = split(Bytes::from(file))?;
    let headers: Vec<Header> = blocks.iter().map(|(header, ..)| *header).collect();
    shuffle(&mut blocks, args.shuffle);
    let temporary = args.datadir.is_none();
    let dir = args.datadir.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("handfast-replay-{}", std::process::id()))
    });
    let result = replay(args, &dir, headers, blocks);
    if temporary {
        std::fs::remove_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    result
}

fn replay(
    args: &Args,
    dir: &Path,
    headers: Vec<Header>,
    blocks: Vec<(Header, BlockHash, Bytes)>,
) -> Result<(), String> {
    let before = Usage::now();
    let started = Instant::now();
    let (send, events) = mpsc::channel();
    let mut options = ChainOptions::new(args.network.clone(), dir);
    options.script_threads = args.threads;
    options.precheck = args.precheck;
    let (chain, initial) = Chain::open_batched(options, move |events| {
        let _ = send.send(events);
    })
    .map_err(|e| e.to_string())?;
    let opened = started.elapsed();
    if args.headers_first {
        for batch in headers.chunks(2_000) {
            chain.check_headers(batch.to_vec(), None);
        }
    }
    let fed = Instant::now();
    let mut counters = Counters::default();
    let (count, mut waiting) = (blocks.len(), 0);
    for (_, hash, bytes) in blocks {
        while waiting == WINDOW {
            waiting -= counters.take(&events)?;
        }
        chain.check_block(hash, bytes, None, vec![], None, Persist::No);
        waiting += 1;
    }
    while waiting > 0 {
        waiting -= counters.take(&events)?;
    }
    let done = fed.elapsed();
    let closing = Instant::now();
    chain.close().map_err(|e| e.to_string())?;
    let used = Usage::now();
    println!(
        "{count} blocks, {} connected on height {}: {:.3} s ({:.0} µs/block, kernel thread busy {:.3} s), \
         open {:.3} s, close {:.3} s, CPU {:.2} s, {} MB resident at most",
        counters.connected,
        initial.active.len() - 1,
        done.as_secs_f64(),
        done.as_secs_f64() * 1e6 / count as f64,
        counters.busy.as_secs_f64(),
        opened.as_secs_f64(),
        closing.elapsed().as_secs_f64(),
        (used.cpu - before.cpu).as_secs_f64(),
        used.peak_kb / 1_024,
    );
    Ok(())
}

#[derive(Default)]
struct Counters {
    connected: usize,
    busy: Duration,
}

impl Counters {
    /// Waits for events; returns how many blocks they answered.
    fn take(&mut self, events: &mpsc::Receiver<Vec<Event>>) -> Result<usize, String> {
        let mut answered = 0;
        for event in events.recv().map_err(|_| "the kernel thread is gone")? {
            answered += self.count(event)?;
        }
        Ok(answered)
    }

    fn count(&mut self, event: Event) -> Result<usize, String> {
        let answer = match event {
            Event::Answer(answer) => answer,
            Event::Fatal(text) => return Err(text),
            Event::Warnings(_) => return Ok(0),
        };
        match answer {
            KernelEvent::BlockChecked {
                hash,
                outcome,
                changes,
                busy,
                ..
            } => {
                if !matches!(outcome, BlockOutcome::Stored | BlockOutcome::Duplicate) {
                    return Err(format!("{hash}: {outcome:?}"));
                }
                let connected = |change: &&Change| matches!(change, Change::Connected(..));
                self.connected += changes.iter().filter(connected).count();
                self.busy += busy;
                Ok(1)
            }
            KernelEvent::HeadersChecked {
                rejected: Some((hash, reject)),
                ..
            } => Err(format!("{hash}: {reject}")),
            KernelEvent::HeadersChecked { .. } | KernelEvent::Durable => Ok(0),
        }
    }
}

fn split(mut file: Bytes) -> Result<Vec<(Header, BlockHash, Bytes)>, String> {
    let mut blocks = vec![];
    while file.len() >= 8 {
        let length = u32::from_le_bytes([file[4], file[5], file[6], file[7]]) as usize;
        if file.len() < 8 + length || length < 80 {
            return Err(format!("block {} is cut short", blocks.len()));
        }
        let block = file.split_to(8 + length).slice(8..);
        let header: Header = deserialize(&block[..80]).map_err(|e| e.to_string())?;
        blocks.push((header, header.block_hash(), block));
    }
    Ok(blocks)
}

/// Reorders within runs of `within` blocks, the same way each time.
fn shuffle<T>(blocks: &mut [T], within: usize) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for run in blocks.chunks_mut(within) {
        for i in (1..run.len()).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            run.swap(i, (state >> 33) as usize % (i + 1));
        }
    }
}

/// The resources that the process has used, from `/proc`; zero without it.
struct Usage {
    cpu: Duration,
    peak_kb: u64,
}

impl Usage {
    fn now() -> Usage {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default();
        // utime and stime are fields 14 and 15, in ticks of 10 ms; two come before.
        let ticks = |n: usize| fields.split_whitespace().nth(n - 3)?.parse::<u64>().ok();
        let cpu = ticks(14).unwrap_or(0) + ticks(15).unwrap_or(0);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak_kb = peak.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        Usage {
            cpu: Duration::from_millis(cpu * 10),
            peak_kb: peak_kb.unwrap_or(0),
        }
    }
}
