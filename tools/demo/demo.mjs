// Four rooms in a browser: the policy walks, and the goal is where one points.

import { Policy } from "./policy/reader/policy.mjs";
import { drawn } from "./policy/reader/noise.mjs";
import { bytesOf, runtime } from "./policy/runtime.mjs";
import { Picture } from "./picture.mjs";
import { Rooms } from "./rooms.mjs";

const STAY = 12; // steps at a goal that nobody chose
const NUDGE = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const at = (id) => document.getElementById(id);

class Walk {
  constructor(policy, world) {
    this.rooms = new Rooms(world);
    this.picture = new Picture(at("rooms"), this.rooms);
    this.grid = this.rooms.cells.filter(([i, j]) => i % 3 === 1 && j % 3 === 1)
      .map(([i, j]) => [i + 0.5, j + 0.5]);
    Object.assign(this, { policy, world, episode: -1, reached: 0, arrows: [], chosen: false });
    Object.assign(this, { moved: true, last: performance.now() });
    this.running = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.goal = this.rooms.draw();
    this.begin();
    this.listen();
    this.dials();
  }

  /** Put the agent somewhere, far from the goal. */
  begin() {
    this.agent = this.before = this.rooms.draw(this.goal);
    Object.assign(this, { episode: this.episode + 1, steps: 0, there: 0 });
    this.picture.went(null);
    this.policy.reset();
  }

  /** Move the goal to the free position nearest to a place. */
  aim(place) {
    Object.assign(this, { goal: this.rooms.nearestFree(place), moved: true, there: 0 });
  }

  listen() {
    const canvas = at("rooms");
    const point = (event) => {
      this.chosen = true;
      this.aim(this.picture.position(event.clientX, event.clientY));
    };
    canvas.addEventListener("pointermove", point);
    canvas.addEventListener("pointerdown", point);
    canvas.addEventListener("keydown", (event) => {
      const by = NUDGE[event.key];
      if (by) {
        this.chosen = true;
        this.aim([this.goal[0] + by[0], this.goal[1] + by[1]]);
      } else if (event.key === " ") this.play();
      else if (event.key.toLowerCase() === "n") this.begin();
      else return;
      event.preventDefault();
    });
    at("play").addEventListener("click", () => this.play());
    at("anew").addEventListener("click", () => this.begin());
  }

  dials() {
    at("noise").value = this.world.noise;
    for (const id of ["noise", "rate"]) {
      const show = () => (at(id).nextElementSibling.textContent = at(id).value);
      at(id).addEventListener("input", show);
      show();
    }
    at("arrows").addEventListener("change", () => (this.moved = true));
    this.labelled();
  }

  play() {
    this.running = !this.running;
    this.labelled();
  }

  labelled() {
    at("play").textContent = this.running ? "Stop" : "Go on";
  }

  /** Take one step of the world. */
  async step() {
    const action = await this.policy.act(this.agent, this.goal);
    const [chance] = drawn({ shape: [1], distribution: "normal" }, 0, this.episode, this.steps);
    this.picture.went(this.agent);
    this.before = this.agent;
    this.agent = this.rooms.step(this.agent, action, at("noise").value * chance);
    this.steps += 1;
    const there = this.rooms.isReached(this.agent, this.goal);
    if (there && this.there === 0) this.reached += 1;
    if (there || this.there) this.there += 1;
    if (!this.chosen && this.there > STAY) this.aim(this.rooms.draw(this.agent));
    this.say(there);
  }

  say(there) {
    const far = Math.hypot(this.agent[0] - this.goal[0], this.agent[1] - this.goal[1]);
    const count = `${this.reached} ${this.reached === 1 ? "goal" : "goals"} reached.`;
    at("status").textContent = there || this.there
      ? `${count} It is at the goal.`
      : `${count} ${far.toFixed(0)} away from this one.`;
    if (at("said").textContent !== count) at("said").textContent = count; // what is read out loud
  }

  /** Ask what the policy would do at places all over the rooms. */
  async look() {
    this.moved = false;
    const goal = this.goal, found = [];
    for (const place of at("arrows").checked ? this.grid : []) {
      found.push({ place, action: await this.policy.act(place, goal) });
    }
    this.arrows = found;
  }

  /** Step when it is time to, and draw. */
  async frame(now) {
    const apart = 1000 / at("rate").value;
    if (this.moved) await this.look();
    if (this.running && now - this.last >= apart) {
      this.last = now - this.last > 2 * apart ? now : this.last + apart;
      await this.step();
    }
    // Between two steps the agent is drawn on its way.
    const share = this.running ? Math.min((performance.now() - this.last) / apart, 1) : 1;
    const shown = [0, 1].map((k) => this.before[k] + share * (this.agent[k] - this.before[k]));
    this.picture.draw(shown, this.goal, this.arrows);
  }

  forever() {
    requestAnimationFrame((now) => this.frame(now).then(() => this.forever(), stop));
  }
}

/** Say why there is nothing to see. */
function stop(error) {
  at("loaded").hidden = true;
  at("fault").hidden = false;
  at("fault").className = "failed";
  at("fault").textContent = `The demo cannot run here. (${error.message})`;
}

function measured({ success, success_low: low, success_high: high, episodes, ...world }) {
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  return `In ${world.horizon} steps it reaches ${percent(success)} of ${episodes} fresh goals that ` +
    `are at least ${world.apart} away (95 % interval ${percent(low)} to ${percent(high)}), with ` +
    `noise ${world.noise}. It was fitted by ${world.updates.toLocaleString("en")} updates of ` +
    `${world.learner} to ${world.rows.toLocaleString("en")} steps of wandering that had no goals and ` +
    "no rewards: goals were inferred in hindsight.";
}

async function main() {
  try {
    const world = await (await fetch("world.json", { cache: "no-store" })).json();
    const policy = await Policy.load(await runtime(), await bytesOf("policy/policy.onnx"));
    const walk = new Walk(policy, world);
    at("measured").textContent = measured(world);
    at("fault").hidden = true;
    at("loaded").hidden = false;
    globalThis.walk = walk; // for the curious, and for tests
    walk.forever();
  } catch (error) {
    stop(error);
  }
}

await main();
