// Talks to web-socket-server.js: web-socket-client.js BASE KEY [AUTHORITY.pem]. Prints what came of each connection.
"use strict";

const fs = require("node:fs");
const { once } = require("node:events");
const WebSocket = require("ws");

const [base, key, authority] = process.argv.slice(2);
const headers = { "x-api-key": key };
const options = { headers, handshakeTimeout: 10_000, ca: authority && fs.readFileSync(authority) };

const connect = (name, more = {}) => {
  const socket = new WebSocket(`${base}/lab/${name}`, ["lab.v1", "lab.v2"], { ...options, ...more });
  // How it was closed says it all.
  socket.on("error", () => {});
  return socket;
};

async function closing(socket) {
  const [code, reason] = await once(socket, "close");
  return { code, reason: reason.toString() };
}

async function echo(more) {
  const socket = connect("echo", more);
  await once(socket, "open");
  const returned = async (message) => {
    socket.send(message);
    const [data, isBinary] = await once(socket, "message");
    return { length: data.length, isBinary, isSame: Buffer.from(message).equals(data) };
  };
  const seen = {
    protocol: socket.protocol,
    extensions: socket.extensions,
    text: await returned("Grüße, λ, 語"),
    empty: await returned(""),
    binary: await returned(Buffer.from([0, 255, 13, 10, 0])),
    large: await returned(Buffer.from(Array.from({ length: 1 << 20 }, (_, at) => (at * at) >> 3))),
  };
  // Parts of one message.
  const whole = once(socket, "message");
  socket.send("in ", { fin: false });
  socket.send("parts", { fin: true });
  seen.parts = String((await whole)[0]);
  const pong = once(socket, "pong");
  socket.ping("still there?");
  seen.pong = String((await pong)[0]);
  const closed = closing(socket);
  socket.close(4000, "done – fertig");
  return { ...seen, closed: await closed };
}

async function pinged() {
  const socket = connect("ping");
  const ping = once(socket, "ping");
  const message = once(socket, "message");
  const seen = { ping: String((await ping)[0]), answer: String((await message)[0]) };
  const closed = closing(socket);
  socket.close(1001);
  return { ...seen, closed: await closed };
}

async function left() {
  const socket = connect("leave");
  const [message, closed] = await Promise.all([once(socket, "message"), closing(socket)]);
  return { message: String(message[0]), closed };
}

async function dropped() {
  const socket = connect("drop");
  await once(socket, "open");
  const closed = closing(socket);
  socket.send("drop me");
  return closed;
}

async function vanished() {
  const socket = connect("vanish");
  await once(socket, "open");
  socket.terminate();
}

async function refused() {
  const socket = connect("echo", { headers: {} });
  const [, response] = await once(socket, "unexpected-response");
  response.destroy();
  return response.statusCode;
}

async function main() {
  const results = {
    echo: await echo(),
    unsqueezed: await echo({ perMessageDeflate: false }),
    pinged: await pinged(),
    left: await left(),
    dropped: await dropped(),
    refused: await refused(),
  };
  await vanished();
  console.log(JSON.stringify(results));
  process.exit(0);
}

main();
