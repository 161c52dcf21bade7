// The probe rows of a policy file on this machine: how far its answers lie from the learner's.

import { size } from "./noise.mjs";

// A file cannot choose freely by what it is judged: the most that it may state.
const MOST_TOLERANCE = 1e-3, MOST_BUDGET = 0.1;
// Bounds wider than this many times the spread of the answers do not measure a difference.
const WIDEST = 1000;

/** Return what playing the probe rows shows.
 *
 * @param {Policy} policy The policy; its state is begun anew.
 * @returns {Promise<object>} rows; difference: the largest one of real actions, in their units;
 *   share: as a share of the action's range (with a state, divided by a tenth of the steps since
 *   it began, if that is more than 1); outside: how many real actions lie outside the bounds;
 *   wrong: how many choices differ; passed: whether all that is within the tolerance or budget of
 *   the contract. Rows whose best score leads by no more than the contract's margin are not
 *   compared, and counted as close.
 */
export async function verify(policy) {
  const { contract } = policy, { probe } = contract, rows = probe.action.length;
  const found = { rows, difference: 0, share: 0, outside: 0, wrong: 0, close: 0 };
  const ranges = contract.action.kind === "discrete" ? null : actionRanges(contract);
  let state = {}, since = 0;
  for (let row = 0; row < rows; ++row, ++since) {
    if (!probe.first || probe.first[row]) {
      policy.reset();
      state = policy.state;
      since = 0;
    }
    const feeds = policy.feeds(probeObservation(contract, row), probe.task?.[row]);
    if (probe.noise) feeds.noise = Float32Array.from([probe.noise[row]].flat(Infinity));
    for (const [name, values] of Object.entries(state)) feeds[`state.${name}`] = values;
    const answer = await policy.ask(feeds);
    state = Object.fromEntries(policy.parts.map(({ name }) => [name, answer[`next_state.${name}`]]));
    const tied = Boolean(probe.scores) && lead(probe.scores[row]) <= contract.parity.margin;
    found.close += Number(tied);
    const wanted = [probe.action[row]].flat(Infinity);
    const allowed = policy.parts.length ? Math.max(1, since / 10) : 1;
    const apart = wanted.map((each, place) => Math.abs(Number(answer.action[place]) - each));
    if (!ranges) {
      found.wrong += Number(!tied && apart.some((each) => each !== 0));
      continue;
    }
    for (const [place, { low, high, width }] of ranges.entries()) {
      found.outside += Number(answer.action[place] < low || answer.action[place] > high);
      if (tied) continue;
      // Written so that NaN counts.
      if (!(apart[place] <= found.difference)) found.difference = apart[place];
      const share = apart[place] / width / allowed;
      if (!(share <= found.share)) found.share = share;
    }
  }
  policy.reset();
  return { ...found, passed: passes(contract, found) };
}

function passes({ action, parity }, found) {
  const budget = parity.precision ? Math.min(parity.budget, MOST_BUDGET) : null;
  if (action.kind === "discrete") return found.wrong <= (budget ?? 0) * found.rows;
  const most = budget ?? Math.min(parity.tolerance, MOST_TOLERANCE);
  return found.share <= most && found.outside === 0 && found.close < found.rows;
}

/** Return bounds and range of each number of an answer.
 *
 * @param {object} contract One with real actions.
 * @returns {Array<{low: number, high: number, width: number}>} Bounds as float32, infinite where
 *   open; width: by which differences are measured, that of the bounds or, where there are none or
 *   they say nothing, the spread of the learner's answers, and at least 1.
 */
export function actionRanges({ action, probe }) {
  const answers = probe.action.map((each) => [each].flat(Infinity));
  return answers[0].map((_, place) => {
    const column = answers.map((each) => each[place]), at = place % size(action.shape);
    const least = column.reduce((one, two) => Math.min(one, two));
    const most = column.reduce((one, two) => Math.max(one, two));
    const low = Math.fround(action.low?.[at] ?? -Infinity);
    const high = Math.fround(action.high?.[at] ?? Infinity);
    const spread = Math.max(most - least, 1), width = high - low;
    return { low, high, width: width > 0 && width <= WIDEST * spread ? width : spread };
  });
}

/** Return a probe row as a caller gives it: the rows are without their offset.
 *
 * @param {object} contract The contract.
 * @param {number} row Its number.
 * @returns {ArrayLike|object} The observation; by entry where there are several.
 */
export function probeObservation(contract, row) {
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
