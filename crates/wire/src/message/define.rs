//! The macro that turns the rows of [`super::table`] into the enums and their methods.

/// See [`super::table`] for the columns.
macro_rules! messages {
    (
        without payload {
            $( $(#[$plain_doc:meta])* $plain:ident $plain_name:literal
               $plain_when:ident $plain_handler:ident $plain_exchange:ident $plain_cost:expr; )*
        }
        with payload {
            $( $(#[$doc:meta])* $variant:ident($payload:ty) $name:literal
               $when:ident $handler:ident $exchange:ident $cost:expr, $form:ty; )*
        }
    ) => {
        /// One message, decoded or to be sent.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message {
            $( $(#[$plain_doc])* $plain, )*
            $( $(#[$doc])* $variant($payload), )*
            /// A command that is unknown or not used; its payload was dropped.
            Unknown {
                /// The command as text, at most 12 printable characters.
                command: String,
            },
        }

        /// A command that is decoded. Everything else becomes [`Message::Unknown`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $( $(#[$plain_doc])* $plain, )*
            $( $(#[$doc])* $variant, )*
        }

        impl Kind {
            const COUNT: usize = [$( $plain_name, )* $( $name, )*].len();

            /// Every kind, in the order of the enum: `ALL[kind as usize] == kind`.
            pub const ALL: [Kind; Kind::COUNT] = [$( Kind::$plain, )* $( Kind::$variant, )*];

            /// The kind of the command called `name`.
            pub fn from_name(name: &str) -> Option<Kind> {
                match name {
                    $( $plain_name => Some(Kind::$plain), )*
                    $( $name => Some(Kind::$variant), )*
                    _ => None,
                }
            }

            /// The command as it is in a frame.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Kind::$plain => $plain_name, )*
                    $( Kind::$variant => $name, )*
                }
            }

            /// When the message may come.
            pub const fn when(self) -> When {
                match self {
                    $( Kind::$plain => When::$plain_when, )*
                    $( Kind::$variant => When::$when, )*
                }
            }

            /// Who handles the message after the handshake.
            pub const fn handled_by(self) -> HandledBy {
                match self {
                    $( Kind::$plain => HandledBy::$plain_handler, )*
                    $( Kind::$variant => HandledBy::$handler, )*
                }
            }

            /// Whether it is a request or an answer.
            pub const fn exchange(self) -> Exchange {
                match self {
                    $( Kind::$plain => Exchange::$plain_exchange, )*
                    $( Kind::$variant => Exchange::$exchange, )*
                }
            }

            /// The cost of handling it in a manager.
            pub const fn cost(self) -> Cost {
                match self {
                    $( Kind::$plain => $plain_cost, )*
                    $( Kind::$variant => $cost, )*
                }
            }

            /// The longest well-formed payload, bytes.
            pub(super) const fn longest(self) -> usize {
                match self {
                    $( Kind::$plain => 0, )*
                    $( Kind::$variant => <$form as Form>::LONGEST, )*
                }
            }
        }

        impl Message {
            /// The command, if it is known.
            pub fn kind(&self) -> Option<Kind> {
                match self {
                    $( Message::$plain => Some(Kind::$plain), )*
                    $( Message::$variant(_) => Some(Kind::$variant), )*
                    Message::Unknown { .. } => None,
                }
            }

            /// Memory that the message holds besides its own size, bytes; for byte budgets.
            ///
            /// A block that shares a read buffer with others counts its own bytes only; the buffer
            /// is at most [`MAX_READ_AHEAD`](crate::MAX_READ_AHEAD) longer.
            pub fn heap_size(&self) -> usize {
                match self {
                    $( Message::$plain => 0, )*
                    $( Message::$variant(payload) => <$form as Form>::heap_size(payload), )*
                    Message::Unknown { command } => command.capacity(),
                }
            }

            /// Entries of a message that is a list; else 0.
            pub fn entries(&self) -> usize {
                match self {
                    $( Message::$plain => 0, )*
                    $( Message::$variant(payload) => <$form as Form>::entries(payload), )*
                    Message::Unknown { .. } => 0,
                }
            }

            pub(super) fn length(&self) -> usize {
                match self {
                    $( Message::$plain => 0, )*
                    $( Message::$variant(payload) => <$form as Form>::length(payload), )*
                    Message::Unknown { .. } => 0,
                }
            }

            /// The payload, if it already exists as bytes.
            pub(super) fn shared_payload(&self) -> Option<&Bytes> {
                match self {
                    $( Message::$plain => None, )*
                    $( Message::$variant(payload) => <$form as Form>::shared(payload), )*
                    Message::Unknown { .. } => None,
                }
            }

            /// Appends the payload to `out`. That of an `Unknown` was dropped, so it is empty.
            pub fn encode_payload(&self, out: &mut BytesMut) {
                match self {
                    $( Message::$plain => {} )*
                    $( Message::$variant(payload) => <$form as Form>::write(payload, out), )*
                    Message::Unknown { .. } => {}
                }
            }
        }

        /// Decodes a payload. `ignored`: bytes of it that came after `payload` and were discarded.
        pub(crate) fn decode(
            kind: Kind,
            payload: Bytes,
            ignored: usize,
        ) -> Result<Message, DecodeError> {
            let reader = &mut Reader::new(kind.name(), &payload, ignored);
            let message = match kind {
                $( Kind::$plain => Some(Message::$plain), )*
                $( Kind::$variant => {
                    <$form as Form>::read(reader, &payload)?.map(Message::$variant)
                } )*
            };
            Ok(message.unwrap_or_else(|| Message::unknown(kind.name())))
        }
    };
}

pub(super) use messages;
