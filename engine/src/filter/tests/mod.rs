//! What filters select, what they refuse, and what the refusals say.
#![allow(clippy::unwrap_used, clippy::panic)]

mod model;
mod world;

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::json;

use self::world::{Row, collection, columns, text_key_collection};
use super::{Filter, PrimaryKeys};
use crate::proto::schema::{
    BoolArray, DoubleArray, JsonArray, LongArray, StringArray, TemplateArrayValue, TemplateValue, template_array_value,
    template_value,
};

fn rows() -> Vec<Row> {
    let row = |id: i64, name: &str| Row { id, name: Some(name.to_owned()), ..Row::default() };
    vec![
        Row {
            tiny: Some(-128),
            num: Some(10),
            price: Some(0.1),
            score: 1.5,
            flag: Some(true),
            meta: Some(json!({"a": {"b": 1}, "tags": [1, 2, "x"], "list": [1, 2.0]})),
            dynamic: Some(json!({"color": "red", "size": 5})),
            ..row(1, "apple")
        },
        Row {
            tiny: Some(127),
            num: Some(-7),
            price: Some(2.5),
            score: -1.5,
            flag: Some(false),
            meta: Some(json!({"a": {"b": 2.5}, "tags": [], "s": "it's"})),
            dynamic: Some(json!({"color": "blue", "size": "5"})),
            ..row(2, "banana")
        },
        Row { meta: Some(json!({"a": null})), dynamic: Some(json!({})), ..row(3, "100%") },
        Row { num: Some(0), score: 1e300, name: None, flag: Some(true), ..row(i64::MAX, "") },
    ]
}

fn parse(expression: &str) -> Result<Filter, String> {
    Filter::parse(expression, &collection(true), &HashMap::new()).map_err(|error| error.to_string())
}

fn selected(expression: &str) -> Vec<usize> {
    let filter = parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    filter.evaluate(&columns(&rows())).ones().collect()
}

fn error(expression: &str) -> String {
    parse(expression).err().unwrap_or_else(|| panic!("{expression} was accepted"))
}

