//! The entries of `addr` and `addrv2`, and the addresses in `version`.

use std::net::{Ipv4Addr, Ipv6Addr};

use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use bytes::{BufMut, BytesMut};

use super::super::reader::Reader;
use super::{COUNT, Entry};
use crate::compact_size;
use crate::error::DecodeError;
use crate::limits::MAX_ADDRV2_BYTES;

/// Services, IPv6 address and port of one address, bytes.
pub(super) const ADDRESS: usize = 8 + 16 + 2;

pub(super) fn read_address(reader: &mut Reader<'_>) -> Result<Address, DecodeError> {
    let services = ServiceFlags::from(reader.u64("services")?);
    let ip = Ipv6Addr::from(reader.array::<16>("address")?);
    let port = u16::from_be_bytes(reader.array("port")?);
    Ok(Address {
        services,
        address: ip.segments(),
        port,
    })
}

pub(super) fn write_address(out: &mut BytesMut, address: &Address) {
    out.put_u64_le(address.services.to_u64());
    for segment in address.address {
        out.put_u16(segment);
    }
    out.put_u16(address.port);
}

/// An address and when it was last seen.
pub(in crate::message) struct AddrEntry;

impl Entry for AddrEntry {
    type Value = (u32, Address);

    const BYTES: (usize, usize) = (4 + ADDRESS, 4 + ADDRESS);

    fn read(reader: &mut Reader<'_>) -> Result<(u32, Address), DecodeError> {
        Ok((reader.u32("time")?, read_address(reader)?))
    }

    fn write((time, address): &(u32, Address), out: &mut BytesMut) {
        out.put_u32_le(*time);
        write_address(out, address);
    }
}

/// An address of any network (BIP155).
pub(in crate::message) struct AddrV2Entry;

impl Entry for AddrV2Entry {
    type Value = AddrV2Message;

    const BYTES: (usize, usize) = (4 + 1 + 1 + 1 + 2, 4 + 9 + 1 + COUNT + MAX_ADDRV2_BYTES + 2);

    fn read(reader: &mut Reader<'_>) -> Result<AddrV2Message, DecodeError> {
        let time = reader.u32("time")?;
        let services = ServiceFlags::from(reader.compact_size("services")?);
        let network = reader.u8("network")?;
        let len = reader.length("address", MAX_ADDRV2_BYTES)?;
        let bytes = reader.take(len, "address")?;
        let Some(addr) = addr_of(network, bytes) else {
            return Err(reader.invalid("address length"));
        };
        let port = u16::from_be_bytes(reader.array("port")?);
        Ok(AddrV2Message {
            time,
            services,
            addr,
            port,
        })
    }

    fn length(entry: &AddrV2Message) -> usize {
        let services = compact_size::len(entry.services.to_u64());
        let address = addr_parts(&entry.addr, |_, bytes| {
            compact_size::len(bytes.len() as u64) + bytes.len()
        });
        4 + services + 1 + address + 2
    }

    fn write(entry: &AddrV2Message, out: &mut BytesMut) {
        out.put_u32_le(entry.time);
        compact_size::write(out, entry.services.to_u64());
        addr_parts(&entry.addr, |network, bytes| {
            out.put_u8(network);
            compact_size::write(out, bytes.len() as u64);
            out.put_slice(bytes);
        });
        out.put_u16(entry.port);
    }

    fn heap_size(entry: &AddrV2Message) -> usize {
        match &entry.addr {
            AddrV2::Unknown(_, bytes) => bytes.capacity(),
            _ => 0,
        }
    }
}

/// `None`: the length is wrong for a network that has a fixed one (BIP155).
///
/// Bytes that cannot be an address of their network (IPv4 inside IPv6, CJDNS outside
/// fc00::/8) are `Unknown`: Core skips such entries and uses the others.
fn addr_of(network: u8, bytes: &[u8]) -> Option<AddrV2> {
    let unknown = || AddrV2::Unknown(network, bytes.to_vec());
    Some(match network {
        1 => AddrV2::Ipv4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        2 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            let onion_cat = ip.segments()[..3] == [0xfd87, 0xd87e, 0xeb43];
            if onion_cat || ip.to_ipv4_mapped().is_some() {
                unknown()
            } else {
                AddrV2::Ipv6(ip)
            }
        }
        3 => <[u8; 10]>::try_from(bytes).map_or_else(|_| unknown(), AddrV2::TorV2),
        4 => AddrV2::TorV3(bytes.try_into().ok()?),
        5 => AddrV2::I2p(bytes.try_into().ok()?),
        6 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            if ip.octets()[0] == 0xfc {
                AddrV2::Cjdns(ip)
            } else {
                unknown()
            }
        }
        _ => unknown(),
    })
}

/// Network number and bytes of an address (BIP155), handed to `with`.
fn addr_parts<R>(addr: &AddrV2, with: impl FnOnce(u8, &[u8]) -> R) -> R {
    match addr {
        AddrV2::Ipv4(ip) => with(1, &ip.octets()),
        AddrV2::Ipv6(ip) => with(2, &ip.octets()),
        AddrV2::TorV2(bytes) => with(3, bytes),
        AddrV2::TorV3(bytes) => with(4, bytes),
        AddrV2::I2p(bytes) => with(5, bytes),
        AddrV2::Cjdns(ip) => with(6, &ip.octets()),
        AddrV2::Unknown(network, bytes) => with(*network, bytes),
    }
}
