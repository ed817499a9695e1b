//! A graph as JSON, or any other format of serde.
//!
//! ```json
//! {
//!   "name": "double",
//!   "facts": ["n >= 1"],
//!   "params": [{"name": "x", "kind": "input", "type": {"dtype": "f32", "shape": ["n", 64]}, "loc": "main.rs:3:4"}],
//!   "nodes": [{"op": "add", "operands": [0, 0], "types": [{"dtype": "f32", "shape": ["n", 64]}], "scope": ["hidden"], "loc": "main.rs:5:6"}],
//!   "outputs": [{"name": "y", "value": 1}],
//!   "updates": []
//! }
//! ```
//!
//! Values are numbered: the parameters first, then the results of the nodes in order.
//! An attribute is tagged with its form: `"attrs": {"axes": {"ints": [0, 1]}, "op": {"name": "sum"}}`.
//! Elements are texts, so that NaN and 64-bit integers are exact; above 64 elements they are base64 of little-endian bytes.
//! Facts, scope, tag, location and updates may be left out.
//!
//! A graph is read through [`Builder`]: each operation is inferred again, and the result satisfies the [verifier](super::verify).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use super::print::{base64, from_base64, scope_names};
use super::verify;
use super::{Builder, Graph, ParamKind, ScopeId, Value};
use crate::array::{Array, Data, checked_count};
use crate::attrs::{Attr, Attrs};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::facts::Facts;
use crate::literal::Literal;
use crate::loc::Loc;
use crate::ops::{Op, Types};
use crate::ty::Type;

/// The most elements that are written as texts.
const INLINE: usize = 64;

