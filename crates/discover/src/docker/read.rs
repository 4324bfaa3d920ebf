//! Reading the engine's answers, each item of a list by itself: one that cannot be read touches no
//! other.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::wire::{Inspect, Network, Summary};

/// An item of a list of containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// It can be read.
    Container(Summary),
    /// It cannot; its id, empty if that cannot be read either. An inspection says more.
    Unreadable(String),
}

/// What came of an inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspected {
    /// The container.
    Container(Box<Inspect>),
    /// There is none of this id.
    Gone,
    /// There is one, and it cannot be read; why.
    Unreadable(String),
}

/// Reads an answer to `/containers/json`.
///
/// # Errors
/// It is no list.
pub fn read_list(bytes: &[u8]) -> serde_json::Result<Vec<Listed>> {
    let text = String::from_utf8_lossy(bytes);
    let items: Option<Vec<&RawValue>> = serde_json::from_str(&text)?;
    Ok(items.unwrap_or_default().into_iter().map(listed).collect())
}

/// Reads an item of a list of containers.
fn listed(item: &RawValue) -> Listed {
    #[derive(Deserialize)]
    struct OnlyId {
        #[serde(rename = "Id")]
        id: String,
    }
    match serde_json::from_str::<Summary>(item.get()) {
        Ok(summary) if !summary.id.is_empty() => Listed::Container(summary),
        _ => {
            let id = serde_json::from_str(item.get()).map(|OnlyId { id }| id);
            Listed::Unreadable(id.unwrap_or_default())
        }
    }
}

/// Reads an answer to `/containers/ID/json`.
pub fn read_inspect(bytes: &[u8]) -> Inspected {
    match serde_json::from_str::<Inspect>(&String::from_utf8_lossy(bytes)) {
        Ok(inspect) if inspect.id.is_empty() => {
            Inspected::Unreadable("the engine's answer has no id".into())
        }
        Ok(inspect) => Inspected::Container(Box::new(inspect)),
        Err(error) => Inspected::Unreadable(format!("the engine's answer cannot be read: {error}")),
    }
}

/// Reads an answer to `/networks`. A network that cannot be read is one that is not known.
///
/// # Errors
/// It is no list.
pub fn read_networks(bytes: &[u8]) -> serde_json::Result<Vec<Network>> {
    let text = String::from_utf8_lossy(bytes);
    let items: Option<Vec<&RawValue>> = serde_json::from_str(&text)?;
    let items = items.unwrap_or_default().into_iter();
    Ok(items
        .filter_map(|item| serde_json::from_str(item.get()).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_cannot_be_read_touches_no_other() {
        let list = b"[{\"Id\":\"a\"},7,{\"Id\":\"b\",\"Names\":{}},{},null,{\"Id\":\"c\",\"State\":\"\xff\"}]";
        let items = read_list(list).unwrap();
        let ids: Vec<(bool, &str)> = items
            .iter()
            .map(|item| match item {
                Listed::Container(summary) => (true, &*summary.id),
                Listed::Unreadable(id) => (false, &**id),
            })
            .collect();
        let expected = [
            (true, "a"),
            (false, ""),
            (false, "b"),
            (false, ""),
            (false, ""),
            (true, "c"),
        ];
        assert_eq!(ids, expected);
        assert_eq!(read_list(b"null").unwrap(), []);
        assert!(read_list(b"{}").is_err() && read_list(b"").is_err());
        let networks = read_networks(b"[{\"Id\":\"n\"},[7]]").unwrap();
        assert_eq!(networks.len(), 1);
    }

    #[test]
    fn an_inspection_without_an_id_says_nothing() {
        for text in ["{}", "[]", "null", "", "{\"Id\":null}", "{\"Id\":[]}"] {
            let read = read_inspect(text.as_bytes());
            assert!(matches!(read, Inspected::Unreadable(_)), "{text}: {read:?}");
        }
    }
}
