// The world Hindsight/FourRooms-v0, as hindsight_rl.envs.four_rooms moves: a velocity in two
// dimensions, pushed about by noise, ten substeps a step, each axis stopped by walls on its own.
// Numbers are float32 where Python has float32, so that both go the same way to the bit.

const SUBSTEPS = 10;
const bits = new Float32Array(1), whole = new Uint32Array(bits.buffer);

export class Rooms {
  /** Make the world.
   *
   * @param {{walls: string[], radius: number, apart: number}} world Rows of cells, 1 for a wall:
   *   cell (i, j) covers positions [i, i + 1) x [j, j + 1), outside all is wall; how near counts as
   *   reached; how far apart start and goal are at least.
   */
  constructor({ walls, radius, apart }) {
    Object.assign(this, { radius: Math.fround(radius), apart, side: walls.length });
    this.open = walls.map((row) => Array.from(row, (mark) => mark === "0"));
    this.cells = this.open.flatMap((row, i) => row.flatMap((free, j) => (free ? [[i, j]] : [])));
  }

  /** Return whether a cell is no wall. */
  isOpen(i, j) {
    return this.open[i]?.[j] ?? false;
  }

  isFree([i, j]) {
    return this.isOpen(Math.floor(i), Math.floor(j));
  }

  /** Return where one step leads.
   *
   * @param {ArrayLike<number>} position A free position (i, j), float32.
   * @param {ArrayLike<number>} action Wanted velocity, units per step.
   * @param {number} noise Added to both axes; the sum is clipped to [-1, 1].
   * @returns {Float32Array} The next position.
   */
  step(position, action, noise) {
    const cell = [0, 1].map((axis) => Math.floor(position[axis]));
    const move = [0, 1].map((axis) => Math.min(Math.max(action[axis] + noise, -1), 1) / SUBSTEPS);
    const ahead = move.map(Math.sign);
    const inside = move.map((each, axis) => {
      let count = 0;
      for (let part = 1; part <= SUBSTEPS; ++part) {
        count += Number(Math.floor(position[axis] + each * part) === cell[axis]);
      }
      return count;
    });
    const taken = this.substeps(cell, ahead, inside);
    return Float32Array.from(taken, (count, axis) => within(
      position[axis] + count * move[axis], cell[axis] + ahead[axis] * Number(count > inside[axis])));
  }

  /** Return how many substeps each axis takes: it may leave its cell once. */
  substeps([i, j], [di, dj], inside) {
    const openI = this.isOpen(i + di, j), openJ = this.isOpen(i, j + dj);
    const openBoth = this.isOpen(i + di, j + dj);
    let one = 0, two = 0;
    for (let part = 0; part < SUBSTEPS; ++part) {
      if (one < inside[0] || (two > inside[1] ? openBoth : openI)) ++one;
      if (two < inside[1] || (one > inside[0] ? openBoth : openJ)) ++two;
    }
    return [one, two];
  }

  /** Return whether a position is as near to a goal as counts. */
  isReached(position, goal) {
    const [i, j] = [0, 1].map((axis) => Math.fround(position[axis] - goal[axis]));
    const square = Math.fround(Math.fround(i * i) + Math.fround(j * j));
    return Math.fround(Math.sqrt(square)) <= this.radius;
  }

  /** Return the free position nearest to a place, a little inside of its cell. */
  nearestFree(place) {
    if (this.isFree(place)) return Float32Array.from(place);
    let best = null, least = Infinity;
    for (const corner of this.cells) {
      const inside = corner.map((low, axis) => Math.min(Math.max(place[axis], low + 0.1), low + 0.9));
      const far = Math.hypot(inside[0] - place[0], inside[1] - place[1]);
      if (far < least) [best, least] = [inside, far];
    }
    return Float32Array.from(best);
  }

  /** Return a free position, uniform, at least so far from another one if there is one. */
  draw(other = null) {
    for (;;) {
      const cell = this.cells[Math.floor(Math.random() * this.cells.length)];
      const place = Float32Array.from(cell, (low) => within(low + Math.random(), low));
      if (!other || Math.hypot(place[0] - other[0], place[1] - other[1]) >= this.apart) return place;
    }
  }
}

/** Return a number as float32 that rounding has not carried over the edge of its cell. */
function within(value, cell) {
  return Math.min(Math.max(Math.fround(value), cell), below(cell + 1));
}

/** Return the largest float32 below a positive number. */
function below(value) {
  bits[0] = value;
  whole[0] -= 1;
  return bits[0];
}
