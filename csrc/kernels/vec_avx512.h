// The vector wrapper over AVX-512 (F, BW, DQ, VL): 16 lanes. The members are described in docs/adding-an-isa.md.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "exp2.h"
#include "exponent.h"
#include "vec_avx2.h"

namespace {

struct Avx512 {
    using Real = float;
    using F = __m512;
    struct Wide {
        __m512d low, high;
    };
    static constexpr std::size_t width = 16;
    static constexpr bool has_blocks = true;
    static constexpr std::size_t most_block_classes = 112;
    static constexpr bool has_streams = true;
    static constexpr bool has_half = true;
    static constexpr bool has_fma = true;
    static constexpr bool has_quads = false;
    static constexpr bool max_keeps_nan = false;
    static constexpr bool in_step = true;  // see exp2.h
    static constexpr bool loads_constants = false;  // see exp2.h
    static constexpr bool exp2_drops_rest = false;
    using Half = Avx2;

    static __mmask16 first(std::size_t n) { return static_cast<__mmask16>((1U << n) - 1U); }

    static F set1(float x) { return _mm512_set1_ps(x); }
    static F load(const float* p) { return _mm512_loadu_ps(p); }
    static F load(const std::uint16_t* p) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static F load(const std::int8_t* p) {
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    }
    static F load(const std::uint8_t* p) {
        return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
    }
    static F load_first(const float* p, std::size_t n, F fill) { return _mm512_mask_loadu_ps(fill, first(n), p); }
    static F load_first(const std::uint16_t* p, std::size_t n, F fill) {
        return _mm512_mask_cvtph_ps(fill, first(n), _mm256_maskz_loadu_epi16(first(n), p));
    }
    static F load_first(const std::int8_t* p, std::size_t n, F fill) {
        return _mm512_mask_cvtepi32_ps(fill, first(n), _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first(n), p)));
    }
    static F load_first(const std::uint8_t* p, std::size_t n, F fill) {
        return _mm512_mask_cvtepi32_ps(fill, first(n), _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first(n), p)));
    }
    static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
    static void store_first(float* p, F x, std::size_t n) { _mm512_mask_storeu_ps(p, first(n), x); }
    static void stream(float* p, F x) { _mm512_stream_ps(p, x); }
    static void fence() { _mm_sfence(); }
    static void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

    static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
    static F max(F a, F b) { return _mm512_max_ps(a, b); }
    static F min(F a, F b) { return _mm512_min_ps(a, b); }
    static F nan_or_zero(F x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x); }
    // a probability below the normal numbers counts as 0, on every instruction set; exponentials here have subnormals
    static __mmask16 probable(F p) { return _mm512_cmp_ps_mask(p, _mm512_set1_ps(0x1p-126F), _CMP_NLT_UQ); }
    static F add_product_unless_zero(F p, F d, F sum) { return _mm512_mask3_fmadd_ps(p, d, sum, probable(p)); }
    static F zero_where_improbable(F p, F x) { return _mm512_maskz_mov_ps(probable(p), x); }
    static F zero_where_zero(F w, F x) {
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(w, _mm512_setzero_ps(), _CMP_NEQ_UQ), x);
    }
    static F zero_below(F y, F least, F x) {
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y, least, _CMP_NLT_UQ), x);
    }
    static float sum(F x) { return _mm512_reduce_add_ps(x); }
    static float largest(F x) { return _mm512_reduce_max_ps(x); }

    static Wide wide(F x) {
        return {_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1))};
    }
    static F narrow(Wide x) {
        return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(x.low)), _mm512_cvtpd_ps(x.high), 1);
    }
    static void store(double* p, Wide x) {
        _mm512_storeu_pd(p, x.low);
        _mm512_storeu_pd(p + 8, x.high);
    }
    static Wide set1_wide(double x) { return {_mm512_set1_pd(x), _mm512_set1_pd(x)}; }
    static Wide add(Wide a, Wide b) { return {a.low + b.low, a.high + b.high}; }
    static Wide subtract(Wide a, Wide b) { return {a.low - b.low, a.high - b.high}; }
    static Wide multiply(Wide a, Wide b) { return {a.low * b.low, a.high * b.high}; }
    static double sum_wide(Wide x) { return _mm512_reduce_add_pd(x.low + x.high); }
    static double product_wide(Wide x) { return _mm512_reduce_mul_pd(x.low * x.high); }

    // -inf gives 0: its reduced argument is 0 and scalef(1, -inf) is 0
    template <Digits digits = Digits::all>
    static F exp2(F t) {
        return _mm512_scalef_ps(exp2_polynomial<Avx512, Exp2Floor, digits>(_mm512_reduce_ps(t, 0x09)), t);
    }
    template <Digits digits = Digits::all>
    static F exp2(F whole, F rest) {  // 2^(whole + rest)
        return times_exp2(exp2_polynomial<Avx512, Exp2Nearest, digits>(rest), whole);
    }
    static F times_exp2(F p, F whole) { return _mm512_scalef_ps(p, whole); }
    static F split(F x, F& e) {
        const __m512i offset = _mm512_sub_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x3f400000));
        e = _mm512_cvtepi32_ps(_mm512_srai_epi32(offset, 23));
        const __m512i mantissa = _mm512_and_si512(offset, _mm512_set1_epi32(0x007fffff));
        return _mm512_castsi512_ps(_mm512_add_epi32(mantissa, _mm512_set1_epi32(0x3f400000)));
    }

    // rows[i] + 0..3 of every row i, as four vectors that hold one column each
    template <class T>
    static void load_columns4(const T* base, const std::size_t* rows, F* columns) {
        for (std::size_t k = 0; k < 4; ++k) columns[k] = four_rows(base, rows + k);
        transpose4(columns);
    }
    static void store_columns4(float* base, const std::size_t* rows, F* columns) {
        transpose4(columns);
        for (std::size_t k = 0; k < 4; ++k) {
            _mm_storeu_ps(base + rows[k], _mm512_castps512_ps128(columns[k]));
            _mm_storeu_ps(base + rows[4 + k], _mm512_extractf32x4_ps(columns[k], 1));
            _mm_storeu_ps(base + rows[8 + k], _mm512_extractf32x4_ps(columns[k], 2));
            _mm_storeu_ps(base + rows[12 + k], _mm512_extractf32x4_ps(columns[k], 3));
        }
    }

    static void store(std::uint16_t* p, F x) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
    static void store_first(std::uint16_t* p, F x, std::size_t n) {
        _mm256_mask_storeu_epi16(p, first(n), _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
    static F abs(F x) { return _mm512_abs_ps(x); }
    static F round(F x) { return _mm512_roundscale_ps(x, 0x08); }
    static void store(std::int8_t* p, F integer) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(integer)));
    }
    static void store_first(std::int8_t* p, F integer, std::size_t n) {
        _mm_mask_storeu_epi8(p, first(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(integer)));
    }
    static void store(std::uint8_t* p, F integer) { store(reinterpret_cast<std::int8_t*>(p), integer); }
    static void store_first(std::uint8_t* p, F integer, std::size_t n) {
        store_first(reinterpret_cast<std::int8_t*>(p), integer, n);
    }
    static F clamp(F x, F low, F high) { return _mm512_min_ps(_mm512_max_ps(x, low), high); }

