//! One small document per rule of OpenAPI 3.0.

use super::{check_cases, error, info, warning};

const HEAD: &str = "openapi: 3.0.4\ninfo: {title: Clinic, version: '1'}\n";

#[test]
fn the_document_and_its_servers() {
    check_cases(
        HEAD,
        &[
            error("missing-field", "$", 1, "tags: []"),
            error("unknown-field", "$.webhooks", 4, "paths: {}\nwebhooks: {}"),
            error("unknown-field", "$.path", 4, "paths: {}\npath: {}"),
            error("type", "$.tags", 4, "paths: {}\ntags: clinic"),
            error("duplicate-key", "$.paths", 4, "paths: {}\npaths: {}"),
            error("duplicate-tag", "$.tags[1].name", 4, "paths: {}\ntags: [{name: a}, {name: a}]"),
            error("format", "$.externalDocs.url", 4, "paths: {}\nexternalDocs: {url: 'a b'}"),
            error("server-url", "$.servers[0].url", 4, "paths: {}\nservers: [{url: 'http://{a'}]"),
            error(
                "server-variable",
                "$.servers[0].url",
                4,
                "paths: {}\nservers: [{url: 'http://{host}'}]",
            ),
            warning(
                "unused-variable",
                "$.servers[0].variables.port",
                4,
                "paths: {}\nservers: [{url: /, variables: {port: {default: '1'}}}]",
            ),
            warning(
                "server-default",
                "$.servers[0].variables.v.default",
                6,
                "paths: {}\nservers:\n- url: '/{v}'\n  variables: {v: {enum: [a], default: b}}",
            ),
            warning(
                "empty-enum",
                "$.servers[0].variables.v.enum",
                6,
                "paths: {}\nservers:\n- url: '/{v}'\n  variables: {v: {enum: [], default: b}}",
            ),
            error(
                "component-name",
                "$.components.schemas['a b']",
                4,
                "paths: {}\ncomponents: {schemas: {'a b': {}}}",
            ),
        ],
    );
}

#[test]
fn paths_and_their_parameters() {
    check_cases(
        HEAD,
        &[
            error("path-slash", "$.paths.beds", 3, "paths: {beds: {}}"),
            error("path-template", "$.paths['/{']", 3, "paths: {'/{': {}}"),
            error("path-template", "$.paths['/{a}/{a}']", 3, "paths: {'/{a}/{a}': {}}"),
            error("path-conflict", "$.paths['/b/{y}']", 5, "paths:\n  /b/{x}: {}\n  /b/{y}: {}"),
            warning("path-query", "$.paths['/b?c=d']", 3, "paths: {'/b?c=d': {}}"),
            error(
                "path-parameter-missing",
                "$.paths['/b/{id}'].get",
                5,
                "paths:\n  /b/{id}:\n    get: {responses: {default: {description: d}}}",
            ),
            error(
                "path-parameter-unknown",
                "$.paths['/b'].parameters[0]",
                5,
                "paths:\n  /b:\n    parameters: [{name: id, in: path, required: true, schema: {}}]",
            ),
        ],
    );
}