#[test]
fn filters_select_the_rows_that_they_describe() {
    let cases: &[(&str, &[usize])] = &[
        // Comparisons, either way round.
        ("num == 10", &[0]),
        ("num != 10", &[1, 3]),
        ("10 > num", &[1, 3]),
        ("num >= -7 and num < 10", &[1, 3]),
        ("name == 'apple'", &[0]),
        ("name < \"b\"", &[0, 2]),
        ("flag", &[0, 3]),
        ("not flag", &[1]),
        ("flag == false", &[1]),
        ("flag != false", &[0, 3]),
        ("flag in [true]", &[0, 3]),
        ("true", &[0, 1, 2, 3]),
        ("1 == 2", &[]),
        // Two-sided ranges.
        ("-7 <= num < 10", &[1, 3]),
        ("10 >= num > -7", &[0, 3]),
        ("\"a\" < name <= \"banana\"", &[0, 1]),
        // Literals beyond the field's range compare; they do not wrap.
        ("tiny < 1000", &[0, 1]),
        ("tiny == 384", &[]),
        ("tiny > -99999999999999999999999", &[0, 1]),
        ("id == 9223372036854775808", &[]),
        ("id >= 9223372036854775807", &[3]),
        ("id + 1 > 9223372036854775807", &[3]),
        ("id < 1.5", &[0]),
        ("num == 10.0", &[0]),
        // Float fields compare in their own precision.
        ("price == 0.1", &[0]),
        ("price in [0.1, 7]", &[0]),
        ("score == -1.5", &[1]),
        ("score in [1.5, -1.5]", &[0, 1]),
        ("score > 1e299", &[3]),
        // Arithmetic and its precedence.
        ("num + 2 * 3 == 16", &[0]),
        ("(num + 2) * 3 == 36", &[0]),
        ("num - 1 - 1 == 8", &[0]),
        ("num % 4 == 2", &[0]),
        ("num / 2 == -3", &[1]),
        ("num ** 2 == 100", &[0]),
        ("-num ** 2 == -49", &[1]),
        ("2 ** 3 ** 2 == 512 and id == 1", &[0]),
        ("2 ** -1 == 0.5 and id == 1", &[0]),
        ("num & 2 == 2", &[0]),
        ("num | 1 == 11", &[0]),
        ("num ^ 2 == 8", &[0]),
        ("~num == 6", &[1]),
        ("1 << 3 == 8 and num >> 1 == 5", &[0]),
        ("num == id * 10", &[0]),
        ("price + 0 < score", &[0]),
        // What has no result is neither true nor false.
        ("100 / num == 10", &[0]),
        ("not (100 / num == 10)", &[1]),
        // Membership.
        ("num in [10, 0, 999999999999]", &[0, 3]),
        ("num not in [10, 0]", &[1]),
        ("num in []", &[]),
        ("name in ['apple', \"100%\",]", &[0, 2]),
        ("num + 1 in [11, 1.0]", &[0, 3]),
        // Patterns.
        ("name like 'a%'", &[0]),
        ("name like '%an%'", &[1]),
        ("name LIKE '_a%'", &[1]),
        (r"name like '%\%'", &[2]),
        (r"name like r'100\%'", &[2]),
        ("not (name like '%a%')", &[2]),
        // Nulls.
        ("name is null", &[3]),
        ("name IS NOT NULL", &[0, 1, 2]),
        ("not (num == 10)", &[1, 3]),
        ("num == 10 or num is null", &[0, 2]),
        ("num == 10 or true", &[0, 1, 2, 3]),
        ("num == 10 and false", &[]),
        ("meta is null", &[3]),
        // Logic and its spellings.
        ("id == 1 or id == 2 and num == 0", &[0]),
        ("(id == 1 || id == 2) && !(num == 10)", &[1]),
        ("NOT name == 'apple' AND id < 3", &[1]),
        // JSON paths.
        ("meta[\"a\"][\"b\"] == 1", &[0]),
        ("meta['a']['b'] > 1", &[1]),
        ("meta['a']['b'] + 1 == 3.5", &[1]),
        ("meta[\"s\"] == 'it\\'s'", &[1]),
        ("meta[\"tags\"][2] == 'x'", &[0]),
        ("meta['list'] == [1, 2]", &[0]),
        ("meta['tags'] != [1]", &[0, 1]),
        ("exists meta['a']", &[0, 1]),
        ("meta['a'] is null", &[2, 3]),
        ("meta['a'] is not null", &[0, 1]),
        ("not exists meta['s']", &[0, 2, 3]),
        // A missing key or another type is false, so its negation is true; a null field is unknown.
        ("meta['s'] != 'x'", &[1]),
        ("not (meta['s'] == 'x')", &[0, 1, 2]),
        // Dynamic values.
        ("color == 'red'", &[0]),
        ("$meta['color'] in ['red', 'blue']", &[0, 1]),
        ("color like '%u%'", &[1]),
        ("size == 5", &[0]),
        ("size == '5'", &[1]),
        ("not (size == 5)", &[1, 2, 3]),
        ("exists color", &[0, 1]),
        ("color is null", &[2, 3]),
        // Arrays in JSON.
        ("json_contains(meta['tags'], 1)", &[0]),
        ("JSON_CONTAINS_ALL(meta['tags'], [1, 'x'])", &[0]),
        ("json_contains_all(meta['tags'], [1, 3])", &[]),
        ("json_contains_any(meta['tags'], [3, 'x'])", &[0]),
        ("json_contains(meta['list'], 2)", &[0]),
        // White space and brackets.
        ("  ( ( num ) == ((10)) )\n", &[0]),
        ("", &[0, 1, 2, 3]),
        (" \t", &[0, 1, 2, 3]),
    ];
    for (expression, expected) in cases {
        assert_eq!(selected(expression), *expected, "{expression}");
    }
}

#[test]
fn errors_name_the_problem_the_place_and_the_remedy() {
    let cases: &[(&str, &[&str])] = &[
        ("num === 10", &["column 7", "`=`", "equality is written `==`"]),
        ("num = 10", &["column 5", "equality is written `==`"]),
        ("num == ", &["column", "end of the expression", "a field, a value or `(`"]),
        ("(num == 1", &["`)`", "end of the expression"]),
        ("num == 1 name", &["column 10", "`name`", "an operator"]),
        ("name == 'abc", &["column 9", "does not end"]),
        ("name == 5", &["field \"name\" (string)", "the constant integer", "\"5\"", "column 1"]),
        ("num == '5'", &["field \"num\" (integer)", "the constant string"]),
        ("flag > true", &["no order"]),
        ("num in [1, 'x']", &["a string", "column 12", "`'x'`"]),
        ("num in 5", &["list of constants"]),
        ("num in [id]", &["constants only"]),
        ("1 in meta['tags']", &["json_contains"]),
        ("name like 5", &["string as its pattern"]),
        ("num like 'a%'", &["works on strings"]),
        ("num", &["not a condition"]),
        ("color", &["not a condition"]),
        ("num and flag", &["field \"num\" (integer) is not a condition", "column 1"]),
        ("num + 'a' == 1", &["`+` works on numbers"]),
        ("price & 1 == 1", &["`&` works on integers", "field \"price\""]),
        ("num / 0 == 1", &["division by zero"]),
        ("1 << 70 == 1", &["no result"]),
        ("1 < num > 2", &["do not form a range"]),
        ("num == 1 == true", &["do not form a range"]),
        ("(num == 1) == true", &["a condition where a value belongs"]),
        ("num is 5", &["`null` or `not null`"]),
        ("num == null", &["is null"]),
        ("num not like 'a'", &["`in` after `not`"]),
        ("vector == 1", &["\"vector\"", "FloatVector", "scalar fields"]),
        ("num['a'] == 1", &["has no keys"]),
        ("meta[name] == 1", &["quoted key"]),
        ("exists num", &["JSON paths", "is not null"]),
        ("num == {x}", &["{x}", "has no value", "filter_params"]),
        ("foo(num)", &["unknown function \"foo\""]),
        ("json_contains(meta['a'])", &["two arguments and has 1"]),
        ("json_contains_any(meta['a'], 1)", &["list of constants"]),
        ("json_contains(num, 1)", &["works on JSON"]),
        // What the language has and the engine does not serve is named.
        ("text_match(name, 'a')", &["text_match", "not supported"]),
        ("TEXT_MATCH(name, 'a')", &["text_match", "not supported"]),
        ("phrase_match(name, 'a')", &["phrase_match", "not supported"]),
        ("random_sample(0.1)", &["random_sample", "not supported"]),
        ("st_within(name, 'a')", &["st_within", "not supported"]),
        ("array_contains(meta, 1)", &["array_contains", "not supported"]),
        ("array_length(meta) == 1", &["array_length", "not supported"]),
        ("name =~ 'a.*'", &["`=~`", "not supported"]),
        ("num + INTERVAL 'P1D' > 1", &["not supported", "INTERVAL"]),
    ];
    for (expression, parts) in cases {
        let message = error(expression);
        for part in *parts {
            assert!(message.contains(part), "{expression}: {message:?} does not contain {part:?}");
        }
    }
}

