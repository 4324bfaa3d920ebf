//! Requests as a backend reads them that forgives nothing, with no parser of the plane's or the kit's.

/// A whole request.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Bytes of its body.
    pub(crate) body: usize,
    /// Names in lower case, and values. Names of trailers begin with `~`.
    pub(crate) fields: Vec<(String, String)>,
}

impl Parsed {
    /// Method, target and the length of the body.
    pub(crate) fn what(&self) -> String {
        format!("{} {} {}", self.method, self.target, self.body)
    }
}

/// A request at the beginning of these bytes and its length; none if it is not whole.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<(Parsed, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    // Fields may have bytes that are no UTF-8; one char for each.
    let head: String = bytes[..end].iter().map(|b| char::from(*b)).collect();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let words: Vec<&str> = first.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(format!("first line {first:?}"));
    };
    let mut fields = Vec::new();
    for line in lines {
        if line.contains(['\r', '\n', '\0']) {
            return Err(format!("line {line:?}"));
        }
        let (name, value) = line.split_once(':').ok_or(format!("line {line:?}"))?;
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return Err(format!("name {name:?}"));
        }
        fields.push((name.to_ascii_lowercase(), trimmed(value)));
    }
    let all = |wanted: &str| -> Vec<&str> {
        let named = fields.iter().filter(|(name, _)| name == wanted);
        named.map(|(_, value)| value.as_str()).collect()
    };
    if all("host").len() != 1 {
        return Err("not one Host".to_owned());
    }
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    let body = end + 4;
    let (length, used) = match (&lengths[..], &codings[..]) {
        ([], []) => (0, body),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| "a length".to_owned())?;
            if bytes.len() < body + length {
                return Ok(None);
            }
            (length, body + length)
        }
        ([], ["chunked"]) => match chunks(&bytes[body..])? {
            Some((length, used, trailers)) => {
                let marked = |(name, value)| (format!("~{name}"), value);
                fields.extend(trailers.into_iter().map(marked));
                (length, body + used)
            }
            None => return Ok(None),
        },
        both => return Err(format!("framed by {both:?}")),
    };
    let (method, target) = (method.to_owned(), target.to_owned());
    let parsed = Parsed {
        method,
        target,
        body: length,
        fields,
    };
    Ok(Some((parsed, used)))
}

/// A value without the blanks of RFC 9110 §5.6.3, and no others.
pub(crate) fn trimmed(value: &str) -> String {
    value.trim_matches([' ', '\t']).to_owned()
}

/// The payload's length, that of all chunks and trailers, and the trailers; none if they are not whole.
#[allow(clippy::type_complexity, reason = "one caller takes it apart at once")]
pub(crate) fn chunks(
    bytes: &[u8],
) -> Result<Option<(usize, usize, Vec<(String, String)>)>, String> {
    let (mut at, mut length, mut trailers) = (0, 0, Vec::new());
    let line = |at: usize| bytes[at..].windows(2).position(|w| w == b"\r\n");
    loop {
        let Some(end) = line(at) else {
            return Ok(None);
        };
        let digits = std::str::from_utf8(&bytes[at..at + end]).map_err(|e| e.to_string())?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(format!("{digits:?}: more than digits"));
        }
        let size = usize::from_str_radix(digits, 16).map_err(|e| format!("{digits:?}: {e}"))?;
        at += end + 2;
        if size == 0 {
            break;
        }
        length += size;
        match bytes.get(at + size..at + size + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += size + 2,
            Some(_) => return Err("a chunk without its end".to_owned()),
        }
    }
    loop {
        let Some(end) = line(at) else {
            return Ok(None);
        };
        let line: String = bytes[at..at + end].iter().map(|b| char::from(*b)).collect();
        at += end + 2;
        if end == 0 {
            return Ok(Some((length, at, trailers)));
        }
        let (name, value) = line.split_once(':').ok_or(format!("trailer {line:?}"))?;
        trailers.push((name.to_ascii_lowercase(), trimmed(value)));
    }
}
