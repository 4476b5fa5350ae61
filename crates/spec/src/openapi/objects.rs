//! Every object of OpenAPI 3.0.4 and 3.1.1 as a table. Where the versions differ, the field says
//! so. Schemas have a table of their own for each version, in `schemas.rs`.

use crate::openapi::{
    schemas::{SCHEMA_30, SCHEMA_31},
    shape::{Field, KeyFormat, Kind, Object, Shape, Text, Version},
};

/// The table of a kind.
pub(crate) fn object(kind: Kind, version: Version) -> &'static Object {
    match kind {
        Kind::OpenApi => &OPEN_API,
        Kind::Info => &INFO,
        Kind::Contact => &CONTACT,
        Kind::License => &LICENSE,
        Kind::Server => &SERVER,
        Kind::ServerVariable => &SERVER_VARIABLE,
        Kind::Components => &COMPONENTS,
        Kind::Paths => &PATHS,
        Kind::PathItem => &PATH_ITEM,
        Kind::Operation => &OPERATION,
        Kind::ExternalDocs => &EXTERNAL_DOCS,
        Kind::Parameter => &PARAMETER,
        Kind::RequestBody => &REQUEST_BODY,
        Kind::MediaType => &MEDIA_TYPE,
        Kind::Encoding => &ENCODING,
        Kind::Responses => &RESPONSES,
        Kind::Response => &RESPONSE,
        Kind::Callback => &CALLBACK,
        Kind::Example => &EXAMPLE,
        Kind::Link => &LINK,
        Kind::Header => &HEADER,
        Kind::Tag => &TAG,
        Kind::Schema if version == Version::V30 => &SCHEMA_30,
        Kind::Schema => &SCHEMA_31,
        Kind::Discriminator if version == Version::V30 => &DISCRIMINATOR_30,
        Kind::Discriminator => &DISCRIMINATOR_31,
        Kind::Xml => &XML,
        Kind::SecurityScheme => &SECURITY_SCHEME,
        Kind::OAuthFlows => &OAUTH_FLOWS,
        Kind::OAuthFlow => &OAUTH_FLOW,
        Kind::SecurityRequirement => &SECURITY_REQUIREMENT,
    }
}

const TEXT: Shape = Shape::Text(Text::Any);
const URL: Shape = Shape::Text(Text::Url);
const SERVERS: Shape = Shape::List(&Shape::Object(Kind::Server));
const PARAMETERS: Shape = Shape::List(&Shape::Referable(Kind::Parameter));
const SECURITY: Shape = Shape::List(&Shape::Object(Kind::SecurityRequirement));
const EXAMPLES: Shape = Shape::Map(KeyFormat::Any, &Shape::Referable(Kind::Example));
const CONTENT: Shape = Shape::Map(KeyFormat::MediaType, &Shape::Object(Kind::MediaType));
const HEADERS: Shape = Shape::Map(KeyFormat::Any, &Shape::Referable(Kind::Header));
const OPERATION_FIELD: Shape = Shape::Object(Kind::Operation);

const fn extensible(name: &'static str, fields: &'static [Field]) -> Object {
    Object { name, fields, patterned: None, extensible: true }
}

const fn patterned(name: &'static str, keys: KeyFormat, shape: Shape) -> Object {
    Object { name, fields: &[], patterned: Some((keys, shape)), extensible: true }
}

/// A component map: names of letters, digits, dot, dash and underscore.
const fn components(name: &'static str, shape: &'static Shape) -> Field {
    Field::new(name, Shape::Map(KeyFormat::ComponentName, shape))
}

static OPEN_API: Object = extensible(
    "OpenAPI Object",
    &[
        Field::new("openapi", TEXT).required(),
        Field::new("info", Shape::Object(Kind::Info)).required(),
        Field::new("jsonSchemaDialect", Shape::Text(Text::AbsoluteUrl)).only_31(),
        Field::new("servers", SERVERS),
        Field::new("paths", Shape::Object(Kind::Paths)).required_in_30(),
        Field::new("webhooks", Shape::Map(KeyFormat::Any, &Shape::Object(Kind::PathItem)))
            .only_31(),
        Field::new("components", Shape::Object(Kind::Components)),
        Field::new("security", SECURITY),
        Field::new("tags", Shape::List(&Shape::Object(Kind::Tag))),
        Field::new("externalDocs", Shape::Object(Kind::ExternalDocs)),
    ],
);

static INFO: Object = extensible(
    "Info Object",
    &[
        Field::new("title", TEXT).required(),
        Field::new("summary", TEXT).only_31(),
        Field::new("description", TEXT),
        Field::new("termsOfService", URL),
        Field::new("contact", Shape::Object(Kind::Contact)),
        Field::new("license", Shape::Object(Kind::License)),
        Field::new("version", TEXT).required(),
    ],
);

