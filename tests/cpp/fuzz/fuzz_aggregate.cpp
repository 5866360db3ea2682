// Any teachers, weights and masks: no crash, no read or write outside, NaN only from NaN or infinities, and the same
// result from every instruction set.
#include <algorithm>
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
    float largest = 64;  // no finite logit is larger
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
            t.largest = 128 * 64;
    }
    return t;
}

// What is refused is refused before any kernel runs: too much of it, and the kernels are never reached.
enum class Refused : std::uint8_t { nothing, nan, negative, infinite, sample_without_teacher };

Refused refused(Bytes& bytes) {
    const std::size_t kind = bytes.below(128);
    return kind < 5 ? static_cast<Refused>(kind) : Refused::nothing;
}

// 60 decades, with zeros
std::vector<float> weights(Bytes& bytes, std::size_t count) {
    constexpr float table[] = {1, 0.5F, 3, 0, 1e-30F, 1e30F, 0.1F, 1e-3F};
    std::vector<float> all(count);
    for (float& weight : all) weight = table[bytes.one<std::uint8_t>() % 8];
    return all;
}

// Teacher 0 takes part in every sample, or some would have none.
void keep_first(std::vector<float>& weights, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) weights[i] = weights[i] == 0 ? 1 : weights[i];
}

void spoil(std::vector<float>& weights, Refused kind) {
    if (weights.empty()) return;
    switch (kind) {
        case Refused::nan: weights.back() = NAN; break;
        case Refused::negative: weights.back() = -1; break;
        case Refused::infinite: weights.back() = INFINITY; break;
        default: break;
    }
}

bool close(float a, float b, float largest) {
    return a == b || (std::isnan(a) && std::isnan(b)) || std::fabs(a - b) <= 1e-4F * (1 + largest);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Bytes bytes(data, size);
    const auto method = static_cast<Aggregation>(bytes.below(5));
    const std::size_t count = 1 + bytes.below(6), rows = bytes.below(20), classes = 1 + bytes.below(140);
    // before the logits, which use up the bytes
    const bool has_mask = bytes.below(2) != 0, has_weights = bytes.below(2) != 0, has_sample_weights = bytes.below(2) != 0;
    const double trim = static_cast<double>(bytes.below(500)) / 1000;
    const Refused refuse = refused(bytes);
    auto teacher_weights = weights(bytes, has_weights ? count : 0);
    auto sample_weights = weights(bytes, has_sample_weights ? count * rows : 0);
    auto mask = bytes.array<std::uint8_t>(has_mask ? count * rows : 0);
    for (auto& takes_part : mask) takes_part = takes_part % 4 != 3;
    if (refuse != Refused::sample_without_teacher) {
        keep_first(teacher_weights, has_weights ? 1 : 0);
        keep_first(sample_weights, has_sample_weights ? rows : 0);
        for (std::size_t n = 0; has_mask && n < rows; ++n) mask[n] = 1;
    }
    spoil(has_sample_weights ? sample_weights : teacher_weights, refuse);
    std::vector<Teacher> teachers;
    std::vector<Logits> logits;
    float largest = 0;
    for (std::size_t k = 0; k < count; ++k) teachers.push_back(teacher(bytes, rows, classes));
    for (const Teacher& t : teachers) {
        logits.push_back(t.logits);
        largest = std::max(largest, t.largest);
    }
    const AggregateInput input{logits.data(),
                               count,
                               rows,
                               classes,
                               has_weights ? teacher_weights.data() : nullptr,
                               has_sample_weights ? sample_weights.data() : nullptr,
                               has_mask ? mask.data() : nullptr};
    std::vector<float> first;
    std::size_t refusals = 0, ran = 0;
    for (const Kernels* kernels : available_kernels()) {
        set_active_isa(kernels->name);
        std::vector<float> out(rows * classes);
        try {
            aggregate_logits(input, method, trim, 1, out.data());
        } catch (const ArgumentError&) {  // a weight, a sample without any teacher: the same on every instruction set
            ++refusals;
            continue;
        }
        if (ran++ == 0) first = out;
        for (std::size_t i = 0; i < out.size(); ++i) {
            require(close(out[i], first[i], std::isfinite(first[i]) ? largest : 0.F), "instruction sets disagree");
        }
    }
    require(refusals == 0 || ran == 0, "instruction sets disagree on what is refused");
    return 0;
}
