// Draws the four rooms: i runs down, j to the right, with a rim of wall one cell wide.

const RIM = 1, TRAIL = 150; // cells; places that are remembered
const WALL = "#33475b", FLOOR = "#f7f8fa", GOAL = "#1f6f5c", AGENT = "#b5651d", ARROW = "#a3afbb";

export class Picture {
  constructor(canvas, rooms) {
    Object.assign(this, { canvas, rooms, places: [], pen: canvas.getContext("2d") });
    this.across = rooms.side + 2 * RIM;
  }

  /** Return the position (i, j) at a place of the window. */
  position(x, y) {
    const box = this.canvas.getBoundingClientRect(), scale = this.across / box.width;
    return [(y - box.top) * scale - RIM, (x - box.left) * scale - RIM];
  }

  /** Return the place of the window that shows a position. */
  place([i, j]) {
    const box = this.canvas.getBoundingClientRect(), scale = box.width / this.across;
    return [box.left + (j + RIM) * scale, box.top + (i + RIM) * scale];
  }

  /** Remember where the agent was; `null` where it is put somewhere else. */
  went(position) {
    if (position === null) this.places = [];
    else this.places.push(position);
    if (this.places.length > TRAIL) this.places.shift();
  }

  /** Draw everything.
   *
   * @param {ArrayLike<number>} agent Where it is.
   * @param {ArrayLike<number>} goal Where it should be.
   * @param {Array<{place: number[], action: ArrayLike<number>}>} arrows What it would do elsewhere.
   */
  draw(agent, goal, arrows) {
    const { canvas, pen, rooms } = this;
    const size = Math.round(canvas.clientWidth * (globalThis.devicePixelRatio || 1));
    if (canvas.width !== size) canvas.width = canvas.height = size;
    const scale = size / this.across;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.fillStyle = WALL;
    pen.fillRect(0, 0, size, size);
    pen.fillStyle = FLOOR;
    const edge = (cell) => Math.round((cell + RIM) * scale); // whole pixels, or seams would show
    for (const [i, j] of rooms.cells) {
      pen.fillRect(edge(j), edge(i), edge(j + 1) - edge(j), edge(i + 1) - edge(i));
    }
    pen.setTransform(scale, 0, 0, scale, RIM * scale, RIM * scale);
    for (const { place, action } of arrows) this.arrow(place, action);
    this.trail(agent);
    this.circle(goal, rooms.radius);
    pen.lineWidth = 0.25;
    pen.strokeStyle = GOAL;
    pen.stroke();
    this.circle(goal, 0.2);
    pen.fillStyle = GOAL;
    pen.fill();
    this.circle(agent, 0.55);
    pen.fillStyle = AGENT;
    pen.fill();
  }

  circle([i, j], radius) {
    this.pen.beginPath();
    this.pen.arc(j, i, radius, 0, 2 * Math.PI);
  }

  arrow([i, j], [di, dj]) {
    const { pen } = this, long = Math.hypot(di, dj);
    if (long < 0.05) return;
    const tip = [i + 0.6 * di, j + 0.6 * dj], angle = Math.atan2(di, dj), head = 0.35;
    pen.beginPath();
    pen.moveTo(j - 0.6 * dj, i - 0.6 * di);
    pen.lineTo(tip[1], tip[0]);
    for (const turn of [2.6, -2.6]) {
      pen.moveTo(tip[1], tip[0]);
      pen.lineTo(tip[1] + head * Math.cos(angle + turn), tip[0] + head * Math.sin(angle + turn));
    }
    pen.lineWidth = 0.12;
    pen.strokeStyle = ARROW;
    pen.stroke();
  }

  trail(agent) {
    const { pen, places } = this, all = [...places, agent];
    pen.lineWidth = 0.3;
    pen.lineCap = "round";
    for (let at = 1; at < all.length; ++at) {
      pen.strokeStyle = `rgba(181, 101, 29, ${(0.8 * at) / all.length})`;
      pen.beginPath();
      pen.moveTo(all[at - 1][1], all[at - 1][0]);
      pen.lineTo(all[at][1], all[at][0]);
      pen.stroke();
    }
  }
}
