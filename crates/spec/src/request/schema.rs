//! Schemas in the form in which requests are checked: an arena of nodes that refer to each other by number.

use serde::{Deserialize, Serialize};

use super::{
    format::{NumberFormat, TextFormat},
    json::{Node, Value},
    number::{self, Bound, Decimal, Divisor},
    pattern::Pattern,
};

/// Number of a schema.
pub(super) type SchemaId = u32;

/// One schema.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Schema {
    pub(super) types: Types,
    /// Whether null fits although the types or values do not name it (OpenAPI 3.0).
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) nullable: bool,
    /// Whether it asks what other rules have looked at.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) tracks: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rules: Vec<Rule>,
}

/// A set of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Types(u8);

/// What a value has to fulfil besides its type. Rules about what others have not looked at come last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Rule {
    Enum(Box<Choices>),
    Text(Box<TextRules>),
    Number(Box<NumberRules>),
    Array(Box<ArrayRules>),
    Object(Box<ObjectRules>),
    Ref(SchemaId),
    AllOf(Vec<SchemaId>),
    AnyOf(Box<Branches>),
    OneOf(Box<Branches>),
    Not(SchemaId),
    /// Something that is not enforced: whatever depends on it counts as fulfilled.
    Unknown,
    If {
        condition: SchemaId,
        then: Option<SchemaId>,
        otherwise: Option<SchemaId>,
    },
    /// Schemas that hold for the object when it has a property.
    Dependent(Vec<(Box<str>, SchemaId)>),
    UnevaluatedItems(SchemaId),
    UnevaluatedProperties(SchemaId),
}

/// The values that are allowed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Choices {
    /// In order, so that they can be searched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) texts: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) others: Vec<Constant>,
}

/// A value that stands in a schema.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Constant {
    Null,
    Bool(bool),
    Number(Box<str>),
    String(Box<str>),
    Array(Vec<Constant>),
    Object(Vec<(Box<str>, Constant)>),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct TextRules {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pattern: Option<Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<TextFormat>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct NumberRules {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) above: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) below: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) multiple_of: Option<Divisor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<NumberFormat>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ArrayRules {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max: Option<usize>,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) unique: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) first: Vec<SchemaId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) items: Option<SchemaId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) contains: Option<Contains>,
}

/// How many items have to fit a schema.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Contains {
    pub(super) schema: SchemaId,
    pub(super) min: usize,
    pub(super) max: Option<usize>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ObjectRules {
    /// What is said of single properties, in order of their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) properties: Vec<Property>,
    /// How many of them are required.
    pub(super) required: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) patterns: Vec<(Pattern, SchemaId)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) others: Option<SchemaId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) names: Option<SchemaId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max: Option<usize>,
    /// Properties that have to be there when another one is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) together: Vec<(Box<str>, Vec<Box<str>>)>,
}

/// A property that a schema names.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Property {
    pub(super) name: Box<str>,
    /// None when it is only required.
    pub(super) schema: Option<SchemaId>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) required: bool,
    /// Whether it may only be in answers.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) read_only: bool,
}

/// Alternatives, and the property that says which one is meant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Branches {
    pub(super) schemas: Vec<SchemaId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) discriminator: Option<Discriminator>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Discriminator {
    pub(super) property: Box<str>,
    pub(super) names: Vec<(Box<str>, SchemaId)>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Schema {
    pub(super) const fn anything() -> Self {
        Self { types: Types::ANY, nullable: false, tracks: false, rules: Vec::new() }
    }

    pub(super) const fn nothing() -> Self {
        Self { types: Types::NONE, nullable: false, tracks: false, rules: Vec::new() }
    }
}

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOLEAN: Self = Self(2);
    pub(super) const INTEGER: Self = Self(4);
    pub(super) const NUMBER: Self = Self(4 | 8);
    pub(super) const STRING: Self = Self(16);
    pub(super) const ARRAY: Self = Self(32);
    pub(super) const OBJECT: Self = Self(64);
    pub(super) const ANY: Self = Self(127);
    const NAMES: [(Self, &'static str); 7] = [
        (Self::STRING, "a string"),
        (Self::NUMBER, "a number"),
        (Self::INTEGER, "an integer"),
        (Self::BOOLEAN, "true or false"),
        (Self::ARRAY, "an array"),
        (Self::OBJECT, "an object"),
        (Self::NULL, "null"),
    ];

    pub(super) fn parse(name: &str) -> Self {
        match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => Self::NONE,
        }
    }

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn admits(self, node: Node<'_>) -> bool {
        if self == Self::ANY {
            return true;
        }
        match node.value() {
            Value::Null => self.has(Self::NULL),
            Value::Bool(_) => self.has(Self::BOOLEAN),
            Value::String(_) => self.has(Self::STRING),
            Value::Array => self.has(Self::ARRAY),
            Value::Object => self.has(Self::OBJECT),
            Value::Number(_) if self.has(Self::NUMBER) => true,
            Value::Number(text) => self.has(Self::INTEGER) && Decimal::of(text).is_integer(),
        }
    }

    pub(super) fn message(self) -> String {
        if self == Self::NONE {
            return "must not be there".to_owned();
        }
        let mut names: Vec<&str> = Vec::new();
        for (types, name) in Self::NAMES {
            let is_covered = types == Self::INTEGER && self.has(Self::NUMBER);
            if self.has(types) && !is_covered {
                names.push(name);
            }
        }
        format!("must be {}", names.join(" or "))
    }
}

impl Choices {
    pub(super) fn contain(&self, node: Node<'_>) -> bool {
        if let Value::String(text) = node.value()
            && self.texts.binary_search_by(|known| (**known).cmp(text)).is_ok()
        {
            return true;
        }
        self.others.iter().any(|known| known.equals(node))
    }

    /// The allowed values, when they can be said in a line.
    pub(super) fn message(&self) -> String {
        let spelled = |constant: &Constant| match constant {
            Constant::Null => Some("null".to_owned()),
            Constant::Bool(value) => Some(value.to_string()),
            Constant::Number(text) | Constant::String(text) => Some(text.to_string()),
            Constant::Array(_) | Constant::Object(_) => None,
        };
        let texts = self.texts.iter().map(|text| Some(text.to_string()));
        let all: Option<Vec<String>> =
            texts.chain(self.others.iter().map(spelled)).take(11).collect();
        match all {
            Some(all) if all.len() == 1 && all[0].len() <= 120 => format!("must be {}", all[0]),
            Some(all) if all.len() <= 10 && all.iter().map(String::len).sum::<usize>() <= 120 => {
                format!("must be one of {}", all.join(", "))
            }
            _ => "must be one of the allowed values".to_owned(),
        }
    }
}

impl Constant {
    fn equals(&self, node: Node<'_>) -> bool {
        match (self, node.value()) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(one), Value::Bool(other)) => *one == other,
            (Self::Number(one), Value::Number(other)) => number::compare(one, other).is_eq(),
            (Self::String(one), Value::String(other)) => **one == *other,
            (Self::Array(one), Value::Array) => {
                one.len() == node.count()
                    && one.iter().zip(node.items()).all(|(one, other)| one.equals(other))
            }
            (Self::Object(one), Value::Object) => {
                one.len() == node.count()
                    && one
                        .iter()
                        .all(|(key, one)| node.get(key).is_some_and(|other| one.equals(other)))
            }
            _ => false,
        }
    }

    /// How many values it is.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::weight).sum::<usize>(),
            Self::Object(members) => {
                1 + members.iter().map(|(_, value)| value.weight()).sum::<usize>()
            }
            _ => 1,
        }
    }
}
