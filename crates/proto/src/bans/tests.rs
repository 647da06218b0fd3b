use std::net::Ipv6Addr;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const START: Now = Now {
    mono: Duration::from_secs(100),
    unix: 1_700_000_000,
};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn subnet(text: &str) -> Subnet {
    text.parse().expect("a subnet")
}

fn add(text: &str, time: BanTime) -> BanCommand {
    let target = text.parse().expect("an address");
    BanCommand::Add { target, time }
}

fn later(seconds: u64) -> Now {
    START.after(Duration::from_secs(seconds))
}

#[test]
fn subnets_are_read_and_written_as_core_does_it() {
    for (text, shown) in [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("192.0.2.7/255.255.254.0", "192.0.2.0/23"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("192.0.2.7/0.0.0.0", "0.0.0.0/0"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("2001:470::7", "2001:470::7/128"),
        ("[2001:470::7]", "2001:470::7/128"),
        ("2001:470::7/32", "2001:470::/32"),
        ("2001:470::7/ffff:ffff::", "2001:470::/32"),
        ("::/0", "::/0"),
        ("127.1", "127.0.0.1/32"),
        ("192.0.2", "192.0.0.2/32"),
        ("0x7f.1", "127.0.0.1/32"),
        ("1.2.3/24", "1.2.0.0/24"),
        ("1.2.3.4/255.255.0", "1.2.0.0/16"),
        ("5.6.7.8/0xffff0000", "5.6.0.0/16"),
    ] {
        assert_eq!(subnet(text).to_string(), shown, "{text}");
    }
    for text in [
        "",
        "node.example",
        "08.1",
        "192.0.2.7/33",
        "192.0.2.7/-1",
        "192.0.2.7/+8",
        "192.0.2.7/",
        "192.0.2.7/24/8",
        "192.0.2.7/255.0.255.0",
        "192.0.2.7/ffff::",
        "2001:470::/129",
        "2001:470::/255.0.0.0",
        "::ffff:192.0.2.7/120",
        "0.0.0.0",
        "255.255.255.255",
        "::",
        "2001:db8::1",
        "fd87:d87e:eb43::1",
        "fd6b:88c0:8724::1",
        "192.0.2.7:8333",
    ] {
        assert_eq!(text.parse::<Subnet>(), Err(SubnetError), "{text}");
    }
}

#[test]
fn an_address_of_another_network_is_banned_by_its_name_and_matches_no_ip_address() {
    let name = "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dyp3kead.onion";
    let address: Overlay = name.parse().expect("an address");
    let mut list = BanList::default();
    assert_eq!(list.apply(START, add(name, BanTime::Default)), Ok(()));
    let again = list.apply(START, add(name, BanTime::Default));
    assert_eq!(again, Err(BanError::AlreadyBanned));
    assert!(list.is_overlay_banned(address, START));
    assert!(!list.is_overlay_banned(Overlay::I2p([0; 32]), START));
    assert!(!list.is_banned([192, 0, 2, 7].into(), START));
    let shown: Vec<String> = list.rows(START).map(|ban| ban.target.to_string()).collect();
    assert_eq!(shown, [name]);
    let target = BanTarget::Overlay(address);
    assert_eq!(list.apply(START, BanCommand::Remove { target }), Ok(()));
    assert!(!list.is_overlay_banned(address, START));
}

#[test]
fn a_ban_matches_its_subnet_and_no_other_address() {
    let mut list = BanList::default();
    for text in ["192.0.2.0/24", "198.51.100.7", "2001:470::/33"] {
        list.apply(START, add(text, BanTime::Default)).expect("new");
    }
    for met in [
        "192.0.2.0",
        "192.0.2.255",
        "::ffff:192.0.2.9",
        "198.51.100.7",
        "2001:470:7::1",
    ] {
        assert!(list.is_banned(ip(met), START), "{met}");
    }
    for free in ["192.0.3.0", "198.51.100.6", "2001:470:8000::1", "::1"] {
        assert!(!list.is_banned(ip(free), START), "{free}");
    }
}

#[test]
fn a_ban_lasts_as_long_as_the_operator_set() {
    let until = |time| {
        let mut list = BanList::default();
        list.apply(START, add("192.0.2.7", time)).expect("new");
        let ban = list.rows(START).next().expect("on the list");
        assert_eq!(ban.created, i64::from(START.unix));
        let left = u64::try_from(ban.until - ban.created).expect("in the future");
        assert!(list.is_banned(ip("192.0.2.7"), later(left - 1)));
        assert!(!list.is_banned(ip("192.0.2.7"), later(left)));
        assert_eq!(list.rows(later(left)).count(), 0);
        left
    };
    assert_eq!(until(BanTime::Default), 86_400);
    assert_eq!(until(BanTime::For(60)), 60);
    assert_eq!(
        until(BanTime::For(0)),
        86_400,
        "zero is the default, as in Core"
    );
    assert_eq!(until(BanTime::For(-5)), 86_400);
    assert_eq!(until(BanTime::Until(i64::from(START.unix) + 9)), 9);
}

#[test]
fn a_ban_for_ever_does_not_overflow() {
    let mut list = BanList::default();
    list.apply(START, add("192.0.2.7", BanTime::For(i64::MAX)))
        .expect("new");
    assert!(list.is_banned(ip("192.0.2.7"), later(1 << 40)));
}

#[test]
fn the_list_refuses_what_core_refuses() {
    let mut list = BanList::default();
    let past = BanTime::Until(i64::from(START.unix) - 1);
    assert_eq!(
        list.apply(START, add("192.0.2.7", past)),
        Err(BanError::InThePast)
    );
    assert_eq!(
        list.apply(START, add("192.0.2.0/24", BanTime::For(60))),
        Ok(())
    );
    let again = |text| add(text, BanTime::Default);
    assert_eq!(
        list.apply(START, again("192.0.2.0/24")),
        Err(BanError::AlreadyBanned)
    );
    assert_eq!(
        list.apply(START, again("192.0.2.7")),
        Err(BanError::AlreadyBanned),
        "the subnet matches it"
    );
    assert_eq!(
        list.apply(START, again("192.0.2.0/25")),
        Ok(()),
        "another subnet"
    );
    let remove = |text| BanCommand::Remove {
        target: subnet(text).into(),
    };
    assert_eq!(
        list.apply(START, remove("192.0.2.7")),
        Err(BanError::NotBanned),
        "only what is on the list is removed"
    );
    assert_eq!(list.apply(START, remove("192.0.2.0/25")), Ok(()));
    assert_eq!(
        list.apply(later(60), remove("192.0.2.0/24")),
        Err(BanError::NotBanned),
        "it has ended, and with it the list is empty"
    );
    assert!(list.is_empty());
    assert_eq!(
        list.apply(later(60), again("192.0.2.0/24")),
        Ok(()),
        "the first ban has ended"
    );
    assert_eq!(list.apply(later(60), BanCommand::Clear), Ok(()));
    assert!(list.is_empty());
}

#[test]
fn saved_bans_are_loaded_except_those_that_ended() {
    let mut list = BanList::default();
    for (text, time) in [
        ("192.0.2.0/24", BanTime::For(60)),
        ("2001:470::/32", BanTime::For(600)),
    ] {
        list.apply(START, add(text, time)).expect("new");
    }
    let rows: Vec<Ban> = list.rows(START).collect();
    assert_eq!(BanList::from_rows(rows.clone(), START), list);
    let rest = BanList::from_rows(rows.clone(), later(60));
    assert_eq!(rest.rows(START).collect::<Vec<_>>(), rows[1..]);
}

#[test]
fn a_discouraged_host_is_forgotten_after_a_day() {
    let mut hosts = Discouraged::default();
    assert!(hosts.add(ip("203.0.113.7"), START));
    assert!(hosts.contains(ip("::ffff:203.0.113.7"), START));
    assert!(!hosts.contains(ip("203.0.113.8"), START));
    let almost = later(24 * 3_600 - 1);
    assert!(hosts.contains(ip("203.0.113.7"), almost));
    hosts.add(ip("203.0.113.7"), almost);
    assert!(
        hosts.contains(ip("203.0.113.7"), later(24 * 3_600)),
        "it misbehaved again"
    );
    hosts.add(ip("203.0.113.8"), later(24 * 3_600));
    assert!(
        hosts.contains(ip("203.0.113.7"), later(24 * 3_600)),
        "the first time has run out, the second has not"
    );
    assert!(!hosts.contains(ip("203.0.113.7"), later(48 * 3_600)));
    hosts.add(ip("203.0.113.9"), later(72 * 3_600));
    assert_eq!(hosts.len(), 1, "a removed host takes no memory");
}

#[test]
fn this_machine_is_never_discouraged() {
    let mut hosts = Discouraged::default();
    for local in [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
    ] {
        assert!(!hosts.add(ip(local), START), "{local}");
    }
    assert!(hosts.is_empty());
    assert!(hosts.add(ip("192.168.1.7"), START), "as in Core");
}

#[test]
fn a_slash_64_takes_one_entry_and_the_memory_is_bounded() {
    let mut hosts = Discouraged::default();
    for n in 0..100u128 {
        hosts.add(
            IpAddr::V6(Ipv6Addr::from_bits((0x2001_0470 << 96) | n)),
            START,
        );
    }
    assert_eq!(hosts.len(), 1);
    for n in 0..=u32::try_from(MAX_DISCOURAGED).expect("small") {
        let now = later(1 + u64::from(n) / 100);
        hosts.add(IpAddr::V4((0x0505_0000 + n).into()), now);
    }
    assert_eq!(hosts.len(), MAX_DISCOURAGED);
    assert!(
        !hosts.contains(ip("2001:470::1"), START),
        "the oldest went first"
    );
    assert!(!hosts.contains(ip("5.5.0.0"), START), "then the next");
    assert!(hosts.contains(ip("5.5.0.1"), START));
    assert_eq!(hosts.by_expiry.len(), MAX_DISCOURAGED);
}

proptest! {
    /// The look-up by prefixes finds what a scan of every ban finds.
    #[test]
    fn a_banned_address_is_in_a_banned_subnet(
        bans in prop::collection::vec((any::<u16>(), 0u8..=32), 0..8),
        asked in any::<u16>(),
    ) {
        let spread = |n: u16| IpAddr::V4((u32::from(n) << 16 | u32::from(n)).into());
        let mut list = BanList::default();
        let subnets: Vec<Subnet> = bans
            .into_iter()
            .filter_map(|(n, prefix)| Subnet::new(spread(n), prefix))
            .collect();
        for subnet in &subnets {
            let _ = list.apply(START, BanCommand::Add { target: (*subnet).into(), time: BanTime::Default });
        }
        let met = subnets.iter().any(|subnet| subnet.contains(spread(asked)));
        prop_assert_eq!(list.is_banned(spread(asked), START), met);
    }
}