static CONTACT: Object = extensible(
    "Contact Object",
    &[
        Field::new("name", TEXT),
        Field::new("url", URL),
        Field::new("email", Shape::Text(Text::Email)),
    ],
);

static LICENSE: Object = extensible(
    "License Object",
    &[
        Field::new("name", TEXT).required(),
        Field::new("identifier", TEXT).only_31(),
        Field::new("url", URL),
    ],
);

static SERVER: Object = extensible(
    "Server Object",
    &[
        Field::new("url", Shape::Text(Text::ServerUrl)).required(),
        Field::new("description", TEXT),
        Field::new("variables", Shape::Map(KeyFormat::Any, &Shape::Object(Kind::ServerVariable))),
    ],
);

static SERVER_VARIABLE: Object = extensible(
    "Server Variable Object",
    &[
        Field::new("enum", Shape::List(&TEXT)),
        Field::new("default", TEXT).required(),
        Field::new("description", TEXT),
    ],
);

static COMPONENTS: Object = extensible(
    "Components Object",
    &[
        components("schemas", &Shape::Schema),
        components("responses", &Shape::Referable(Kind::Response)),
        components("parameters", &Shape::Referable(Kind::Parameter)),
        components("examples", &Shape::Referable(Kind::Example)),
        components("requestBodies", &Shape::Referable(Kind::RequestBody)),
        components("headers", &Shape::Referable(Kind::Header)),
        components("securitySchemes", &Shape::Referable(Kind::SecurityScheme)),
        components("links", &Shape::Referable(Kind::Link)),
        components("callbacks", &Shape::Referable(Kind::Callback)),
        components("pathItems", &Shape::Object(Kind::PathItem)).only_31(),
    ],
);

static PATHS: Object = patterned("Paths Object", KeyFormat::Path, Shape::Object(Kind::PathItem));

static PATH_ITEM: Object = extensible(
    "Path Item Object",
    &[
        // Validated by hand: what it stands for is a path item as well.
        Field::new("$ref", TEXT),
        Field::new("summary", TEXT),
        Field::new("description", TEXT),
        Field::new("get", OPERATION_FIELD),
        Field::new("put", OPERATION_FIELD),
        Field::new("post", OPERATION_FIELD),
        Field::new("delete", OPERATION_FIELD),
        Field::new("options", OPERATION_FIELD),
        Field::new("head", OPERATION_FIELD),
        Field::new("patch", OPERATION_FIELD),
        Field::new("trace", OPERATION_FIELD),
        Field::new("servers", SERVERS),
        Field::new("parameters", PARAMETERS),
    ],
);

static OPERATION: Object = extensible(
    "Operation Object",
    &[
        Field::new("tags", Shape::List(&TEXT)),
        Field::new("summary", TEXT),
        Field::new("description", TEXT),
        Field::new("externalDocs", Shape::Object(Kind::ExternalDocs)),
        Field::new("operationId", TEXT),
        Field::new("parameters", PARAMETERS),
        Field::new("requestBody", Shape::Referable(Kind::RequestBody)),
        Field::new("responses", Shape::Object(Kind::Responses)).required_in_30(),
        Field::new("callbacks", Shape::Map(KeyFormat::Any, &Shape::Referable(Kind::Callback))),
        Field::new("deprecated", Shape::Boolean),
        Field::new("security", SECURITY),
        Field::new("servers", SERVERS),
    ],
);

static EXTERNAL_DOCS: Object = extensible(
    "External Documentation Object",
    &[Field::new("description", TEXT), Field::new("url", URL).required()],
);

static PARAMETER: Object = extensible(
    "Parameter Object",
    &[
        Field::new("name", TEXT).required(),
        Field::new("in", Shape::Choice(&["query", "header", "path", "cookie"])).required(),
        Field::new("description", TEXT),
        Field::new("required", Shape::Boolean),
        Field::new("deprecated", Shape::Boolean),
        Field::new("allowEmptyValue", Shape::Boolean),
        Field::new(
            "style",
            Shape::Choice(&[
                "matrix",
                "label",
                "simple",
                "form",
                "spaceDelimited",
                "pipeDelimited",
                "deepObject",
            ]),
        ),
        Field::new("explode", Shape::Boolean),
        Field::new("allowReserved", Shape::Boolean),
        Field::new("schema", Shape::Schema),
        Field::new("example", Shape::Any),
        Field::new("examples", EXAMPLES),
        Field::new("content", CONTENT),
    ],
);

static REQUEST_BODY: Object = extensible(
    "Request Body Object",
    &[
        Field::new("description", TEXT),
        Field::new("content", CONTENT).required(),
        Field::new("required", Shape::Boolean),
    ],
);

static MEDIA_TYPE: Object = extensible(
    "Media Type Object",
    &[
        Field::new("schema", Shape::Schema),
        Field::new("example", Shape::Any),
        Field::new("examples", EXAMPLES),
        Field::new("encoding", Shape::Map(KeyFormat::Any, &Shape::Object(Kind::Encoding))),
    ],
);

