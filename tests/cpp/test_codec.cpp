#include <cstring>

#include "check.h"
#include "fedagg/codec.h"
#include "fedagg/cpu.h"

using namespace fedagg;

CASE("halves agree with the scalar conversion bit for bit") {
    std::vector<std::uint16_t> every(65536), back(65536), scalar(65536);
    std::vector<float> wide(65536), wide_scalar(65536);
    for (std::size_t i = 0; i < every.size(); ++i) every[i] = static_cast<std::uint16_t>(i);
    from_f16(every.data(), every.size(), wide.data());
    kernels_scalar.f16_to_f32(every.data(), every.size(), wide_scalar.data());
    for (std::size_t i = 0; i < every.size(); ++i) {
        CHECK(wide[i] == wide_scalar[i] || (std::isnan(wide[i]) && std::isnan(wide_scalar[i])));
    }
    to_f16(wide.data(), wide.size(), back.data());
    for (std::size_t i = 0; i < every.size(); ++i) CHECK(back[i] == every[i] || std::isnan(wide[i]));
    auto values = check::normal(20011, 9, 100.F);
    for (std::size_t i = 0; i < values.size(); i += 3) values[i] *= 1e-7F;
    to_f16(values.data(), values.size(), back.data());
    kernels_scalar.f32_to_f16(values.data(), values.size(), scalar.data());
    CHECK(std::memcmp(back.data(), scalar.data(), values.size() * 2) == 0);
}

CASE("bytes with a scale per row") {
    for (const std::size_t c : std::initializer_list<std::size_t>{1, 3, 8, 10, 17, 33, 100}) {
        auto x = check::normal(5 * c, 5);
        x[2 * c + c - 1] = NAN;
        std::vector<std::int8_t> bytes(5 * c);
        std::vector<float> scale(5), back(5 * c);
        quantise_logits(x.data(), 5, c, bytes.data(), scale.data());
        dequantise_logits(bytes.data(), scale.data(), 5, c, back.data());
        for (std::size_t i = 0; i < 5 * c; ++i) {
            CHECK(i / c == 2 ? std::isnan(back[i]) : std::fabs(back[i] - x[i]) <= 0.5001F * scale[i / c]);
        }
    }
}

CASE("bytes with an affine map per channel") {
    for (const std::size_t d : std::initializer_list<std::size_t>{1, 7, 8, 16, 19, 64, 100}) {
        auto x = check::normal(4 * d, 6, 20.F);
        const std::vector<float> low(d, -30.F), step(d, 0.25F);
        std::vector<std::uint8_t> codes(4 * d);
        std::vector<float> back(4 * d);
        encode_affine(x.data(), low.data(), step.data(), nullptr, 4, d, codes.data());
        decode_affine(codes.data(), low.data(), step.data(), 4, d, back.data());
        for (std::size_t i = 0; i < 4 * d; ++i) {
            const float inside = std::fmin(std::fmax(x[i], -30.F), -30.F + 255 * 0.25F);
            CHECK(std::fabs(back[i] - inside) <= 0.1251F);
        }
        x[3 * d] = INFINITY;
        CHECK_THROWS(encode_affine(x.data(), low.data(), step.data(), nullptr, 4, d, codes.data()), "x_ND: got a NaN or an infinity");
    }
}

CASE("the k largest, and what stands for the rest") {
    const std::size_t n = 5, c = 23, k = 4;
    const auto x = check::normal(n * c, 7);
    std::vector<std::uint16_t> kept(n * k);
    std::vector<float> values(n * k), rest(n), back(n * c);
    encode_top_k(x.data(), n, c, k, kept.data(), values.data(), rest.data());
    decode_top_k(kept.data(), values.data(), rest.data(), n, c, k, back.data());
    for (std::size_t row = 0; row < n; ++row) {
        const float *const before = x.data() + row * c, *const after = back.data() + row * c;
        double sum_before = 0, sum_after = 0;
        for (std::size_t i = 0; i < c; ++i) {
            sum_before += std::exp(static_cast<double>(before[i]));
            sum_after += std::exp(static_cast<double>(after[i]));
            if (before[i] >= values[row * k + k - 1]) CHECK(after[i] == before[i]);
        }
        CHECK(check::close(sum_after, sum_before, 1e-6));  // so the kept classes' softmax is what it was
    }
    kept[3] = 23;
    CHECK_THROWS(decode_top_k(kept.data(), values.data(), rest.data(), n, c, k, back.data()), "classes_NK: got 23");
    CHECK_THROWS(encode_top_k(x.data(), n, c, 24, kept.data(), values.data(), rest.data()), "k: got 24 of 23");
}

CASE("codes of some bits each") {
    const std::vector<std::uint8_t> bits = {3, 8, 0, 1, 5, 7, 2};
    const std::size_t n = 6, d = bits.size(), size = packed_bytes(bits.data(), d);
    CHECK(size == 4);
    std::vector<std::uint8_t> codes(n * d), packed(n * size), back(n * d);
    for (std::size_t i = 0; i < codes.size(); ++i) {
        codes[i] = static_cast<std::uint8_t>((37 * i + 11) & ((1U << bits[i % d]) - 1U));
    }
    pack_bits(codes.data(), bits.data(), n, d, packed.data());
    unpack_bits(packed.data(), bits.data(), n, d, back.data());
    CHECK(back == codes);
    CHECK(packed[0] == static_cast<std::uint8_t>(codes[0] | codes[1] << 3));
    codes[3] = 2;
    CHECK_THROWS(pack_bits(codes.data(), bits.data(), n, d, packed.data()), "codes_ND: got 2 at row 0, channel 3");
}

CASE("rows without anything") {
    std::vector<float> scale(3, 5.F);
    quantise_logits(nullptr, 3, 0, nullptr, scale.data());
    for (const float s : scale) CHECK(s == 0);
    dequantise_logits(nullptr, scale.data(), 3, 0, nullptr);
    encode_affine(nullptr, nullptr, nullptr, nullptr, 3, 0, nullptr);
    decode_affine(nullptr, nullptr, nullptr, 3, 0, nullptr);
}

CASE("names of instruction sets") {
    CHECK_THROWS(set_active_isa("mmx"), "isa: got 'mmx', expected one");
    CHECK(available_kernels().back() == &kernels_scalar);
    CHECK(!active_isa_reason().empty());
}
