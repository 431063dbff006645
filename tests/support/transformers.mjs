// Reads requests from stdin, one JSON object a line, and answers each with one line: what superjson and devalue make of
// a wire value, or what they write for a table of JavaScript values.
import * as devalue from "devalue";
import { createInterface } from "node:readline";
import superjson, { SuperJSON } from "superjson";

const deduping = new SuperJSON({ dedupe: true });

const transformers = {
  superjson: {
    read: (wire) => superjson.deserialize(wire),
    write: (value) => superjson.serialize(value),
  },
  devalue: { read: devalue.parse, write: devalue.stringify },
};

const shared = { x: [1, { deep: undefined }] };
const cyclic = { name: "c", items: [] };
cyclic.items.push({ parent: cyclic });
const nullPrototype = Object.assign(Object.create(null), { a: 1, d: new Date(0) });
// prettier-ignore
const sparse = [1, , 3];
const far = [];
far[50] = "x";

const cases = {
  undefined: undefined,
  null: null,
  text: "é😀\u0000",
  numbers: [0, -0, 1.5, NaN, Infinity, -Infinity, 2 ** 60, 1e300, 5e-324],
  bigint: { small: 1n, large: 2n ** 80n, negative: -5n },
  date: { when: new Date(1704164645678), epoch: new Date(0), list: [new Date(1)] },
  rootDate: new Date(0),
  farDate: { when: new Date(8640000000000000) },
  holes: { list: [undefined, null, 1], u: undefined },
  set: new Set([1, "a", undefined, new Date(0)]),
  map: new Map([["k", new Date(0)], [{ a: 1n }, new Set([1])]]),
  nested: { "dot.key": { "back\\slash": new Date(0), "both\\.": 1n, "": undefined }, 0: [[new Map([[1, undefined]])]] },
  regexp: { plain: /ab+c/, flags: /a\/b/gi },
  url: new URL("https://example.org/a?b=c"),
  bytes: new Uint8Array([0, 127, 255]),
  shared: { one: shared, two: shared },
  cyclic,
};
const only = {
  superjson: { error: Object.assign(new TypeError("m"), { stack: "" }) },
  devalue: { nullPrototype, sparse, far, boxed: [Object(5), Object("x")], params: new URLSearchParams("a=b&c=d") },
};

function plain(value, above = []) {
  if (value === undefined || value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") return Number.isFinite(value) ? value : null;
  if (typeof value === "bigint") return String(value);
  if (value instanceof Date) return value.toISOString();
  if (value instanceof RegExp || value instanceof URL || value instanceof URLSearchParams) return String(value);
  if (value instanceof Number || value instanceof String) return value.valueOf();
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (value instanceof Error) return { name: value.name, message: value.message };
  if (above.includes(value)) return null;
  const inner = (each) => plain(each, [...above, value]);
  if (value instanceof Map) return [...value].map((pair) => pair.map((each) => inner(each) ?? null));
  if (Array.isArray(value) || value instanceof Set) return [...value].map((each) => inner(each) ?? null);
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, inner(each)]));
}

function answer({ transformer, wire }) {
  const { read, write } = transformers[transformer];
  if (wire !== undefined) {
    const value = read(wire);
    return { plain: plain(value), wire: write(value) };
  }
  const written = Object.entries({ ...cases, ...only[transformer] }).map(([name, value]) => ({
    name,
    wire: write(value),
    plain: plain(value),
  }));
  if (transformer === "superjson") {
    written.push({ name: "dedupe", wire: deduping.serialize({ one: shared, two: [shared] }), plain: plain({ one: shared, two: [shared] }) });
  }
  return written;
}

for await (const line of createInterface({ input: process.stdin })) {
  let said;
  try {
    said = answer(JSON.parse(line));
  } catch (error) {
    said = { error: String(error) };
  }
  process.stdout.write(JSON.stringify(said) + "\n");
}
