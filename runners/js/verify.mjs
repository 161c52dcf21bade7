// The probe rows of a policy file on this machine: how far its answers lie from the learner's.

import { size } from "./noise.mjs";

/** Return what playing the probe rows shows.
 *
 * @param {Policy} policy The policy; its state is begun anew.
 * @returns {Promise<object>} rows; difference: the largest one of real actions, in their units;
 *   wrong: how many choices differ. Rows whose best score leads by no more than the contract's
 *   margin are not compared, and counted as close.
 */
export async function verify(policy) {
  const { contract } = policy, { probe } = contract, rows = probe.action.length;
  const found = { rows, difference: 0, wrong: 0, close: 0 };
  let state = {};
  for (let row = 0; row < rows; ++row) {
    if (!probe.first || probe.first[row]) {
      policy.reset();
      state = policy.state;
    }
    const feeds = policy.feeds(observed(contract, row), probe.task?.[row]);
    if (probe.noise) feeds.noise = Float32Array.from([probe.noise[row]].flat(Infinity));
    for (const [name, values] of Object.entries(state)) feeds[`state.${name}`] = values;
    const answer = await policy.ask(feeds);
    state = Object.fromEntries(policy.parts.map(({ name }) => [name, answer[`next_state.${name}`]]));
    if (probe.scores && lead(probe.scores[row]) <= contract.parity.margin) {
      found.close += 1;
      continue;
    }
    const wanted = [probe.action[row]].flat(Infinity);
    for (let place = 0; place < wanted.length; ++place) {
      const apart = Math.abs(Number(answer.action[place]) - wanted[place]);
      if (contract.action.kind === "discrete") found.wrong += Number(apart !== 0);
      // Written so that NaN counts.
      else if (!(apart <= found.difference)) found.difference = apart;
    }
  }
  policy.reset();
  return found;
}

/** Return a probe row as a caller gives it: the rows are without their offset. */
function observed(contract, row) {
  const { entries } = contract.observation, tables = contract.probe.observation;
  const read = (table, stated) => {
    if (typeof table === "string") {
      const bytes = Uint8Array.from(atob(table), (letter) => letter.charCodeAt(0));
      const count = size(stated.shape);
      return bytes.subarray(row * count, (row + 1) * count);
    }
    const values = [table[row]].flat(Infinity), offset = stated.offset?.flat(Infinity);
    return offset ? values.map((each, place) => each + offset[place]) : values;
  };
  if (!entries) return read(tables, contract.observation);
  return Object.fromEntries(Object.entries(entries).map(([label, stated]) =>
    [label, read(tables[label], stated)]));
}

function lead(scores) {
  const ordered = scores.slice().sort((one, two) => two - one);
  return ordered.length > 1 ? ordered[0] - ordered[1] : Infinity;
}
