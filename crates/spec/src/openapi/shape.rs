//! The vocabulary of the object tables: kinds of objects, shapes of values, formats of text.

use crate::openapi::objects;

/// The two families of versions that are validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V30,
    V31,
}

/// Objects of the OpenAPI specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    OpenApi,
    Info,
    Contact,
    License,
    Server,
    ServerVariable,
    Components,
    Paths,
    PathItem,
    Operation,
    ExternalDocs,
    Parameter,
    RequestBody,
    MediaType,
    Encoding,
    Responses,
    Response,
    Callback,
    Example,
    Link,
    Header,
    Tag,
    Schema,
    Discriminator,
    Xml,
    SecurityScheme,
    OAuthFlows,
    OAuthFlow,
    SecurityRequirement,
}

/// What a value has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Any,
    Text(Text),
    Boolean,
    Number,
    /// A number above zero.
    Positive,
    /// An integer of zero or more.
    Count,
    /// One of these strings.
    Choice(&'static [&'static str]),
    Object(Kind),
    /// An object or a reference to one.
    Referable(Kind),
    /// A schema: in 3.0 referable, in 3.1 possibly a boolean.
    Schema,
    /// A boolean or a schema.
    SchemaOrBoolean,
    /// The value of `type` in a schema.
    SchemaType,
    /// A schema or a list of strings (the former keyword `dependencies`).
    SchemaOrNames,
    List(&'static Shape),
    /// A list with at least one item.
    FilledList(&'static Shape),
    /// A list of strings, each at most once.
    Names,
    Map(KeyFormat, &'static Shape),
}

/// What a string has to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    Any,
    Url,
    /// A URL that is not relative.
    AbsoluteUrl,
    ServerUrl,
    Email,
    MediaTypes,
    Anchor,
}

/// What the keys of a map have to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyFormat {
    Any,
    ComponentName,
    Path,
    StatusCode,
    MediaType,
    Expression,
}

/// A fixed field of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    required: Versions,
    allowed: Versions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Versions {
    None,
    Only30,
    Only31,
    Both,
}

/// The table of one kind of object.
#[derive(Debug)]
pub(crate) struct Object {
    /// What the specification calls it.
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [Field],
    /// Fields whose names follow a pattern.
    pub(crate) patterned: Option<(KeyFormat, Shape)>,
    /// Whether names that start with `x-` may be added.
    pub(crate) extensible: bool,
}

impl Version {
    pub(crate) fn other_name(self) -> &'static str {
        match self {
            Self::V30 => "3.1",
            Self::V31 => "3.0",
        }
    }
}

impl Field {
    pub(crate) const fn new(name: &'static str, shape: Shape) -> Self {
        Self { name, shape, required: Versions::None, allowed: Versions::Both }
    }

    pub(crate) const fn required(mut self) -> Self {
        self.required = Versions::Both;
        self
    }

    pub(crate) const fn required_in_30(mut self) -> Self {
        self.required = Versions::Only30;
        self
    }

    pub(crate) const fn only_31(mut self) -> Self {
        self.allowed = Versions::Only31;
        self
    }

    pub(crate) fn is_required(&self, version: Version) -> bool {
        self.required.include(version)
    }

    pub(crate) fn is_allowed(&self, version: Version) -> bool {
        self.allowed.include(version)
    }
}

impl Versions {
    fn include(self, version: Version) -> bool {
        match self {
            Self::None => false,
            Self::Only30 => version == Version::V30,
            Self::Only31 => version == Version::V31,
            Self::Both => true,
        }
    }
}

impl Object {
    pub(crate) fn field(&self, name: &str, version: Version) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name && field.is_allowed(version))
    }
}

impl Shape {
    /// The shape of the value one step of a pointer further; `None` where anything may stand.
    pub(crate) fn step(self, key: &str, version: Version) -> Option<Shape> {
        match self {
            Self::Object(kind) | Self::Referable(kind) => kind.step(key, version),
            Self::Schema | Self::SchemaOrBoolean | Self::SchemaOrNames => {
                Kind::Schema.step(key, version)
            }
            Self::List(item) | Self::FilledList(item) | Self::Map(_, item) => Some(*item),
            Self::Any
            | Self::Text(_)
            | Self::Boolean
            | Self::Number
            | Self::Positive
            | Self::Count
            | Self::Choice(_)
            | Self::SchemaType
            | Self::Names => None,
        }
    }

    /// The kind of object this shape stands for.
    pub(crate) fn kind(self) -> Option<Kind> {
        match self {
            Self::Object(kind) | Self::Referable(kind) => Some(kind),
            Self::Schema | Self::SchemaOrBoolean | Self::SchemaOrNames => Some(Kind::Schema),
            _ => None,
        }
    }
}

impl Kind {
    fn step(self, key: &str, version: Version) -> Option<Shape> {
        let object = objects::object(self, version);
        if let Some(field) = object.field(key, version) {
            return Some(field.shape);
        }
        if object.extensible && key.starts_with("x-") {
            return None;
        }
        object.patterned.map(|(_, shape)| shape)
    }
}
