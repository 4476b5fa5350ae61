// A WebSocket server that does what the path asks for. Prints its port, and then how each connection was closed.
"use strict";

const { WebSocketServer } = require("ws");

const say = (said) => console.log(JSON.stringify(said));

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  perMessageDeflate: true,
  handleProtocols: (offered) => (offered.has("lab.v2") ? "lab.v2" : false),
});
server.on("listening", () => say({ port: server.address().port }));
server.on("connection", (socket, request) => {
  const name = request.url.slice("/lab/".length);
  socket.on("close", (code, reason) => say({ name, code, reason: reason.toString() }));
  switch (name) {
    case "ping":
      socket.on("pong", (payload) => socket.send(`pong ${payload}`));
      socket.ping("are you there?");
      break;
    case "leave":
      socket.send("going");
      socket.close(4001, "nothing more to say");
      break;
    case "drop":
      socket.on("message", () => socket.terminate());
      break;
    default:
      socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  }
});