#[test]
fn an_unknown_field_is_named_together_with_those_that_exist() {
    let message = Filter::parse("colour == 'red'", &collection(false), &HashMap::new()).unwrap_err().to_string();
    for part in
        ["unknown field \"colour\"", "column 1", "collection \"shop\"", "id, tiny, num, price, score, name, flag, meta"]
    {
        assert!(message.contains(part), "{message}");
    }
    assert!(Filter::parse("$meta['a'] == 1", &collection(false), &HashMap::new()).is_err());
}

#[test]
fn columns_are_counted_in_characters() {
    assert!(
        error("name == '\u{fc}\u{1f600}' and num == 'x'").contains("column 18"),
        "{}",
        error("name == '\u{fc}\u{1f600}' and num == 'x'")
    );
}

#[test]
fn rows_written_before_a_field_existed_are_null_in_it() {
    let mut rows = columns(&rows());
    rows.columns.retain(|column| column.field_id != 102 && column.field_id != 109);
    let selected = |expression: &str| parse(expression).unwrap().evaluate(&rows).ones().collect::<Vec<_>>();
    assert_eq!(selected("num is null"), [0, 1, 2, 3]);
    assert!(selected("num == 10 or num != 10 or num + 1 == 11").is_empty());
    assert!(selected("color == 'red'").is_empty());
    assert_eq!(selected("not (color == 'red')"), [0, 1, 2, 3]);
}

#[test]
fn parameters_stand_for_their_values() {
    let value = |val| TemplateValue { val: Some(val) };
    let array = |data| value(template_value::Val::ArrayVal(TemplateArrayValue { data: Some(data) }));
    let templates = HashMap::from([
        ("n".to_owned(), value(template_value::Val::Int64Val(10))),
        ("f".to_owned(), value(template_value::Val::FloatVal(1.5))),
        ("s".to_owned(), value(template_value::Val::StringVal("apple' or true".to_owned()))),
        ("b".to_owned(), value(template_value::Val::BoolVal(true))),
        ("nan".to_owned(), value(template_value::Val::FloatVal(f64::NAN))),
        ("ints".to_owned(), array(template_array_value::Data::LongData(LongArray { data: vec![1, 2] }))),
        ("floats".to_owned(), array(template_array_value::Data::DoubleData(DoubleArray { data: vec![1.5] }))),
        ("bools".to_owned(), array(template_array_value::Data::BoolData(BoolArray { data: vec![false] }))),
        (
            "texts".to_owned(),
            array(template_array_value::Data::StringData(StringArray { data: vec!["banana".to_owned()] })),
        ),
        (
            "mixed".to_owned(),
            array(template_array_value::Data::JsonData(JsonArray { data: vec![b"1".to_vec(), b"\"x\"".to_vec()] })),
        ),
        ("none".to_owned(), TemplateValue { val: None }),
        ("empty".to_owned(), value(template_value::Val::ArrayVal(TemplateArrayValue { data: None }))),
    ]);
    let parse =
        |expression: &str| Filter::parse(expression, &collection(true), &templates).map_err(|error| error.to_string());
    let cases: &[(&str, &[usize])] = &[
        ("num == {n}", &[0]),
        ("score == {f}", &[0]),
        ("name == {s}", &[]),
        ("flag == {b}", &[0, 3]),
        ("id in {ints}", &[0, 1]),
        ("id not in {ints}", &[2, 3]),
        ("score in {floats}", &[0]),
        ("flag in {bools}", &[1]),
        ("name in {texts}", &[1]),
        ("json_contains_all(meta['tags'], {mixed})", &[0]),
        ("id in {empty}", &[]),
        ("num == {n} * 1 + 0", &[0]),
    ];
    for (expression, expected) in cases {
        let filter = parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert_eq!(filter.evaluate(&columns(&rows())).ones().collect::<Vec<_>>(), *expected, "{expression}");
    }
    assert!(parse("score == {nan}").unwrap_err().contains("NaN"));
    assert!(parse("score == {none}").unwrap_err().contains("{none}"));
    assert!(parse("name == {n}").unwrap_err().contains("can't be compared"));
}

