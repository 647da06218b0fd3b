//! One connection of a faulty node: this part has no fault.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;

use bytes::BytesMut;
use handfast_wire::{Codec, Message, Network};

use super::manager::Event;

/// Talks until the other side goes; one that is `mute` says nothing after the handshake.
/// `ready` is called once, when that is complete.
pub(super) fn converse(
    id: u64,
    mut stream: &TcpStream,
    mute: bool,
    manager: &mpsc::Sender<Event>,
    ready: impl FnOnce(Event),
) {
    let mut codec = Codec::new(Network::Regtest.magic());
    let (mut bytes, mut chunk) = (BytesMut::new(), [0; 64 * 1024]);
    let mut ready = Some(ready);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
        }
        loop {
            let message = match codec
                .next_frame(&mut bytes)
                .map(|frame| frame.map(|it| it.message))
            {
                Ok(None) => break,
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(_))) | Err(_) => return,
            };
            let sent = match message {
                // What it says of itself is what it heard.
                version @ Message::Version(_) => {
                    send(stream, &version).and_then(|()| send(stream, &Message::Verack))
                }
                _ if mute => Ok(()),
                Message::Ping(nonce) => send(stream, &Message::Pong(nonce)),
                Message::Verack => {
                    if let (Some(ready), Ok(stream)) = (ready.take(), stream.try_clone()) {
                        ready(Event::Ready(id, stream));
                    }
                    Ok(())
                }
                other => {
                    let _ = manager.send(Event::Message(id, other));
                    Ok(())
                }
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

pub(super) fn send(mut stream: &TcpStream, message: &Message) -> std::io::Result<()> {
    let encoded = message.encode(Network::Regtest.magic());
    stream.write_all(&encoded)
}
