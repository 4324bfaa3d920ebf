//! Object files: what a compiler made of programs and maps, and how it becomes programs in the kernel.
//!
//! An object is compiled by clang with `-target bpf -g`, its maps declared as libbpf does (`SEC(".maps")`),
//! its programs in sections `xdp`, `xdp.frags` or `classifier`. Contents given to maps of maps in their
//! declaration are not looked at.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use aya_obj::btf::BtfFeatures;
use aya_obj::generated::bpf_insn;
use aya_obj::obj::{Function, ParseError, Program as ObjectProgram};
use aya_obj::{EbpfSectionKind, Features, ProgramSection};

use super::bpf::{Load, load_program, load_types};
use super::map::MapTypes;
use super::{Error, Map, MapKind, MapSpec, Program, Result};

/// `BPF_F_XDP_HAS_FRAGS`.
const XDP_FRAGS: u32 = 1 << 5;
/// `BPF_XDP`, of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;
/// `BPF_PROG_TYPE_XDP`, `BPF_PROG_TYPE_SCHED_CLS`.
const KIND_XDP: u32 = 6;
const KIND_TC: u32 = 3;

/// Values for constants of a program (`const volatile` in C), by their names.
pub type Globals<'a> = BTreeMap<&'a str, &'a [u8]>;

/// An object file. Loading it leaves it as it is: it may be loaded again, with other maps.
#[derive(Debug)]
pub struct Object {
    object: aya_obj::Object,
    /// Its types in the kernel, once something needed them.
    types: Option<Arc<OwnedFd>>,
}

