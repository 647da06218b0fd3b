use std::time::Duration;

use handfast_wire::{Codec, HEADER_BYTES, Kind, Message, Network};

use super::*;
use crate::voice::{Dialect, Dice, Memory, Phrases};

/// A target made of what an honest node says, that answers without delay.
struct Stage {
    machine: Box<dyn Machine>,
    phrases: Phrases,
    dice: Dice,
    memory: Memory,
    /// All bytes that were sent.
    sent: BytesMut,
    left: Option<Leave>,
    gathered: bool,
    wake: Option<Duration>,
}

impl Stage {
    fn new(scenario: Scenario, seed: u64) -> Self {
        Self {
            machine: scenario.machine(&Bytes::from_static(b"GET / HTTP/1.0\r\n\r\n")),
            phrases: Phrases::new(Dialect::new(&Network::Regtest, 1_700_000_000)),
            dice: Dice::new(seed),
            memory: Memory::default(),
            sent: BytesMut::new(),
            left: None,
            gathered: false,
            wake: None,
        }
    }

    /// Tells a fact; gives what is sent because of it.
    fn tell(&mut self, event: Event<'_>) -> Bytes {
        let mut acts = Vec::new();
        let mut voice = Voice {
            phrases: &self.phrases,
            dice: &mut self.dice,
            memory: &mut self.memory,
            acts: &mut acts,
        };
        self.machine.step(event, &mut voice);
        let before = self.sent.len();
        for act in acts {
            assert_eq!(self.left, None, "nothing follows the end");
            match act {
                Act::Send(bytes) => self.sent.extend_from_slice(&bytes),
                Act::Wake(after) => self.wake = Some(after),
                Act::Gather => self.gathered = true,
                Act::Complain(_) => {}
                Act::Leave(how) => self.left = Some(how),
            }
        }
        Bytes::copy_from_slice(&self.sent[before..])
    }

    /// Answers as an honest node does until it is over; `None` if it never is.
    fn play(&mut self) -> Option<Leave> {
        let mut said = self.tell(Event::Connected);
        for _ in 0..2_000 {
            let mut answers = answers(&said);
            said = Bytes::new();
            if answers.is_empty() {
                if self.left.is_some() {
                    return self.left;
                }
                said = match (self.gathered, self.wake.take()) {
                    (true, _) => self.tell(Event::Opened),
                    (false, Some(_)) => self.tell(Event::Due),
                    (false, None) => self.tell(Event::Raw(HTTP)),
                };
            }
            for (kind, payload) in answers.drain(..) {
                if self.left.is_some() {
                    return self.left;
                }
                let heard = Heard {
                    kind: Some(kind),
                    payload: &payload,
                };
                let more = self.tell(Event::Heard(heard));
                said = [said, more].concat().into();
            }
        }
        None
    }
}

const HTTP: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull";

/// What an honest node answers to these bytes.
fn answers(said: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let mut bytes = BytesMut::from(said);
    let mut codec = Codec::new(Network::Regtest.magic());
    let mut answers = Vec::new();
    let mut answer = |message: Message| {
        let encoded = message.encode(Network::Regtest.magic());
        let all = [&encoded.head[..], &encoded.body[..]].concat();
        let kind = message.kind().expect("we know what we say");
        answers.push((kind, all[HEADER_BYTES..].to_vec()));
    };
    while let Ok(Some(frame)) = codec.next_frame(&mut bytes) {
        match frame.message {
            Ok(Message::Version(version)) => {
                answer(Message::Version(version));
                answer(Message::Verack);
            }
            Ok(Message::Verack) => answer(Message::GetHeaders(handfast_wire::Locator {
                hashes: vec![Network::Regtest.genesis().block_hash()],
                stop: bitcoin::hashes::Hash::all_zeros(),
            })),
            Ok(Message::Ping(nonce)) => answer(Message::Pong(nonce)),
            _ => {}
        }
    }
    answers
}

#[test]
fn every_scenario_comes_to_its_end_with_an_honest_node() {
    for scenario in Scenario::ALL {
        for seed in 0..50 {
            let mut stage = Stage::new(scenario, seed);
            assert!(stage.play().is_some(), "{scenario}, seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_and_the_same_answers_give_the_same_bytes() {
    for scenario in Scenario::ALL {
        let play = |seed| {
            let mut stage = Stage::new(scenario, seed);
            let left = stage.play();
            (stage.sent, left)
        };
        assert_eq!(play(11), play(11), "{scenario}");
    }
}

#[test]
fn every_scenario_has_a_name_of_its_own_and_a_page() {
    for scenario in Scenario::ALL {
        assert_eq!(scenario.name().parse(), Ok(scenario));
        let page = scenario.page();
        assert!(page.contains("\nFinds: "), "{scenario}: {page}");
    }
    assert!("handshake".parse::<Scenario>().is_err());
}

#[test]
fn leaving_on_verack_sends_ours_and_closes_at_once() {
    let mut stage = Stage::new(Scenario::HandshakeDrop, 1);
    stage.tell(Event::Connected);
    let verack = Heard {
        kind: Some(Kind::Verack),
        payload: &[],
    };
    let said = stage.tell(Event::Heard(verack));
    assert_eq!(&said[4..10], b"verack");
    assert_eq!(stage.left, Some(Leave::Drop));
}

#[test]
fn whoever_waits_at_the_barrier_answers_pings_and_goes_when_it_opens() {
    let mut stage = Stage::new(Scenario::Barrier, 5);
    let mut said = stage.tell(Event::Connected);
    while !stage.gathered {
        let mut more = Bytes::new();
        for (kind, payload) in answers(&said) {
            let heard = Heard {
                kind: Some(kind),
                payload: &payload,
            };
            more = [more, stage.tell(Event::Heard(heard))].concat().into();
        }
        assert!(!more.is_empty() || stage.gathered, "it waits for nothing");
        said = more;
    }
    let ping = Heard {
        kind: Some(Kind::Ping),
        payload: &[7; 8],
    };
    assert_eq!(&stage.tell(Event::Heard(ping))[4..8], b"pong");
    assert_eq!(stage.left, None);
    stage.tell(Event::Opened);
    assert!(stage.left.is_some());
}
