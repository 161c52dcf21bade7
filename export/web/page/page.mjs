// The page of a policy file: it proves itself, says what it is, and answers what one sets.

import { answers } from "./answer.mjs";
import { inputs } from "./inputs.mjs";
import { Policy } from "./reader/policy.mjs";
import { verify } from "./reader/verify.mjs";
import { bytesOf, runtime } from "./runtime.mjs";
import { tables } from "./tables.mjs";

// Blocks of calls that are timed; milliseconds of a block at least, and of all at most.
const BLOCKS = 50, SHORTEST = 2, LONGEST = 500;
const at = (id) => document.getElementById(id);

/** Return what proves the file here, in words. */
function verdict(contract, found) {
  const { budget, tolerance } = contract.parity;
  const tied = found.close ? ` ${found.close} rows tie and were not compared.` : "";
  const said = contract.action.kind === "discrete"
    ? `${found.wrong} of ${found.rows} choices differ.${tied}`
    : `The largest difference in ${found.rows} rows is ${found.share.toExponential(1)} of the ` +
      `action's range; ${(budget ?? tolerance).toExponential(0)} is allowed.${tied}`;
  const beyond = found.outside ? ` ${found.outside} numbers lie outside their bounds.` : "";
  return `${found.passed ? "Passed" : "FAILED"}. ${said}${beyond}`;
}

/** Return microseconds of one action: the median over blocks of calls, as clocks are coarse. */
async function speed(policy, observation, task) {
  const times = [], begun = performance.now();
  let calls = 1; // of a block; they double until it is long enough, which warms up, too
  while (times.length < BLOCKS) {
    const start = performance.now();
    for (let call = 0; call < calls; ++call) await policy.act(observation, task);
    const long = performance.now() - start;
    if (long < SHORTEST && times.length === 0) calls *= 2;
    else times.push(long / calls);
    if (times.length && performance.now() - begun > LONGEST) break;
  }
  times.sort((one, two) => one - two);
  return { median: 1000 * times[times.length >> 1], calls: calls * times.length };
}

/** Serve a page: one thing after another, as a policy serves one loop. */
class Page {
  constructor(policy, bytes) {
    Object.assign(this, { policy, turn: Promise.resolve(), waiting: false });
    const { contract } = policy;
    this.given = inputs(contract, at("inputs"), () => this.soon());
    this.show = answers(contract, at("answer"));
    tables(contract, at("contract"));
    at("json").textContent = JSON.stringify({ ...contract, probe: undefined }, null, 1);
    document.title = at("title").textContent = `Policy: ${contract.learner.name}`;
    at("lead").textContent = `policy.onnx, ${bytes.length.toLocaleString("en")} bytes, runs in ` +
      "this page; nothing is sent anywhere. Its graph and weights are those that were exported.";
    at("row").max = contract.probe.action.length - 1;
    this.steps = policy.parts.length > 0 || Boolean(contract.chunk) || Boolean(contract.noise);
    if (this.steps) this.remembers(contract);
    at("again").addEventListener("click", () => this.prove());
    at("row").addEventListener("change", () => this.row());
  }

  remembers({ chunk, noise }) {
    const why = [];
    if (this.policy.parts.length) why.push("it remembers");
    if (chunk) why.push("it plans several actions at once");
    if (noise) why.push("it draws noise");
    at("memory").textContent = `This policy's action depends on what came before: ` +
      `${why.join(", ")}. Every change below is one more step of an episode.`;
    for (const id of ["memory", "reset", "step"]) at(id).hidden = false;
    at("step").addEventListener("click", () => this.soon());
    at("reset").addEventListener("click", () => {
      this.after(() => this.policy.reset());
      this.soon();
    });
  }

  /** Do something once what is being done has ended. */
  after(work) {
    this.turn = this.turn.then(work).catch((error) => (at("refused").textContent = error.message));
    return this.turn;
  }

  /** Ask the policy about what is set, once for many changes. */
  soon() {
    if (this.waiting) return;
    this.waiting = true;
    this.after(async () => {
      this.waiting = false;
      this.show(await this.policy.act(this.given.observation(), this.given.task()));
      at("refused").textContent = "";
      if (this.steps) at("count").textContent = `step ${this.policy.step}`;
    });
  }

  row() {
    const { max } = at("row"), row = Math.min(Math.max(Math.round(at("row").value), 0), max);
    at("row").value = row;
    this.given.show(row);
    this.soon();
  }

  /** Play the probe and time calls; what was remembered is forgotten. */
  async prove() {
    const { policy, given } = this;
    at("again").disabled = true;
    await this.after(async () => {
      const found = await verify(policy);
      at("proof").textContent = verdict(policy.contract, found);
      at("proof").className = `verdict ${found.passed ? "passed" : "failed"}`;
      const { median, calls } = await speed(policy, given.observation(), given.task());
      const shown = median < 10000 ? `${Math.round(median)} µs` : `${Math.round(median / 1000)} ms`;
      at("speed").textContent = `An action takes ${shown} in this browser, on one thread ` +
        `(median of ${calls.toLocaleString("en")} calls).`;
      policy.reset();
    });
    at("again").disabled = false;
    this.soon();
  }
}

/** Say why there is no policy on the page. */
function fail(error, advice) {
  at("fault").className = "failed";
  at("fault").textContent = `${advice} (${error.message})`;
}

async function main() {
  let ort;
  try {
    ort = await runtime();
  } catch (error) {
    fail(error, "onnxruntime-web is missing in the folder ort/ beside this page. Install it with " +
      "'npm install onnxruntime-web', and export again with " +
      "--ort node_modules/onnxruntime-web/dist");
    return;
  }
  try {
    const bytes = await bytesOf("policy.onnx");
    const page = new Page(await Policy.load(ort, bytes), bytes);
    at("fault").hidden = true;
    at("loaded").hidden = false;
    await page.prove();
  } catch (error) {
    fail(error, "policy.onnx cannot be run here.");
  }
}

await main();
