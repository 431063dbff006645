// What both versions of the server answer.

export const RICH = {
  date: new Date('2024-01-02T03:04:05.678Z'),
  big: 12345678901234567890n,
  nothing: undefined,
  set: new Set(['a', 'b']),
  map: new Map([
    ['when', new Date(0)],
    ['n', 1],
  ]),
  not: Number.NaN,
  nested: { list: [new Date(1), undefined, 3n], 'dotted.key': new Date(2) },
};

export const TEXT = 'é 😀 "quoted" \u2028 line';

export const PLAIN = { text: TEXT, list: [1, 2.5, -0.001, null, true], empty: {}, big: 9007199254740993 };

// Calls wait here for each other: `gate.passed(name)` is over once `gate.open(name)` was called.
const gates = new Map();

function gateOf(name) {
  if (!gates.has(name)) {
    let open;
    const passed = new Promise((resolve) => (open = resolve));
    gates.set(name, { passed, open });
  }
  return gates.get(name);
}

export const gate = {
  passed: (name) => gateOf(name).passed,
  open: (name) => gateOf(name).open(),
};

// Each resolver that ran, by name: a test can tell what was executed, and how often.
const runs = [];
export const ran = {
  note: (name) => runs.push(name),
  all: () => [...runs],
  times: (name) => runs.filter((one) => one === name).length,
};
