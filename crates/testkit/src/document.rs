//! Descriptions of APIs to register.

use serde_json::{Value, json};

/// A valid OpenAPI 3.1 document with this title.
pub fn openapi_json(title: &str) -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": title, "version": "1.0.0",
            "description": "Finds and books appointments of a clinic.",
        },
        "servers": [{ "url": "https://clinic.example" }],
        "security": [{ "key": [] }],
        "paths": {
            "/appointments": {
                "get": {
                    "operationId": "listAppointments", "summary": "List appointments",
                    "responses": { "200": { "description": "The appointments." } },
                },
                "post": {
                    "operationId": "bookAppointment", "summary": "Book an appointment",
                    "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Appointment" } } } },
                    "responses": { "201": { "description": "It is booked." } },
                },
            },
            "/appointments/{id}": {
                "get": {
                    "operationId": "readAppointment", "summary": "Read an appointment",
                    "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }],
                    "responses": { "200": { "description": "The appointment." } },
                },
            },
        },
        "components": {
            "schemas": { "Appointment": { "type": "object", "properties": { "start": { "type": "string" } } } },
            "securitySchemes": { "key": { "type": "apiKey", "in": "header", "name": "X-API-Key" } },
        },
    })
}

/// A valid OpenAPI 3.0 document in YAML, with a comment and spacing that only the original has.
pub fn openapi_yaml(title: &str) -> String {
    format!(
        "# Kept as it is, comment and all.\nopenapi: 3.0.3\ninfo:   {{ title: {title},\n          version: '2.1' }}\n\
         paths:\n  /drugs/{{code}}:\n    get:\n      operationId: readDrug\n      summary: Read a drug\n      \
         parameters:\n        - {{ name: code, in: path, required: true, schema: {{ type: string }} }}\n      \
         responses:\n        '200': {{ description: The drug. }}\n"
    )
}