private:
    static __m128 quad(const float* p) { return _mm_loadu_ps(p); }
    static __m128 quad(const std::uint16_t* p) {
        return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    }
    static __m128 quad(const std::int8_t* p) {
        int bytes;
        __builtin_memcpy(&bytes, p, sizeof bytes);
        return _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(bytes)));
    }
    template <class T>
    static F four_rows(const T* base, const std::size_t* rows) {
        F x = _mm512_castps128_ps512(quad(base + rows[0]));
        x = _mm512_insertf32x4(x, quad(base + rows[4]), 1);
        x = _mm512_insertf32x4(x, quad(base + rows[8]), 2);
        return _mm512_insertf32x4(x, quad(base + rows[12]), 3);
    }
    static F low_pairs(F a, F b) {
        return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    }
    static F high_pairs(F a, F b) {
        return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
    }
    static void transpose4(F* x) {
        const F a = _mm512_unpacklo_ps(x[0], x[1]);
        const F b = _mm512_unpackhi_ps(x[0], x[1]);
        const F c = _mm512_unpacklo_ps(x[2], x[3]);
        const F d = _mm512_unpackhi_ps(x[2], x[3]);
        x[0] = low_pairs(a, c);
        x[1] = high_pairs(a, c);
        x[2] = low_pairs(b, d);
        x[3] = high_pairs(b, d);
    }
};

}  // namespace