#[test]
fn keys_are_recognised_only_where_the_filter_names_exactly_them() {
    let int = |expression: &str| parse(expression).unwrap().primary_keys();
    assert_eq!(int("id == 5"), Some(PrimaryKeys::Int64(vec![5])));
    assert_eq!(int("5 == id"), Some(PrimaryKeys::Int64(vec![5])));
    assert_eq!(int("id in [3, 1, 3, -2, 1.5, 99999999999999999999]"), Some(PrimaryKeys::Int64(vec![-2, 1, 3])));
    assert_eq!(int("id in []"), Some(PrimaryKeys::Int64(vec![])));
    assert_eq!(int("id == 99999999999999999999"), Some(PrimaryKeys::Int64(vec![])));
    for other in
        ["id != 5", "id > 5", "id not in [5]", "id == 5 or num == 1", "num == 5", "num in [5]", "", "id == num"]
    {
        assert_eq!(int(other), None, "{other}");
    }
    let text =
        |expression: &str| Filter::parse(expression, &text_key_collection(), &HashMap::new()).unwrap().primary_keys();
    assert_eq!(text("id == 'a'"), Some(PrimaryKeys::VarChar(vec!["a".to_owned()])));
    assert_eq!(text("id in ['b', 'a']"), Some(PrimaryKeys::VarChar(vec!["a".to_owned(), "b".to_owned()])));
    assert_eq!(text("id > 'a'"), None);
    assert!(Filter::all().is_all() && Filter::all().primary_keys().is_none());
}

#[test]
fn hostile_sizes_and_depths_are_refused_not_survived_by_luck() {
    for (open, close) in [
        ("(", ")"),
        ("not ", ""),
        ("-", ""),
        ("[", "]"),
        ("exists ", ""),
        ("{", ""),
        ("json_contains(", ")"),
        ("2 ** ", ""),
    ] {
        let nested = format!("{}1{} == 1", open.repeat(200_000), close.repeat(200_000));
        assert!(parse(&nested).is_err(), "{open}");
    }
    assert!(error(&format!("{}1 == 1", "1 + ".repeat(5_000))).contains("levels deep"));
    let path = "['a']".repeat(200_000);
    assert!(parse(&format!("meta{path} == 1")).is_ok());
    assert!(error(&format!("name == '{}'", "x".repeat(9 << 20))).contains("bytes"));
    assert!(error(&format!("id in [{}]", "1,".repeat(600_000))).contains("split the request"));
    // Long, but flat.
    let chain = vec!["id == 1"; 20_000].join(" or ");
    assert_eq!(selected(&chain), [0]);
    let keys: Vec<String> = (0..100_000).map(|key| key.to_string()).collect();
    assert_eq!(selected(&format!("id in [{}]", keys.join(", "))), [0, 1, 2]);
}

/// Pieces of the language in any order come nearer to its dark corners than arbitrary characters.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "id",
        "num",
        "name",
        "meta",
        "color",
        "flag",
        "price",
        "$meta",
        "==",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "and",
        "or",
        "not",
        "in",
        "like",
        "is",
        "null",
        "exists",
        "true",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        "+",
        "-",
        "*",
        "/",
        "%",
        "**",
        "<<",
        ">>",
        "&",
        "|",
        "^",
        "~",
        "!",
        "&&",
        "||",
        "=~",
        "1",
        "0",
        "1.5",
        "99999999999999999999",
        "'a'",
        "\"b%\"",
        "['a']",
        "[0]",
        "json_contains(",
        "{x}",
        "'",
        "\\",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        if let Ok(filter) = parse(&text) {
            filter.evaluate(&columns(&rows()));
        }
    }

    #[test]
    fn no_sequence_of_words_makes_the_parser_or_the_evaluation_panic(text in pieces()) {
        if let Ok(filter) = parse(&text) {
            filter.evaluate(&columns(&rows()));
        }
    }
}
