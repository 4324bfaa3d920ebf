//! Users and groups by number, and what of it the tables of this host know.

/// Reads a group: a number, or a name of `/etc/group`.
pub(crate) fn group(text: &str) -> Result<u32, String> {
    if let Some(number) = number(text) {
        return Ok(number);
    }
    let table = std::fs::read_to_string("/etc/group").unwrap_or_default();
    group_of(&table, text).ok_or_else(|| {
        format!("no group `{text}` is in /etc/group: name another, or give a number")
    })
}

/// Reads `UID` or `UID:GID`, or names of `/etc/passwd` and `/etc/group` for them. Without a group it
/// is that of the user who is named, or the number of the user.
pub(crate) fn user(text: &str) -> Result<(u32, u32), String> {
    let table = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    user_in(&table, text)
}

fn user_in(table: &str, text: &str) -> Result<(u32, u32), String> {
    let (name, named_group) = match text.split_once(':') {
        Some((name, named)) => (name, Some(group(named)?)),
        None => (text, None),
    };
    let (user, its_group) = match number(name) {
        Some(user) => (user, user),
        None => user_of(table, name).ok_or_else(|| {
            format!(
                "no user `{name}` is in /etc/passwd: name another, or give numbers, as UID or \
                 UID:GID, such as 65532"
            )
        })?,
    };
    match user {
        0 => Err("0 is root: choose another user, or leave --user out".into()),
        user => Ok((user, named_group.unwrap_or(its_group))),
    }
}

/// A number of a user or a group; the greatest stands for none.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|number| *number != u32::MAX);
    number.filter(|_| digits)
}

/// The number of a group: `name:password:GID:members` (group(5)).
fn group_of(table: &str, name: &str) -> Option<u32> {
    let mut lines = table
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    lines.find_map(|fields| match fields.as_slice() {
        [found, _, id, ..] if *found == name => number(id),
        _ => None,
    })
}

/// The numbers of a user and its group: `name:password:UID:GID:…` (passwd(5)).
fn user_of(table: &str, name: &str) -> Option<(u32, u32)> {
    let mut lines = table
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    lines.find_map(|fields| match fields.as_slice() {
        [found, _, user, group, ..] if *found == name => number(user).zip(number(group)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_users() {
        let table = "root:x:0:\n# comment\ndocker:x:998:a,b\nbad\nodd:x:none:\n";
        assert_eq!(group_of(table, "docker"), Some(998));
        assert_eq!(group_of(table, "odd"), None);
        assert_eq!(group_of(table, "dock"), None);
        assert_eq!(group("7"), Ok(7));
        assert!(
            group("no such group")
                .unwrap_err()
                .contains("no such group")
        );
        assert_eq!(user("65532"), Ok((65532, 65532)));
        assert_eq!(user("1000:998"), Ok((1000, 998)));
        let table = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/false\nodd:x:no:1::/:/\n";
        assert_eq!(user_in(table, "web"), Ok((33, 34)));
        assert_eq!(user_in(table, "web:7"), Ok((33, 7)));
        assert_eq!(user_in("", "33"), Ok((33, 33)));
        assert!(user_in(table, "root").unwrap_err().contains("root"));
        assert!(user_in(table, "odd").unwrap_err().contains("no user `odd`"));
        assert!(user_in("", "web").unwrap_err().contains("UID:GID"));
        for bad in [
            "",
            "no such user",
            "1:",
            ":1",
            "1:2:3",
            "-1",
            "+1",
            "4294967295",
            "0",
            "0:5",
        ] {
            assert!(user(bad).is_err(), "{bad}");
        }
    }
}
