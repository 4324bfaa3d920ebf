use std::time::Duration;

use plimsoll_model::Origin;

use super::*;

fn backend(addr: &str, name: &str) -> Backend {
    Backend {
        name: name.into(),
        ..Backend::new(addr.parse().unwrap(), Origin::new("test", "backend"))
    }
}

fn backends() -> Vec<Backend> {
    vec![
        backend("10.0.0.1:80", ""),
        backend("10.0.0.2:80", "two"),
        backend("10.0.0.3:80", "twin"),
        backend("10.0.0.4:80", "twin"),
    ]
}

fn jar(mode: CookieMode, set: impl FnOnce(&mut Cookie)) -> Jar {
    let mut cookie = Cookie::new("SRV".into(), mode);
    set(&mut cookie);
    Jar::new(cookie, &"web".parse().unwrap(), backends().iter())
}

fn addr(n: u8) -> BackendAddr {
    format!("10.0.0.{n}:80").parse().unwrap()
}

fn value_of(jar: &Jar, n: u8) -> String {
    String::from_utf8(jar.values[&addr(n)].to_vec()).unwrap()
}

fn fields(name: header::HeaderName, values: &[String]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn texts(headers: &HeaderMap, name: header::HeaderName) -> Vec<&str> {
    let all = headers.get_all(name).iter();
    all.map(|value| value.to_str().unwrap()).collect()
}

/// What a request's `Cookie` leads to, and what is left of it.
fn read(jar: &Jar, cookies: &[String], now: u64) -> (Visit, Vec<String>) {
    let mut headers = fields(header::COOKIE, cookies);
    let visit = jar.read(&mut headers, now);
    let left = texts(&headers, header::COOKIE);
    (visit, left.into_iter().map(Into::into).collect())
}

fn written(jar: &Jar, set: &[String], visit: &Visit, n: u8, now: u64) -> Vec<String> {
    let mut headers = fields(header::SET_COOKIE, set);
    jar.write(&mut headers, visit, &addr(n), now);
    let left = texts(&headers, header::SET_COOKIE);
    left.into_iter().map(Into::into).collect()
}

#[test]
fn values_are_stable_and_tell_no_address() {
    let (one, again) = (
        jar(CookieMode::Insert, |_| {}),
        jar(CookieMode::Prefix, |_| {}),
    );
    let keyed = jar(CookieMode::Insert, |c| c.key = "secret".into());
    for n in 1..=4 {
        let value = value_of(&one, n);
        assert_eq!(value, value_of(&again, n));
        assert_ne!(value, value_of(&keyed, n));
        assert!(value.len() == 16 && value.bytes().all(|b| b.is_ascii_hexdigit()));
    }
    assert_ne!(value_of(&one, 3), value_of(&one, 4), "the twins");
    // The same in every version: cookies outlive a process.
    assert_eq!(value_of(&one, 1), "f6f182d3f7173746");
    assert_eq!(value_of(&one, 2), "7ccf2829982f35e9");
    // A name goes with its backend to another address.
    let moved = [backend("10.9.9.9:80", "two")];
    let cookie = Cookie::new("SRV".into(), CookieMode::Insert);
    let moved = Jar::new(cookie, &"web".parse().unwrap(), moved.iter());
    let two = Value::try_from(value_of(&one, 2).as_bytes()).unwrap();
    assert!(moved.backends.contains_key(&two));
}

#[test]
fn a_value_holds_when_another_of_the_same_name_comes_or_goes() {
    let jar = |addrs: &[u8]| {
        let backends: Vec<Backend> = (addrs.iter())
            .map(|n| backend(&format!("10.0.0.{n}:80"), "web"))
            .collect();
        let cookie = Cookie::new("SRV".into(), CookieMode::Insert);
        Jar::new(cookie, &"web".parse().unwrap(), backends.iter())
    };
    let (alone, both) = (jar(&[1]), jar(&[1, 2]));
    let leads = |jar: &Jar, value: &str| read(jar, &[format!("SRV={value}")], 0).0.wanted;
    let by_name = value_of(&alone, 1);
    assert_eq!(leads(&both, &by_name), Some(addr(1)));
    let by_address = value_of(&both, 1);
    assert_ne!(by_name, by_address);
    assert_eq!(leads(&alone, &by_address), Some(addr(1)));
    // The name goes to whoever has it.
    assert_eq!(leads(&jar(&[2]), &by_name), Some(addr(2)));
    assert_eq!(leads(&jar(&[2]), &by_address), None);
}

#[test]
fn a_cookie_that_names_a_backend_goes_before_those_that_do_not() {
    let jar = jar(CookieMode::Insert, |c| {
        c.maxidle = Some(Duration::from_secs(60))
    });
    let (two, four) = (value_of(&jar, 2), value_of(&jar, 4));
    let good = [format!("SRV={two}|64|64"), format!("SRV={four}|64|64")];
    let bad = ["SRV=stale".to_owned(), format!("SRV={four}|1|1")];
    for bad in bad {
        for cookies in [
            vec![format!("{}; {bad}", good[0])],
            vec![format!("{bad}; {}", good[0])],
            vec![bad.clone(), good[0].clone()],
        ] {
            let (visit, left) = read(&jar, &cookies, 100);
            let found = (visit.found, visit.wanted);
            assert_eq!(found, (Found::Kept, Some(addr(2))), "{cookies:?}");
            assert_eq!(left, [""; 0]);
        }
    }
    assert_eq!(read(&jar, &good, 100).0.wanted, Some(addr(2)), "the first");
    let (visit, _) = read(&jar, &["SRV=stale".into(), format!("SRV={four}|1|1")], 100);
    assert_eq!(visit.found, Found::Unknown);
}

#[test]
fn an_inserted_cookie_is_set_once_and_hidden_from_the_backend() {
    let jar = jar(CookieMode::Insert, |_| {});
    let (visit, left) = read(&jar, &["a=b; c=d".into()], 0);
    assert_eq!((visit.found, left), (Found::None, vec!["a=b; c=d".into()]));
    let value = value_of(&jar, 2);
    let set = format!("SRV={value}; path=/; HttpOnly");
    let theirs = ["SRV=theirs".to_owned(), "x=1; path=/".to_owned()];
    assert_eq!(
        written(&jar, &theirs, &visit, 2, 0),
        ["x=1; path=/".into(), set.clone()]
    );
    let (visit, left) = read(
        &jar,
        &[format!("a=b;SRV={value};  c=\"d\""), format!("SRV={value}")],
        0,
    );
    assert_eq!(visit.wanted, Some(addr(2)));
    assert_eq!(left, ["a=b; c=\"d\""]);
    assert_eq!(written(&jar, &[], &visit, 2, 0), [""; 0]);
    assert_eq!(
        written(&jar, &[], &visit, 3, 0).len(),
        1,
        "it was sent elsewhere"
    );
    let sorry: BackendAddr = "10.0.0.9:80".parse().unwrap();
    let mut headers = HeaderMap::new();
    jar.write(&mut headers, &visit, &sorry, 0);
    assert!(headers.is_empty());
}

#[test]
fn every_attribute_is_there_when_it_is_wanted() {
    let jar = jar(CookieMode::Insert, |c| {
        (c.httponly, c.secure, c.nocache, c.indirect) = (false, true, true, false);
        c.domain = Some("example.com".into());
    });
    let value = value_of(&jar, 1);
    let mut headers = HeaderMap::new();
    jar.write(&mut headers, &Visit::default(), &addr(1), 0);
    let set = format!("SRV={value}; path=/; domain=example.com; Secure");
    assert_eq!(texts(&headers, header::SET_COOKIE), [set]);
    assert_eq!(texts(&headers, header::CACHE_CONTROL), ["private"]);
    let (visit, left) = read(&jar, &[format!("SRV={value}")], 0);
    assert_eq!(
        (visit.found, left),
        (Found::Kept, vec![format!("SRV={value}")])
    );
}

#[test]
fn what_is_no_value_of_ours_is_unknown() {
    let jar = jar(CookieMode::Insert, |_| {});
    let value = value_of(&jar, 1);
    for text in [
        "",
        "x",
        "|",
        "||",
        &value[..15],
        &value.to_uppercase(),
        &format!("{value}0"),
        "0123456789abcdef",
    ] {
        let (visit, left) = read(&jar, &[format!("SRV={text}")], 0);
        assert_eq!(
            (visit.found, visit.wanted),
            (Found::Unknown, None),
            "{text}"
        );
        assert!(left.is_empty());
    }
    for other in ["SRV", "srv=1", "XSRV=1", "SRVX=1"] {
        let (visit, left) = read(&jar, &[other.to_owned()], 0);
        assert_eq!((visit.found, left), (Found::None, vec![other.to_owned()]));
    }
}

#[test]
fn the_dates_of_a_cookie_limit_it() {
    let jar = jar(CookieMode::Insert, |c| {
        c.maxidle = Some(Duration::from_secs(60));
        c.maxlife = Some(Duration::from_secs(600));
    });
    let set = written(&jar, &[], &Visit::default(), 1, 1000);
    let cookie = set[0].split(';').next().unwrap().to_owned();
    assert!(cookie.ends_with("|3e8|3e8"), "{cookie}");
    let at = |cookie: &str, now| read(&jar, &[cookie.to_owned()], now).0;
    assert_eq!(at(&cookie, 1060).found, Found::Kept);
    assert_eq!(at(&cookie, 1061).found, Found::Expired);
    assert_eq!(written(&jar, &[], &at(&cookie, 1003), 1, 1003), [""; 0]);
    let renewed = written(&jar, &[], &at(&cookie, 1050), 1, 1050);
    assert!(renewed[0].contains("|41a|3e8;"), "{renewed:?}");
    let value = value_of(&jar, 1);
    let dated = |last: u64, first: u64| format!("SRV={value}|{last:x}|{first:x}");
    assert_eq!(at(&dated(1590, 1000), 1600).found, Found::Kept);
    assert_eq!(at(&dated(1600, 1000), 1601).found, Found::Expired);
    assert_eq!(at(&dated(1001 + AHEAD, 1000), 1000).found, Found::Expired);
    // One from before there were dates is taken, and gets them.
    let undated = at(&format!("SRV={value}"), 1000);
    assert_eq!(undated.found, Found::Kept);
    assert_eq!(written(&jar, &[], &undated, 1, 1000).len(), 1);
    for broken in ["|", "|x|y", "|1", "|1|2|3"] {
        assert_eq!(at(&format!("SRV={value}{broken}"), 1000).found, Found::Kept);
    }
}

#[test]
fn a_rewritten_cookie_is_the_backends_with_our_value() {
    let jar = jar(CookieMode::Rewrite, |_| {});
    let value = value_of(&jar, 1);
    let theirs = ["SRV=; path=/app".to_owned(), "SRVX=1".to_owned()];
    let set = written(&jar, &theirs, &Visit::default(), 1, 0);
    assert_eq!(set, [format!("SRV={value}; path=/app"), "SRVX=1".into()]);
    assert_eq!(written(&jar, &[], &Visit::default(), 1, 0), [""; 0]);
    let (visit, left) = read(&jar, &[format!("SRV={value}")], 0);
    assert_eq!(
        (visit.wanted, left),
        (Some(addr(1)), vec![format!("SRV={value}")])
    );
}

#[test]
fn a_prefixed_cookie_is_the_backends_own_to_it() {
    let jar = jar(CookieMode::Prefix, |_| {});
    let value = value_of(&jar, 1);
    let set = written(
        &jar,
        &["SRV=a~b; Secure".to_owned()],
        &Visit::default(),
        1,
        0,
    );
    assert_eq!(set, [format!("SRV={value}~a~b; Secure")]);
    let (visit, left) = read(&jar, &[format!("x=1; SRV={value}~a~b")], 0);
    assert_eq!(
        (visit.wanted, left),
        (Some(addr(1)), vec!["x=1; SRV=a~b".into()])
    );
    // A stale one is taken off all the same; the backend's own is left alone.
    let (visit, left) = read(&jar, &["SRV=0123456789abcdef~own".into()], 0);
    assert_eq!(
        (visit.found, left),
        (Found::Unknown, vec!["SRV=own".into()])
    );
    let (visit, left) = read(&jar, &["SRV=a~own".into()], 0);
    assert_eq!((visit.found, left), (Found::None, vec!["SRV=a~own".into()]));
}

proptest::proptest! {
    #[test]
    fn other_cookies_stay_as_they_are(
        before in "([a-z]{1,3}=[!#-+--:<-~]{0,6}(; )?){0,3}",
        text in "[!#-+--:<-~]{0,40}",
        mode in proptest::sample::select(CookieMode::NAMES.map(|(_, mode)| mode).to_vec()),
    ) {
        let jar = jar(mode, |_| {});
        let before = before.trim_end_matches("; ").to_owned();
        let (_, left) = read(&jar, &[before.clone(), format!("SRV={text}")], 0);
        let pairs = |text: &str| -> Vec<String> {
            text.split("; ").filter(|p| !p.is_empty() && !p.starts_with("SRV=")).map(Into::into).collect()
        };
        proptest::prop_assert_eq!(pairs(&left.join("; ")), pairs(&before));
    }
}
