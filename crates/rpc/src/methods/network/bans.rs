//! The operator's bans. Names, fields, errors as in Bitcoin Core.

use std::rc::Rc;

use handfast_api::methods::network as specs;
use handfast_node::{Ban, BanCommand, BanError, BanFailure, BanTarget, BanTime, SubnetError};
use serde_json::{Value, json};

use super::super::{Call, Method};
use crate::jsonrpc::{Error, code};

pub(super) const CLEARBANNED: Method = Method {
    spec: &specs::CLEARBANNED,
    run: |call| Box::pin(clearbanned(call)),
};

pub(super) const LISTBANNED: Method = Method {
    spec: &specs::LISTBANNED,
    run: |call| Box::pin(listbanned(call)),
};

pub(super) const SETBAN: Method = Method {
    spec: &specs::SETBAN,
    run: |call| Box::pin(setban(call)),
};

async fn setban(call: Rc<Call>) -> Result<Value, Error> {
    let command = call.text(1).unwrap_or_default();
    if !matches!(command, "add" | "remove") {
        let help = specs::SETBAN.help();
        return Err(Error::new(code::MISC_ERROR, help));
    }
    let target: BanTarget =
        call.text(0)
            .unwrap_or_default()
            .parse()
            .map_err(|error: SubnetError| {
                Error::new(code::CLIENT_INVALID_IP_OR_SUBNET, error.to_string())
            })?;
    let order = if command == "add" {
        let time = call.integer::<i64>(2)?;
        let absolute = call.flag(3).unwrap_or(false);
        let time = ban_time(time, absolute);
        BanCommand::Add { target, time }
    } else {
        BanCommand::Remove { target }
    };
    apply(&call, order).await
}

/// Core takes an absolute time that is left out for the year 1970.
fn ban_time(time: Option<i64>, absolute: bool) -> BanTime {
    match (time, absolute) {
        (time, true) => BanTime::Until(time.unwrap_or(0)),
        (Some(seconds), false) => BanTime::For(seconds),
        (None, false) => BanTime::Default,
    }
}

async fn clearbanned(call: Rc<Call>) -> Result<Value, Error> {
    apply(&call, BanCommand::Clear).await
}

async fn apply(call: &Call, order: BanCommand) -> Result<Value, Error> {
    match call.node.ban(order).await {
        Ok(()) => Ok(Value::Null),
        Err(BanFailure::Gone(gone)) => Err(gone.into()),
        Err(BanFailure::Refused(refusal)) => Err(refused(refusal)),
    }
}

fn refused(refusal: BanError) -> Error {
    let code = match refusal {
        BanError::AlreadyBanned => code::CLIENT_NODE_ALREADY_ADDED,
        BanError::NotBanned => code::CLIENT_INVALID_IP_OR_SUBNET,
        BanError::InThePast => code::INVALID_PARAMETER,
    };
    Error::new(code, refusal.to_string())
}

async fn listbanned(call: Rc<Call>) -> Result<Value, Error> {
    let (bans, now) = call.node.bans()?;
    Ok(bans.iter().map(|ban| row(ban, now)).collect())
}

/// `now`: Unix seconds.
fn row(ban: &Ban, now: i64) -> Value {
    json!({
        "address": ban.target.to_string(),
        "ban_created": ban.created,
        "banned_until": ban.until,
        "ban_duration": ban.until.saturating_sub(ban.created),
        "time_remaining": ban.until.saturating_sub(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_has_the_fields_of_core_in_its_order() {
        let ban = Ban {
            target: "192.0.2.7/24".parse().expect("a subnet"),
            created: 1_700_000_000,
            until: 1_700_000_600,
        };
        assert_eq!(
            row(&ban, 1_700_000_100).to_string(),
            "{\"address\":\"192.0.2.0/24\",\"ban_created\":1700000000,\
             \"banned_until\":1700000600,\"ban_duration\":600,\"time_remaining\":500}"
        );
    }

    #[test]
    fn refusals_have_the_codes_and_words_of_core() {
        let shown = |refusal| {
            let Error { code, message } = refused(refusal);
            (code, message)
        };
        assert_eq!(
            shown(BanError::AlreadyBanned),
            (-23, "Error: IP/Subnet already banned".to_owned())
        );
        assert_eq!(
            shown(BanError::InThePast),
            (-8, "Error: Absolute timestamp is in the past".to_owned())
        );
        assert_eq!(
            shown(BanError::NotBanned),
            (
                -30,
                "Error: Unban failed. Requested address/subnet was not previously manually banned."
                    .to_owned()
            )
        );
    }

    #[test]
    fn an_absolute_time_that_is_left_out_is_in_the_past_as_in_core() {
        assert_eq!(ban_time(None, true), BanTime::Until(0));
        assert_eq!(ban_time(Some(9), true), BanTime::Until(9));
        assert_eq!(ban_time(Some(9), false), BanTime::For(9));
        assert_eq!(ban_time(None, false), BanTime::Default);
    }
}
