//! Texts that belong to services and backends, in pieces that fit into a map.

use std::collections::BTreeMap;

use crate::layout::{NOTE, Note, NoteKey};
use crate::sys::Result;

use super::Maps;

/// Pieces of a text at most: 29 KiB.
const PIECES: u32 = 256;

/// Whose text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// Of the service with this number.
    Service(u32),
    /// Of the backend in this slot.
    Backend(u32),
}

impl Owner {
    fn key(self, piece: u32) -> NoteKey {
        let (kind, id) = match self {
            Owner::Service(id) => (0, id),
            Owner::Backend(id) => (1, id),
        };
        NoteKey { kind, id, piece }
    }
}

impl Maps {
    /// Writes a text in place of the one that was there. What is longer than 29 KiB is cut.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn put_note(&self, owner: Owner, text: &str) -> Result<()> {
        let mut next = 0;
        let mut pieces = text.as_bytes().chunks(NOTE).take(PIECES as usize - 1);
        loop {
            let piece = pieces.next().unwrap_or_default();
            let mut note = Note {
                len: u32::try_from(piece.len()).unwrap_or_default(),
                text: [0; NOTE],
            };
            for (to, from) in note.text.iter_mut().zip(piece) {
                *to = *from;
            }
            self.put("notes", &owner.key(next), &note)?;
            next += 1;
            if piece.len() < NOTE {
                break;
            }
        }
        self.remove_notes_from(owner, next)
    }

    /// The text; none if there is none, or it is not whole.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn note(&self, owner: Owner) -> Result<Option<String>> {
        let mut text = Vec::new();
        for piece in 0..PIECES {
            let Some(note) = self.get::<Note>("notes", &owner.key(piece))? else {
                return Ok(None);
            };
            let len = (note.len as usize).min(NOTE);
            text.extend(note.text.iter().take(len));
            if len < NOTE {
                break;
            }
        }
        Ok(String::from_utf8(text).ok())
    }

    /// All texts that are whole, read in one go.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn notes(&self) -> Result<BTreeMap<Owner, String>> {
        let mut pieces: BTreeMap<(Owner, u32), Note> = BTreeMap::new();
        self.each("notes", |key: NoteKey, note: Note| {
            let owner = match key.kind {
                0 => Owner::Service(key.id),
                _ => Owner::Backend(key.id),
            };
            pieces.insert((owner, key.piece), note);
        })?;
        let mut texts: BTreeMap<Owner, (u32, Vec<u8>, bool)> = BTreeMap::new();
        for ((owner, piece), note) in pieces {
            let (next, text, whole) = texts.entry(owner).or_default();
            if piece == *next && !*whole {
                let len = (note.len as usize).min(NOTE);
                text.extend(note.text.iter().take(len));
                (*next, *whole) = (piece + 1, len < NOTE);
            }
        }
        let whole = texts.into_iter().filter(|(_, (.., whole))| *whole);
        let whole =
            whole.filter_map(|(owner, (_, text, _))| Some((owner, String::from_utf8(text).ok()?)));
        Ok(whole.collect())
    }

    /// Removes the text.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove_note(&self, owner: Owner) -> Result<()> {
        self.remove_notes_from(owner, 0)
    }

    fn remove_notes_from(&self, owner: Owner, first: u32) -> Result<()> {
        for piece in first..PIECES {
            if !self.remove("notes", &owner.key(piece))? {
                break;
            }
        }
        Ok(())
    }
}
