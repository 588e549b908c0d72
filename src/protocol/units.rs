//! What a meter counts: an exact, non-negative decimal, from a header or from the JSON of an answer.
//!
//! Promises: a number is read as it is written, never through a float, or not at all; any bytes are
//! survived. What is not read is not guessed: the charge rule says what such an answer costs.
//! Called by the gateway's meters; money is made of it in [`super::charge`].

use super::json;

/// `digits * 10^exponent`; as many digits as 64 bits hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    pub(super) digits: u64,
    pub(super) exponent: i32,
}

impl From<u64> for Units {
    fn from(count: u64) -> Self {
        Self { digits: count, exponent: 0 }
    }
}

impl Units {
    /// A number as JSON writes it, without a sign: `120`, `12.5`, `1e3`. `None` for anything else, and for more digits (not
    /// counting zeros at either end) than 64 bits hold: a charge is exact or not made.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (mantissa, ""),
        };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || (whole.starts_with('0') && whole != "0") || !digits(whole) || !digits(fraction) {
            return None;
        }
        let all = [whole, fraction].concat();
        let significant = all.trim_end_matches('0');
        let zeros = i32::try_from(all.len() - significant.len()).ok()?;
        let places = i32::try_from(fraction.len()).ok()?;
        let number = significant.bytes().try_fold(0_u64, |sum, byte| sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')))?;
        let exponent = exponent.checked_sub(places)?.checked_add(zeros)?;
        Some(Self { digits: number, exponent: if number == 0 { 0 } else { exponent } })
    }

    /// The number that a JSON pointer (RFC 6901) names in a document; a string that holds one counts too, because protocol
    /// buffers write 64-bit integers so. `None` when there is none, when the pointer names two, and when the text is not one whole
    /// document. What else is wrong with the document does not matter: a text that was cut within a character, or a name that
    /// occurs twice elsewhere, does not make a meter unreadable.
    pub fn at(document: &[u8], pointer: &str) -> Option<Self> {
        let found = json::raw_at(document, pointer)?;
        if found.starts_with('"') { Self::parse(&serde_json::from_str::<String>(found).ok()?) } else { Self::parse(found) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Equal as numbers.
    fn same(a: Option<Units>, b: Option<Units>) -> bool {
        let plain = |units: Units| {
            let text = units.digits.to_string();
            let significant = text.trim_end_matches('0');
            let zeros = i64::try_from(text.len() - significant.len()).unwrap();
            (significant.to_owned(), if units.digits == 0 { 0 } else { i64::from(units.exponent) + zeros })
        };
        a.map(plain) == b.map(plain)
    }

    #[test]
    fn a_number_is_read_exactly_or_not_at_all() {
        let units = |digits, exponent| Some(Units { digits, exponent });
        for (text, expect) in [
            ("0", units(0, 0)),
            ("0.000", units(0, 0)),
            ("0e9", units(0, 0)),
            ("7", units(7, 0)),
            ("1200", units(12, 2)),
            ("12.5", units(125, -1)),
            ("12.50", units(125, -1)),
            ("0.005", units(5, -3)),
            ("1e3", units(1, 3)),
            ("1E+3", units(1, 3)),
            ("2.5e-3", units(25, -4)),
            ("18446744073709551615", units(u64::MAX, 0)),
            ("18446744073709551616", None),
            ("100000000000000000000000000", units(1, 26)),
            ("1.8446744073709551615", units(u64::MAX, -19)),
            ("0.1000000000000000055511151231257827", None),
            ("9007199254740993", units(9_007_199_254_740_993, 0)),
            ("1e2147483647", units(1, i32::MAX)),
            ("10e2147483647", None),
            ("1e2147483648", None),
            ("0.1e-2147483648", None),
            ("-1", None),
            ("-0", None),
            ("+1", None),
            ("", None),
            (" 1", None),
            ("1 ", None),
            ("01", None),
            ("1.", None),
            (".5", None),
            (".", None),
            ("1.5.5", None),
            ("1e", None),
            ("e3", None),
            ("1e3.5", None),
            ("1e+-3", None),
            ("1,000", None),
            ("1_000", None),
            ("0x10", None),
            ("NaN", None),
            ("inf", None),
            ("١", None),
            ("12 tokens", None),
        ] {
            assert_eq!(Units::parse(text), expect, "{text:?}");
        }
    }

    #[test]
    fn a_pointer_finds_a_number_or_a_string_that_holds_one() {
        for (document, expect) in [
            (r#"{"usage":{"total_tokens":120}}"#, Some("120")),
            (r#" { "a" : [ 1.5 , {"usage":{}} ] , "usage" : { "x":"\"}", "total_tokens" : 12.50 } } "#, Some("12.5")),
            (r#"{"usage":{"total_tokens":1e3}}"#, Some("1000")),
            (r#"{"usage":{"total_tokens":0.1}}"#, Some("0.1")),
            (r#"{"usage":{"total_tokens":0.30000000000000004}}"#, Some("0.30000000000000004")),
            (r#"{"usage":{"total_tokens":9007199254740993.5}}"#, Some("9007199254740993.5")),
            (r#"{"usage":{"total_tokens":20000000000000000000}}"#, Some("2e19")),
            (r#"{"usage":{"total_tokens":"120"}}"#, Some("120")),
            (r#"{"us\u0061ge":{"total\u005ftokens":2.5}}"#, Some("2.5")),
            (r#"{"usage":{"total_tokens":-1}}"#, None),
            (r#"{"usage":{"total_tokens":-1.5}}"#, None),
            (r#"{"usage":{"total_tokens":1e400}}"#, Some("1e400")),
            (r#"{"usage":{"total_tokens":"about 120"}}"#, None),
            (r#"{"usage":{"total_tokens":null}}"#, None),
            (r#"{"usage":{"total_tokens":true}}"#, None),
            (r#"{"usage":{"total_tokens":[120]}}"#, None),
            (r#"{"usage":{"total_tokens":{}}}"#, None),
            (r#"{"usage":null}"#, None),
            (r#"{"usage":[120]}"#, None),
            (r#"{"Usage":{"total_tokens":120}}"#, None),
            (r#"{"usage":{"Total_Tokens":9.5,"total_tokens":2.5,"total_tokens ":9.5}}"#, Some("2.5")),
            (r#"{}"#, None),
            ("[DONE]", None),
            ("", None),
            (r#"{"usage":{"total_tokens":1,"total_tokens":2}}"#, None),
            (r#"{"usage":{"total_tokens":1},"usage":{"total_tokens":2}}"#, None),
            (r#"{"usage":{"total_tokens":1},"us\u0061ge":7}"#, None),
            (r#"{"usage":{"total_tokens":1,"total\u005ftokens":2}}"#, None),
            (r#"{"usage":{"total_tokens":"\ud800"}}"#, None),
            // Flaws of something else.
            (r#"{"a":1,"a":1,"usage":{"total_tokens":2}}"#, Some("2")),
            (r#"{"usage":{"a":1,"a":1,"total_tokens":2.5},"b":{"usage":1,"usage":1}}"#, Some("2.5")),
            (r#"{"text":"\ud83d","\udc00":1,"usage":{"total_tokens":2}}"#, Some("2")),
            (r#"{"usage":{"total_tokens":2,"cost":1e400},"big":-1e999}"#, Some("2")),
            (r#"{"usage":{"total_tokens":2},"x":"""#, None),
            (r#"{"usage":{"total_tokens":2},"x":01}"#, None),
            (r#"{"usage":{"total_tokens":2},}"#, None),
            (r#"{"usage":{"total_tokens":120}"#, None),
            (r#"{"usage":{"total_tokens":120}} {}"#, None),
            ("\u{feff}{\"usage\":{\"total_tokens\":120}}", None),
        ] {
            let expect = expect.map(|text| Units::parse(text).unwrap());
            let got = Units::at(document.as_bytes(), "/usage/total_tokens");
            assert!(same(got, expect), "{document}: {got:?}");
        }
        let damaged = b"{\"x\":\"\xff\",\"\xc0\":1,\"usage\":{\"total_tokens\":1},\"y\":\"\xe2\x82\"}";
        assert_eq!(Units::at(damaged, "/usage/total_tokens"), Units::parse("1"), "text that is not UTF-8");
        assert_eq!(Units::at(b"{\"usage\":{\"total_tokens\":\"1\xff\"}}", "/usage/total_tokens"), None, "of the number itself");
    }

    #[test]
    fn pointers_follow_rfc_6901_for_whole_numbers_and_for_decimals() {
        for (pointer, found) in [
            ("/a~1b~0/1", true),
            ("/a~1b~0/01", false),
            ("/a~1b~0/-", false),
            ("/a~1b~0/+1", false),
            ("/a~1b~0/2", false),
            ("/a~1b~0/1/0", false),
            ("/a/b~0/1", false),
            ("a~1b~0/1", false),
            ("", false),
        ] {
            for number in ["25", "2.5"] {
                let document = format!(r#"{{"a/b~":["x",{number}],"":7}}"#);
                let expect = Units::parse(number).filter(|_| found);
                assert_eq!(Units::at(document.as_bytes(), pointer), expect, "{pointer} of {document}");
            }
        }
        for number in ["25", "2.5"] {
            assert_eq!(Units::at(number.as_bytes(), ""), Units::parse(number));
            assert_eq!(Units::at(format!("{{\"\":{number}}}").as_bytes(), "/"), Units::parse(number));
        }
    }

    #[test]
    fn nesting_elsewhere_does_not_matter() {
        let deep = ["[".repeat(100_000), "]".repeat(100_000)].concat();
        for document in [format!(r#"{{"a":{deep},"u":1.5}}"#), format!(r#"{{"u":1.5,"a":{deep}}}"#)] {
            assert_eq!(Units::at(document.as_bytes(), "/u"), Units::parse("1.5"));
        }
        let depth = 100;
        let document = ["[".repeat(depth), "1.5".into(), "]".repeat(depth)].concat();
        assert_eq!(Units::at(document.as_bytes(), &"/0".repeat(depth)), Units::parse("1.5"));
        assert_eq!(Units::at(deep.as_bytes(), &"/0".repeat(99_999)), None, "no deep recursion");
    }

    proptest! {
        #[test]
        fn a_decimal_means_the_same_bare_in_a_document_and_in_a_string(whole in any::<u32>(), fraction in "[0-9]{1,6}", exponent in -5_i8..5) {
            let text = format!("{whole}.{fraction}e{exponent}");
            let expect = Units::parse(&text);
            prop_assert!(expect.is_some());
            prop_assert_eq!(Units::at(format!(r#"{{"x":[1.25,{{"u":{text}}}],"u":0.5}}"#).as_bytes(), "/x/1/u"), expect);
            prop_assert_eq!(Units::at(format!(r#"{{"u":"{text}"}}"#).as_bytes(), "/u"), expect);
        }

        #[test]
        fn it_never_panics(text in ".{0,24}", number in "[0-9.eE+-]{0,32}", bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Units::parse(&text);
            let _ = Units::parse(&number);
            let _ = Units::at(&bytes, "/a");
            let _ = Units::at(format!("{{\"a\":{number}}}").as_bytes(), "/a");
        }
    }
}
