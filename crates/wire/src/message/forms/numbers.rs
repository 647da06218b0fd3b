//! Payloads of one or two numbers.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::SendCmpct;
use super::super::reader::Reader;
use super::Form;
use crate::error::DecodeError;
use crate::limits::MAX_MONEY;

/// The nonce of a `ping`. One without (before BIP31) wants no answer, and is ignored.
pub(in crate::message) struct Nonce;

impl Form for Nonce {
    type Payload = u64;

    const LONGEST: usize = 8;

    fn read(reader: &mut Reader<'_>, bytes: &Bytes) -> Result<Option<u64>, DecodeError> {
        if bytes.len() < 8 {
            return Ok(None);
        }
        reader.u64("nonce").map(Some)
    }

    fn length(_: &u64) -> usize {
        8
    }

    fn write(nonce: &u64, out: &mut BytesMut) {
        out.put_u64_le(*nonce);
    }
}

/// The nonce of a `pong`. Without one Core cancels the outstanding ping, as for a zero nonce.
pub(in crate::message) struct PongNonce;

impl Form for PongNonce {
    type Payload = u64;

    const LONGEST: usize = 8;

    fn read(reader: &mut Reader<'_>, bytes: &Bytes) -> Result<Option<u64>, DecodeError> {
        Ok(Some(Nonce::read(reader, bytes)?.unwrap_or(0)))
    }

    fn length(_: &u64) -> usize {
        8
    }

    fn write(nonce: &u64, out: &mut BytesMut) {
        out.put_u64_le(*nonce);
    }
}

/// A fee rate, satoshi per 1,000 vbytes. One above [`MAX_MONEY`] is ignored.
pub(in crate::message) struct FeeRate;

impl Form for FeeRate {
    type Payload = u64;

    const LONGEST: usize = 8;

    fn read(reader: &mut Reader<'_>, _: &Bytes) -> Result<Option<u64>, DecodeError> {
        let rate = reader.u64("fee rate")?;
        Ok((rate <= MAX_MONEY).then_some(rate))
    }

    fn length(_: &u64) -> usize {
        8
    }

    fn write(rate: &u64, out: &mut BytesMut) {
        out.put_u64_le(*rate);
    }
}

/// A flag and a version.
pub(in crate::message) struct SendCmpctForm;

impl Form for SendCmpctForm {
    type Payload = SendCmpct;

    const LONGEST: usize = 1 + 8;

    fn read(reader: &mut Reader<'_>, _: &Bytes) -> Result<Option<SendCmpct>, DecodeError> {
        let announce = reader.u8("announce")?;
        let version = reader.u64("version")?;
        match announce {
            0 | 1 => Ok(Some(SendCmpct {
                announce: announce == 1,
                version,
            })),
            _ => Err(reader.forbidden("announce")),
        }
    }

    fn length(_: &SendCmpct) -> usize {
        1 + 8
    }

    fn write(payload: &SendCmpct, out: &mut BytesMut) {
        out.put_u8(u8::from(payload.announce));
        out.put_u64_le(payload.version);
    }
}
