// Controls for what a policy is given: a slider for each number, within what the probe rows span.

import { probeObservation } from "./reader/verify.mjs";

const MOST = 512, LONG = 16; // sliders of one input; letters beside a slider

/** Make controls of every input of a policy, and set them to a row of the probe.
 *
 * @param {object} contract The contract.
 * @param {Element} home Where they go.
 * @param {function()} changed Called when someone moves one.
 * @returns {{observation: function(), task: function(), show: function(number)}} What they are set
 *   to, as `act` takes it, and how to set them to another row.
 */
export function inputs(contract, home, changed) {
  const { entries } = contract.observation;
  const stated = Object.entries(entries ?? { observation: contract.observation });
  const rows = Array.from({ length: contract.probe.action.length }, (_, row) => {
    const given = probeObservation(contract, row);
    return entries ? given : { observation: given };
  });
  const parts = Object.fromEntries(stated.map(([label, entry]) =>
    [label, control(label, entry, rows.map((row) => row[label]), home, changed)]));
  const task = contract.task && control("task", contract.task, contract.probe.task, home, changed);
  const given = () => Object.fromEntries(stated.map(([label]) => [label, parts[label].value()]));
  return {
    observation: () => (entries ? given() : parts.observation.value()),
    task: () => task?.value(),
    show: (row) => {
      for (const [label] of stated) parts[label].show(rows[row][label]);
      task?.show(contract.probe.task[row]);
    },
  };
}

/** Make the control of one input: its value, and how to set it. */
function control(label, entry, rows, home, changed) {
  const field = element("fieldset", home);
  element("legend", field, label);
  if (entry.kind === "image") return picture(entry, rows, field);
  if (entry.kind === "discrete") return choice(label, entry, rows, field, changed);
  const flat = rows.map((row) => [row].flat(Infinity));
  if (flat[0].length > MOST) return column(flat, field);
  return sliders(label, entry, flat, field, changed);
}

function sliders(label, entry, rows, field, changed) {
  const list = element("div", field), values = rows[0].slice();
  const names = values.map((_, place) => nameOf(label, entry, place));
  list.className = listClass(names);
  const moves = names.map((name, place) => {
    const line = element("div", list);
    const id = `${label}-${place}`;
    line.className = "number";
    element("label", line, name).htmlFor = id;
    const slider = element("input", line), typed = element("input", line);
    const [low, high] = span(rows.map((row) => row[place]));
    Object.assign(slider, { type: "range", id, min: low, max: high, step: "any" });
    Object.assign(typed, { type: "number", step: "any" });
    typed.setAttribute("aria-label", `${name}, as a number`);
    const set = (value) => {
      values[place] = value;
      slider.value = value;
      typed.value = Number(value.toPrecision(5));
    };
    slider.addEventListener("input", () => {
      set(Number(slider.value));
      changed();
    });
    typed.addEventListener("change", () => {
      if (typed.value === "") return set(values[place]);
      values[place] = Number(typed.value);
      slider.value = typed.value;
      changed();
    });
    return set;
  });
  const show = (row) => [row].flat(Infinity).forEach((value, place) => moves[place](value));
  show(rows[0]);
  return { value: () => values.slice(), show };
}

function choice(label, entry, rows, field, changed) {
  const list = element("select", field);
  list.setAttribute("aria-label", label);
  for (let number = 0; number < entry.n; ++number) {
    element("option", list, choiceName(entry, number)).value = number;
  }
  list.addEventListener("change", changed);
  const show = (row) => (list.value = Number([row].flat(Infinity)[0]));
  show(rows[0]);
  return { value: () => Number(list.value), show };
}

/** Show an image of the probe; there are no others. */
function picture(entry, rows, field) {
  const canvas = element("canvas", field), [height, width, channels] = entry.shape;
  element("p", field, `${width} x ${height}, ${channels} channels. Choose another row above.`)
    .className = "note";
  Object.assign(canvas, { width, height, className: "picture" });
  let values;
  const show = (row) => {
    values = ArrayBuffer.isView(row) ? row : Uint8Array.from(row.flat(Infinity));
    const image = new ImageData(width, height);
    for (let pixel = 0; pixel < width * height; ++pixel) {
      for (let colour = 0; colour < 3; ++colour) {
        const channel = channels < 3 ? 0 : colour;
        image.data[4 * pixel + colour] = values[channels * pixel + channel];
      }
      image.data[4 * pixel + 3] = 255;
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  };
  show(rows[0]);
  return { value: () => values, show };
}

/** Say how many numbers there are: too many for sliders. */
function column(rows, field) {
  let values = rows[0];
  element("p", field, `${values.length} numbers. Choose another row above.`).className = "note";
  return { value: () => values, show: (row) => (values = [row].flat(Infinity)) };
}

/** Return ends of a slider: what the probe spans, and a tenth of it on either side. */
function span(values) {
  const low = values.reduce((one, two) => Math.min(one, two));
  const high = values.reduce((one, two) => Math.max(one, two));
  const more = (high - low) / 10 || Math.abs(low) || 1;
  return [low - more, high + more];
}

/** Return what a number is called: its name and unit, or its place. */
export function nameOf(label, entry, place) {
  const name = entry.names?.[place] ?? `${label}[${place}]`, unit = entry.units?.[place];
  return unit ? `${name} (${unit})` : name;
}

/** Return the class of a list of numbers: names that are long get a line of their own. */
export function listClass(names) {
  return names.some((name) => name.length > LONG) ? "numbers long" : "numbers";
}

/** Append an element, with a text, and return it. */
export function element(kind, home, text = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  home.append(made);
  return made;
}

/** Return what a choice is called: names may be those of the choices, or one of their column. */
export function choiceName({ n, names, start = 0 }, number) {
  return names?.length === n && n > 1 ? names[number] : String(number + start);
}
