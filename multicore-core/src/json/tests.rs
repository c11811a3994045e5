//! Held against serde_json.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn same(value: &(impl Serialize + ?Sized)) {
    let mut ours = b"before".to_vec();
    put(&mut ours, value).unwrap();
    let theirs = [b"before".to_vec(), serde_json::to_vec(value).unwrap()].concat();
    assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(theirs).unwrap());
}

#[derive(Serialize)]
struct Unit;

#[derive(Serialize)]
struct Newtype(String);

#[derive(Serialize)]
struct Pair(u8, Option<String>);

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
enum Outside {
    Unit,
    Newtype(Option<String>),
    Tuple(i128, f32),
    Struct { text: String, rest: Vec<u8> },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Inside {
    Nothing,
    Some { text: String, pair: Pair },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Either {
    Number(f64),
    Text(String),
}

#[derive(Serialize)]
struct Record {
    #[serde(rename = "quoted \" and \\ and\nbroken")]
    id: i64,
    pair: (u64, char),
    either: Vec<Either>,
    outside: Vec<Outside>,
    inside: [Inside; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    maybe: Option<Newtype>,
    units: ((), Unit, Empty, Option<()>),
    numbers: BTreeMap<i32, bool>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
    shown: Shown,
}

/// As a date or an identifier is written.
struct Shown(String);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![".{0,120}", "[a-z\"\\\\\u{0}-\u{1f}\u{7f}é漢🎉]{0,120}", "[a-z ]{0,200}"]
}

proptest! {
    #[test]
    fn texts_are_as_serde_json_writes_them(text in texts()) {
        same(&text);
    }

    #[test]
    fn values_are_as_serde_json_writes_them(
        text in texts(), other in texts(), id: i64, big: i128, byte: u8, small: f32, number: f64,
        letter: char, keys in prop::collection::btree_map(any::<i32>(), any::<bool>(), 0..4),
        others in prop::collection::btree_map(texts(), texts().prop_map(serde_json::Value::from), 0..4),
    ) {
        let pair = || Pair(byte, (byte > 99).then(|| other.clone()));
        same(&Record {
            id,
            pair: (id.unsigned_abs(), letter),
            either: vec![Either::Number(number), Either::Text(text.clone())],
            outside: vec![
                Outside::Unit,
                Outside::Newtype(None),
                Outside::Newtype(Some(text.clone())),
                Outside::Tuple(big, small),
                Outside::Struct { text: text.clone(), rest: vec![byte; usize::from(byte % 4)] },
            ],
            inside: [Inside::Nothing, Inside::Some { text: text.clone(), pair: pair() }],
            maybe: (byte > 50).then(|| Newtype(other.clone())),
            units: ((), Unit, Empty {}, None),
            numbers: keys,
            others,
            shown: Shown(text),
        });
    }
}

#[test]
fn each_byte_is_escaped_wherever_it_stands() {
    for byte in (0..=127_u8).map(char::from) {
        for before in [0, 1, FEW - 1, FEW, LANES - 1, LANES, 2 * LANES - 1, 2 * LANES + 3] {
            for behind in [0, 1, FEW - 1, FEW, LANES] {
                same(&format!(
                    "{}{byte}{}",
                    "é".repeat(before / 2) + &"a".repeat(before % 2),
                    "b".repeat(behind)
                ));
            }
        }
    }
}

#[test]
fn empty_ones_and_keys_of_all_kinds_are_as_serde_json_writes_them() {
    same(&Vec::<u8>::new());
    same(&BTreeMap::<u8, u8>::new());
    same(&Empty {});
    same(&BTreeMap::from([((), ()); 0]));
    same(&BTreeMap::from([(true, 'a'), (false, '"')]));
    same(&BTreeMap::from([('"', 1_u128), ('b', u128::MAX)]));
    same(&[(f64::NAN, f32::INFINITY)]);
    same(serde_json::from_str::<serde_json::Value>("[1.5, {\"a\": [null, []]}, {}]").as_ref().unwrap());
}

#[test]
fn what_has_no_json_is_refused_as_serde_json_does() {
    let map = BTreeMap::from([(vec![1], 2)]);
    let ours = put(&mut Vec::new(), &map).unwrap_err().to_string();
    assert_eq!(ours, serde_json::to_vec(&map).unwrap_err().to_string());
}

/// By the names it uses, whether this build of it has them or not.
#[test]
fn what_serde_json_writes_in_a_way_of_its_own_is_left_to_it() {
    struct Private(&'static str);
    impl Serialize for Private {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut only = serializer.serialize_struct(self.0, 1)?;
            only.serialize_field(self.0, "{\"as\": \"it is\"}")?;
            only.end()
        }
    }
    same(&Private("$serde_json::private::RawValue"));
    same(&[Private("$serde_json::private::RawValue"), Private("$serde_json::private::RawValue")]);
    same(&Private("$serde_json::private::Number"));
}
