//! Documents that use much of the specifications and break none of it.

use super::check;
use crate::Format;

const CLINIC_30: &str = r##"
openapi: 3.0.4
info:
  title: Clinic
  description: Beds & wards
  termsOfService: /terms
  contact: {name: Desk, url: "https://clinic.example/desk", email: desk@clinic.example}
  license: {name: MIT, url: https://clinic.example/license}
  version: 1.2.3
  x-audience: internal
servers:
  - url: https://{host}.clinic.example:{port}/v1
    variables:
      host: {default: api, enum: [api, test]}
      port: {default: "443", description: Port}
tags:
  - name: beds
    externalDocs: {url: ../beds.html}
security:
  - {}
  - key: []
  - oauth: [read]
paths:
  x-note: {anything: true}
  /beds:
    summary: Beds
    parameters:
      - $ref: "#/components/parameters/Page"
      - {name: filter, in: query, style: deepObject, schema: {type: object}}
      - {name: tenant, in: header, schema: {type: string}, example: north}
      - {name: session, in: cookie, schema: {type: string}}
      - name: query
        in: query
        content: {application/json: {schema: {type: object}}}
    get:
      tags: [beds]
      operationId: listBeds
      responses:
        200:
          description: Beds
          headers:
            X-Total: {schema: {type: integer, minimum: 0, exclusiveMinimum: true}}
          content:
            application/json:
              schema: {type: array, items: {$ref: "#/components/schemas/Bed"}}
              examples:
                one: {$ref: "#/components/examples/OneBed"}
          links:
            next: {operationId: getBed, parameters: {id: "$response.body#/0/id"}}
            again: {operationRef: "#/paths/~1beds~1%7Bid%7D/get"}
        4XX: {$ref: "#/components/responses/Problem"}
        default: {description: Anything else}
    post:
      requestBody: {$ref: "#/components/requestBodies/NewBed"}
      responses: {"201": {description: Made}}
      callbacks:
        made:
          "{$request.body#/callback}?id={$request.query.id}":
            post:
              requestBody: {content: {application/json; charset=utf-8: {}}}
              responses: {"204": {description: Thanks}}
  /beds/{id}:
    parameters:
      - {name: id, in: path, required: true, style: label, schema: {type: string}}
    get: {operationId: getBed, security: [], responses: {"200": {description: One}}}
  /beds/{id}/{part}.{format}:
    get:
      parameters:
        - {name: id, in: path, required: true, schema: {type: string}}
        - {name: part, in: path, required: true, schema: {type: string}}
        - {name: format, in: path, required: true, schema: {type: string}}
      responses: {"200": {description: One}}
  /closed/{anything}: {}
components:
  schemas:
    Bed:
      type: object
      required: [id]
      properties:
        id: {type: string, readOnly: true, xml: {attribute: true, namespace: "urn:bed"}}
        ward: {type: string, nullable: true, default: null}
        $ref: {type: string, description: A property of this name}
        children: {type: array, items: {$ref: "#/components/schemas/Bed"}, uniqueItems: true}
        size: {type: number, format: double, multipleOf: 0.5, maximum: 1e3, default: 1.0}
        level: {type: integer, enum: [1, 2], default: 1}
      additionalProperties: false
      discriminator: {propertyName: id, mapping: {cot: "#/components/schemas/Cot", plain: Bed}}
      example: {id: b1, $ref: not a reference}
    Cot: {allOf: [{$ref: "#/components/schemas/Bed"}, {type: object, additionalProperties: {type: string}}]}
    Nested: {$ref: "#/components/schemas/Bed/properties/id"}
    Shared: {$ref: "#/x-shared/Thing"}
  parameters:
    Page: {name: page, in: query, allowEmptyValue: true, schema: {type: integer}}
  examples:
    OneBed: {summary: One, value: [{id: b1}]}
    Elsewhere: {externalValue: https://clinic.example/bed.json}
  requestBodies:
    NewBed:
      required: true
      content:
        multipart/form-data:
          schema: {type: object, properties: {photo: {type: string, format: binary}}}
          encoding: {photo: {contentType: "image/png, image/*", headers: {X-A: {schema: {}}}}}
        "*/*": {}
  responses:
    Problem: {description: Problem, content: {application/problem+json: {example: {a: 1}}}}
  securitySchemes:
    key: {type: apiKey, name: X-Key, in: header}
    basic: {type: http, scheme: bearer, bearerFormat: JWT}
    oauth:
      type: oauth2
      flows:
        authorizationCode:
          authorizationUrl: https://id.example/authorize
          tokenUrl: https://id.example/token
          scopes: {read: Read}
        clientCredentials: {tokenUrl: /token, scopes: {}}
    id: {type: openIdConnect, openIdConnectUrl: https://id.example/.well-known/openid-configuration}
x-shared:
  Thing: {type: string}
"##;

const CLINIC_31: &str = r##"{
  "openapi": "3.1.1",
  "info": {"title": "Clinic", "summary": "Beds", "version": "1",
           "license": {"name": "MIT", "identifier": "MIT"}},
  "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
  "webhooks": {
    "bedFreed": {"post": {"requestBody": {"content": {"application/json": {"schema": true}}}}},
    "bedTaken": {"$ref": "#/components/pathItems/Taken"}
  },
  "paths": {
    "/beds/{id}": {"$ref": "#/components/pathItems/Bed", "description": "One bed"}
  },
  "security": [{"tls": []}, {"key": ["nurse"]}],
  "components": {
    "pathItems": {
      "Taken": {"post": {}},
      "Bed": {
        "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}],
        "get": {"responses": {"200": {"$ref": "#/components/responses/Bed", "description": "A bed"}}}
      }
    },
    "responses": {
      "Bed": {"description": "", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Bed"}}}}
    },
    "schemas": {
      "Bed": {
        "$id": "https://clinic.example/bed",
        "type": ["object", "null"],
        "$defs": {
          "size": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 9},
          "any": true
        },
        "properties": {
          "size": {"$ref": "#/$defs/size", "description": "Siblings are fine"},
          "list": {"prefixItems": [true, {"const": null}], "items": false, "minContains": 0},
          "self": {"$ref": "bed-or-not"},
          "tree": {"$dynamicRef": "#node"}
        },
        "patternProperties": {"^x": {"contentMediaType": "text/plain", "contentEncoding": "base64"}},
        "unevaluatedProperties": false,
        "dependentRequired": {"size": ["list"]},
        "dependentSchemas": {"list": {"minProperties": 1.0}},
        "if": {"required": []}, "then": true, "else": {"not": {}},
        "examples": [{}], "example": {}, "ownKeyword": {"$ref": 5},
        "discriminator": {"propertyName": "size", "x-note": 1},
        "externalDocs": {"url": "/bed"}
      },
      "BedOrNot": {"$id": "bed-or-not", "anyOf": [{"$ref": "https://clinic.example/bed"}, false]},
      "Node": {"$anchor": "plain", "$dynamicAnchor": "node", "type": "array", "items": {"$ref": "#plain"}},
      "Old": {"$schema": "http://json-schema.org/draft-04/schema#", "exclusiveMinimum": true},
      "Into": {"$ref": "#/components/schemas/Node/items"}
    },
    "securitySchemes": {
      "tls": {"type": "mutualTLS"},
      "key": {"type": "apiKey", "in": "query", "name": "key"}
    }
  }
}"##;

#[test]
fn a_rich_3_0_document_has_no_errors_and_no_warnings() {
    let report = check(CLINIC_30);
    assert_eq!(report.issues, []);
    assert_eq!(report.format, Some(Format::OpenApi));
    assert_eq!(report.format_version.as_deref(), Some("3.0.4"));
}

#[test]
fn a_rich_3_1_document_has_no_errors() {
    let report = check(CLINIC_31);
    let rules: Vec<_> = report.issues.iter().map(|issue| issue.rule).collect();
    assert_eq!(rules, ["unknown-dialect"], "{:#?}", report.issues);
}

#[test]
fn the_smallest_documents_are_valid() {
    for text in [
        "openapi: 3.0.0\ninfo: {title: '', version: ''}\npaths: {}",
        "openapi: 3.1.0\ninfo: {title: '', version: ''}\nwebhooks: {}",
        "openapi: 3.1.0\ninfo: {title: '', version: ''}\ncomponents: {}",
        "\u{FEFF}{\"openapi\":\"3.0.1-rc1\",\"info\":{\"title\":\"\",\"version\":\"\"},\"paths\":{}}",
    ] {
        let report = check(text);
        assert_eq!(report.issues, [], "{text}");
    }
}
