#include <algorithm>
#include <limits>

#include "check.h"
#include "fedagg/aggregate.h"
#include "fedagg/codec.h"

using namespace fedagg;

namespace {

constexpr Aggregation methods[] = {Aggregation::mean_logits, Aggregation::mean_probabilities, Aggregation::entropy_weighted,
                                   Aggregation::trimmed_mean, Aggregation::median};
constexpr double trim = 0.25;

struct Teachers {
    Teachers(std::size_t k, std::size_t n, std::size_t c) : rows(n), classes(c) {
        for (unsigned i = 0; i < k; ++i) values.push_back(check::normal(n * c + 1, i));
        mask.assign(k * n, 1);
        for (std::size_t i = n; i < k * n; i += 3) mask[i] = 0;  // the first is always there
        weights = check::normal(k, 11);
        sample_weights = check::normal(k * n, 12);
        for (auto* some : {&weights, &sample_weights}) {
            for (float& weight : *some) weight = std::fabs(weight) + 0.1F;
        }
    }
    // `offset`: so many floats behind the start of the memory, which is what misaligns a vector
    AggregateInput input(bool weighted, std::size_t offset = 0) {
        logits.clear();
        for (const auto& teacher : values) logits.push_back({teacher.data() + offset, LogitType::f32, nullptr});
        return {logits.data(), values.size(), rows, classes, weighted ? weights.data() : nullptr,
                weighted ? sample_weights.data() : nullptr, weighted ? mask.data() : nullptr};
    }
    std::size_t rows, classes;
    std::vector<std::vector<float>> values;
    std::vector<Logits> logits;
    std::vector<std::uint8_t> mask;
    std::vector<float> weights, sample_weights;
};

std::vector<double> softmax(const float* z, std::size_t classes) {
    std::vector<double> p(z, z + classes);
    const double largest = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double& value : p) sum += value = std::exp(value - largest);
    for (double& value : p) value /= sum;
    return p;
}

double confidence_of(const float* z, std::size_t classes) {
    double entropy = 0;
    for (const double p : softmax(z, classes)) entropy -= p > 0 ? p * std::log(p) : 0;
    return std::exp(-entropy);
}

// One row in double, by the words of aggregate.h.
std::vector<double> reference(const AggregateInput& in, Aggregation method, std::size_t n) {
    std::vector<double> weights(in.teacher_count), result(in.classes, 0);
    double total = 0;
    const auto row = [&](std::size_t k) { return static_cast<const float*>(in.teachers[k].data) + n * in.classes; };
    for (std::size_t k = 0; k < in.teacher_count; ++k) {
        const bool is_out = in.mask != nullptr && in.mask[k * in.rows + n] == 0;
        weights[k] = is_out ? 0 : 1;
        if (in.teacher_weights != nullptr) weights[k] *= static_cast<double>(in.teacher_weights[k]);
        if (in.sample_weights != nullptr) weights[k] *= static_cast<double>(in.sample_weights[k * in.rows + n]);
        if (method == Aggregation::entropy_weighted && weights[k] > 0) weights[k] *= confidence_of(row(k), in.classes);
        total += weights[k];
    }
    if (method == Aggregation::trimmed_mean || method == Aggregation::median) {
        for (std::size_t c = 0; c < in.classes; ++c) {
            std::vector<double> taking;
            for (std::size_t k = 0; k < in.teacher_count; ++k) {
                if (weights[k] > 0) taking.push_back(static_cast<double>(row(k)[c]));
            }
            std::sort(taking.begin(), taking.end());
            const std::size_t cut = method == Aggregation::median
                                        ? (taking.size() - 1) / 2
                                        : static_cast<std::size_t>(trim * static_cast<double>(taking.size()));
            for (std::size_t i = cut; i < taking.size() - cut; ++i) result[c] += taking[i];
            result[c] /= static_cast<double>(taking.size() - 2 * cut);
        }
        return result;
    }
    for (std::size_t k = 0; k < in.teacher_count; ++k) {
        if (!(weights[k] > 0)) continue;
        const auto p = softmax(row(k), in.classes);
        for (std::size_t c = 0; c < in.classes; ++c) {
            result[c] += weights[k] / total *
                         (method == Aggregation::mean_probabilities ? p[c] : static_cast<double>(row(k)[c]));
        }
    }
    for (double& value : result) value = method == Aggregation::mean_probabilities ? std::log(value) : value;
    return result;
}

