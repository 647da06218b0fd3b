use handfast_api::methods as specs;
use serde_json::json;

use super::*;

#[test]
fn every_method_that_is_described_has_its_code_and_no_other_has() {
    let mut carried_out: Vec<&str> = all().map(|method| method.name).collect();
    carried_out.sort_unstable();
    let mut described: Vec<&str> = specs::all().map(|spec| spec.name).collect();
    described.sort_unstable();
    assert_eq!(carried_out, described);
}

#[test]
fn too_few_and_too_many_arguments_get_the_help_text_as_core_does_it() {
    let method = find("getblockhash").expect("a method");
    for arguments in [vec![], vec![json!(1), json!(2)]] {
        let error = method.check(&arguments).expect_err("the wrong number");
        assert_eq!(
            (error.code, error.message),
            (code::MISC_ERROR, method.help())
        );
    }
    assert_eq!(method.check(&[json!(1)]), Ok(()));
}

#[test]
fn an_argument_of_the_wrong_type_is_reported_with_its_position() {
    let method = find("getblockheader").expect("a method");
    let error = method
        .check(&[json!(1), json!("yes")])
        .expect_err("both are wrong");
    assert_eq!(error.code, code::TYPE_ERROR);
    let expected = "Wrong type passed:\n{\n    \
        \"Position 1 (blockhash)\": \"JSON value of type number is not of expected type string\",\n    \
        \"Position 2 (verbose)\": \"JSON value of type string is not of expected type bool\"\n}";
    assert_eq!(error.message, expected);
    assert_eq!(
        method.check(&[json!("00"), Value::Null]),
        Ok(()),
        "null stands for an optional one"
    );
    assert!(
        method.check(&[Value::Null]).is_err(),
        "but not for a required one"
    );
}

#[test]
fn a_hash_argument_is_checked_in_cores_words() {
    let message = |text: &str| {
        blockchain::hash_argument(text, "blockhash")
            .expect_err("no hash")
            .message
    };
    assert_eq!(
        message("abc"),
        "blockhash must be of length 64 (not 3, for 'abc')"
    );
    let dashes = "-".repeat(64);
    assert_eq!(
        message(&dashes),
        format!("blockhash must be hexadecimal string (not '{dashes}')")
    );
    assert!(blockchain::hash_argument(&"0".repeat(64), "blockhash").is_ok());
}
