// A server of foreign.proto. Prints its port, and then what became of calls that were not finished.
"use strict";

const grpc = require("@grpc/grpc-js");
const { Lab } = require("./lab.js");

const say = (said) => console.log(JSON.stringify(said));

/** What the caller sent comes back at both ends of the answer. */
function metadata(call, suffix) {
  const echoed = new grpc.Metadata();
  echoed.set(`x-${suffix}`, String(call.metadata.get("x-ask")));
  for (const value of call.metadata.get("x-ask-bin")) {
    echoed.set(`x-${suffix}-bin`, value);
  }
  return echoed;
}

function refusal() {
  const trailers = new grpc.Metadata();
  trailers.set("x-reason", "empty");
  trailers.set("x-detail-bin", Buffer.from([0, 255, 7]));
  const details = "50 % – Probe fehlt\nsecond line";
  return { code: grpc.status.FAILED_PRECONDITION, details, metadata: trailers };
}

function tellEnd(call, name) {
  call.on("cancelled", () => say({ cancelled: name, hasDeadline: Number.isFinite(call.getDeadline()) }));
}

const lab = {
  get(call, answer) {
    call.sendMetadata(metadata(call, "head"));
    switch (call.request.text) {
      case "refuse":
        return answer(refusal());
      case "wait":
        return tellEnd(call, "get");
      default:
        return answer(null, call.request, metadata(call, "tail"));
    }
  },
  list(call) {
    for (const text of ["one", "two", "three"]) {
      call.write({ text });
    }
    switch (call.request.text) {
      case "refuse":
        return call.emit("error", refusal());
      case "wait":
        return tellEnd(call, "list");
      default:
        return call.end(metadata(call, "tail"));
    }
  },
  join(call, answer) {
    const words = [];
    call.on("data", (word) => words.push(word.text));
    call.on("end", () => answer(null, { text: words.join(" ") }, metadata(call, "tail")));
  },
  talk(call) {
    call.on("data", (word) => call.write({ text: word.text.toUpperCase() }));
    call.on("end", () => call.end(metadata(call, "tail")));
  },
};

const server = new grpc.Server();
server.addService(Lab.service, lab);
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  say({ port });
});