void compare(const AggregateInput& input, Aggregation method) {
    std::vector<float> out(input.rows * input.classes);
    aggregate_logits(input, method, trim, 1, out.data());
    for (std::size_t n = 0; n < input.rows; ++n) {
        const auto expected = reference(input, method, n);
        for (std::size_t c = 0; c < input.classes; ++c) {
            CHECK(check::close(static_cast<double>(out[n * input.classes + c]), expected[c], 4e-6));
        }
    }
}

}  // namespace

CASE("every method over lengths, weights, masks and misaligned starts") {
    for (const std::size_t c : std::initializer_list<std::size_t>{1, 2, 3, 5, 10, 16, 48, 49, 130}) {
        for (const std::size_t n : std::initializer_list<std::size_t>{1, 7, 16, 37}) {
            for (const std::size_t k : std::initializer_list<std::size_t>{1, 3, 4}) {
                Teachers teachers(k, n, c);
                for (const Aggregation method : methods) {
                    compare(teachers.input(false), method);
                    compare(teachers.input(true, 1), method);
                }
            }
        }
    }
}

CASE("a NaN stays where its teacher counts") {
    const std::size_t c = 21;
    Teachers teachers(3, 9, c);
    teachers.values[1][2 * c + 5] = NAN;
    teachers.values[2][4 * c + 5] = std::numeric_limits<float>::infinity();
    AggregateInput input = teachers.input(false);
    std::vector<std::uint8_t> mask(3 * 9, 1);
    mask[2 * 9 + 4] = 0;  // the infinity has no influence
    input.mask = mask.data();
    for (const Aggregation method : methods) {
        std::vector<float> out(9 * c);
        aggregate_logits(input, method, trim, 1, out.data());
        const bool of_rows = method == Aggregation::mean_probabilities || method == Aggregation::entropy_weighted;
        for (std::size_t i = 0; i < out.size(); ++i) {
            CHECK(std::isnan(out[i]) == (i / c == 2 && (of_rows || i % c == 5)));
            CHECK(std::isnan(out[i]) || std::isfinite(out[i]));
        }
    }
}

CASE("confidence") {
    for (const std::size_t c : std::initializer_list<std::size_t>{1, 3, 10, 17, 100}) {
        const auto z = check::normal(7 * c, 8);
        std::vector<float> sure(7);
        confidence({z.data(), LogitType::f32, nullptr}, 7, c, sure.data());
        for (std::size_t n = 0; n < 7; ++n) {
            CHECK(check::close(static_cast<double>(sure[n]), confidence_of(z.data() + n * c, c), 2e-6));
        }
    }
}

CASE("storage types mix") {
    const std::size_t n = 9, c = 21;
    const auto z = check::normal(n * c, 4);
    std::vector<std::uint16_t> half(n * c);
    std::vector<std::int8_t> bytes(n * c);
    std::vector<float> scale(n), out(n * c);
    to_f16(z.data(), n * c, half.data());
    quantise_logits(z.data(), n, c, bytes.data(), scale.data());
    const Logits logits[] = {{z.data(), LogitType::f32, nullptr},
                             {half.data(), LogitType::f16, nullptr},
                             {bytes.data(), LogitType::i8, scale.data()}};
    for (const Aggregation method : {Aggregation::mean_logits, Aggregation::median, Aggregation::trimmed_mean}) {
        aggregate_logits({logits, 3, n, c, nullptr, nullptr, nullptr}, method, 0, 1, out.data());
        for (std::size_t i = 0; i < n * c; ++i) CHECK(std::fabs(out[i] - z[i]) <= 0.2F * scale[i / c] + 1e-2F);
    }
}

CASE("what is refused") {
    const std::vector<float> z(6, 0.F);
    const Logits logits{z.data(), LogitType::f32, nullptr};
    std::vector<float> out(6);
    CHECK_THROWS(aggregate_logits({&logits, 0, 2, 3, nullptr, nullptr, nullptr}, Aggregation::mean_logits, 0, 1, out.data()),
                 "teachers: got none");
    const std::uint8_t mask[] = {1, 0};
    CHECK_THROWS(aggregate_logits({&logits, 1, 2, 3, nullptr, nullptr, mask}, Aggregation::mean_logits, 0, 1, out.data()),
                 "sum of 0 at sample 1");
    const float weight = -1;
    CHECK_THROWS(aggregate_logits({&logits, 1, 2, 3, &weight, nullptr, nullptr}, Aggregation::mean_logits, 0, 1, out.data()),
                 "weights_K: got -1");
}
