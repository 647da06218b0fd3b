//! An attack: hostile peers of one kind, or of all, against one node with one honest peer.

use std::fmt;

use handfast_proto::random::Random;

use super::stranger::Kind;

/// Kinds of hostile peers.
pub const HOSTILE: [Kind; 21] = [
    Kind::Mute,
    Kind::Claimer,
    Kind::NoBlocks,
    Kind::NotFound,
    Kind::Withholder,
    Kind::Denier,
    Kind::BadBlocks,
    Kind::BadToConnect,
    Kind::BadHeaders,
    Kind::Tamperer,
    Kind::Forger,
    Kind::Poisoner,
    Kind::Useless,
    Kind::Rumourer,
    Kind::Garbage,
    Kind::Churner,
    Kind::SlowReader,
    Kind::Flooder,
    Kind::Bulk,
    Kind::Trickler,
    Kind::HalfCloser,
];

/// Number of attackers: one; as many as a node dials; half of its inbound slots, and all.
const NUMBERS: [usize; 4] = [1, 8, 60, 114];

/// The kinds of the attackers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Peers of this kind.
    All(Kind),
    /// Peers of all kinds in turn.
    Mixed,
}

/// The attack to run; fields that are `None` are drawn from the seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Siege {
    /// The kinds of the attackers.
    pub who: Option<Who>,
    /// Number of attackers, up to 114.
    pub hostile: Option<usize>,
    /// The node dials eight of them (or all, if they are fewer); the others dial it.
    pub hostile_dialled: Option<bool>,
    /// The node dials its honest peer, rather than the peer the node.
    pub honest_dialled: Option<bool>,
    /// No time limit for the first sync and for following a block: only S1 shows whether the node
    /// was steered. This is the view of an observer that does not know the time without an attack.
    pub patient: bool,
}

/// The same with every field drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attack {
    pub(crate) who: Who,
    pub(crate) hostile: usize,
    pub(crate) hostile_dialled: bool,
    pub(crate) honest_dialled: bool,
    pub(crate) patient: bool,
}

impl Siege {
    /// Draws the open fields. Given fields do not change the drawn ones.
    pub(crate) fn drawn(self, random: &mut Random) -> Attack {
        let who = match random.index(HOSTILE.len() + 4) {
            drawn if drawn < HOSTILE.len() => Who::All(HOSTILE[drawn]),
            _ => Who::Mixed,
        };
        let hostile = NUMBERS[random.index(NUMBERS.len())];
        let (a, b) = (random.below(2) == 0, random.below(2) == 0);
        Attack {
            who: self.who.unwrap_or(who),
            hostile: self.hostile.unwrap_or(hostile),
            hostile_dialled: self.hostile_dialled.unwrap_or(a),
            honest_dialled: self.honest_dialled.unwrap_or(b),
            patient: self.patient,
        }
    }
}

/// Prints the arguments that make the simulator run it again.
impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.who {
            Who::All(kind) => kind.name(),
            Who::Mixed => "mixed",
        };
        write!(
            f,
            "--attack --kind '{kind}' --hostile {} --hostile-dialled {} --honest-dialled {}",
            self.hostile,
            u8::from(self.hostile_dialled),
            u8::from(self.honest_dialled)
        )?;
        if self.patient {
            f.write_str(" --patient 1")?;
        }
        Ok(())
    }
}

impl Attack {
    /// The kind of the attacker of this number.
    pub(crate) fn kind(&self, index: usize) -> Kind {
        match self.who {
            Who::All(kind) => kind,
            Who::Mixed => HOSTILE[index % HOSTILE.len()],
        }
    }
}
