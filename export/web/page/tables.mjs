// The contract as tables: what goes in and comes out, by name and unit, and where it comes from.

import { choiceName, element } from "./inputs.mjs";

const MOST = 256; // numbers of an entry that are listed

/** Write the contract of a policy into a page.
 *
 * @param {object} contract The contract.
 * @param {Element} home Where it goes.
 */
export function tables(contract, home) {
  const { entries } = contract.observation;
  for (const [label, entry] of Object.entries(entries ?? { observation: contract.observation })) {
    input(label, entry, home);
  }
  if (contract.task) {
    const { family } = contract.task;
    input(family && family !== "task" ? `task (${family})` : "task", contract.task, home);
  }
  action(contract, home);
  if (contract.robot) robot(contract.robot, home);
  section("Further", facts(contract), null, home);
}

function input(label, entry, home) {
  const columns = { mean: "mean", std: "standard deviation" };
  if (entry.default != null) columns.default = "default";
  section(label, ...listed(entry, columns), home);
}

function action({ action: entry, control_rate_hz: rate }, home) {
  if (entry.kind === "discrete") {
    const names = Array.from({ length: Math.min(entry.n, MOST) }, (_, at) => choiceName(entry, at));
    const rest = entry.n > MOST ? ", ..." : "";
    section("action", [["choices", `${entry.n}: ${names.join(", ")}${rest}`]], null, home);
    return;
  }
  const columns = { low: "lowest", high: "highest" };
  if (entry.rate_limit) columns.rate_limit = "most per second";
  const found = listed(entry, columns);
  if (rate) found[0].push(["actions per second", plain(rate)]);
  section("action", ...found, home);
}

function robot(stated, home) {
  const columns = ["low", "high", "rate_limit", "stiffness", "damping", "default_pose"];
  const given = columns.filter((name) => stated[name]);
  const rows = stated.joints.map((joint, place) =>
    [joint, ...given.map((name) => plain(stated[name][place]))]);
  const head = ["joint", ...given.map((name) => name.replaceAll("_", " "))];
  section("robot", [["command", stated.command.replaceAll("_", " ")]], [head, ...rows], home);
}

/** Return facts of an entry, and the table of its numbers. */
function listed(entry, columns) {
  const shape = entry.shape?.length ? ` [${entry.shape.join(", ")}]` : "";
  const found = [["kind", `${entry.kind ?? "vector"}, ${entry.dtype ?? "float32"}${shape}`]];
  if (entry.kind === "discrete") found.push(["choices", String(entry.n)]);
  const given = Object.keys(columns).filter((name) => entry[name] != null);
  if (entry.kind === "image" || !(entry.names || given.length)) return [found, null];
  const values = Object.fromEntries(given.map((name) => [name, [entry[name]].flat(Infinity)]));
  const count = entry.shape.reduce((product, each) => product * each, 1);
  const head = ["", "name", ...(entry.units ? ["unit"] : []), ...given.map((name) => columns[name])];
  const rows = Array.from({ length: Math.min(count, MOST) }, (_, place) => [
    String(place), entry.names?.[place] ?? "", ...(entry.units ? [entry.units[place] ?? ""] : []),
    ...given.map((name) => plain(values[name][place])),
  ]);
  if (count > MOST) found.push(["listed", `the first ${MOST} of ${count}`]);
  return [found, [head, ...rows]];
}

function facts(contract) {
  const { dataset, learner, parity, versions, state, noise, chunk, sampler } = contract;
  const found = [["learner", learner.name]];
  if (dataset.source) found.push(["fitted to", [dataset.source].flat().join(", ")]);
  if (dataset.rows) found.push(["rows", dataset.rows.toLocaleString("en")]);
  if (dataset.episodes) found.push(["episodes", dataset.episodes.toLocaleString("en")]);
  for (const part of state ?? []) found.push(["state", `${part.name} [${part.shape.join(", ")}]`]);
  if (noise) found.push(["noise", `${noise.distribution} [${noise.shape.join(", ")}]`]);
  if (sampler) found.push(["sampler", `${sampler.kind}, ${sampler.steps} steps`]);
  if (chunk) found.push(["chunk", `${chunk.length} actions, ${chunk.execute} executed`]);
  if (parity.precision) found.push(["precision", `${parity.precision}, budget ${parity.budget}`]);
  found.push(["operator set", String(contract.opset)], ["hash", contract.model_hash]);
  const used = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  if (used.length) found.push(["made with", used.join(", ")]);
  return found;
}

function section(title, pairs, table, home) {
  element("h3", home, title);
  grid(pairs, home, true);
  if (table) grid(table, home, false);
}

/** Write a table, whose first column or first row is its head. */
function grid(rows, home, sideways) {
  const scroll = element("div", home), table = element("table", scroll);
  scroll.className = "scroll";
  if (sideways) table.className = "facts";
  for (const [number, row] of rows.entries()) {
    const line = element("tr", table);
    for (const [place, text] of row.entries()) {
      const heads = sideways ? place === 0 : number === 0;
      const cell = element(heads ? "th" : "td", line, text);
      if (heads) cell.scope = sideways ? "row" : "col";
      else if (!sideways && /^-?[\d.]/.test(text)) cell.className = "n";
    }
  }
}

function plain(value) {
  if (value == null) return "none";
  return String(Math.abs(value) >= 1e6 ? value : Number(Number(value).toPrecision(5)));
}