impl Object {
    /// Reads one.
    ///
    /// # Errors
    /// [`Error::Object`]: this is none, or has sections of programs that are not known here.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        // The file is read in place, which wants words to be where words begin in memory.
        let mut room = vec![0; bytes.len() + size_of::<u64>()];
        let start = room.as_ptr().align_offset(size_of::<u64>());
        let aligned = room
            .get_mut(start..)
            .and_then(|room| room.get_mut(..bytes.len()))
            .ok_or_else(|| Error::Object("it is too long".to_owned()))?;
        aligned.copy_from_slice(bytes);
        let object = aya_obj::Object::parse(aligned).map_err(|error| match error {
            ParseError::InvalidProgramSection { section } => other_section(&section),
            error => Error::Object(chain(&error)),
        })?;
        for (name, program) in &object.programs {
            kind_of(name, &program.section)?;
        }
        Ok(Self {
            object,
            types: None,
        })
    }

    /// The maps that the object declares, by name, for [`Map::create`]. Sizes may be changed before that.
    /// Maps of maps lack their inner map still: see [`Self::inner_spec`].
    ///
    /// # Errors
    /// The kernel refuses the object's types.
    pub fn map_specs(&mut self) -> Result<BTreeMap<String, MapSpec<'static>>> {
        let types = self.types()?;
        let mut specs = BTreeMap::new();
        for (name, map) in &self.object.maps {
            if map.section_kind() == EbpfSectionKind::BtfMaps {
                specs.insert(name.clone(), spec(name, map, types.as_ref()));
            }
        }
        Ok(specs)
    }

    /// What the values of a map of maps are, as the object declares it; none if it is no map of maps.
    pub fn inner_spec(&self, name: &str) -> Option<MapSpec<'static>> {
        let inner = self.object.maps.get(name)?.inner()?;
        // Its types are not given: kernels want those of all inner maps to be the same object's.
        Some(spec(name, &inner, None))
    }

    /// Makes all maps that the object declares, with sizes of entries changed as `max_entries` says, by
    /// name.
    ///
    /// # Errors
    /// The kernel refuses one; then none is left. A size is given for a map that the object does not have.
    pub fn create_maps(
        &mut self,
        max_entries: &BTreeMap<&str, u32>,
    ) -> Result<BTreeMap<String, Map>> {
        let mut maps = BTreeMap::new();
        let specs = self.map_specs()?;
        if let Some(name) = max_entries.keys().find(|name| !specs.contains_key(**name)) {
            return Err(Error::Object(format!("it has no map {name}")));
        }
        for (name, mut spec) in specs {
            if let Some(entries) = max_entries.get(name.as_str()) {
                spec.max_entries = *entries;
            }
            let inner = self.inner_spec(&name).as_ref().map(Map::create);
            let inner = inner.transpose()?;
            let map = Map::create(&MapSpec {
                inner: inner.as_ref(),
                ..spec
            })?;
            maps.insert(name, map);
        }
        Ok(maps)
    }

    /// Whether the object's programs can be loaded with these maps: all that they need are there, with the right
    /// sizes of keys and values.
    pub fn fits(&self, maps: &BTreeMap<String, Map>) -> bool {
        let mut declared = self.object.maps.iter();
        declared.all(|(name, map)| {
            map.section_kind() != EbpfSectionKind::BtfMaps
                || maps
                    .get(name)
                    .is_some_and(|given| same_shape(name, map, given).is_ok())
        })
    }

    /// Loads all programs, with these maps in the place of those that the object declares. Programs hold
    /// the maps that they use.
    ///
    /// # Errors
    /// [`Error::Verifier`] with the log; a map or a constant is missing or of another size.
    pub fn load(
        &mut self,
        maps: &BTreeMap<String, Map>,
        globals: &Globals<'_>,
    ) -> Result<BTreeMap<String, Program>> {
        let types = self.types()?;
        let mut object = self.object.clone();
        let values = globals
            .iter()
            .map(|(name, value)| (*name, (*value, true)))
            .collect::<HashMap<_, _>>();
        object
            .patch_map_data(values)
            .map_err(|error| Error::Object(chain(&error)))?;
        let sections = data_sections(&object)?;
        let mut given = Vec::new();
        for (name, map) in &object.maps {
            let made = if map.section_kind() == EbpfSectionKind::BtfMaps {
                maps.get(name)
            } else {
                sections.get(name)
            };
            let made = made.ok_or_else(|| Error::Object(format!("map {name} is not given")))?;
            same_shape(name, map, made)?;
            given.push((name.clone(), made.fd().as_raw_fd(), map.clone()));
        }
        let text: HashSet<usize> = object
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        object
            .relocate_maps(
                given
                    .iter()
                    .map(|(name, fd, map)| (name.as_str(), *fd, map)),
                &text,
            )
            .map_err(|error| Error::Object(chain(&error)))?;
        object
            .relocate_calls(&text)
            .map_err(|error| Error::Object(chain(&error)))?;
        object.sanitize_functions(&features());
        let mut programs = BTreeMap::new();
        for (name, program) in &object.programs {
            let function = object.functions.get(&program.function_key());
            let function =
                function.ok_or_else(|| Error::Object(format!("program {name} has no code")))?;
            let loaded = load_one(name, program, function, types.as_ref())?;
            programs.insert(name.clone(), loaded);
        }
        Ok(programs)
    }

    /// The object's types in the kernel; none if it has none.
    fn types(&mut self) -> Result<Option<Arc<OwnedFd>>> {
        if let Some(types) = &self.types {
            return Ok(Some(Arc::clone(types)));
        }
        // What kernels since 6.1 know is all that compilers write.
        let features = BtfFeatures::new(true, true, true, true, true, true, true, true);
        let types = self
            .object
            .fixup_and_sanitize_btf(&features)
            .map_err(|error| Error::Object(chain(&error)))?;
        let Some(bytes) = types.map(aya_obj::btf::Btf::to_bytes) else {
            return Ok(None);
        };
        let loaded = load_types(&bytes).map_err(|(source, log)| Error::Types { source, log })?;
        let loaded = Arc::new(loaded);
        self.types = Some(Arc::clone(&loaded));
        Ok(Some(loaded))
    }
}

/// Nothing that kernels since 6.1 lack.
fn features() -> Features {
    let types = BtfFeatures::new(true, true, true, true, true, true, true, true);
    Features::new(true, true, true, true, true, true, true, Some(types))
}

fn spec(name: &str, map: &aya_obj::Map, types: Option<&Arc<OwnedFd>>) -> MapSpec<'static> {
    let kind = MapKind::from_number(map.map_type());
    let types = match (map, types) {
        // Arrays and tables may have their types told; others refuse it.
        (aya_obj::Map::Btf(map), Some(object)) if may_have_types(kind) => {
            (map.def.btf_value_type_id != 0).then(|| MapTypes {
                object: Arc::clone(object),
                key: map.def.btf_key_type_id,
                value: map.def.btf_value_type_id,
            })
        }
        _ => None,
    };
    MapSpec {
        kind,
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
        name: name.to_owned(),
        inner: None,
        types,
    }
}

