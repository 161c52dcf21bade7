// An action on the page: a bar within its bounds for each number, or the choice among all.

import { actionRanges } from "./reader/verify.mjs";
import { choiceName, element, listClass, nameOf } from "./inputs.mjs";

const MOST = 64; // choices that are all shown

/** Make what shows actions.
 *
 * @param {object} contract The contract.
 * @param {Element} home Where it goes.
 * @returns {function(Float32Array|number)} Shows an action.
 */
export function answers(contract, home) {
  return contract.action.kind === "discrete"
    ? chosen(contract.action, home)
    : numbers(contract, home);
}

function chosen(action, home) {
  const start = action.start ?? 0;
  if (action.n > MOST) {
    const line = element("output", home);
    return (answer) => (line.textContent = choiceName(action, answer - start));
  }
  const list = element("ul", home);
  list.className = "choices";
  const items = Array.from({ length: action.n }, (_, number) =>
    element("li", list, choiceName(action, number)));
  return (answer) => items.forEach((item, number) => {
    item.classList.toggle("chosen", number === answer - start);
    if (number === answer - start) item.setAttribute("aria-current", "true");
    else item.removeAttribute("aria-current");
  });
}

function numbers(contract, home) {
  const { probe, action } = contract, ranges = actionRanges(contract);
  const list = element("div", home);
  const width = action.shape.reduce((count, each) => count * each, 1);
  const names = Array.from({ length: width }, (_, place) => nameOf("action", action, place));
  list.className = listClass(names);
  const shown = names.map((name, place) => {
    const line = element("div", list);
    line.className = "number";
    element("span", line, name).className = "name";
    const track = element("div", line), mark = element("i", track);
    track.className = "track";
    return { mark, value: element("output", line), ...ends(ranges, probe.action, place, width) };
  });
  const bounded = ranges.slice(0, width).every(({ low, high }) => Number.isFinite(high - low));
  element("p", home, bounded
    ? "Bars span the bounds of the contract."
    : "Bars span the bounds of the contract; without bounds, the answers to the probe.")
    .className = "note";
  return (answer) => shown.forEach(({ mark, value, low, high }, place) => {
    const share = (answer[place] - low) / (high - low);
    mark.style.left = `${100 * Math.min(Math.max(share, 0), 1)}%`;
    value.textContent = answer[place].toPrecision(4);
  });
}

/** Return where the bar of a number begins and ends. */
function ends(ranges, rows, place, width) {
  const { low, high } = ranges[place];
  if (high > low && Number.isFinite(high - low)) return { low, high };
  const column = rows.flatMap((row) => [row].flat(Infinity).filter((_, at) => at % width === place));
  const least = column.reduce((one, two) => Math.min(one, two));
  const most = column.reduce((one, two) => Math.max(one, two));
  return most > least ? { low: least, high: most } : { low: least - 1, high: least + 1 };
}