#[test]
fn parameters_and_headers() {
    check_cases(
        HEAD,
        &[
            error(
                "path-parameter-required",
                "$.components.parameters.id",
                5,
                "paths: {}\ncomponents:\n  parameters: {id: {name: id, in: path, schema: {}}}",
            ),
            error(
                "duplicate-parameter",
                "$.paths['/b'].parameters[1]",
                7,
                "paths:\n  /b:\n    parameters:\n    - {name: q, in: query, schema: {}}\n    - {name: q, in: query, schema: {}}",
            ),
            error(
                "missing-field",
                "$.components.parameters.q",
                5,
                "paths: {}\ncomponents:\n  parameters: {q: {name: q, in: query}}",
            ),
            error(
                "exclusive-fields",
                "$.components.parameters.q",
                6,
                "paths: {}\ncomponents:\n  parameters:\n    q: {name: q, in: query, schema: {}, content: {a/b: {}}}",
            ),
            error(
                "single-content",
                "$.components.parameters.q.content",
                6,
                "paths: {}\ncomponents:\n  parameters:\n    q: {name: q, in: query, content: {a/b: {}, c/d: {}}}",
            ),
            warning(
                "unused-field",
                "$.components.parameters.q.style",
                6,
                "paths: {}\ncomponents:\n  parameters:\n    q: {name: q, in: query, content: {a/b: {}}, style: form}",
            ),
            error(
                "parameter-style",
                "$.components.parameters.q.style",
                6,
                "paths: {}\ncomponents:\n  parameters:\n    q: {name: q, in: query, schema: {}, style: matrix}",
            ),
            error(
                "parameter-location",
                "$.components.parameters.h.allowEmptyValue",
                6,
                "paths: {}\ncomponents:\n  parameters:\n    h: {name: h, in: header, schema: {}, allowEmptyValue: true}",
            ),
            info(
                "ignored-header",
                "$.components.parameters.h",
                6,
                "paths: {}\ncomponents:\n  parameters:\n    h: {name: Accept, in: header, schema: {}}",
            ),
            error(
                "unknown-value",
                "$.components.parameters.q.in",
                6,
                "paths: {}\ncomponents:\n  parameters:\n    q: {name: q, in: body, schema: {}}",
            ),
            error(
                "unknown-field",
                "$.components.headers.h.name",
                6,
                "paths: {}\ncomponents:\n  headers:\n    h: {name: h, schema: {}}",
            ),
        ],
    );
}

#[test]
fn operations_and_their_answers() {
    check_cases(
        HEAD,
        &[
            error("missing-field", "$.paths['/b'].put", 3, "paths: {/b: {put: {}}}"),
            error(
                "no-response",
                "$.paths['/b'].put.responses",
                3,
                "paths: {/b: {put: {responses: {}}}}",
            ),
            error(
                "status-code",
                "$.paths['/b'].put.responses['2xx']",
                3,
                "paths: {/b: {put: {responses: {2xx: {description: d}}}}}",
            ),
            error(
                "missing-field",
                "$.paths['/b'].put.responses['200']",
                3,
                "paths: {/b: {put: {responses: {200: {}}}}}",
            ),
            error(
                "media-type",
                "$.components.requestBodies.b.content.json",
                5,
                "paths: {}\ncomponents:\n  requestBodies: {b: {content: {json: {}}}}",
            ),
            error(
                "exclusive-fields",
                "$.components.requestBodies.b.content['a/b']",
                6,
                "paths: {}\ncomponents:\n  requestBodies:\n    b: {content: {a/b: {example: 1, examples: {}}}}",
            ),
            warning(
                "unknown-encoding",
                "$.components.requestBodies.b.content['a/b'].encoding.x",
                6,
                "paths: {}\ncomponents:\n  requestBodies:\n    b: {content: {a/b: {schema: {properties: {y: {}}}, encoding: {x: {}}}}}",
            ),
            error(
                "duplicate-operation-id",
                "$.paths['/c'].get.operationId",
                5,
                "paths:\n  /b: {get: {operationId: o, responses: {200: {description: d}}}}\n  /c: {get: {operationId: o, responses: {200: {description: d}}}}",
            ),
            info(
                "undeclared-tag",
                "$.paths['/b'].get.tags[0]",
                4,
                "paths:\n  /b: {get: {tags: [t], responses: {200: {description: d}}}}",
            ),
            warning(
                "ignored-body",
                "$.paths['/b'].get.requestBody",
                4,
                "paths:\n  /b: {get: {requestBody: {content: {}}, responses: {200: {description: d}}}}",
            ),
        ],
    );
}

