"""The noise of a policy in C: the numbers of :mod:`hindsight_rl.export.draws`."""

from hindsight_rl.export.draws import MULTIPLIER, ROUNDS, WEYL
from hindsight_rl.export.signature import Noise

_WORDS = """\
static uint32_t mix(uint32_t word) {{
  word = (word ^ (word >> 16)) * 0x21F0AAADu;
  word = (word ^ (word >> 15)) * 0x735A2D97u;
  return word ^ (word >> 15);
}}

/* Philox2x32-{rounds} of (episode, step), keyed by the seed and the place of the number. */
static void draw_noise(float *to, int count, uint64_t seed, uint32_t episode, uint32_t step) {{
  const uint32_t bottom = (uint32_t)seed, top = (uint32_t)(seed >> 32);
  const uint32_t key = top ? mix(mix(bottom) ^ mix(top + {weyl}u)) : mix(bottom);
  int j, round;
  for (j = 0; j < count; ++j) {{
    uint32_t turn = mix(key + (uint32_t)j * {weyl}u), high = episode, low = step;
    for (round = 0; round < {rounds}; ++round) {{
      const uint64_t both = (uint64_t)low * {multiplier}u;
      low = (uint32_t)(both >> 32) ^ turn ^ high;
      high = (uint32_t)both;
      turn += {weyl}u;
    }}
{share}
  }}
}}"""
_NORMAL = """\
    {
      const float share = ((float)(low >> 8) + 0.5f) * 5.9604644775390625e-08f;
      const float angle = (float)(high >> 8) * 3.74507e-07f;
      to[j] = sqrtf(-2 * logf(share)) * cosf(angle);
    }"""
_UNIFORM = "    to[j] = (float)(low >> 8) * 5.9604644775390625e-08f;"


def noise_text(noise: Noise) -> str:
    """Return the C function ``draw_noise``.

    Args:
        noise: What is drawn.

    Returns:
        C.
    """
    import numpy as np

    turn = np.float32(2.0 * np.pi * 2.0**-24)
    share = _UNIFORM if noise.distribution == "uniform" else _NORMAL
    return _WORDS.format(
        rounds=ROUNDS,
        weyl=hex(WEYL),
        multiplier=hex(int(MULTIPLIER)),
        share=share.replace("3.74507e-07f", f"{turn!s}f"),
    )
