// Products of matrices whose shapes and strides are known when they are compiled.
//
// A library's product of this size spends half of its time on finding out what is asked, and some
// libraries leave half of a processor's vectors unused. Here a tile of C stays in registers while A
// is read number by number, whatever its strides, and B vector by vector. Where rows of B are no
// whole vectors, or B is larger than the first-level cache, B is packed into panels first.
#include <ATen/cpu/vec/vec.h>
#include <algorithm>
#include <cstdint>

namespace hindsight {

using Vector = at::vec::Vectorized<float>;
constexpr int64_t WIDTH = Vector::size();
constexpr int64_t PANEL = 4 * WIDTH;  // columns of a panel
constexpr int64_t LARGE = 8192;       // numbers of B from which packing pays
constexpr int64_t SHARED = 1 << 18;   // multiplications from which a second thread pays

// Numbers of room that packing needs.
constexpr int64_t packed_size(int64_t depth, int64_t columns) {
  return depth * ((columns + PANEL - 1) / PANEL) * PANEL;
}

// What A and B are made of, and how a vector of B times a number of A is added to a vector of C.
struct Float32 {
  using Number = float;
  using Operand = Vector;
  static Operand splat(Number number) { return Vector(number); }
  static Operand load(const Number* from) { return Vector::loadu(from); }
  static Vector add(Operand left, Operand right, Vector sum) { return at::vec::fmadd(left, right, sum); }
};

// ROWS x VECTORS vectors of C, of which the first `columns` columns are written.
template <class Kind, int64_t ROWS, int64_t VECTORS>
inline __attribute__((always_inline)) void tile(
    const typename Kind::Number* __restrict__ a, int64_t a_row, int64_t a_column,
    const typename Kind::Number* __restrict__ b, int64_t b_row, float* __restrict__ c, int64_t c_row,
    int64_t depth, int64_t columns) {
  Vector sums[ROWS][VECTORS];
#pragma GCC unroll 16
  for (int64_t r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int64_t v = 0; v < VECTORS; ++v) sums[r][v] = Vector(0.f);
  for (int64_t k = 0; k < depth; ++k) {
    typename Kind::Operand right[VECTORS];
#pragma GCC unroll 4
    for (int64_t v = 0; v < VECTORS; ++v) right[v] = Kind::load(b + k * b_row + v * WIDTH);
#pragma GCC unroll 16
    for (int64_t r = 0; r < ROWS; ++r) {
      const auto left = Kind::splat(a[r * a_row + k * a_column]);
#pragma GCC unroll 4
      for (int64_t v = 0; v < VECTORS; ++v) sums[r][v] = Kind::add(left, right[v], sums[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int64_t r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int64_t v = 0; v < VECTORS; ++v) {
      const int64_t left = columns - v * WIDTH;
      float* to = c + r * c_row + v * WIDTH;
      if (left >= WIDTH) {
        sums[r][v].store(to);
      } else if (left > 0) {
        sums[r][v].store(to, left);
      }
    }
}

// `count` rows of C, tile by tile; what is left over in tiles of half the height.
template <class Kind, int64_t ROWS, int64_t VECTORS>
inline void stripe(const typename Kind::Number* a, int64_t a_row, int64_t a_column,
                   const typename Kind::Number* b, int64_t b_row, float* c, int64_t c_row,
                   int64_t count, int64_t depth, int64_t columns) {
  int64_t m = 0;
  for (; m + ROWS <= count; m += ROWS)
    tile<Kind, ROWS, VECTORS>(
        a + m * a_row, a_row, a_column, b, b_row, c + m * c_row, c_row, depth, columns);
  if constexpr (ROWS > 1) {
    if (m < count)
      stripe<Kind, ROWS / 2, VECTORS>(a + m * a_row, a_row, a_column, b, b_row, c + m * c_row, c_row,
                                count - m, depth, columns);
  }
}

// The panel of B [K, N] that begins at column n: K rows of PANEL numbers.
template <int64_t K, int64_t N, int64_t B_ROW, int64_t B_COLUMN>
inline void pack(const float* b, float* panel, int64_t n) {
  const int64_t columns = std::min(PANEL, N - n);
  b += n * B_COLUMN;
  if constexpr (B_COLUMN == 1) {
    for (int64_t k = 0; k < K; ++k)
      for (int64_t j = 0; j < columns; j += WIDTH) {
        const float* from = b + k * B_ROW + j;
        const int64_t left = columns - j;
        (left >= WIDTH ? Vector::loadu(from) : Vector::loadu(from, left))
            .store(panel + k * PANEL + j);
      }
  } else {
    for (int64_t j = 0; j < columns; j += 16)
      for (int64_t k = 0; k < K; k += 16) {
        const int64_t tall = std::min<int64_t>(16, columns - j), wide = std::min<int64_t>(16, K - k);
        const float* from = b + j * B_COLUMN + k * B_ROW;
        float* to = panel + k * PANEL + j;
        if (B_ROW == 1 && tall == 16 && wide == 16) {
          at::vec::transpose_mxn<float, 16, 16>(from, B_COLUMN, to, PANEL);
        } else {
          for (int64_t r = 0; r < tall; ++r)
            for (int64_t q = 0; q < wide; ++q) to[q * PANEL + r] = from[r * B_COLUMN + q * B_ROW];
        }
      }
  }
}

// Rows `from` to `to` of C.
template <class Kind, int64_t N, int64_t K, int64_t A_ROW, int64_t A_COLUMN, int64_t B_ROW, int64_t C_ROW,
          bool PACKED>
inline void rows(const typename Kind::Number* a, const typename Kind::Number* b, float* c,
                 const typename Kind::Number* room, int64_t from, int64_t to) {
  constexpr int64_t whole = N / PANEL * PANEL, rest = N - whole;
  constexpr int64_t b_row = PACKED ? PANEL : B_ROW;
  a += from * A_ROW;
  c += from * C_ROW;
  for (int64_t n = 0; n < whole; n += PANEL)
    stripe<Kind, 6, 4>(a, A_ROW, A_COLUMN, PACKED ? room + n * K : b + n, b_row, c + n, C_ROW, to - from, K, PANEL);
  if constexpr (rest > 0) {
    constexpr int64_t vectors = (rest + WIDTH - 1) / WIDTH;
    constexpr int64_t height = vectors == 1 ? 16 : vectors == 2 ? 12 : vectors == 3 ? 8 : 6;
    stripe<Kind, height, vectors>(
        a, A_ROW, A_COLUMN, PACKED ? room + whole * K : b + whole, b_row, c + whole, C_ROW, to - from, K, rest);
  }
}

// C [M, N] = A [M, K] B [K, N]; rows of C are contiguous.
template <int64_t THREADS, int64_t M, int64_t N, int64_t K, int64_t A_ROW, int64_t A_COLUMN,
          int64_t B_ROW, int64_t B_COLUMN, int64_t C_ROW>
inline void product(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c,
                    float* __restrict__ room) {
  constexpr bool packed = B_COLUMN != 1 || N % WIDTH != 0 || K * N > LARGE;
  constexpr auto run = rows<Float32, N, K, A_ROW, A_COLUMN, B_ROW, C_ROW, packed>;
  if constexpr (THREADS > 1 && M * N * K >= SHARED) {
#pragma omp parallel num_threads(THREADS)
    {
      if constexpr (packed) {
#pragma omp for schedule(static)
        for (int64_t n = 0; n < N; n += PANEL) pack<K, N, B_ROW, B_COLUMN>(b, room + n * K, n);
      }
      constexpr int64_t share = ((M + THREADS - 1) / THREADS + 5) / 6 * 6;
#pragma omp for schedule(static)
      for (int64_t part = 0; part < THREADS; ++part)
        run(a, b, c, room, std::min(M, part * share), std::min(M, (part + 1) * share));
    }
  } else {
    if constexpr (packed)
      for (int64_t n = 0; n < N; n += PANEL) pack<K, N, B_ROW, B_COLUMN>(b, room + n * K, n);
    run(a, b, c, room, 0, M);
  }
}

}  // namespace hindsight
