// A policy file in Node or a browser: onnxruntime runs the graph, and this does what the contract
// says around it: checks, task, state, noise, chunks.
//
//   import * as ort from "onnxruntime-node";           // or "onnxruntime-web"
//   const policy = await Policy.load(ort, bytes, { seed: 3 });
//   policy.reset();                                     // where an episode begins
//   const action = await policy.act(observation, task);

import { ContractError, readContract } from "./contract.mjs";
import { drawn, size } from "./noise.mjs";

const ARRAYS = { float32: Float32Array, int64: BigInt64Array, uint8: Uint8Array };

export class Policy {
  /** Open a policy file.
   *
   * @param {object} ort The module onnxruntime-node or onnxruntime-web.
   * @param {Uint8Array} bytes The file.
   * @param {{seed?: number|bigint, session?: object}} options Seed of the noise; options of the
   *   session (one thread is fastest for small networks, and the default).
   * @returns {Promise<Policy>} The policy. It serves one loop.
   */
  static async load(ort, bytes, { seed = 0, session = {} } = {}) {
    const contract = await readContract(bytes);
    const one = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 };
    return new Policy(ort, await ort.InferenceSession.create(bytes, { ...one, ...session }),
      contract, seed);
  }

  constructor(ort, session, contract, seed) {
    Object.assign(this, { ort, session, contract, seed });
    const entries = contract.observation.entries;
    this.given = entries
      ? Object.entries(entries).map(([label, stated]) => [`observation.${label}`, label, stated])
      : [["observation", null, contract.observation]];
    this.parts = contract.state ?? [];
    this.nextEpisode = 0;
    this.reset();
  }

  /** Begin an episode, of a number if one is given. */
  reset(episode) {
    if (this.step > 0) this.nextEpisode += 1;
    if (episode !== undefined) this.nextEpisode = episode;
    this.step = 0;
    this.state = Object.fromEntries(this.parts.map((part) => {
      const values = part.initial == null
        ? new ARRAYS[part.dtype](size(part.shape))
        : ARRAYS[part.dtype].from([part.initial].flat(Infinity), number(part.dtype));
      return [part.name, values];
    }));
    const { chunk, action } = this.contract, width = size(action.shape);
    this.queue = null;
    if (!chunk) return;
    this.taken = chunk.execute;
    this.sum = new Float64Array(chunk.length * width);
    this.count = new Array(chunk.length).fill(0);
  }

  /** Return the action for an observation.
   *
   * @param {ArrayLike|object} observation Numbers in the units of the contract; by entry where
   *   there are several.
   * @param {ArrayLike} [task] Where the contract has one; its default if left out.
   * @returns {Promise<Float32Array|number>} The action; a number for choices.
   * @throws {RangeError} Something is missing, of another size, or not finite.
   */
  async act(observation, task) {
    const feeds = this.feeds(observation, task), { chunk, action } = this.contract;
    const asked = !chunk || chunk.ensemble != null || this.taken >= chunk.execute;
    let answer = null;
    if (asked) {
      if (this.contract.noise) {
        feeds.noise = drawn(this.contract.noise, this.seed, this.nextEpisode, this.step);
      }
      for (const [name, values] of Object.entries(this.state)) feeds[`state.${name}`] = values;
      const found = await this.ask(feeds);
      for (const part of this.parts) this.state[part.name] = found[`next_state.${part.name}`];
      answer = found.action;
    }
    this.step += 1;
    if (chunk) answer = chunk.ensemble == null ? this.next(answer) : this.averaged(answer);
    return action.kind === "discrete" ? Number(answer[0]) : answer;
  }

  /** Say what was executed for the last answer, where that was something else. */
  executed(sent) {
    const { chunk, action } = this.contract;
    if (!this.step || (chunk && chunk.ensemble == null && this.taken !== 1)) return;
    const values = Array.from([sent].flat(), (each) => each - (action.start ?? 0));
    for (const part of this.parts.filter((each) => each.actions)) {
      const kept = this.state[part.name].slice();
      kept.set(values.map(number(part.dtype)), kept.length - values.length);
      this.state[part.name] = kept;
    }
  }

  /** Return the outputs of the graph for one row, by name. */
  async ask(feeds) {
    const tensors = {};
    for (const [name, values] of Object.entries(feeds)) {
      const { dtype, shape } = this.stated(name);
      tensors[name] = new this.ort.Tensor(dtype, values, [1, ...shape]);
    }
    const found = await this.session.run(tensors), outputs = {};
    for (const [name, tensor] of Object.entries(found)) {
      if (tensor.type === "float32" && !finite(tensor.data)) {
        throw new RangeError(`the policy's ${name} is not finite: the network overflowed`);
      }
      outputs[name] = tensor.data.slice();
    }
    return outputs;
  }

  /** Return type and shape of a row of an input of the graph. */
  stated(name) {
    if (name === "task") return { dtype: "float32", shape: this.contract.task.shape };
    if (name === "noise") return { dtype: "float32", shape: this.contract.noise.shape };
    const part = this.parts.find((each) => `state.${each.name}` === name);
    return part ?? this.given.find(([input]) => input === name)[2];
  }

  /** Return what a caller gives, checked, as the graph takes it. */
  feeds(observation, task) {
    const feeds = {};
    for (const [name, label, stated] of this.given) {
      const value = label === null ? observation : observation?.[label];
      feeds[name] = taken(name, stated, value);
    }
    const entry = this.contract.task;
    if (entry) feeds.task = taken("task", entry, task ?? entry.default);
    else if (task !== undefined) throw new RangeError("this policy takes no task");
    return feeds;
  }

  /** Return the next action of the queue, which an answer begins anew. */
  next(answer) {
    if (answer) [this.queue, this.taken] = [answer, 0];
    const width = size(this.contract.action.shape), at = width * this.taken++;
    return this.queue.slice(at, at + width);
  }

  /** Return the average of all answers for this step (Zhao et al. 2023, algorithm 2). */
  averaged(answer) {
    const { chunk: { length, ensemble }, action: { shape } } = this.contract, width = size(shape);
    for (let k = 0; k < length; ++k) {
      const weight = Math.exp(-ensemble * this.count[k]++);
      for (let j = 0; j < width; ++j) this.sum[k * width + j] += weight * answer[k * width + j];
    }
    let total = 0;
    for (let i = 0; i < this.count[0]; ++i) total += Math.exp(-ensemble * i);
    const found = Float32Array.from(this.sum.subarray(0, width), (each) => each / total);
    this.sum.copyWithin(0, width);
    this.sum.fill(0, width * (length - 1));
    this.count = [...this.count.slice(1), 0];
    return found;
  }
}

