//! Types that the kernel keeps with a map (BTF, the kernel's `Documentation/bpf/btf.rst`): where in its keys
//! and values which field is.

use std::collections::BTreeMap;

use super::{Error, Map, Result};

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// `BTF_KIND_…`.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const ENUM64: u32 = 19;
/// Types that are another one under another name, or with another attribute: typedef, volatile, const,
/// restrict, type tag.
const ALIASES: [u32; 5] = [8, 9, 10, 11, 18];
/// Types within types at most; numbers in a value at most.
const DEPTH: usize = 16;
const MOST: usize = 4096;

/// Where a number lies in a key or a value, or several alike, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes before it.
    pub offset: usize,
    /// Bytes of one number.
    pub size: usize,
    /// How many there are.
    pub count: usize,
}

/// The numbers in a key or a value, by names as C has them: `hops[1].mtu`. What is in a struct or union without
/// a name counts as the outer one's. The name of a value that is but a number is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of all.
    pub size: usize,
    /// The numbers.
    pub places: BTreeMap<String, Place>,
}

impl Map {
    /// The shapes of its keys and values; none if the kernel was told no types of it.
    ///
    /// # Errors
    /// What the kernel says, or types that cannot be read.
    pub fn shapes(&self) -> Result<Option<(Shape, Shape)>> {
        let told = self.handle.types();
        let read = told.map_err(Error::system(format!(
            "reading types of map {}",
            self.name()
        )))?;
        let Some((bytes, key, value)) = read else {
            return Ok(None);
        };
        let unreadable = || Error::Answer {
            what: format!("reading types of map {}", self.name()),
            why: "they are not as they should be".to_owned(),
        };
        let types = Types::parse(&bytes).ok_or_else(unreadable)?;
        let shape = |id| types.shape(id).ok_or_else(unreadable);
        Ok(Some((shape(key)?, shape(value)?)))
    }
}

/// One type: what `struct btf_type` begins with, and what follows it.
struct Type {
    info: u32,
    /// Bytes, or the type it stands for.
    size: u32,
    rest: Vec<u32>,
}

impl Type {
    fn kind(&self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    fn count(&self) -> usize {
        (self.info & 0xffff) as usize
    }
}

struct Types(Vec<Type>, Vec<u8>);

impl Types {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let word = bytes.get(at..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*word))
        };
        if (word(0)? & 0xffff) as u16 != MAGIC {
            return None;
        }
        let head = word(4)? as usize;
        let (from, len) = (head + word(8)? as usize, word(12)? as usize);
        let (texts, texts_len) = (head + word(16)? as usize, word(20)? as usize);
        let texts = bytes.get(texts..texts.checked_add(texts_len)?)?.to_vec();
        // Type 0 is `void`, which is not written.
        let mut all = vec![Type {
            info: 0,
            size: 0,
            rest: Vec::new(),
        }];
        let mut at = from;
        while at < from.checked_add(len)? {
            let (info, size) = (word(at + 4)?, word(at + 8)?);
            let mut one = Type {
                info,
                size,
                rest: Vec::new(),
            };
            at += 12;
            let words = match one.kind() {
                INT | 14 | 17 => 1,
                ARRAY => 3,
                STRUCT | UNION | 15 | ENUM64 => 3 * one.count(),
                ENUM | 13 => 2 * one.count(),
                _ => 0,
            };
            for _ in 0..words {
                one.rest.push(word(at)?);
                at += 4;
            }
            all.push(one);
        }
        Some(Self(all, texts))
    }

    fn shape(&self, id: u32) -> Option<Shape> {
        let mut shape = Shape {
            size: self.size(id, 0)?,
            places: BTreeMap::new(),
        };
        self.walk(id, "", 0, &mut shape, 0)?;
        Some(shape)
    }

    /// The type, without its other names.
    fn plain(&self, mut id: u32) -> Option<&Type> {
        for _ in 0..DEPTH {
            let one = self.0.get(id as usize)?;
            if !ALIASES.contains(&one.kind()) {
                return Some(one);
            }
            id = one.size;
        }
        None
    }

    fn size(&self, id: u32, depth: usize) -> Option<usize> {
        let one = self.plain(id).filter(|_| depth < DEPTH)?;
        match (one.kind(), one.rest.as_slice()) {
            (ARRAY, [of, _, count]) => (self.size(*of, depth + 1)?).checked_mul(*count as usize),
            (INT | STRUCT | UNION | ENUM | ENUM64, _) => Some(one.size as usize),
            _ => None,
        }
    }

    fn walk(
        &self,
        id: u32,
        name: &str,
        offset: usize,
        into: &mut Shape,
        depth: usize,
    ) -> Option<()> {
        let one = self.plain(id).filter(|_| depth < DEPTH)?;
        let mut number = |size, count| {
            let place = Place {
                offset,
                size,
                count,
            };
            into.places.insert(name.to_owned(), place);
            (into.places.len() <= MOST).then_some(())
        };
        match (one.kind(), one.rest.as_slice()) {
            (INT | ENUM | ENUM64, _) => number(one.size as usize, 1),
            (ARRAY, [of, _, count]) => {
                let (size, count) = (self.size(*of, depth + 1)?, *count as usize);
                if matches!(self.plain(*of)?.kind(), INT | ENUM | ENUM64) {
                    return number(size, count);
                }
                for i in 0..count {
                    let name = format!("{name}[{i}]");
                    self.walk(*of, &name, offset + i * size, into, depth + 1)?;
                }
                Some(())
            }
            (STRUCT | UNION, members) => {
                for member in members.chunks_exact(3) {
                    let [text_at, of, bits] = *member.first_chunk()?;
                    // The upper byte is that of bit fields, which nothing of ours has.
                    let at = offset + (bits & 0x00ff_ffff) as usize / 8;
                    let field = text(&self.1, text_at)?;
                    let name = match (name, field.as_str()) {
                        (_, "") => name.to_owned(),
                        ("", field) => field.to_owned(),
                        (name, field) => format!("{name}.{field}"),
                    };
                    self.walk(of, &name, at, into, depth + 1)?;
                }
                Some(())
            }
            _ => None,
        }
    }
}

fn text(texts: &[u8], at: u32) -> Option<String> {
    let from = texts.get(at as usize..)?;
    let len = from.iter().position(|byte| *byte == 0)?;
    String::from_utf8(from.get(..len)?.to_vec()).ok()
}