#[test]
fn links_callbacks_and_headers() {
    check_cases(
        HEAD,
        &[
            error(
                "runtime-expression",
                "$.components.callbacks.c['{$nothing}']",
                5,
                "paths: {}\ncomponents:\n  callbacks: {c: {'{$nothing}': {}}}",
            ),
            warning(
                "runtime-expression",
                "$.components.links.l.parameters.p",
                5,
                "paths: {/b: {get: {operationId: o, responses: {200: {description: d}}}}}\ncomponents:\n  links: {l: {operationId: o, parameters: {p: $response.bdy}}}",
            ),
            error(
                "unknown-operation",
                "$.components.links.l.operationId",
                5,
                "paths: {}\ncomponents:\n  links: {l: {operationId: o}}",
            ),
            error(
                "missing-field",
                "$.components.links.l",
                5,
                "paths: {}\ncomponents:\n  links: {l: {description: d}}",
            ),
            error(
                "unresolved-reference",
                "$.components.links.l.operationRef",
                5,
                "paths: {}\ncomponents:\n  links: {l: {operationRef: '#/paths/~1b/get'}}",
            ),
            info(
                "remote-operation",
                "$.components.links.l.operationRef",
                5,
                "paths: {}\ncomponents:\n  links: {l: {operationRef: 'https://x.example/#/paths/~1b/get'}}",
            ),
            error(
                "exclusive-fields",
                "$.components.examples.e",
                5,
                "paths: {}\ncomponents:\n  examples: {e: {value: 1, externalValue: /e}}",
            ),
            info(
                "ignored-header",
                "$.components.responses.r.headers['Content-Type']",
                6,
                "paths: {}\ncomponents:\n  responses:\n    r: {description: d, headers: {Content-Type: {schema: {}}}}",
            ),
        ],
    );
}

#[test]
fn references() {
    check_cases(
        HEAD,
        &[
            error(
                "unresolved-reference",
                "$.components.schemas.a['$ref']",
                5,
                "paths: {}\ncomponents:\n  schemas: {a: {$ref: '#/components/schemas/b'}}",
            ),
            error(
                "remote-reference",
                "$.components.schemas.a['$ref']",
                5,
                "paths: {}\ncomponents:\n  schemas: {a: {$ref: 'other.yaml#/b'}}",
            ),
            error(
                "reference-kind",
                "$.components.schemas.a['$ref']",
                5,
                "paths: {}\ncomponents:\n  schemas: {a: {$ref: '#/info'}}",
            ),
            error(
                "reference-cycle",
                "$.components.schemas.a['$ref']",
                5,
                "paths: {}\ncomponents:\n  schemas: {a: {$ref: '#/components/schemas/b'},\n            b: {$ref: '#/components/schemas/a'}}",
            ),
            warning(
                "reference-format",
                "$.components.schemas.a['$ref']",
                5,
                "paths: {}\ncomponents:\n  schemas: {a: {$ref: '#/x-{b}'}}\nx-{b}: {}",
            ),
            warning(
                "reference-sibling",
                "$.components.schemas.a.title",
                5,
                "paths: {}\ncomponents:\n  schemas: {a: {$ref: '#/components/schemas/b', title: t}, b: {}}",
            ),
            error(
                "type",
                "$['x-shared'].a.type",
                6,
                "paths: {}\ncomponents:\n  schemas: {a: {$ref: '#/x-shared/a'}}\nx-shared: {a: {type: 1}}",
            ),
            error(
                "unknown-field",
                "$.tags[0]['$ref']",
                4,
                "paths: {}\ntags: [{name: a, $ref: '#/info'}]",
            ),
        ],
    );
}

