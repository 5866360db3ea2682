// binary16 <-> binary32 in integer arithmetic, for instruction sets without a conversion. Round half to even; overflow
// becomes infinity; NaN stays NaN.
#pragma once

#include <cstdint>

namespace {

inline float float_from_bits(std::uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

inline std::uint32_t bits_from_float(float x) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float float_from_half(std::uint16_t h) {
    const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000U) << 16;
    const std::uint32_t magnitude = h & 0x7fffU;
    if (magnitude >= 0x7c00U) return float_from_bits(sign | 0x7f800000U | (magnitude & 0x3ffU) << 13);
    // scaling by 2^112 moves the exponent to its new bias and normalises subnormals
    const float x = float_from_bits(magnitude << 13) * float_from_bits(0x77800000U);
    return float_from_bits(bits_from_float(x) | sign);
}

inline std::uint16_t half_from_float(float x) {
    const std::uint32_t bits = bits_from_float(x);
    const std::uint32_t sign = bits >> 16 & 0x8000U;
    const std::uint32_t magnitude = bits & 0x7fffffffU;
    std::uint32_t h;
    if (magnitude > 0x7f800000U) {
        h = 0x7e00U;
    } else if (magnitude >= 0x477ff000U) {  // 65520 and above round to infinity
        h = 0x7c00U;
    } else if (magnitude < 0x38800000U) {  // subnormal: adding 0.5 leaves the 10 bits, rounded, at the bottom
        h = bits_from_float(float_from_bits(magnitude) + 0.5F) - 0x3f000000U;
    } else {
        h = (magnitude + 0xfffU + (magnitude >> 13 & 1U) - 0x38000000U) >> 13;
    }
    return static_cast<std::uint16_t>(sign | h);
}

}  // namespace
