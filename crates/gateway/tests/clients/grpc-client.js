// Calls a server of foreign.proto: grpc-client.js HOST:PORT KEY [AUTHORITY.pem]. Prints what came of each call.
"use strict";

const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const { Lab } = require("./lab.js");

const [address, key, authority] = process.argv.slice(2);
const credentials = authority
  ? grpc.credentials.createSsl(fs.readFileSync(authority))
  : grpc.credentials.createInsecure();
const options = { "grpc.ssl_target_name_override": "localhost", "grpc.enable_retries": 0 };
const lab = new Lab(address, credentials, options);
const squeezing = new Lab(address, credentials, {
  ...options,
  "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip,
});

const deadline = () => ({ deadline: Date.now() + 15_000 });

function metadata(withKey = true) {
  const asked = new grpc.Metadata();
  if (withKey) asked.set("x-api-key", key);
  asked.set("x-ask", "plain");
  asked.set("x-ask-bin", Buffer.from([1, 0, 254]));
  return asked;
}

/** The fields of metadata that the server made. */
function fields(given) {
  const all = {};
  for (const name of Object.keys(given.getMap()).filter((name) => name.startsWith("x-")).sort()) {
    if (name === "x-request-id") continue;
    all[name] = given.get(name).map((value) => (typeof value === "string" ? value : [...value]));
  }
  return all;
}

/** Follows a call to its end; `each` sees every word. */
function follow(call, each = () => {}) {
  const seen = { words: [] };
  return new Promise((resolve) => {
    call.on("metadata", (given) => (seen.head = fields(given)));
    call.on("data", (word) => {
      seen.words.push(word.text);
      each(word, seen.words.length);
    });
    // The status says it all.
    call.on("error", () => {});
    call.on("status", ({ code, details, metadata: given }) => {
      resolve({ ...seen, code, details, tail: fields(given) });
    });
  });
}

/** Makes a call that is answered with one word. */
function ask(start) {
  return new Promise((resolve) => {
    const seen = {};
    const call = start((error, word) => (seen.word = word ? word.text : null));
    call.on("metadata", (given) => (seen.head = fields(given)));
    call.on("status", ({ code, details, metadata: given }) => {
      // The callback comes behind the status.
      setImmediate(() => resolve({ ...seen, code, details, tail: fields(given) }));
    });
  });
}

const get = (text, given = metadata(), limits = deadline()) =>
  ask((done) => lab.get({ text }, given, limits, done));

async function large(client) {
  const data = Buffer.alloc(3 << 20, "0123456789abcdef-");
  return new Promise((resolve) => {
    client.get({ data }, metadata(), deadline(), (error, word) => {
      resolve(error ? String(error) : { length: word.data.length, isSame: data.equals(word.data) });
    });
  });
}

function join() {
  return ask((done) => {
    const call = lab.join(metadata(), deadline(), done);
    for (const text of ["three", "small", "words"]) call.write({ text });
    call.end();
    return call;
  });
}

/** Says the next word only when the one before has come back. */
function talk() {
  const words = ["first", "second", "third"];
  const call = lab.talk(metadata(), deadline());
  const talked = follow(call, (_word, count) => {
    if (count < words.length) call.write({ text: words[count] });
    else call.end();
  });
  call.write({ text: words[0] });
  return talked;
}

async function cancelled() {
  const call = lab.list({ text: "wait" }, metadata(), deadline());
  return follow(call, (_word, count) => {
    if (count === 3) call.cancel();
  });
}

async function crowd() {
  const answers = await Promise.all(Array.from({ length: 100 }, (_, number) => get(`${number}`)));
  return answers.filter(({ word, code }, number) => code === 0 && word === `${number}`).length;
}

async function main() {
  const results = {
    unary: await get("hello"),
    list: await follow(lab.list({ text: "all" }, metadata(), deadline())),
    join: await join(),
    talk: await talk(),
    refused: await get("refuse"),
    refusedLate: await follow(lab.list({ text: "refuse" }, metadata(), deadline())),
    late: await get("wait", metadata(), { deadline: Date.now() + 1_500 }),
    cancelled: await cancelled(),
    large: await large(lab),
    squeezed: await large(squeezing),
    crowd: await crowd(),
    stranger: await get("hello", metadata(false)),
  };
  console.log(JSON.stringify(results));
  process.exit(0);
}

main();
