//! Injecting faults.

use super::make::machine;
use super::*;

impl World {
    pub(super) fn next_stroke(&mut self) {
        if let Some(every) = self.engine.faults.every {
            let next = self.engine.around(every);
            self.engine
                .after(next + Duration::from_millis(1), Event::Stroke);
        }
    }

    pub(super) fn stroke(&mut self) {
        if self.act != Act::Faults {
            return;
        }
        let stroke = self.engine.faults.stroke(&mut self.engine.random);
        if let Some(stroke) = stroke {
            self.deal(stroke);
        }
        self.next_stroke();
    }

    fn deal(&mut self, stroke: Stroke) {
        let name = STROKES
            .iter()
            .find(|(of, _)| *of == stroke)
            .expect("listed")
            .1;
        let engine = &mut self.engine;
        engine.tally.count(name);
        let at = engine.random.index(self.nodes.len());
        engine.line(format_args!("stroke: {name} (n{at})"));
        let node = &mut self.nodes[at];
        match stroke {
            Stroke::Partition => self.partition(),
            Stroke::Pause => {
                let most = if engine.chance(200) { 90 } else { 5 };
                let long = engine.between(Duration::from_millis(100), Duration::from_secs(most));
                node.paused_until = engine.now + long;
                engine.trouble(at, node.paused_until);
            }
            Stroke::ClockJump => {
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
            Stroke::Restart | Stroke::Crash => {
                if stroke == Stroke::Crash {
                    node.crash(engine);
                } else {
                    node.stop(engine);
                    node.finish(engine);
                }
                let away = engine.around(Duration::from_secs(20));
                engine.after(away, Event::Start(at));
            }
            Stroke::Kill => {
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
            Stroke::SlowBlock | Stroke::Hold | Stroke::Operator | Stroke::DiskFull => {
                self.deal_to_process(stroke, at);
            }
        }
    }

    fn deal_to_process(&mut self, stroke: Stroke, at: usize) {
        let engine = &mut self.engine;
        let nodes = self.nodes.len();
        let Some(running) = &mut self.nodes[at].running else {
            return;
        };
        match stroke {
            Stroke::SlowBlock => running.slow_next = true,
            Stroke::DiskFull => running.disk_full_next = true,
            Stroke::Hold => {
                let long = engine.between(Duration::from_millis(100), Duration::from_secs(5));
                let actor = if engine.chance(500) {
                    Actor::Peers
                } else {
                    Actor::Sync
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
