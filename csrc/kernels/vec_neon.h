// The vector wrapper over AArch64 Advanced SIMD: 4 lanes. The members are described in docs/adding-an-isa.md.
// 32-bit ARM runs the scalar kernels: its NEON flushes subnormals, has no division and no double lanes.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "exp2.h"
#include "exponent.h"

namespace {

struct Neon {
    using Real = float;
    using F = float32x4_t;
    struct Wide {
        float64x2_t low, high;
    };
    static constexpr std::size_t width = 4;
    static constexpr bool has_blocks = true;
    static constexpr std::size_t most_block_classes = 48;
    static constexpr bool has_streams = false;
    static constexpr bool has_half = false;
    static constexpr bool has_fma = true;
    static constexpr bool has_quads = true;  // 16 bytes from and to four vectors
    static constexpr bool max_keeps_nan = true;  // and so tells whether a row is finite
    static constexpr bool in_step = false;  // see exp2.h
    static constexpr bool loads_constants = true;  // see exp2.h
    static constexpr bool exp2_drops_rest = true;

    static F set1(float x) { return vdupq_n_f32(x); }
    static F load(const float* p) { return vld1q_f32(p); }
    static F load(const std::uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
    static F load(const std::int8_t* p) {
        std::uint32_t bytes;
        __builtin_memcpy(&bytes, p, sizeof bytes);
        const int16x8_t words = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(bytes)));
        return vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
    }
    static F load(const std::uint8_t* p) {
        std::uint32_t bytes;
        __builtin_memcpy(&bytes, p, sizeof bytes);
        const uint16x8_t words = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)));
        return vcvtq_f32_u32(vmovl_u16(vget_low_u16(words)));
    }
    template <class T>
    static F load_first(const T* p, std::size_t n, F fill) {
        T part[width] = {};
        for (std::size_t i = 0; i < n; ++i) part[i] = p[i];
        static const std::uint32_t lane[width] = {0, 1, 2, 3};
        const uint32x4_t inside = vcltq_u32(vld1q_u32(lane), vdupq_n_u32(static_cast<std::uint32_t>(n)));
        return vbslq_f32(inside, load(part), fill);
    }
    static void store(float* p, F x) { vst1q_f32(p, x); }
    template <class T>
    static void store_first(T* p, F x, std::size_t n) {
        T part[width];
        store(part, x);
        for (std::size_t i = 0; i < n; ++i) p[i] = part[i];
    }
    static void stream(float* p, F x) { store(p, x); }
    static void fence() {}
    static void prefetch(const void* p) { __builtin_prefetch(p); }

    static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
    static F max(F a, F b) { return vmaxq_f32(a, b); }
    static F min(F a, F b) { return vminq_f32(a, b); }
    static F nan_or_zero(F x) { return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vceqq_f32(x, x))); }
    static F add_product_unless_zero(F p, F d, F sum) { return vfmaq_f32(sum, p, zero_where_improbable(p, d)); }
    static F zero_where_improbable(F p, F x) { return zero_below(p, vdupq_n_f32(0x1p-126F), x); }
    static F zero_where_zero(F w, F x) {
        return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vceqzq_f32(w)));
    }
    static F zero_below(F y, F least, F x) {
        return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), vcltq_f32(y, least)));
    }
    static float sum(F x) { return vaddvq_f32(x); }
    static float largest(F x) { return vmaxvq_f32(x); }

    static Wide wide(F x) { return {vcvt_f64_f32(vget_low_f32(x)), vcvt_high_f64_f32(x)}; }
    static F narrow(Wide x) { return vcvt_high_f32_f64(vcvt_f32_f64(x.low), x.high); }
    static void store(double* p, Wide x) {
        vst1q_f64(p, x.low);
        vst1q_f64(p + 2, x.high);
    }
    static Wide set1_wide(double x) { return {vdupq_n_f64(x), vdupq_n_f64(x)}; }
    static Wide add(Wide a, Wide b) { return {vaddq_f64(a.low, b.low), vaddq_f64(a.high, b.high)}; }
    static Wide subtract(Wide a, Wide b) { return {vsubq_f64(a.low, b.low), vsubq_f64(a.high, b.high)}; }
    static Wide multiply(Wide a, Wide b) { return {vmulq_f64(a.low, b.low), vmulq_f64(a.high, b.high)}; }
    static double product_wide(Wide x) {
        const float64x2_t s = vmulq_f64(x.low, x.high);
        return vgetq_lane_f64(s, 0) * vgetq_lane_f64(s, 1);
    }
    static double sum_wide(Wide x) { return vaddvq_f64(vaddq_f64(x.low, x.high)); }

    template <Digits digits = Digits::all>
    static F exp2(F t) {
        t = vmaxq_f32(t, set1(-127.F));  // 2^-127 comes out as 0; this max keeps a NaN
        const F n = vrndnq_f32(t);
        const F p = exp2_polynomial<Neon, Exp2Nearest, digits>(vsubq_f32(t, n));
        const int32x4_t exponent = vshlq_n_s32(vcvtq_s32_f32(n), 23);  // 0 for a NaN, which p then is
        return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), exponent));
    }
    template <Digits digits = Digits::all>
    static F exp2(F whole, F rest) {  // 2^(whole + rest)
        const F p = exp2_polynomial<Neon, Exp2Nearest, digits>(rest);
        const int32x4_t exponent = vshlq_n_s32(vcvtq_s32_f32(whole), 23);  // 0 for a NaN, which p then is
        return zero_below(whole, set1(-126.F), vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), exponent)));
    }
    static F split(F x, F& e) {
        const int32x4_t offset = vsubq_s32(vreinterpretq_s32_f32(x), vdupq_n_s32(0x3f400000));
        e = vcvtq_f32_s32(vshrq_n_s32(offset, 23));
        const int32x4_t mantissa = vandq_s32(offset, vdupq_n_s32(0x007fffff));
        return vreinterpretq_f32_s32(vaddq_s32(mantissa, vdupq_n_s32(0x3f400000)));
    }

    template <class T>
    static void load_columns4(const T* base, const std::size_t* rows, F* columns) {
        for (std::size_t k = 0; k < 4; ++k) columns[k] = load(base + rows[k]);
        transpose4(columns);
    }
    static void store_columns4(float* base, const std::size_t* rows, F* columns) {
        transpose4(columns);
        for (std::size_t k = 0; k < 4; ++k) store(base + rows[k], columns[k]);
    }

    static void store(std::uint16_t* p, F x) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x))); }
    static F abs(F x) { return vabsq_f32(x); }
    static F round(F x) { return vrndnq_f32(x); }
    static void store(std::int8_t* p, F integer) {
        const int16x4_t words = vmovn_s32(vcvtq_s32_f32(integer));
        const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
        const std::uint32_t four = vget_lane_u32(vreinterpret_u32_s8(bytes), 0);
        __builtin_memcpy(p, &four, sizeof four);
    }
    static void store_quad(std::int8_t* p, const F* integers) {
        const int16x8_t low = vcombine_s16(word(integers[0]), word(integers[1]));
        const int16x8_t high = vcombine_s16(word(integers[2]), word(integers[3]));
        vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
    }
    static void load_quad(const std::int8_t* p, F* x) {
        const int8x16_t bytes = vld1q_s8(p);
        const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
        x[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
        x[1] = vcvtq_f32_s32(vmovl_high_s16(low));
        x[2] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
        x[3] = vcvtq_f32_s32(vmovl_high_s16(high));
    }
    static void store(std::uint8_t* p, F integer) { store(reinterpret_cast<std::int8_t*>(p), integer); }
    static F clamp(F x, F low, F high) {
        return vminq_f32(vmaxnmq_f32(x, low), high);  // maxnm drops a NaN in favour of low
    }

private:
    static int16x4_t word(F integer) { return vmovn_s32(vcvtq_s32_f32(integer)); }
    static void transpose4(F* x) {
        const F a = vtrn1q_f32(x[0], x[1]);
        const F b = vtrn2q_f32(x[0], x[1]);
        const F c = vtrn1q_f32(x[2], x[3]);
        const F d = vtrn2q_f32(x[2], x[3]);
        x[0] = pairs1(a, c);
        x[1] = pairs1(b, d);
        x[2] = pairs2(a, c);
        x[3] = pairs2(b, d);
    }
    static F pairs1(F a, F b) {
        return vreinterpretq_f32_f64(vtrn1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
    }
    static F pairs2(F a, F b) {
        return vreinterpretq_f32_f64(vtrn2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
    }
};

}  // namespace
