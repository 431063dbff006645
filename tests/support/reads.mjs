// Answers every request with how Node read it: method, target, headers and body.
import http from "node:http";

const server = http.createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const read = {
      method: request.method,
      target: request.url,
      headers: request.rawHeaders,
      body: Buffer.concat(pieces).toString("base64"),
    };
    const body = Buffer.from(JSON.stringify(read));
    response.writeHead(200, { "x-read-by": "node", "content-length": body.length });
    response.end(body);
  });
});
// A client that has sent all it will is still answered.
server.httpAllowHalfOpen = true;
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
