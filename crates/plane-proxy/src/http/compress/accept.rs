//! Which coding a client would like best: RFC 9110 §12.5.3.

use http::header::{ACCEPT_ENCODING, HeaderMap};
use plimsoll_model::Coding;

/// A weight as thousandths: RFC 9110 §12.4.2.
fn weight(text: &str) -> Option<u16> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = rest.bytes().all(|b| b.is_ascii_digit()) && rest.len() <= 3;
    let part = || format!("{rest:0<3}").parse().ok();
    match (whole, digits, part()) {
        ("0", true, part) => part,
        ("1", true, Some(0)) => Some(1000),
        _ => None,
    }
}

/// One element, such as `gzip;q=0.5`, as its coding and weight; none if it is malformed.
fn element(text: &str) -> Option<(&str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let coding = parts.next().filter(|coding| !coding.is_empty())?;
    let mut q = 1000;
    for part in parts {
        let (name, value) = part.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("q") {
            q = weight(value.trim())?;
        }
    }
    Some((coding, q))
}

/// Of these codings the one that the client likes best, among equals the first; none if it takes none
/// of them, or says that it would rather have none.
pub(crate) fn preferred(headers: &HeaderMap, offered: &[Coding]) -> Option<Coding> {
    let mut best = None;
    for coding in offered {
        let q = accepted(headers, *coding);
        if q > best.map_or(0, |(_, q)| q) {
            best = Some((*coding, q));
        }
    }
    let (coding, q) = best?;
    let plain = named(headers, |name| name.eq_ignore_ascii_case("identity"));
    plain.is_none_or(|plain| plain <= q).then_some(coding)
}

/// How much a client likes a coding, in thousandths; 0 is not at all.
fn accepted(headers: &HeaderMap, coding: Coding) -> u16 {
    let of_name = named(headers, |name| {
        // RFC 9110 §8.4.1.3: x-gzip is another name of gzip.
        name.eq_ignore_ascii_case(coding.as_str())
            || (coding == Coding::Gzip && name.eq_ignore_ascii_case("x-gzip"))
    });
    let of_name = of_name.or_else(|| named(headers, |name| name == "*"));
    of_name.unwrap_or_default()
}

/// The weight of the first element with such a name, in thousandths.
fn named(headers: &HeaderMap, is_it: impl Fn(&str) -> bool) -> Option<u16> {
    for value in headers.get_all(ACCEPT_ENCODING) {
        let Ok(text) = value.to_str() else {
            continue;
        };
        for (name, q) in text.split(',').filter_map(|text| element(text.trim())) {
            if is_it(name) {
                return Some(q);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    const ALL: [Coding; 3] = [Coding::Zstd, Coding::Br, Coding::Gzip];

    fn of(values: &[&'static str]) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        preferred(&headers, &ALL)
    }

    #[test]
    fn the_heaviest_wins_and_among_equals_the_first_of_ours() {
        for (values, wanted) in [
            (&["gzip, deflate, br, zstd"][..], Some(Coding::Zstd)),
            (&["gzip, deflate, br"], Some(Coding::Br)),
            (&["gzip;q=1.0, br;q=0.5, zstd;q=0.999"], Some(Coding::Gzip)),
            (&["br;q=0.1", "GZIP ; q=0.2"], Some(Coding::Gzip)),
            (&["x-gzip"], Some(Coding::Gzip)),
            (&["*"], Some(Coding::Zstd)),
            (&["*;q=0.5, gzip"], Some(Coding::Gzip)),
            (&["*, zstd;q=0"], Some(Coding::Br)),
            (&["*;q=0"], None),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000, br;q=0.001"], Some(Coding::Br)),
            (&["identity, deflate, compress"], None),
            (&["identity, gzip;q=0.1"], None),
            (&["gzip;q=0.5", "Identity;q=0.501"], None),
            (&["gzip;q=0.5, identity;q=0.5"], Some(Coding::Gzip)),
            (&["identity;q=0.5, *;q=0.4"], None),
            (&["identity;q=0, gzip;q=0.1"], Some(Coding::Gzip)),
            // Not named, it weighs nothing.
            (&["*, gzip;q=0.1, zstd;q=0, br;q=0"], Some(Coding::Gzip)),
            (&[""], None),
            (&[], None),
            // What is malformed is not there.
            (&["gzip;q=2, br;q=0.3"], Some(Coding::Br)),
            (&["gzip;q=1.001"], None),
            (&["gzip;q=0.1234"], None),
            (&["gzip;q, ,;q=1"], None),
        ] {
            assert_eq!(of(values), wanted, "{values:?}");
        }
    }
}
