//! What a summary says.

use super::check;

#[test]
fn a_summary_follows_references_and_inherits() {
    let report = check(
        r##"
openapi: 3.0.4
info: {title: Clinic, version: "2", description: Beds}
servers: [{url: /v2, description: Main}]
security: [{key: []}]
tags: [{name: beds}]
paths:
  /beds/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {}}
      - {name: page, in: query, schema: {}}
    put:
      operationId: putBed
      summary: Put a bed
      tags: [beds, wards]
      deprecated: true
      parameters:
        - {name: page, in: query, required: true, schema: {}}
        - $ref: "#/components/parameters/Trace"
      requestBody: {$ref: "#/components/requestBodies/Bed"}
      responses:
        200: {description: d, content: {application/json: {}, text/plain: {}}}
        default: {$ref: "#/components/responses/Problem"}
    delete:
      security: []
      responses: {204: {description: d}}
components:
  schemas: {Bed: {}, Ward: {}}
  parameters: {Trace: {name: trace, in: header, schema: {}}}
  requestBodies: {Bed: {required: true, content: {application/json: {}}}}
  responses:
    Problem: {description: p, content: {application/problem+json: {}, application/json: {}}}
  securitySchemes: {key: {type: apiKey, in: header, name: k}}
"##,
    );
    let summary = report.summary.unwrap();
    assert_eq!(
        serde_json::to_value(&summary).unwrap(),
        serde_json::json!({
            "title": "Clinic",
            "version": "2",
            "description": "Beds",
            "openapi": "3.0.4",
            "servers": [{"url": "/v2", "description": "Main"}],
            "operations": [
                {
                    "method": "PUT", "path": "/beds/{id}", "operationId": "putBed",
                    "summary": "Put a bed", "tags": ["beds", "wards"], "deprecated": true,
                    "parameters": [
                        {"name": "page", "in": "query", "required": true},
                        {"name": "trace", "in": "header", "required": false},
                        {"name": "id", "in": "path", "required": true},
                    ],
                    "requestMediaTypes": ["application/json"],
                    "requestBodyRequired": true,
                    "responseMediaTypes":
                        ["application/json", "text/plain", "application/problem+json"],
                    "security": [{"key": []}],
                },
                {
                    "method": "DELETE", "path": "/beds/{id}", "operationId": null,
                    "summary": null, "tags": [], "deprecated": false,
                    "parameters": [
                        {"name": "id", "in": "path", "required": true},
                        {"name": "page", "in": "query", "required": false},
                    ],
                    "requestMediaTypes": [], "requestBodyRequired": false,
                    "responseMediaTypes": [], "security": [],
                },
            ],
            "schemas": ["Bed", "Ward"],
            "tags": ["beds", "wards"],
            "securitySchemes": [{"name": "key", "type": "apiKey"}],
        })
    );
}
