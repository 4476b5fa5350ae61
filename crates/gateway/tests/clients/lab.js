// What both sides know of foreign.proto.
"use strict";

const path = require("node:path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const definition = loader.loadSync(path.join(__dirname, "foreign.proto"));
exports.Lab = grpc.loadPackageDefinition(definition).foreign.Lab;
