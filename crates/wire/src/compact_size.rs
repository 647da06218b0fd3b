//! Bitcoin's variable-length counts. Core `CompactSize`.

use bytes::BufMut;

/// Length of the longest form, bytes.
pub(crate) const MAX_BYTES: usize = 9;

/// Appends `value` in its shortest form.
pub(crate) fn write(out: &mut impl BufMut, value: u64) {
    match value {
        0..=0xfc => out.put_u8(value as u8),
        0xfd..=0xffff => {
            out.put_u8(0xfd);
            out.put_u16_le(value as u16);
        }
        0x1_0000..=0xffff_ffff => {
            out.put_u8(0xfe);
            out.put_u32_le(value as u32);
        }
        _ => {
            out.put_u8(0xff);
            out.put_u64_le(value);
        }
    }
}

/// Bytes that [`write`] appends for `value`.
pub(crate) fn len(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::VarInt;
    use bitcoin::consensus::serialize;

    #[test]
    fn every_form_changes_at_the_value_where_the_bitcoin_crate_changes_it() {
        for edge in [0xfc_u64, 0xffff, 0xffff_ffff, u64::MAX - 1] {
            for value in [edge, edge + 1] {
                let mut bytes = Vec::new();
                super::write(&mut bytes, value);
                assert_eq!(bytes, serialize(&VarInt(value)), "{value}");
                assert_eq!(bytes.len(), super::len(value), "{value}");
                assert!(bytes.len() <= super::MAX_BYTES);
            }
        }
    }
}