#[test]
fn security() {
    check_cases(
        HEAD,
        &[
            error(
                "unknown-security-scheme",
                "$.security[0].key",
                4,
                "paths: {}\nsecurity: [{key: []}]",
            ),
            error(
                "scopes-not-empty",
                "$.security[0].key",
                4,
                "paths: {}\nsecurity: [{key: [a]}]\ncomponents:\n  securitySchemes: {key: {type: apiKey, name: k, in: header}}",
            ),
            warning(
                "unknown-scope",
                "$.security[0].o[0]",
                4,
                "paths: {}\nsecurity: [{o: [write]}]\ncomponents:\n  securitySchemes: {o: {type: oauth2, flows: {implicit: {authorizationUrl: /a, scopes: {read: r}}}}}",
            ),
            error(
                "missing-field",
                "$.components.securitySchemes.key",
                5,
                "paths: {}\ncomponents:\n  securitySchemes: {key: {type: apiKey, in: header}}",
            ),
            error(
                "unknown-value",
                "$.components.securitySchemes.m.type",
                5,
                "paths: {}\ncomponents:\n  securitySchemes: {m: {type: mutualTLS}}",
            ),
            warning(
                "unused-field",
                "$.components.securitySchemes.h.flows",
                5,
                "paths: {}\ncomponents:\n  securitySchemes: {h: {type: http, scheme: basic, flows: {}}}",
            ),
            error(
                "missing-field",
                "$.components.securitySchemes.o.flows.password",
                5,
                "paths: {}\ncomponents:\n  securitySchemes: {o: {type: oauth2, flows: {password: {scopes: {}}}}}",
            ),
        ],
    );
}

#[test]
fn schemas() {
    const SCHEMA: &str = "$.components.schemas.a";
    let at = |rule, line, body| error(rule, SCHEMA, line, body);
    check_cases(
        &format!("{HEAD}paths: {{}}\ncomponents:\n  schemas:\n    a:\n"),
        &[
            at("missing-field", 7, "      type: array"),
            at("exclusive-fields", 7, "      {readOnly: true, writeOnly: true}"),
            error("unknown-field", "$.components.schemas.a.const", 7, "      const: 1"),
            error("unknown-value", "$.components.schemas.a.type", 7, "      type: 'null'"),
            error("unknown-value", "$.components.schemas.a.type", 7, "      type: text"),
            error("type", "$.components.schemas.a.type", 7, "      type: [string]"),
            error(
                "type",
                "$.components.schemas.a.exclusiveMinimum",
                7,
                "      exclusiveMinimum: 1",
            ),
            error("type", "$.components.schemas.a.minLength", 7, "      minLength: -1"),
            error("type", "$.components.schemas.a.multipleOf", 7, "      multipleOf: 0"),
            error("empty-list", "$.components.schemas.a.required", 7, "      required: []"),
            error(
                "duplicate-item",
                "$.components.schemas.a.required[1]",
                7,
                "      required: [a, a]",
            ),
            error("empty-list", "$.components.schemas.a.allOf", 7, "      allOf: []"),
            error("empty-enum", "$.components.schemas.a.enum", 7, "      enum: []"),
            error(
                "default-type",
                "$.components.schemas.a.default",
                8,
                "      type: string\n      default: 1",
            ),
            warning(
                "enum-type",
                "$.components.schemas.a.enum[1]",
                8,
                "      type: string\n      enum: [a, 1]",
            ),
            warning("duplicate-item", "$.components.schemas.a.enum[1]", 7, "      enum: [a, a]"),
            warning(
                "empty-range",
                "$.components.schemas.a.minimum",
                7,
                "      minimum: 2\n      maximum: 1",
            ),
            info(
                "nullable-without-type",
                "$.components.schemas.a.nullable",
                7,
                "      nullable: true",
            ),
            error(
                "unresolved-reference",
                "$.components.schemas.a.discriminator.mapping.x",
                7,
                "      discriminator: {propertyName: p, mapping: {x: '#/components/schemas/x'}}",
            ),
            warning(
                "unknown-mapping",
                "$.components.schemas.a.discriminator.mapping.x",
                7,
                "      discriminator: {propertyName: p, mapping: {x: Bed}}",
            ),
        ],
    );
}
