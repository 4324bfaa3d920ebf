//! Where services and routes differ in what they do with HTTP.

use plimsoll_model::{
    BasicAuth, Compress, ErrorPages, FieldRules, Intercept, Maintenance, Outlier, PathPrefix,
    Redirect, RequestId, Retry, RouteHttp, ServiceHttp,
};

use super::{Difference, NONE, differ, list, of_clients};
use crate::catalog::words::time as shown_time;

fn shown<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or(NONE.into(), T::to_string)
}

fn of_fields(
    what: [&'static str; 3],
    first: &FieldRules,
    second: &FieldRules,
) -> Option<Difference> {
    let only = |rules: &FieldRules, at: usize| {
        let mut part = FieldRules::default();
        match at {
            0 => part.remove.clone_from(&rules.remove),
            1 => part.set.clone_from(&rules.set),
            _ => part.add.clone_from(&rules.add),
        }
        part
    };
    let mut parts = what.into_iter().enumerate();
    parts.find_map(|(at, what)| {
        let (a, b) = (only(first, at), only(second, at));
        differ(what, &a, &b, FieldRules::to_string)
    })
}

fn of_requests(first: &FieldRules, second: &FieldRules) -> Option<Difference> {
    let what = [
        "request-headers.remove",
        "request-headers.set",
        "request-headers.add",
    ];
    of_fields(what, first, second)
}

fn of_responses(first: &FieldRules, second: &FieldRules) -> Option<Difference> {
    let what = [
        "response-headers.remove",
        "response-headers.set",
        "response-headers.add",
    ];
    of_fields(what, first, second)
}

/// The first setting in which two services differ when they try again.
pub(super) fn of_retries(first: &Retry, second: &Retry) -> Option<Difference> {
    let Retry { on, budget, floor } = first;
    let percent = |budget: &u32| format!("{budget}%");
    differ("retries.on", on, &second.on, ToString::to_string)
        .or_else(|| differ("retries.budget", budget, &second.budget, percent))
        .or_else(|| differ("retries.floor", floor, &second.floor, ToString::to_string))
}

fn of_compressions(first: Option<&Compress>, second: Option<&Compress>) -> Option<Difference> {
    let (Some(a), Some(b)) = (first, second) else {
        let show = |compress: &Option<&Compress>| compress.is_some().to_string();
        return differ("compress", &first, &second, show);
    };
    let Compress {
        algorithms,
        types,
        min_size,
        level,
    } = a;
    differ("compress.algorithms", algorithms, &b.algorithms, |v| {
        list(v)
    })
    .or_else(|| differ("compress.types", types, &b.types, |v| list(v)))
    .or_else(|| differ("compress.min-size", min_size, &b.min_size, u64::to_string))
    .or_else(|| differ("compress.level", level, &b.level, u8::to_string))
}

/// The first setting in which two services differ when they put backends out.
pub(super) fn of_outliers(first: Option<&Outlier>, second: Option<&Outlier>) -> Option<Difference> {
    let (Some(a), Some(b)) = (first, second) else {
        let show = |o: &Option<&Outlier>| o.map_or(NONE.into(), |o| o.errors.to_string());
        return differ("outlier", &first, &second, show);
    };
    let Outlier {
        consecutive,
        errors,
        time,
        max_percent,
    } = a;
    let number = |n: &u32| n.to_string();
    differ("outlier", errors, &b.errors, ToString::to_string)
        .or_else(|| differ("outlier.consecutive", consecutive, &b.consecutive, number))
        .or_else(|| differ("outlier.time", time, &b.time, shown_time))
        .or_else(|| {
            let percent = |n: &u8| n.to_string();
            differ("outlier.max-percent", max_percent, &b.max_percent, percent)
        })
}

/// The first setting in which two services differ.
pub(super) fn of_services(
    first: Option<&ServiceHttp>,
    second: Option<&ServiceHttp>,
) -> Option<Difference> {
    let nothing = ServiceHttp::default();
    let (first, second) = (first.unwrap_or(&nothing), second.unwrap_or(&nothing));
    let ServiceHttp {
        request_headers,
        response_headers,
        request_id,
        compress,
        maintenance,
        error_pages,
        intercept,
    } = first;
    None.or_else(|| of_requests(request_headers, &second.request_headers))
        .or_else(|| of_responses(response_headers, &second.response_headers))
        .or_else(|| {
            let shown = shown::<RequestId>;
            differ("request-id", request_id, &second.request_id, shown)
        })
        .or_else(|| of_compressions(compress.as_ref(), second.compress.as_ref()))
        .or_else(|| {
            let shown = shown::<Maintenance>;
            differ("maintenance", maintenance, &second.maintenance, shown)
        })
        .or_else(|| {
            let shown = ErrorPages::to_string;
            differ("error-pages", error_pages, &second.error_pages, shown)
        })
        .or_else(|| {
            let shown = Intercept::to_string;
            differ("intercept", intercept, &second.intercept, shown)
        })
}

/// The first setting in which two routes differ.
pub(super) fn of_routes(
    first: Option<&RouteHttp>,
    second: Option<&RouteHttp>,
) -> Option<Difference> {
    let nothing = RouteHttp::default();
    let (first, second) = (first.unwrap_or(&nothing), second.unwrap_or(&nothing));
    let RouteHttp {
        clients,
        redirect,
        basic_auth,
        prefix,
        request_headers,
        response_headers,
        compress,
        maintenance,
    } = first;
    let path = shown::<PathPrefix>;
    None.or_else(|| of_clients(clients, &second.clients))
        .or_else(|| {
            let shown = shown::<Redirect>;
            differ("redirect", redirect, &second.redirect, shown)
        })
        .or_else(|| {
            let realm = |auth: &BasicAuth| auth.realm.to_string();
            let (a, b) = (basic_auth.as_ref(), second.basic_auth.as_ref());
            if a.is_some() && a.map(|auth| &auth.users) == b.map(|auth| &auth.users) {
                let (a, b) = (a.map(realm), b.map(realm));
                return differ("basic-auth.realm", &a, &b, shown::<String>);
            }
            // Names only: hashes are shown to nobody.
            differ(
                "basic-auth",
                basic_auth,
                &second.basic_auth,
                shown::<BasicAuth>,
            )
        })
        .or_else(|| differ("strip-prefix", &prefix.strip, &second.prefix.strip, path))
        .or_else(|| differ("add-prefix", &prefix.add, &second.prefix.add, path))
        .or_else(|| of_requests(request_headers, &second.request_headers))
        .or_else(|| of_responses(response_headers, &second.response_headers))
        .or_else(|| of_compressions(compress.as_ref(), second.compress.as_ref()))
        .or_else(|| {
            let shown = shown::<Maintenance>;
            differ("maintenance", maintenance, &second.maintenance, shown)
        })
}
