use super::*;

#[test]
fn the_table_is_sorted_and_every_name_is_unique() {
    let names: Vec<_> = all().map(|method| (method.category, method.name)).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup_by_key(|(_, name)| *name);
    assert_eq!(names, sorted);
}

#[test]
fn the_readme_lists_every_method_and_no_other() {
    let readme = include_str!("../../../../README.md");
    let (_, table) = readme.split_once("\n| | methods |\n").expect("the table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let listed: Vec<&str> = rows
        .flat_map(|row| row.split('`').skip(1).step_by(2))
        .flat_map(str::split_whitespace)
        .collect();
    for method in all() {
        assert!(listed.contains(&method.name), "{} is missing", method.name);
    }
    for word in listed {
        assert!(find(word).is_some(), "{word} is no method");
    }
}

#[test]
fn every_method_explains_itself_and_its_arguments() {
    for method in all() {
        let help = method.help();
        assert!(help.starts_with(method.name), "{help}");
        assert!(
            help.contains("\nResult:\n")
                && help.contains(&format!("\n> handfast rpc {}", method.name)),
            "{help}"
        );
        for param in method
            .params
            .iter()
            .filter(|param| param.need != Need::Hidden)
        {
            assert!(help.contains(&format!(". {} ", param.names[0])), "{help}");
        }
    }
}

#[test]
fn the_usage_line_brackets_what_may_be_left_out() {
    let usage = |name: &str| find(name).expect("a method").usage();
    assert_eq!(usage("getblock"), "getblock \"blockhash\" ( verbosity )");
    assert_eq!(usage("getblockcount"), "getblockcount");
    assert_eq!(
        usage("disconnectnode"),
        "disconnectnode ( \"address\" nodeid )"
    );
    assert_eq!(usage("stop"), "stop");
}

#[test]
fn required_parameters_come_first() {
    for method in all() {
        let optional = method
            .params
            .iter()
            .position(|param| param.need != Need::Required);
        let last_required = method
            .params
            .iter()
            .rposition(|param| param.need == Need::Required);
        assert!(
            optional.is_none() || last_required < optional,
            "{}",
            method.name
        );
    }
}