/** Return an input as a typed array, checked against the contract. */
function taken(name, stated, value) {
  const count = size(stated.shape), offset = stated.offset?.flat(Infinity);
  if (value == null) throw new RangeError(`${name} is missing, and has no default`);
  const flat = ArrayBuffer.isView(value) ? value : [value].flat(Infinity);
  if (flat.length !== count) {
    throw new RangeError(`${name} has ${flat.length} numbers, and this policy takes ${count}`);
  }
  if (!flat.every((each) => fits(stated.dtype, each))) {
    throw new RangeError(`${name} holds what is no number, or none of ${stated.dtype}`);
  }
  const from = (each, place) => number(stated.dtype)(offset ? each - offset[place] : each);
  const found = ARRAYS[stated.dtype].from(flat, from);
  if (stated.kind === "discrete" && found.some((each) => each < 0n || each >= stated.n)) {
    throw new RangeError(`${name} is ${flat}, and is one of ${stated.n} choices from 0`);
  }
  if (stated.dtype === "float32" && !finite(found)) {
    throw new RangeError(`${name} is not finite: repair the sensor or stop`);
  }
  return found;
}

/** Return whether a value is a number that a type holds; null and text would become 0. */
function fits(dtype, each) {
  if (typeof each === "bigint") return dtype === "int64";
  if (typeof each !== "number") return false;
  return dtype === "float32" || (Number.isInteger(each) && (dtype === "int64" || each >>> 8 === 0));
}

function number(dtype) {
  return dtype === "int64" ? BigInt : Number;
}

function finite(values) {
  for (let place = 0; place < values.length; ++place) {
    if (!Number.isFinite(values[place])) return false;
  }
  return true;
}

export { ContractError };
