// What arrives from a neighbour is decoded without a crash; what is encoded decodes to nearly the same; every instruction
// set gives the scalar kernels' bytes.
#include <cmath>

#include "bytes.h"
#include "fedagg/codec.h"
#include "fedagg/cpu.h"
#include "fedagg/error.h"

using namespace fedagg;

namespace {

void hostile_top_k(Bytes bytes) {
    const std::size_t rows = bytes.below(5), classes = 1 + bytes.below(40), k = 1 + bytes.below(40);
    const auto kept = bytes.array<std::uint16_t>(rows * k);
    const auto values = bytes.array<float>(rows * k), rest = bytes.array<float>(rows);
    std::vector<float> out(rows * classes);
    try {
        decode_top_k(kept.data(), values.data(), rest.data(), rows, classes, k, out.data());
    } catch (const ArgumentError&) {
    }
}

void packing(Bytes bytes) {
    const std::size_t rows = bytes.below(5), channels = 1 + bytes.below(40);
    auto bits = bytes.array<std::uint8_t>(channels);
    for (auto& b : bits) b %= 9;
    const auto packed = bytes.array<std::uint8_t>(rows * packed_bytes(bits.data(), channels));
    std::vector<std::uint8_t> codes(rows * channels), again(packed.size()), twice(codes.size());
    unpack_bits(packed.data(), bits.data(), rows, channels, codes.data());
    pack_bits(codes.data(), bits.data(), rows, channels, again.data());
    unpack_bits(again.data(), bits.data(), rows, channels, twice.data());
    require(codes == twice, "packed bits changed on the way");
}

void top_k(Bytes bytes) {
    const std::size_t rows = bytes.below(5), classes = 1 + bytes.below(40), k = 1 + bytes.below(classes);
    const auto x = bytes.array<float>(rows * classes);
    std::vector<std::uint16_t> kept(rows * k);
    std::vector<float> values(rows * k), rest(rows), back(rows * classes);
    encode_top_k(x.data(), rows, classes, k, kept.data(), values.data(), rest.data());
    decode_top_k(kept.data(), values.data(), rest.data(), rows, classes, k, back.data());
    for (std::size_t i = 0; i < rows * k; ++i) {
        const float original = x[i / k * classes + kept[i]], decoded = back[i / k * classes + kept[i]];
        require(std::isnan(values[i]) || (original == values[i] && decoded == values[i]), "a kept logit changed");
    }
}

void affine(Bytes bytes) {
    const std::size_t rows = bytes.below(4), channels = bytes.below(70), count = rows * channels;
    const bool any = bytes.below(16) == 1;  // else nothing that is refused, or hardly anything would be encoded
    auto low = bytes.array<float>(channels), step = bytes.array<float>(channels);
    auto bits = bytes.array<std::uint8_t>(channels);
    auto x = bytes.array<float>(count);
    for (auto& b : bits) b %= any ? 10 : 9;
    for (auto* some : {&low, &step, &x}) {
        for (float& value : *some) value = any || std::isfinite(value) ? value : 1;
    }
    for (float& s : step) s = any || s > 0 ? s : (s < 0 ? -s : 1);
    std::vector<std::uint8_t> first;
    for (const Kernels* kernels : available_kernels()) {
        set_active_isa(kernels->name);
        std::vector<std::uint8_t> codes(count);
        std::vector<float> back(count);
        try {
            encode_affine(x.data(), low.data(), step.data(), bits.data(), rows, channels, codes.data());
            decode_affine(codes.data(), low.data(), step.data(), rows, channels, back.data());
        } catch (const ArgumentError&) {
            require(first.empty(), "instruction sets disagree on what is refused");
            return;
        }
        for (std::size_t i = 0; i < count; ++i) require(codes[i] < 1U << bits[i % channels], "a code has more bits than its channel");
        if (first.empty()) first = codes;
        require(codes == first, "instruction sets disagree on affine codes");
    }
}

void conversions(Bytes bytes) {
    const std::size_t rows = bytes.below(4), classes = 1 + bytes.below(70), count = rows * classes;
    const auto x = bytes.array<float>(count);
    std::vector<std::int8_t> first_bytes;
    std::vector<std::uint16_t> first_half;
    for (const Kernels* kernels : available_kernels()) {
        set_active_isa(kernels->name);
        std::vector<std::int8_t> quantised(count);
        std::vector<std::uint16_t> half(count);
        std::vector<float> scale(rows), back(count);
        quantise_logits(x.data(), rows, classes, quantised.data(), scale.data());
        dequantise_logits(quantised.data(), scale.data(), rows, classes, back.data());
        for (std::size_t i = 0; i < count; ++i) {
            const float s = scale[i / classes];
            require(std::isnan(s) ? std::isnan(back[i]) : std::fabs(back[i] - x[i]) <= 0.501F * s + 2e-36F, "int8 is off");
        }
        to_f16(x.data(), count, half.data());
        for (std::size_t i = 0; i < count; ++i) {
            if (std::isnan(x[i])) half[i] = 0x7e00;  // which NaN it is does not matter
        }
        if (first_half.empty()) {
            first_half = half;
            first_bytes = quantised;
        }
        require(half == first_half, "instruction sets disagree on f16");
        require(quantised == first_bytes, "instruction sets disagree on int8");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const Bytes rest(data + 1, size - 1);
    switch (data[0] % 5) {
        case 0: hostile_top_k(rest); break;
        case 1: packing(rest); break;
        case 3: top_k(rest); break;
        case 4: affine(rest); break;
        default: conversions(rest);
    }
    return 0;
}
