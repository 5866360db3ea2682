// Any teachers, weights and masks: no crash, no read or write outside, NaN only from NaN or infinities, and the same
// result from every instruction set.
#include <cmath>

#include "bytes.h"
#include "fedagg/aggregate.h"
#include "fedagg/cpu.h"
#include "fedagg/error.h"

using namespace fedagg;

namespace {

struct Teacher {
    std::vector<float> wide, scale;
    std::vector<std::uint16_t> half;
    std::vector<std::int8_t> bytes;
    Logits logits;
};

// Logits of a size that arithmetic in float still tells apart, or whatever the bytes say.
void tame(std::vector<float>& values) {
    for (float& value : values) value = std::isfinite(value) ? std::fmod(value, 64.F) : value;
}

Teacher teacher(Bytes& bytes, std::size_t rows, std::size_t classes) {
    Teacher t;
    switch (bytes.below(3)) {
        case 0:
            t.wide = bytes.array<float>(rows * classes);
            tame(t.wide);
            t.logits = {t.wide.data(), LogitType::f32, nullptr};
            break;
        case 1:
            t.half = bytes.array<std::uint16_t>(rows * classes);
            for (auto& h : t.half) h &= 0xcfffU;  // below 2, infinity and NaN left out: small enough to compare
            t.logits = {t.half.data(), LogitType::f16, nullptr};
            break;
        default:
            t.bytes = bytes.array<std::int8_t>(rows * classes);
            t.scale = bytes.array<float>(rows);
            tame(t.scale);
            t.logits = {t.bytes.data(), LogitType::i8, t.scale.data()};
    }
    return t;
}

bool close(float a, float b, float largest) {
    return a == b || (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) <= 1e-4F * (1 + largest);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes(data, size);
    const auto method = static_cast<Aggregation>(bytes.below(5));
    const std::size_t count = 1 + bytes.below(6), rows = bytes.below(20), classes = 1 + bytes.below(140);
    // before the numbers, which use up the bytes
    const bool has_mask = bytes.below(2) != 0, has_weights = bytes.below(2) != 0, has_sample_weights = bytes.below(2) != 0;
    const double trim = static_cast<double>(bytes.below(600)) / 1000;
    std::vector<Teacher> teachers;
    std::vector<Logits> logits;
    for (std::size_t k = 0; k < count; ++k) teachers.push_back(teacher(bytes, rows, classes));
    for (const Teacher& t : teachers) logits.push_back(t.logits);
    auto mask = bytes.array<std::uint8_t>(count * rows);
    auto weights = bytes.array<float>(count), sample_weights = bytes.array<float>(count * rows);
    for (auto* some : {&weights, &sample_weights}) {
        for (float& weight : *some) weight = std::fabs(weight) < 1e3F && std::fabs(weight) > 1e-3F ? std::fabs(weight) : weight;
    }
    const AggregateInput input{logits.data(),
                               count,
                               rows,
                               classes,
                               has_weights ? weights.data() : nullptr,
                               has_sample_weights ? sample_weights.data() : nullptr,
                               has_mask ? mask.data() : nullptr};
    std::vector<float> first;
    for (const Kernels* kernels : available_kernels()) {
        set_active_isa(kernels->name);
        std::vector<float> out(rows * classes);
        try {
            aggregate_logits(input, method, trim, 1, out.data());
        } catch (const ArgumentError&) {  // a weight, the trim, a sample without any teacher: the same on every instruction set
            require(first.empty(), "instruction sets disagree on what is refused");
            return 0;
        }
        if (first.empty()) first = out;
        for (std::size_t i = 0; i < out.size(); ++i) {
            require(close(out[i], first[i], std::isfinite(first[i]) ? 8192.F : 0.F), "instruction sets disagree");
        }
    }
    return 0;
}
