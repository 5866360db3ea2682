// What travels: conversions between floats and f16, bytes with a scale per row, and bytes with an affine map per channel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "half.h"
#include "inline.h"
#include "log.h"

namespace {

template <class V, class From, class To>
void convert_run(const From* x, std::size_t count, To* out) {
    constexpr std::size_t w = V::width;
    std::size_t i = 0;
    for (; i + w <= count; i += w) V::store(out + i, V::load(x + i));
    if (i < count) V::store_first(out + i, V::load_first(x + i, count - i, V::set1(0)), count - i);
}

template <class V>
void f32_to_f16(const float* x, std::size_t count, std::uint16_t* out) {
    convert_run<V>(x, count, out);
}

template <class V>
void f16_to_f32(const std::uint16_t* x, std::size_t count, float* out) {
    convert_run<V>(x, count, out);
}

// Vectors that cover a row: four(c) for four from c on where the wrapper moves 16 bytes at a time, one(c) for one. The last
// one may overlap its predecessor: writing the same again is cheaper than a part. Rows of a vector at least.
template <class V, class Four, class One>
FEDAGG_INLINE void cover_row(std::size_t classes, const Four& four, const One& one) {
    constexpr std::size_t w = V::width;
    std::size_t c = 0;
    if constexpr (V::has_quads) {
        for (; c + 4 * w <= classes; c += 4 * w) four(c);
    }
    for (; c + w <= classes; c += w) one(c);
    if (c < classes) one(classes - w);
}

// f32_to_i8_rows__<isa>
template <class V>
void f32_to_i8_rows(const float* x, std::size_t rows, std::size_t classes, std::int8_t* out, float* row_scale) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const F zero = V::set1(0);
    for (std::size_t n = 0; n < rows; ++n, x += classes, out += classes) {
        F largest = zero, not_finite = zero;
        const auto look = [&](F v) FEDAGG_INLINE_LAMBDA {
            largest = V::max(V::abs(v), largest);
            if constexpr (!V::max_keeps_nan) not_finite = not_finite + (v - v);  // NaN once there is a NaN or an infinity
        };
        if (classes < w) {
            look(V::load_first(x, classes, zero));
        } else {
            const auto one = [&](std::size_t c) FEDAGG_INLINE_LAMBDA { look(V::load(x + c)); };
            cover_row<V>(classes, [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
                for (std::size_t i = 0; i < 4; ++i) one(c + i * w);
            }, one);
        }
        // below that a scale would be subnormal and have few digits
        const float most = V::largest(largest);
        const bool is_zero = most < 127 * smallest_normal;
        const float maximum = is_zero ? 0 : most, bad = V::max_keeps_nan ? most - most : V::sum(not_finite);
        float row = maximum / 127.F;
        if (row * 127.F > 3.40282347e+38F) row = float_from_bits(bits_from_float(row) - 1);  // it would decode to infinity
        row_scale[n] = row + bad;
        if (is_zero || bad != bad) {
            __builtin_memset(out, 0, classes);
            continue;
        }
        const F scale = V::set1(row), limit = V::set1(127.F);
        const auto code = [&](F v) { return V::clamp(V::round(v / scale), -limit, limit); };
        if (classes < w) {
            V::store_first(out, code(V::load_first(x, classes, zero)), classes);
            continue;
        }
        cover_row<V>(classes, [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
            if constexpr (V::has_quads) {
                F four[4];
                for (std::size_t i = 0; i < 4; ++i) four[i] = code(V::load(x + c + i * w));
                V::store_quad(out + c, four);
            }
        }, [&](std::size_t c) FEDAGG_INLINE_LAMBDA { V::store(out + c, code(V::load(x + c))); });
    }
}

template <class V>
void i8_to_f32_rows(const std::int8_t* x, const float* row_scale, std::size_t rows, std::size_t classes, float* out) {
    constexpr std::size_t w = V::width;
    for (std::size_t n = 0; n < rows; ++n, x += classes, out += classes) {
        const auto scale = V::set1(row_scale[n]);
        if (classes < w) {
            V::store_first(out, V::load_first(x, classes, scale) * scale, classes);
            continue;
        }
        cover_row<V>(classes, [&](std::size_t c) FEDAGG_INLINE_LAMBDA {
            if constexpr (V::has_quads) {
                typename V::F four[4];
                V::load_quad(x + c, four);
                for (std::size_t i = 0; i < 4; ++i) V::store(out + c + i * w, four[i] * scale);
            }
        }, [&](std::size_t c) FEDAGG_INLINE_LAMBDA { V::store(out + c, V::load(x + c) * scale); });
    }
}

// f32_to_affine_rows__<isa>
template <class V>
bool f32_to_affine_rows(const float* x, const float* low, const float* step, const float* top, std::size_t rows,
                        std::size_t channels, std::uint8_t* out) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const F zero = V::set1(0), one = V::set1(1);
    bool numbers = true;
    for (std::size_t n = 0; n < rows; ++n, x += channels, out += channels) {
        F seen = zero;
        for (std::size_t d = 0; d < channels; d += w) {
            const std::size_t count = channels - d < w ? channels - d : w;
            const F v = V::load_first(x + d, count, zero);
            const F q = (v - V::load_first(low + d, count, zero)) / V::load_first(step + d, count, one);
            V::store_first(out + d, V::round(V::clamp(q, zero, V::load_first(top + d, count, zero))), count);
            seen = seen + v * zero;  // NaN once there is a NaN or an infinity
        }
        const float total = V::sum(seen);
        numbers = numbers && total == total;
    }
    return numbers;
}

template <class V>
void affine_to_f32_rows(const std::uint8_t* x, const float* low, const float* step, std::size_t rows, std::size_t channels,
                        float* out) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const F zero = V::set1(0);
    for (std::size_t n = 0; n < rows; ++n, x += channels, out += channels) {
        for (std::size_t d = 0; d < channels; d += w) {
            const std::size_t count = channels - d < w ? channels - d : w;
            const F code = V::load_first(x + d, count, zero);
            const F value = V::fma(code, V::load_first(step + d, count, zero), V::load_first(low + d, count, zero));
            V::store_first(out + d, value, count);
        }
    }
}

}  // namespace
