#include "check.h"
#include "fedagg/aggregate.h"
#include "fedagg/codec.h"

using namespace fedagg;

namespace {

// the reference, in double: log(sum_k w_k softmax(z_k)) or sum_k w_k z_k of one row
std::vector<double> reference(const std::vector<std::vector<float>>& teachers, const std::vector<double>& weights,
                              std::size_t row, std::size_t classes, bool probabilities) {
    double total = 0;
    for (const double weight : weights) total += weight;
    std::vector<double> result(classes, 0);
    for (std::size_t k = 0; k < teachers.size(); ++k) {
        if (weights[k] == 0) continue;
        const float* const z = teachers[k].data() + row * classes;
        double sum = 0;
        for (std::size_t c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(z[c]));
        for (std::size_t c = 0; c < classes; ++c) {
            const double value = static_cast<double>(z[c]);
            result[c] += weights[k] / total * (probabilities ? std::exp(value) / sum : value);
        }
    }
    for (double& value : result) value = probabilities ? std::log(value) : value;
    return result;
}

}  // namespace

CASE("means over lengths, weights and masks") {
    for (const std::size_t c : std::initializer_list<std::size_t>{1, 2, 3, 5, 10, 16, 48, 49, 130}) {
        for (const std::size_t n : std::initializer_list<std::size_t>{1, 7, 16, 37}) {
            std::vector<std::vector<float>> teachers;
            std::vector<Logits> logits;
            for (unsigned k = 0; k < 3; ++k) {
                teachers.push_back(check::normal(n * c, k));
                logits.push_back({teachers.back().data(), LogitType::f32, nullptr});
            }
            std::vector<std::uint8_t> mask(3 * n, 1);
            for (std::size_t i = 0; i < 2 * n; i += 3) mask[i] = 0;
            const std::vector<float> weights = {1.F, 2.F, 0.5F};
            AggregateInput input{logits.data(), 3, n, c, weights.data(), nullptr, mask.data()};
            for (const bool masked : {true, false}) {
                if (!masked) input.mask = nullptr;
                for (const bool probabilities : {false, true}) {
                    std::vector<float> out(n * c);
                    aggregate_logits(input, probabilities ? Aggregation::mean_probabilities : Aggregation::mean_logits, 0, 1, out.data());
                    for (std::size_t row = 0; row < n; ++row) {
                        std::vector<double> used;
                        for (std::size_t k = 0; k < 3; ++k) {
                            used.push_back(masked && mask[k * n + row] == 0 ? 0 : static_cast<double>(weights[k]));
                        }
                        const auto expected = reference(teachers, used, row, c, probabilities);
                        for (std::size_t i = 0; i < c; ++i) {
                            CHECK(check::close(static_cast<double>(out[row * c + i]), expected[i], 3e-6));
                        }
                    }
                }
            }
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
    aggregate_logits({logits, 3, n, c, nullptr, nullptr, nullptr}, Aggregation::mean_logits, 0, 1, out.data());
    for (std::size_t i = 0; i < n * c; ++i) CHECK(std::fabs(out[i] - z[i]) <= 0.2F * scale[i / c] + 1e-2F);
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
