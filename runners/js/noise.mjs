// Noise of (seed, episode, step): the numbers that the learner and every other runner draw.

const MULTIPLIER = 0xd256d193, WEYL = 0x9e3779b9, ROUNDS = 10;

/** Return the random numbers of one step.
 *
 * @param {object} noise The contract's entry: shape and distribution.
 * @param {number|bigint} seed Any integer, taken modulo 2^64.
 * @param {number} episode Its number.
 * @param {number} step Since the episode began.
 * @returns {Float32Array} The numbers.
 */
export function drawn(noise, seed, episode, step) {
  const found = new Float32Array(size(noise.shape)), key = seedKey(BigInt(seed));
  for (let place = 0; place < found.length; ++place) {
    let turn = mix(key + Math.imul(place, WEYL)), high = episode >>> 0, low = step >>> 0;
    for (let round = 0; round < ROUNDS; ++round) {
      const [top, bottom] = product(low, MULTIPLIER);
      low = (top ^ turn ^ high) >>> 0;
      high = bottom;
      turn = (turn + WEYL) >>> 0;
    }
    if (noise.distribution === "uniform") found[place] = (low >>> 8) * 2 ** -24;
    else {
      const share = Math.fround((low >>> 8) + 0.5) * 2 ** -24;
      const angle = Math.fround((high >>> 8) * Math.fround(2 * Math.PI * 2 ** -24));
      found[place] = Math.sqrt(-2 * Math.log(share)) * Math.cos(angle);
    }
  }
  return found;
}

export function size(shape) {
  return shape.reduce((count, each) => count * each, 1);
}

function seedKey(seed) {
  const low = Number(seed & 0xffffffffn), high = Number((seed >> 32n) & 0xffffffffn);
  return high ? mix(mix(low) ^ mix(high + WEYL)) : mix(low);
}

function mix(word) {
  word = Math.imul(word ^ (word >>> 16), 0x21f0aaad);
  word = Math.imul(word ^ (word >>> 15), 0x735a2d97);
  return (word ^ (word >>> 15)) >>> 0;
}

/** Return the two halves of the 64-bit product of two 32-bit words. */
function product(one, two) {
  const a = one >>> 16, b = one & 0xffff, c = two >>> 16, d = two & 0xffff;
  const middle = a * d + Math.floor((b * d) / 65536), other = b * c + (middle & 0xffff);
  const top = a * c + Math.floor(middle / 65536) + Math.floor(other / 65536);
  return [top >>> 0, Math.imul(one, two) >>> 0];
}