fn may_have_types(kind: MapKind) -> bool {
    use MapKind::{Array, Hash, LpmTrie, LruHash, LruPerCpuHash, PerCpuArray, PerCpuHash};
    matches!(
        kind,
        Hash | Array | PerCpuHash | PerCpuArray | LruHash | LruPerCpuHash | LpmTrie
    )
}

/// Maps for the sections of variables and constants, with their contents.
fn data_sections(object: &aya_obj::Object) -> Result<BTreeMap<String, Map>> {
    let mut made = BTreeMap::new();
    for (name, map) in &object.maps {
        if map.section_kind() == EbpfSectionKind::BtfMaps {
            continue;
        }
        if map.section_kind() == EbpfSectionKind::Maps {
            return Err(Error::Object(format!(
                "map {name} is declared in the old way: use SEC(\".maps\")"
            )));
        }
        let section = Map::create(&spec(name, map, None))?;
        section.update(&0_u32.to_ne_bytes(), map.data(), 0)?;
        if map.section_kind() == EbpfSectionKind::Rodata {
            // So the verifier may take the constants as such.
            section.freeze()?;
        }
        made.insert(name.clone(), section);
    }
    Ok(made)
}

/// Whether a map can stand for the one that is declared. A program was compiled for these sizes.
fn same_shape(name: &str, declared: &aya_obj::Map, given: &Map) -> Result<()> {
    let info = given.info();
    let wanted = (
        MapKind::from_number(declared.map_type()),
        declared.key_size(),
        declared.value_size(),
    );
    let has = (info.kind, info.key_size, info.value_size);
    if wanted == has {
        return Ok(());
    }
    Err(Error::Object(format!(
        "map {name} should be {:?} with {} + {} bytes, and is {:?} with {} + {}",
        wanted.0, wanted.1, wanted.2, has.0, has.1, has.2
    )))
}

/// Kind of program, flags and place that go with a section.
fn kind_of(name: &str, section: &ProgramSection) -> Result<(u32, u32, u32)> {
    match section {
        ProgramSection::Xdp { frags, .. } => {
            Ok((KIND_XDP, if *frags { XDP_FRAGS } else { 0 }, ATTACH_XDP))
        }
        ProgramSection::SchedClassifier => Ok((KIND_TC, 0, 0)),
        other => Err(other_section(&format!("{other:?} of program {name}"))),
    }
}

fn other_section(section: &str) -> Error {
    Error::Object(format!(
        "its section {section} is none for programs that are known here: use xdp, xdp.frags or \
         classifier (what libbpf also calls tc)"
    ))
}

fn load_one(
    name: &str,
    program: &ObjectProgram,
    function: &Function,
    types: Option<&Arc<OwnedFd>>,
) -> Result<Program> {
    let (kind, flags, attach) = kind_of(name, &program.section)?;
    let code = code(&function.instructions);
    let functions = function.func_info.func_info_bytes();
    let lines = function.line_info.line_info_bytes();
    let load = Load {
        kind,
        flags,
        attach,
        name,
        license: &program.license,
        code: &code,
        types: types
            .filter(|_| !functions.is_empty())
            .map(|types| types.as_fd()),
        functions: (&functions, function.func_info_rec_size),
        lines: (&lines, function.line_info_rec_size),
    };
    let fd = load_program(&load).map_err(|(source, log)| Error::Verifier {
        program: name.to_owned(),
        source,
        log,
    })?;
    Program::of(fd)
}

/// Instructions as the kernel reads them (`struct bpf_insn`).
fn code(instructions: &[bpf_insn]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(instructions.len() * 8);
    for instruction in instructions {
        bytes.push(instruction.code);
        bytes.push(registers(instruction.dst_reg(), instruction.src_reg()));
        bytes.extend(instruction.off.to_ne_bytes());
        bytes.extend(instruction.imm.to_ne_bytes());
    }
    bytes
}

/// Two fields of four bits, in the order of the machine.
fn registers(to: u8, from: u8) -> u8 {
    if cfg!(target_endian = "little") {
        (from << 4) | (to & 0xf)
    } else {
        (to << 4) | (from & 0xf)
    }
}

/// An error with all that it says of its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
