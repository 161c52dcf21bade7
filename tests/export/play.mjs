// Plays policy files for test_js.py: cases on stdin, what was answered on stdout.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { runners, ort: place, cases } = JSON.parse(readFileSync(0, "utf-8"));
const load = (name) => import(pathToFileURL(name).href);
const { Policy } = await load(`${runners}/policy.mjs`);
const { verify } = await load(`${runners}/verify.mjs`);
const { drawn } = await load(`${runners}/noise.mjs`);
const { readContract } = await load(`${runners}/contract.mjs`);

// Stands in for onnxruntime where it is not installed: the graphs of policy_files.py.
const GRAPHS = {
  leaky_sum: (given) => {
    const kept = given["state.h"].map((each, place) => each / 2 + given.observation[place]);
    return { action: kept, "next_state.h": kept };
  },
  noisy: (given) => ({ action: given.observation.map((each, place) => each + given.noise[place]) }),
  chunked: (given, length) => ({
    action: Float32Array.from({ length: 2 * length }, (_, place) =>
      given.observation[place % 2] + 100 * Math.floor(place / 2)),
  }),
  past: (given) => {
    const past = given["state.past"];
    const answer = given.observation.map((each, place) => each + past[2 + place] / 2);
    return { action: answer, "next_state.past": Float32Array.of(past[2], past[3], ...answer) };
  },
};

function standIn(kind, length) {
  class Tensor {
    constructor(type, data, dims) {
      Object.assign(this, { type, data, dims });
    }
  }
  const run = async (feeds) => {
    const given = Object.fromEntries(Object.entries(feeds).map(([name, each]) => [name, each.data]));
    const found = GRAPHS[kind](given, length);
    return Object.fromEntries(Object.entries(found).map(([name, data]) =>
      [name, new Tensor("float32", data)]));
  };
  return { Tensor, InferenceSession: { create: async () => ({ run }) } };
}

async function play(each) {
  if (each.noise) return Array.from(drawn(each.noise, BigInt(each.seed), each.episode, each.step));
  const bytes = readFileSync(each.path);
  if (each.contract) return readContract(bytes);
  const module = each.graph ? null : await load(place);
  const ort = each.graph ? standIn(each.graph, each.length) : module.default ?? module;
  const policy = await Policy.load(ort, bytes, { seed: BigInt(each.seed ?? 0) });
  if (each.verify) return verify(policy);
  const answers = [];
  for (const [row, given] of each.rows.entries()) {
    if (each.resets?.includes(row)) policy.reset();
    const answer = await policy.act(given, each.task);
    answers.push(Array.from([answer].flat(), (it) => (ArrayBuffer.isView(it) ? [...it] : it)).flat());
    if (each.sent) policy.executed(each.sent);
  }
  return answers;
}

const results = [];
for (const each of cases) {
  try {
    results.push({ value: await play(each) });
  } catch (error) {
    results.push({ error: `${error.constructor.name}: ${error.message}` });
  }
}
process.stdout.write(JSON.stringify(results));