static ENCODING: Object = extensible(
    "Encoding Object",
    &[
        Field::new("contentType", Shape::Text(Text::MediaTypes)),
        Field::new("headers", HEADERS),
        Field::new(
            "style",
            Shape::Choice(&["form", "spaceDelimited", "pipeDelimited", "deepObject"]),
        ),
        Field::new("explode", Shape::Boolean),
        Field::new("allowReserved", Shape::Boolean),
    ],
);

static RESPONSES: Object =
    patterned("Responses Object", KeyFormat::StatusCode, Shape::Referable(Kind::Response));

static RESPONSE: Object = extensible(
    "Response Object",
    &[
        Field::new("description", TEXT).required(),
        Field::new("headers", HEADERS),
        Field::new("content", CONTENT),
        Field::new("links", Shape::Map(KeyFormat::ComponentName, &Shape::Referable(Kind::Link))),
    ],
);

static CALLBACK: Object =
    patterned("Callback Object", KeyFormat::Expression, Shape::Object(Kind::PathItem));

static EXAMPLE: Object = extensible(
    "Example Object",
    &[
        Field::new("summary", TEXT),
        Field::new("description", TEXT),
        Field::new("value", Shape::Any),
        Field::new("externalValue", URL),
    ],
);

static LINK: Object = extensible(
    "Link Object",
    &[
        Field::new("operationRef", TEXT),
        Field::new("operationId", TEXT),
        Field::new("parameters", Shape::Map(KeyFormat::Any, &Shape::Any)),
        Field::new("requestBody", Shape::Any),
        Field::new("description", TEXT),
        Field::new("server", Shape::Object(Kind::Server)),
    ],
);

static HEADER: Object = extensible(
    "Header Object",
    &[
        Field::new("description", TEXT),
        Field::new("required", Shape::Boolean),
        Field::new("deprecated", Shape::Boolean),
        Field::new("style", Shape::Choice(&["simple"])),
        Field::new("explode", Shape::Boolean),
        Field::new("schema", Shape::Schema),
        Field::new("example", Shape::Any),
        Field::new("examples", EXAMPLES),
        Field::new("content", CONTENT),
    ],
);

static TAG: Object = extensible(
    "Tag Object",
    &[
        Field::new("name", TEXT).required(),
        Field::new("description", TEXT),
        Field::new("externalDocs", Shape::Object(Kind::ExternalDocs)),
    ],
);

const DISCRIMINATOR_FIELDS: &[Field] = &[
    Field::new("propertyName", TEXT).required(),
    Field::new("mapping", Shape::Map(KeyFormat::Any, &TEXT)),
];

static DISCRIMINATOR_30: Object = Object {
    name: "Discriminator Object",
    fields: DISCRIMINATOR_FIELDS,
    patterned: None,
    extensible: false,
};

static DISCRIMINATOR_31: Object = extensible("Discriminator Object", DISCRIMINATOR_FIELDS);

static XML: Object = extensible(
    "XML Object",
    &[
        Field::new("name", TEXT),
        Field::new("namespace", Shape::Text(Text::AbsoluteUrl)),
        Field::new("prefix", TEXT),
        Field::new("attribute", Shape::Boolean),
        Field::new("wrapped", Shape::Boolean),
    ],
);

static SECURITY_SCHEME: Object = extensible(
    "Security Scheme Object",
    &[
        // The values differ by version and are checked with the other fields.
        Field::new("type", TEXT).required(),
        Field::new("description", TEXT),
        Field::new("name", TEXT),
        Field::new("in", Shape::Choice(&["query", "header", "cookie"])),
        Field::new("scheme", TEXT),
        Field::new("bearerFormat", TEXT),
        Field::new("flows", Shape::Object(Kind::OAuthFlows)),
        Field::new("openIdConnectUrl", URL),
    ],
);

static OAUTH_FLOWS: Object = extensible(
    "OAuth Flows Object",
    &[
        Field::new("implicit", Shape::Object(Kind::OAuthFlow)),
        Field::new("password", Shape::Object(Kind::OAuthFlow)),
        Field::new("clientCredentials", Shape::Object(Kind::OAuthFlow)),
        Field::new("authorizationCode", Shape::Object(Kind::OAuthFlow)),
    ],
);

static OAUTH_FLOW: Object = extensible(
    "OAuth Flow Object",
    &[
        Field::new("authorizationUrl", URL),
        Field::new("tokenUrl", URL),
        Field::new("refreshUrl", URL),
        Field::new("scopes", Shape::Map(KeyFormat::Any, &TEXT)).required(),
    ],
);

static SECURITY_REQUIREMENT: Object = Object {
    name: "Security Requirement Object",
    fields: &[],
    patterned: Some((KeyFormat::Any, Shape::List(&TEXT))),
    extensible: false,
};
