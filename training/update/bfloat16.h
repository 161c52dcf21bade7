// Products of matrices in bfloat16, summed in float32.
//
// The processor's instruction multiplies pairs of neighbours along the depth and adds both to one
// float32. So A and B are first rounded to words of such pairs: of A, words of a row or of a pair of
// columns lie one behind the other, as A itself does; of B, panels as in products.h.
#ifndef __AVX512BF16__
#error "this processor has no products in bfloat16"
#endif
#include <immintrin.h>

namespace hindsight {

constexpr int64_t pairs_of(int64_t depth) { return (depth + 1) / 2; }

inline __mmask16 first(int64_t count) { return count >= 16 ? 0xffff : (1u << std::max<int64_t>(count, 0)) - 1; }

// Two rows of up to 16 numbers as 16 words; the first row lies in the lower halves.
inline __m512i woven(const float* low, const float* high, __mmask16 mask) {
  const auto lower = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, low));
  const auto upper = high == nullptr ? _mm256_setzero_si256()
                                     : (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, high));
  return _mm512_or_si512(_mm512_cvtepu16_epi32(lower), _mm512_slli_epi32(_mm512_cvtepu16_epi32(upper), 16));
}

// Up to 32 numbers one behind the other as 16 words.
inline __m512i joined(const float* from, int64_t count) {
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(first(count - 16), from + 16),
                                      _mm512_maskz_loadu_ps(first(count), from));
}

// Rows `from` to `to` of A [M, K]: words [M, pairs] if its rows are contiguous, else [pairs, M].
template <int64_t M, int64_t K, int64_t ROW, int64_t COLUMN>
inline void pair_rows(const float* a, int32_t* words, int64_t from, int64_t to) {
  constexpr int64_t pairs = pairs_of(K);
  if constexpr (COLUMN == 1) {
    for (int64_t m = from; m < to; ++m)
      for (int64_t p = 0; p < pairs; p += 16)
        _mm512_mask_storeu_epi32(words + m * pairs + p, first(pairs - p), joined(a + m * ROW + 2 * p, K - 2 * p));
  } else {
    static_assert(ROW == 1);
    for (int64_t p = 0; p < pairs; ++p) {
      const float* low = a + 2 * p * COLUMN;
      const float* high = 2 * p + 1 < K ? low + COLUMN : nullptr;
      for (int64_t m = from; m < to; m += 16) {
        const auto mask = first(to - m);
        _mm512_mask_storeu_epi32(words + p * M + m, mask, woven(low + m, high == nullptr ? high : high + m, mask));
      }
    }
  }
}

// The panel of B [K, N] that begins at column n: words [pairs, PANEL], 0 beyond column N.
template <int64_t K, int64_t N, int64_t ROW, int64_t COLUMN>
inline void pair_panel(const float* b, int32_t* words, int64_t n) {
  constexpr int64_t pairs = pairs_of(K);
  b += n * COLUMN;
  if constexpr (COLUMN == 1) {
    for (int64_t p = 0; p < pairs; ++p) {
      const float* low = b + 2 * p * ROW;
      const float* high = 2 * p + 1 < K ? low + ROW : nullptr;
      for (int64_t j = 0; j < PANEL; j += 16)
        _mm512_storeu_si512(words + p * PANEL + j, woven(low + j, high == nullptr ? high : high + j, first(N - n - j)));
    }
  } else {
    static_assert(ROW == 1);
    for (int64_t j = 0; j < std::min(PANEL, N - n); j += 16)
      for (int64_t p = 0; p < pairs; p += 16) {
        alignas(64) int32_t block[16][16] = {};
        for (int64_t r = 0; r < std::min<int64_t>(16, N - n - j); ++r)
          _mm512_store_si512(block[r], joined(b + (j + r) * COLUMN + 2 * p, K - 2 * p));
        if (pairs - p >= 16) {
          at::vec::transpose_mxn<float, 16, 16>((const float*)block, 16, (float*)(words + p * PANEL + j), PANEL);
        } else {
          for (int64_t q = 0; q < pairs - p; ++q)
            for (int64_t r = 0; r < 16; ++r) words[(p + q) * PANEL + j + r] = block[r][q];
        }
      }
  }
}

struct Pairs {
  using Number = int32_t;
  using Operand = __m512i;
  static Operand splat(Number words) { return _mm512_set1_epi32(words); }
  static Operand load(const Number* from) { return _mm512_loadu_si512(from); }
  static Vector add(Operand left, Operand right, Vector sum) {
    return _mm512_dpbf16_ps(sum, (__m512bh)left, (__m512bh)right);
  }
};

// As hindsight::product; `room` holds words of both.
template <int64_t THREADS, int64_t M, int64_t N, int64_t K, int64_t A_ROW, int64_t A_COLUMN,
          int64_t B_ROW, int64_t B_COLUMN, int64_t C_ROW>
inline void product_bfloat16(const float* __restrict__ a, const float* __restrict__ b,
                             float* __restrict__ c, float* __restrict__ room) {
  static_assert(WIDTH == 16);
  constexpr int64_t pairs = pairs_of(K), share = ((M + THREADS - 1) / THREADS + 5) / 6 * 6;
  constexpr int64_t row = A_COLUMN == 1 ? pairs : 1, column = A_COLUMN == 1 ? 1 : M;
  constexpr auto run = rows<Pairs, N, pairs, row, column, PANEL, C_ROW, true>;
  auto* const right = (int32_t*)room;
  auto* const left = right + packed_size(pairs, N);
  const auto part_of = [&](int64_t from, int64_t to) {
    pair_rows<M, K, A_ROW, A_COLUMN>(a, left, from, to);
    run(left, right, c, right, from, to);
  };
  if constexpr (THREADS > 1 && M * N * K >= SHARED) {
#pragma omp parallel num_threads(THREADS)
    {
#pragma omp for schedule(static)
      for (int64_t n = 0; n < N; n += PANEL) pair_panel<K, N, B_ROW, B_COLUMN>(b, right + n * pairs, n);
#pragma omp for schedule(static)
      for (int64_t part = 0; part < THREADS; ++part)
        part_of(std::min(M, part * share), std::min(M, (part + 1) * share));
    }
  } else {
    for (int64_t n = 0; n < N; n += PANEL) pair_panel<K, N, B_ROW, B_COLUMN>(b, right + n * pairs, n);
    part_of(0, M);
  }
}

}  // namespace hindsight
