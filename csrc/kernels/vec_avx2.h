// The vector wrapper over AVX2, FMA and F16C: 8 lanes. The members are described in docs/adding-an-isa.md.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "exp2.h"
#include "exponent.h"

namespace {

struct Avx2 {
    using Real = float;
    using F = __m256;
    struct Wide {
        __m256d low, high;
    };
    static constexpr std::size_t width = 8;
    static constexpr bool has_blocks = true;
    static constexpr std::size_t most_block_classes = 48;
    static constexpr bool has_streams = true;
    static constexpr bool has_half = false;
    static constexpr bool has_fma = true;
    static constexpr bool has_quads = false;
    static constexpr bool max_keeps_nan = false;
    static constexpr bool in_step = true;  // see exp2.h
    static constexpr bool loads_constants = false;  // see exp2.h
    static constexpr bool exp2_drops_rest = true;

    static F set1(float x) { return _mm256_set1_ps(x); }
    static F load(const float* p) { return _mm256_loadu_ps(p); }
    static F load(const std::uint16_t* p) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    }
    static F load(const std::int8_t* p) {
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
    }
    static F load(const std::uint8_t* p) {
        return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
    }
    static F load_first(const float* p, std::size_t n, F fill) {
        const __m256i mask = first(n);
        return _mm256_blendv_ps(fill, _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
    }
    template <class T>
    static F load_first(const T* p, std::size_t n, F fill) {
        T part[width] = {};
        __builtin_memcpy(part, p, n * sizeof(T));
        return _mm256_blendv_ps(fill, load(part), _mm256_castsi256_ps(first(n)));
    }
    static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
    static void store_first(float* p, F x, std::size_t n) { _mm256_maskstore_ps(p, first(n), x); }
    static void stream(float* p, F x) { _mm256_stream_ps(p, x); }
    static void fence() { _mm_sfence(); }
    static void prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

    static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
    static F max(F a, F b) { return _mm256_max_ps(a, b); }
    static F min(F a, F b) { return _mm256_min_ps(a, b); }
    static F nan_or_zero(F x) { return _mm256_and_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q), x); }
    static F add_product_unless_zero(F p, F d, F sum) { return _mm256_fmadd_ps(p, zero_where_improbable(p, d), sum); }
    static F zero_where_improbable(F p, F x) { return zero_below(p, _mm256_set1_ps(0x1p-126F), x); }
    static F zero_where_zero(F w, F x) {
        return _mm256_and_ps(_mm256_cmp_ps(w, _mm256_setzero_ps(), _CMP_NEQ_UQ), x);
    }
    static F zero_below(F y, F least, F x) { return _mm256_and_ps(_mm256_cmp_ps(y, least, _CMP_NLT_UQ), x); }
    static float sum(F x) {
        __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
        s = _mm_add_ps(s, _mm_movehl_ps(s, s));
        return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
    }
    static float largest(F x) {
        __m128 m = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
        m = _mm_max_ps(m, _mm_movehl_ps(m, m));
        return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
    }

    static Wide wide(F x) {
        return {_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
    }
    static F narrow(Wide x) { return _mm256_set_m128(_mm256_cvtpd_ps(x.high), _mm256_cvtpd_ps(x.low)); }
    static void store(double* p, Wide x) {
        _mm256_storeu_pd(p, x.low);
        _mm256_storeu_pd(p + 4, x.high);
    }
    static Wide set1_wide(double x) { return {_mm256_set1_pd(x), _mm256_set1_pd(x)}; }
    static Wide add(Wide a, Wide b) { return {a.low + b.low, a.high + b.high}; }
    static Wide subtract(Wide a, Wide b) { return {a.low - b.low, a.high - b.high}; }
    static Wide multiply(Wide a, Wide b) { return {a.low * b.low, a.high * b.high}; }
    static double sum_wide(Wide x) {
        const __m256d s = x.low + x.high;
        const __m128d t = _mm256_castpd256_pd128(s) + _mm256_extractf128_pd(s, 1);
        return t[0] + t[1];
    }
    static double product_wide(Wide x) {
        const __m256d s = x.low * x.high;
        const __m128d t = _mm256_castpd256_pd128(s) * _mm256_extractf128_pd(s, 1);
        return t[0] * t[1];
    }

    template <Digits digits = Digits::all>
    static F exp2(F t) {
        // 2^-127 comes out as 0; max returns its second operand, so a NaN stays
        t = _mm256_max_ps(set1(-127.F), t);
        const F n = _mm256_round_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m256i p = _mm256_castps_si256(exp2_polynomial<Avx2, Exp2Nearest, digits>(t - n));
        const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);  // 0 for a NaN, which p then is
        return _mm256_castsi256_ps(_mm256_add_epi32(p, exponent));
    }
    template <Digits digits = Digits::all>
    static F exp2(F whole, F rest) {  // 2^(whole + rest)
        return times_exp2(exp2_polynomial<Avx2, Exp2Nearest, digits>(rest), whole);
    }
    static F times_exp2(F p, F whole) {
        const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);  // 0 for a NaN, which p then is
        const __m256i product = _mm256_add_epi32(_mm256_castps_si256(p), exponent);
        return zero_below(whole, set1(-126.F), _mm256_castsi256_ps(product));
    }
    static F split(F x, F& e) {
        const __m256i offset = _mm256_sub_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(0x3f400000));
        e = _mm256_cvtepi32_ps(_mm256_srai_epi32(offset, 23));
        const __m256i mantissa = _mm256_and_si256(offset, _mm256_set1_epi32(0x007fffff));
        return _mm256_castsi256_ps(_mm256_add_epi32(mantissa, _mm256_set1_epi32(0x3f400000)));
    }

    template <class T>
    static void load_columns4(const T* base, const std::size_t* rows, F* columns) {
        for (std::size_t k = 0; k < 4; ++k) {
            columns[k] = _mm256_insertf128_ps(_mm256_castps128_ps256(quad(base + rows[k])), quad(base + rows[4 + k]), 1);
        }
        transpose4(columns);
    }
    static void store_columns4(float* base, const std::size_t* rows, F* columns) {
        transpose4(columns);
        for (std::size_t k = 0; k < 4; ++k) {
            _mm_storeu_ps(base + rows[k], _mm256_castps256_ps128(columns[k]));
            _mm_storeu_ps(base + rows[4 + k], _mm256_extractf128_ps(columns[k], 1));
        }
    }

    static void store(std::uint16_t* p, F x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), halves(x)); }
    static void store_first(std::uint16_t* p, F x, std::size_t n) {
        const __m128i h = halves(x);
        __builtin_memcpy(p, &h, n * sizeof *p);
    }
    static F abs(F x) { return _mm256_andnot_ps(set1(-0.F), x); }
    static F round(F x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static void store(std::int8_t* p, F integer) { store_first(p, integer, width); }
    static void store_first(std::int8_t* p, F integer, std::size_t n) {
        const __m128i b = _mm_packs_epi16(words(integer), _mm_setzero_si128());
        __builtin_memcpy(p, &b, n);
    }
    static void store(std::uint8_t* p, F integer) { store_first(p, integer, width); }
    static void store_first(std::uint8_t* p, F integer, std::size_t n) {
        const __m128i b = _mm_packus_epi16(words(integer), _mm_setzero_si128());
        __builtin_memcpy(p, &b, n);
    }
    static F clamp(F x, F low, F high) { return _mm256_min_ps(_mm256_max_ps(x, low), high); }

private:
    static __m256i first(std::size_t n) {
        const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane);
    }
    static __m128i halves(F x) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT); }
    static __m128i words(F integer) {
        const __m256i i = _mm256_cvtps_epi32(integer);
        return _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    }
    static __m128 quad(const float* p) { return _mm_loadu_ps(p); }
    static __m128 quad(const std::uint16_t* p) {
        return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    }
    static __m128 quad(const std::int8_t* p) {
        int bytes;
        __builtin_memcpy(&bytes, p, sizeof bytes);
        return _mm_cvtepi32_ps(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(bytes)));
    }
    static F low_pairs(F a, F b) {
        return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
    }
    static F high_pairs(F a, F b) {
        return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
    }
    static void transpose4(F* x) {
        const F a = _mm256_unpacklo_ps(x[0], x[1]);
        const F b = _mm256_unpackhi_ps(x[0], x[1]);
        const F c = _mm256_unpacklo_ps(x[2], x[3]);
        const F d = _mm256_unpackhi_ps(x[2], x[3]);
        x[0] = low_pairs(a, c);
        x[1] = high_pairs(a, c);
        x[2] = low_pairs(b, d);
        x[3] = high_pairs(b, d);
    }
};

}  // namespace
