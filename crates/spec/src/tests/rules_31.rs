//! One small document per rule that is different in OpenAPI 3.1.

use super::{check_cases, error, info, warning};

const HEAD: &str = "openapi: 3.1.1\ninfo: {title: Clinic, version: '1'}\n";

#[test]
fn the_document() {
    check_cases(
        HEAD,
        &[
            error("missing-field", "$", 1, "tags: []"),
            error(
                "server-default",
                "$.servers[0].variables.v.default",
                6,
                "paths: {}\nservers:\n- url: '/{v}'\n  variables: {v: {enum: [a], default: b}}",
            ),
            error(
                "empty-enum",
                "$.servers[0].variables.v.enum",
                6,
                "paths: {}\nservers:\n- url: '/{v}'\n  variables: {v: {enum: [], default: b}}",
            ),
            info(
                "unknown-dialect",
                "$.jsonSchemaDialect",
                4,
                "paths: {}\njsonSchemaDialect: urn:own",
            ),
            error("format", "$.jsonSchemaDialect", 4, "paths: {}\njsonSchemaDialect: own"),
            info(
                "ignored-body",
                "$.webhooks.w.get.requestBody",
                3,
                "webhooks: {w: {get: {requestBody: {content: {}}}}}",
            ),
            warning(
                "reference-sibling",
                "$.components.responses.a.headers",
                5,
                "components:\n  responses:\n    a: {$ref: '#/components/responses/b', description: d, headers: {}}\n    b: {description: d}",
            ),
        ],
    );
    check_cases(
        "openapi: 3.1.1\n",
        &[error(
            "exclusive-fields",
            "$.info.license",
            2,
            "info: {title: T, version: '1', license: {name: n, identifier: MIT, url: /l}}\npaths: {}",
        )],
    );
}

#[test]
fn schemas() {
    check_cases(
        &format!("{HEAD}components:\n  schemas:\n    a:\n"),
        &[
            error(
                "type",
                "$.components.schemas.a.exclusiveMinimum",
                6,
                "      exclusiveMinimum: true",
            ),
            error("type", "$.components.schemas.a", 6, "      text"),
            error("empty-list", "$.components.schemas.a.type", 6, "      type: []"),
            error(
                "duplicate-item",
                "$.components.schemas.a.type[1]",
                6,
                "      type: [string, string]",
            ),
            error(
                "unknown-value",
                "$.components.schemas.a.type[1]",
                6,
                "      type: [string, text]",
            ),
            error("empty-list", "$.components.schemas.a.prefixItems", 6, "      prefixItems: []"),
            error("format", "$.components.schemas.a['$anchor']", 6, "      $anchor: 1a"),
            error(
                "unresolved-reference",
                "$.components.schemas.a['$ref']",
                6,
                "      $ref: '#nothing'",
            ),
            error(
                "unresolved-reference",
                "$.components.schemas.a['$dynamicRef']",
                6,
                "      $dynamicRef: '#nothing'",
            ),
            error(
                "remote-reference",
                "$.components.schemas.a['$ref']",
                6,
                "      $ref: https://x.example/s",
            ),
            error(
                "reference-cycle",
                "$.components.schemas.a['$ref']",
                6,
                "      $ref: '#/components/schemas/a'",
            ),
            warning("empty-enum", "$.components.schemas.a.enum", 6, "      enum: []"),
            warning(
                "default-type",
                "$.components.schemas.a.default",
                6,
                "      {type: string, default: 1}",
            ),
            warning(
                "exclusive-fields",
                "$.components.schemas.a",
                6,
                "      {readOnly: true, writeOnly: true}",
            ),
            info("nullable-ignored", "$.components.schemas.a.nullable", 6, "      nullable: true"),
            info(
                "unknown-dialect",
                "$.components.schemas.a",
                6,
                "      {$schema: 'urn:own', type: 5}",
            ),
        ],
    );
}
