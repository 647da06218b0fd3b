//! Injecting faults.

use super::make::machine;
use super::*;

impl World {
    pub(super) fn next_fault(&mut self) {
        if let Some(every) = self.engine.faults.every {
            let next = self.engine.around(every);
            self.engine
                .after(next + Duration::from_millis(1), Event::Fault);
        }
    }

    pub(super) fn fault(&mut self) {
        if self.act != Act::Faults {
            return;
        }
        let fault = self.engine.faults.fault(&mut self.engine.random);
        if let Some(fault) = fault {
            self.deal(fault);
        }
        self.next_fault();
    }

    fn deal(&mut self, fault: Fault) {
        let name = FAULTS
            .iter()
            .find(|(of, _)| *of == fault)
            .expect("listed")
            .1;
        let engine = &mut self.engine;
        engine.counts.count(name);
        let at = engine.random.index(self.nodes.len());
        engine.line(format_args!("stroke: {name} (n{at})"));
        let node = &mut self.nodes[at];
        match fault {
            Fault::Partition => self.partition(),
            Fault::Pause => {
                let most = if engine.chance(200) { 90 } else { 5 };
                let long = engine.between(Duration::from_millis(100), Duration::from_secs(most));
                node.paused_until = engine.now + long;
                engine.trouble(at, node.paused_until);
            }
            Fault::ClockJump => {
                let draw = i64::try_from(engine.random.below(6_001)).expect("small") - 3_000;
                node.clock_error = if engine.chance(120) {
                    draw * 28 - 84_000
                } else {
                    draw
                };
                if let Some(running) = &mut node.running {
                    running.clock_error = node.clock_error;
                }
            }
            Fault::Restart | Fault::Crash => {
                if fault == Fault::Crash {
                    node.crash(engine);
                } else {
                    node.stop(engine);
                    node.finish(engine);
                }
                let away = engine.around(Duration::from_secs(20));
                engine.after(away, Event::Start(at));
            }
            Fault::Kill => {
                let count = engine.net.links.len();
                let nth = engine.random.index(count);
                let link = engine.net.links.keys().copied().nth(nth);
                if let Some(link) = link {
                    engine.after(
                        Duration::ZERO,
                        Event::Packet(link, Side::Dialler, Packet::Rst),
                    );
                    engine.after(
                        Duration::ZERO,
                        Event::Packet(link, Side::Acceptor, Packet::Rst),
                    );
                }
            }
            Fault::SlowBlock | Fault::Hold | Fault::Operator | Fault::DiskFull => {
                self.deal_to_process(fault, at);
            }
        }
    }

    fn deal_to_process(&mut self, fault: Fault, at: usize) {
        let engine = &mut self.engine;
        let nodes = self.nodes.len();
        let Some(running) = &mut self.nodes[at].running else {
            return;
        };
        match fault {
            Fault::SlowBlock => running.slow_next = true,
            Fault::DiskFull => running.disk_full_next = true,
            Fault::Hold => {
                let long = engine.between(Duration::from_millis(100), Duration::from_secs(5));
                let second = running.has_second() && engine.chance(333);
                let actor = match second {
                    true => Actor::Second,
                    false if engine.chance(500) => Actor::Peers,
                    false => Actor::Sync,
                };
                running.held.insert(actor, engine.now + long);
                engine.trouble(at, engine.now + long);
            }
            _ => match engine.random.below(4) {
                0 => {
                    let name = machine(engine.random.index(nodes)).to_string();
                    running.add_node(engine, name, AddNodeCommand::OneTry);
                }
                1 => {
                    let name = machine(engine.random.index(nodes)).to_string();
                    running.add_node(engine, name, AddNodeCommand::Add);
                }
                _ => running.disconnect_some(engine),
            },
        }
    }

    fn partition(&mut self) {
        let engine = &mut self.engine;
        let machines = self.nodes.len() + self.strangers.len();
        for host in 0..machines {
            let part = u8::from(engine.chance(500));
            engine.net.part.insert(host, part);
            engine.trouble(host, engine.now);
        }
        let mean = if engine.chance(100) { 1_200 } else { 45 };
        let heal = engine.around(Duration::from_secs(mean));
        engine.after(heal, Event::Heal);
    }

    pub(super) fn heal(&mut self) {
        self.engine.net.part.clear();
        for host in 0..self.nodes.len() + self.strangers.len() {
            self.engine.trouble(host, self.engine.now);
        }
        self.engine.release_held();
    }
}
