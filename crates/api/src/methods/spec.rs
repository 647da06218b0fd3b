//! The specification of an RPC method.

use std::fmt::Write;

/// The headings of `help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// The chain.
    Blockchain,
    /// The node itself.
    Control,
    /// Fuzz runs of the node against itself.
    Fuzzing,
    /// Blocks from outside the P2P network.
    Mining,
    /// Peers.
    Network,
    /// Transactions and scripts, decoded.
    RawTransactions,
    /// Methods that Bitcoin Core lacks: sync and its audit, listening sockets.
    Sync,
    /// Tools.
    Util,
    /// For tests. As in Core, `help` lists none of these, and explains each when asked for it.
    Hidden,
}

impl Category {
    /// The heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Blockchain => "Blockchain",
            Self::Control => "Control",
            Self::Fuzzing => "Fuzzing",
            Self::Mining => "Mining",
            Self::Network => "Network",
            Self::RawTransactions => "Rawtransactions",
            Self::Sync => "Sync",
            Self::Util => "Util",
            Self::Hidden => "Hidden",
        }
    }
}

/// The JSON type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A string.
    Text,
    /// A string of hexadecimal digits.
    Hex,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A number or a boolean; the method checks it itself.
    Level,
    /// The height (a number) or the hash (a string) of a block; the method checks it itself.
    HashOrHeight,
    /// A number, or a list of two; the method checks it itself.
    Range,
    /// Anything; a command line reads it as a string.
    Any,
    /// Anything; a command line reads it as JSON.
    Json,
    /// A list.
    List,
    /// An object.
    Object,
}

impl Kind {
    /// Whether a command line has to read `text` as JSON rather than as a string.
    #[must_use]
    pub fn is_json(self, text: &str) -> bool {
        match self {
            Self::Text | Self::Hex | Self::Any => false,
            Self::Range | Self::Json => true,
            Self::Number | Self::Flag | Self::Level | Self::List | Self::Object => true,
            // No hash is short enough to be read as a height.
            Self::HashOrHeight => text.parse::<i64>().is_ok(),
        }
    }

    /// Its name in a help text.
    fn shown(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Hex => "string, hex",
            Self::Number => "numeric",
            Self::Flag => "boolean",
            Self::Level => "numeric or boolean",
            Self::HashOrHeight => "string or numeric",
            Self::Range => "numeric or json array",
            Self::Any => "any",
            Self::Json => "json",
            Self::List => "json array",
            Self::Object => "json object",
        }
    }
}

/// Whether an argument may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// It is required.
    Required,
    /// It may be missing; the text is its default, for `help`.
    Optional(&'static str),
    /// It may be missing, and `help` does not show it.
    Hidden,
}

/// One parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// Its name, then its aliases.
    pub names: &'static [&'static str],
    /// Its type.
    pub kind: Kind,
    /// Whether it must be given.
    pub need: Need,
    /// What it means.
    pub about: &'static str,
}

/// One method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// Its category in `help`.
    pub category: Category,
    /// Its parameters, in order.
    pub params: &'static [Param],
    /// What it does.
    pub about: &'static str,
    /// What it returns.
    pub result: &'static str,
    /// Arguments of an example call, as written on a command line.
    pub example: &'static str,
    /// Whether it needs the open chain (before: error -28).
    pub needs_chain: bool,
}

impl Spec {
    /// The first line of the help text: the name and its parameters.
    #[must_use]
    pub fn usage(&self) -> String {
        let mut line = self.name.to_owned();
        let mut optional = false;
        for param in self.params {
            match param.need {
                Need::Required => {}
                Need::Optional(_) if optional => {}
                Need::Optional(_) => {
                    line.push_str(" (");
                    optional = true;
                }
                Need::Hidden => break,
            }
            let name = param.names[0];
            let quoted = matches!(param.kind, Kind::Text | Kind::Hex);
            line.push_str(&if quoted {
                format!(" \"{name}\"")
            } else {
                format!(" {name}")
            });
        }
        if optional {
            line.push_str(" )");
        }
        line
    }

    /// The whole help text.
    #[must_use]
    pub fn help(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.usage(), self.about);
        let shown: Vec<&Param> = self
            .params
            .iter()
            .filter(|param| param.need != Need::Hidden)
            .collect();
        if !shown.is_empty() {
            text.push_str("\nArguments:\n");
        }
        for (index, param) in shown.into_iter().enumerate() {
            let need = match param.need {
                Need::Required => "required".to_owned(),
                Need::Optional(default) => format!("optional, {default}"),
                Need::Hidden => unreachable!("hidden parameters were filtered out above"),
            };
            let (name, kind) = (param.names[0], param.kind.shown());
            writeln!(
                text,
                "{}. {name:<12} ({kind}, {need}) {}",
                index + 1,
                param.about
            )
            .expect("writing to a String cannot fail");
        }
        let example = format!("{} {}", self.name, self.example);
        write!(
            text,
            "\nResult:\n{}\n\nExample:\n> handfast rpc {}\n",
            self.result,
            example.trim_end()
        )
        .expect("writing to a String cannot fail");
        text
    }
}
