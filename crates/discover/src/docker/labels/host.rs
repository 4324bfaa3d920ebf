//! A host, in a label or in `VIRTUAL_HOST`.

use plimsoll_model::HostPattern;

use super::value::{cut, told};

/// Reads one host, or says which labels with this prefix say what it means.
///
/// # Errors
/// It is no host.
pub(crate) fn read(item: &str, prefix: &str) -> Result<HostPattern, String> {
    if item.starts_with('~') {
        return Err(
            "regular expressions are not read: list the names, or use *.example.com".into(),
        );
    }
    if let Some((scheme, rest)) = item.split_once("://") {
        return match scheme.to_ascii_lowercase().as_str() {
            "http" | "ws" => Err(format!("a scheme is not read: {}", instead(rest, prefix))),
            _ => Err(format!(
                "{} is not served: {}",
                cut(scheme),
                instead(rest, prefix)
            )),
        };
    }
    if item.contains(['/', ':']) && !item.starts_with('[') {
        return Err(format!("a host alone is read: {}", instead(item, prefix)));
    }
    if let Some(domain) = item.strip_prefix('.') {
        return Err(format!("did you mean `{0},*.{0}`?", cut(domain)));
    }
    item.parse::<HostPattern>().map_err(|error| {
        if item.contains('*') {
            return "a star stands alone or for the first label (*.example.com): list the names"
                .into();
        }
        if !item.is_ascii() {
            return format!(
                "`{}` has letters beyond ASCII: write it as it is in the DNS, with xn--",
                cut(item)
            );
        }
        told(&error, item)
    })
}

/// The labels that say `HOST[:PORT][/PATH]`.
fn instead(text: &str, prefix: &str) -> String {
    let (place, path) = match text.split_once('/') {
        Some((place, path)) => (place, format!("/{path}")),
        None => (text, String::new()),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None => (place, ""),
    };
    let mut labels = vec![format!("{prefix}.host={}", cut(host))];
    if !matches!(port, "" | "80") {
        labels.push(format!("{prefix}.listen={}", cut(port)));
    }
    let path = path.trim_end_matches('*');
    if !matches!(path, "" | "/") {
        labels.push(format!("{prefix}.path={}", cut(path)));
    }
    match labels.len() {
        1 => format!("say label {}", labels.join("")),
        _ => format!("say labels {}", labels.join(", ")),
    }
}