impl Serialize for Graph {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        GraphJson::of(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Graph {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let graph = GraphJson::deserialize(deserializer)?.build(0).map_err(serde::de::Error::custom)?;
        verify::structure(&graph).map_err(|e| serde::de::Error::custom(e.summary()))?;
        Ok(graph)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GraphJson {
    name: String,
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    facts: Facts,
    params: Vec<ParamJson>,
    nodes: Vec<NodeJson>,
    outputs: Vec<OutputJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    updates: Vec<UpdateJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParamJson {
    name: String,
    kind: KindJson,
    #[serde(rename = "type")]
    ty: Type,
    #[serde(default, skip_serializing_if = "is_unknown")]
    loc: Loc,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindJson {
    Input,
    Variable,
    Data,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeJson {
    op: String,
    operands: Vec<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attrs: BTreeMap<String, AttrJson>,
    types: Vec<Type>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scope: Vec<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    tag: u32,
    #[serde(default, skip_serializing_if = "is_unknown")]
    loc: Loc,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputJson {
    name: String,
    value: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateJson {
    param: u32,
    value: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AttrJson {
    Int(i64),
    Ints(Vec<i64>),
    Dims(Vec<Dim>),
    Name(String),
    Str(String),
    Float(LiteralJson),
    Array(ArrayJson),
    /// Pairs and no object, since the order counts.
    Map(Vec<(String, AttrJson)>),
    Region(Box<GraphJson>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LiteralJson {
    dtype: DType,
    value: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArrayJson {
    dtype: DType,
    shape: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    elements: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

fn is_unknown(loc: &Loc) -> bool {
    !loc.is_known()
}

fn is_zero(tag: &u32) -> bool {
    *tag == 0
}

impl GraphJson {
    fn of(graph: &Graph) -> Self {
        let params = graph.params.iter().zip(graph.param_types()).map(|(p, ty)| ParamJson {
            name: p.name.clone(),
            kind: p.kind.into(),
            ty: ty.clone(),
            loc: p.loc.clone(),
        });
        let nodes = graph.nodes.iter().map(|node| NodeJson {
            op: node.op.name().to_owned(),
            operands: node.operands.iter().map(|v| v.0).collect(),
            attrs: node.op.story().attrs().0.into_iter().map(|(name, attr)| (name, AttrJson::of(&attr))).collect(),
            types: node.results().map(|v| graph.ty(v).clone()).collect(),
            scope: scope_names(graph, node.scope).unwrap_or_default().into_iter().map(str::to_owned).collect(),
            tag: node.tag,
            loc: node.loc.clone(),
        });
        Self {
            name: graph.name.clone(),
            facts: graph.facts.clone(),
            params: params.collect(),
            nodes: nodes.collect(),
            outputs: graph.outputs.iter().map(|o| OutputJson { name: o.name.clone(), value: o.value.0 }).collect(),
            updates: graph.updates.iter().map(|u| UpdateJson { param: u.param, value: u.value.0 }).collect(),
        }
    }

    /// The graph, with types inferred and compared; `depth` graphs are around it.
    fn build(self, depth: usize) -> Result<Graph, String> {
        if depth > verify::MAX_REGION_DEPTH {
            return Err(format!("regions nest more than {} deep", verify::MAX_REGION_DEPTH));
        }
        let mut b = Builder::new(self.name);
        b.set_facts(self.facts);
        for param in self.params {
            b.loc = param.loc;
            b.param(param.name, param.kind.into(), param.ty);
        }
        for (i, node) in self.nodes.into_iter().enumerate() {
            let at = format!("node {i} ({})", node.op);
            add_node(&mut b, node, depth).map_err(|e| format!("{at}: {e}"))?;
        }
        // The types of what leaves a region are read by the rule of the operation that holds it, before the verifier sees it.
        for output in self.outputs {
            let value = defined(&b, output.value).map_err(|e| format!("output `{}`: {e}", output.name))?;
            b.output(output.name, value);
        }
        for update in self.updates {
            if update.param as usize >= b.graph().params().len() {
                return Err(format!("an update names parameter {}, which does not exist", update.param));
            }
            let value =
                defined(&b, update.value).map_err(|e| format!("the update of parameter {}: {e}", update.param))?;
            b.update(update.param, value);
        }
        Ok(b.finish())
    }
}

fn defined(b: &Builder, value: u32) -> Result<Value, String> {
    if (value as usize) < b.graph().value_count() {
        return Ok(Value(value));
    }
    Err(format!("value {value} is not defined above"))
}

fn add_node(b: &mut Builder, node: NodeJson, depth: usize) -> Result<(), String> {
    let operands = node.operands.into_iter().map(|v| defined(b, v)).collect::<Result<SmallVec<[Value; 3]>, _>>()?;
    let attrs = node.attrs.into_iter().map(|(name, attr)| Ok((name, attr.build(depth, 1)?)));
    let attrs = Attrs(attrs.collect::<Result<_, String>>()?);
    let op = Op::from_attrs(&node.op, attrs).map_err(|e| e.to_string())?;
    b.scope = node.scope.iter().fold(ScopeId::ROOT, |at, name| b.subscope(at, name));
    b.tag = node.tag;
    b.loc = node.loc;
    let inferred = b.infer(&op, &operands).map_err(|e| e.to_string())?;
    let stated = Types::from_vec(node.types);
    if !verify::agree(&stated, &inferred, b.facts()) {
        let (stated, inferred) = (super::parse::TypeList(stated), super::parse::TypeList(inferred));
        return Err(format!("its type is {stated}, but the operation gives {inferred}"));
    }
    b.push(op, operands, stated);
    Ok(())
}

impl AttrJson {
    fn of(attr: &Attr) -> Self {
        match attr {
            Attr::Int(v) => Self::Int(*v),
            Attr::Ints(v) => Self::Ints(v.clone()),
            Attr::Dims(v) => Self::Dims(v.clone()),
            Attr::Name(v) => Self::Name(v.clone()),
            Attr::Str(v) => Self::Str(v.clone()),
            Attr::Float(v) => Self::Float(LiteralJson { dtype: v.dtype(), value: v.to_string() }),
            Attr::Array(v) => Self::Array(ArrayJson::of(v)),
            Attr::Map(v) => Self::Map(v.0.iter().map(|(name, attr)| (name.clone(), Self::of(attr))).collect()),
            Attr::Region(v) => Self::Region(Box::new(GraphJson::of(v))),
        }
    }

    fn build(self, depth: usize, nesting: usize) -> Result<Attr, String> {
        if nesting > verify::MAX_ATTR_DEPTH {
            return Err(format!("attributes nest more than {} deep", verify::MAX_ATTR_DEPTH));
        }
        Ok(match self {
            Self::Int(v) => Attr::Int(v),
            Self::Ints(v) => Attr::Ints(v),
            Self::Dims(v) => Attr::Dims(v),
            Self::Name(v) => Attr::Name(v),
            Self::Str(v) => Attr::Str(v),
            Self::Float(v) => Attr::Float(literal(v.dtype, &v.value)?),
            Self::Array(v) => Attr::Array(v.build()?),
            Self::Map(v) => {
                let inner = v.into_iter().map(|(name, attr)| Ok((name, attr.build(depth, nesting + 1)?)));
                Attr::Map(Attrs(inner.collect::<Result<_, String>>()?))
            }
            Self::Region(v) => Attr::Region(v.build(depth + 1)?.into()),
        })
    }
}

impl ArrayJson {
    fn of(array: &Array) -> Self {
        let (elements, base64) = if array.len() > INLINE {
            (None, Some(base64(&array.data().to_le_bytes())))
        } else {
            (Some((0..array.len()).filter_map(|i| array.data().get(i)).map(|l| l.to_string()).collect()), None)
        };
        Self { dtype: array.dtype(), shape: array.shape().to_vec(), elements, base64 }
    }

    fn build(self) -> Result<Array, String> {
        let data = match (self.elements, self.base64) {
            (Some(elements), None) => {
                let mut data = Data::zeros(self.dtype, elements.len());
                for (i, text) in elements.iter().enumerate() {
                    // The index is in range and the literal of the data's dtype, so this writes.
                    data.set(i, literal(self.dtype, text)?);
                }
                data
            }
            (None, Some(text)) => from_base64(&text)
                .and_then(|bytes| Data::from_le_bytes(self.dtype, &bytes))
                .ok_or_else(|| format!("an array's base64 is not that of whole {} elements", self.dtype))?,
            _ => return Err("an array has either `elements` or `base64`".to_owned()),
        };
        if checked_count(&self.shape) != Some(data.len()) {
            return Err(format!("{} elements do not fill the shape {:?}", data.len(), self.shape));
        }
        Array::from_data(&self.shape, data).map_err(|e| e.to_string())
    }
}

fn literal(dtype: DType, text: &str) -> Result<Literal, String> {
    Literal::parse(dtype, text).ok_or_else(|| format!("{text:?} is no literal of {dtype}"))
}

impl From<ParamKind> for KindJson {
    fn from(kind: ParamKind) -> Self {
        match kind {
            ParamKind::Input => Self::Input,
            ParamKind::Variable => Self::Variable,
            ParamKind::Data => Self::Data,
        }
    }
}

impl From<KindJson> for ParamKind {
    fn from(kind: KindJson) -> Self {
        match kind {
            KindJson::Input => Self::Input,
            KindJson::Variable => Self::Variable,
            KindJson::Data => Self::Data,
        }
    }
}
