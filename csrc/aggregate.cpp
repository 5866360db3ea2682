#include "fedagg/aggregate.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "fedagg/cpu.h"
#include "fedagg/error.h"
#include "number_text.h"
#include "pool.h"
#include "scratch.h"

namespace fedagg {
namespace {

void check_weights(const char* name, const float* weights, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
        if (!(weights[i] >= 0) || !std::isfinite(weights[i])) {
            throw ArgumentError(std::string(name) + ": got " + text(weights[i]) + " at index " +
                                std::to_string(i) + ", expected a finite number, 0 or more");
        }
    }
}

void check(const AggregateInput& input) {
    if (input.teacher_count == 0) throw ArgumentError("teachers: got none, expected at least one");
    if (input.classes == 0) throw ArgumentError("teachers: got 0 classes, expected at least 1");
    if (input.teacher_weights != nullptr) check_weights("weights_K", input.teacher_weights, input.teacher_count);
    if (input.sample_weights != nullptr) {
        check_weights("sample_weights_KN", input.sample_weights, input.teacher_count * input.rows);
    }
}

double weight_of(const AggregateInput& input, std::size_t k, std::size_t n) {
    const std::size_t at = k * input.rows + n;
    if (input.mask != nullptr && input.mask[at] == 0) return 0;
    const double teacher = input.teacher_weights == nullptr ? 1 : static_cast<double>(input.teacher_weights[k]);
    return input.sample_weights == nullptr ? teacher : teacher * static_cast<double>(input.sample_weights[at]);
}

// The weights of all teachers for sample n, summing to 1, to weights[k * stride].
void normalised_weights(const AggregateInput& input, std::size_t n, std::size_t stride, float* weights) {
    double total = 0;
    for (std::size_t k = 0; k < input.teacher_count; ++k) total += weight_of(input, k, n);
    if (!(total > 0)) {
        throw ArgumentError("weights: got a sum of 0 at sample " + std::to_string(n) +
                            ", expected at least one teacher with a positive weight for every sample");
    }
    for (std::size_t k = 0; k < input.teacher_count; ++k) {
        weights[k * stride] = static_cast<float>(weight_of(input, k, n) / total);
    }
}

struct ConfidenceBuffers {
    explicit ConfidenceBuffers(std::size_t rows) : sure(rows), total(rows) {}
    std::vector<float> sure;
    std::vector<double> total;
};

// Multiplies the weights of the block's rows, [K, rows], by the teachers' confidence and normalises them again. A NaN
// spreads to all weights of its row, and so to the row.
void weigh_by_confidence(const AggregateInput& input, const Kernels& kernels, std::size_t begin, std::size_t end,
                         float* scratch, ConfidenceBuffers& buffers, float* weights) {
    const std::size_t rows = end - begin;
    float* const sure = buffers.sure.data();
    double* const total = buffers.total.data();
    std::fill_n(total, rows, 0);
    for (std::size_t k = 0; k < input.teacher_count; ++k) {
        kernels.confidence_rows(input.teachers[k], input.classes, begin, end, scratch, sure);
        float* const weight = weights + k * rows;
        for (std::size_t n = 0; n < rows; ++n) {
            weight[n] = weight[n] != 0 ? weight[n] * sure[n] : 0;
            total[n] += static_cast<double>(weight[n]);
        }
    }
    for (std::size_t n = 0; n < rows; ++n) total[n] = 1 / total[n];
    for (std::size_t k = 0; k < input.teacher_count; ++k) {
        float* const weight = weights + k * rows;
        for (std::size_t n = 0; n < rows; ++n) {
            weight[n] = weight[n] != 0 ? static_cast<float>(static_cast<double>(weight[n]) * total[n]) : 0;
        }
    }
}

auto kernel_of(const Kernels& kernels, Aggregation method) {
    switch (method) {
        case Aggregation::mean_probabilities: return kernels.mean_probabilities_rows;
        case Aggregation::trimmed_mean:
        case Aggregation::median: return kernels.order_mean_rows;
        default: return kernels.mean_logits_rows;
    }
}

// Blocks of [begin, end): 16 KiB of output stay in the first-level cache while one teacher after the other is added.
void run_rows(const AggregateInput& input, const Kernels& kernels, Aggregation method, AggregateBlock block,
              std::size_t begin, std::size_t end) {
    const std::size_t per_block = std::max<std::size_t>(16, 4096 / input.classes / 16 * 16);
    float* const scratch = Scratch::of_this_thread<float>(kernels.scratch_floats(input.classes, input.teacher_count));
    const auto kernel = kernel_of(kernels, method);
    const bool by_confidence = method == Aggregation::entropy_weighted;
    const float* const same_weights = block.weight;
    const bool same_before = block.same_weight_in_every_row;  // before confidence comes in
    block.same_weight_in_every_row = same_before && !by_confidence;
    const std::size_t most_rows = std::min(per_block, end - begin);
    std::vector<float> weights(block.same_weight_in_every_row ? 0 : input.teacher_count * most_rows);
    ConfidenceBuffers buffers(by_confidence ? most_rows : 0);
    if (!block.same_weight_in_every_row) block.weight = weights.data();
    for (; begin < end; begin += per_block) {
        const std::size_t stop = std::min(begin + per_block, end);
        if (same_before && by_confidence) {
            for (std::size_t k = 0; k < input.teacher_count; ++k) {
                std::fill_n(weights.data() + k * (stop - begin), stop - begin, same_weights[k]);
            }
        }
        for (std::size_t n = begin; !same_before && n < stop; ++n) {
            normalised_weights(input, n, stop - begin, weights.data() + (n - begin));
        }
        if (by_confidence) weigh_by_confidence(input, kernels, begin, stop, scratch, buffers, weights.data());
        kernel(block, begin, stop, scratch);
    }
}

}  // namespace

void aggregate_logits(const AggregateInput& input, Aggregation method, double trim, unsigned threads, float* out) {
    if (threads == 0) throw ArgumentError("threads: got 0, expected 1 or more");
    if (!(trim >= 0 && trim < 0.5)) throw ArgumentError("trim: got " + text(trim) + ", expected 0 to below 0.5");
    check(input);
    const Kernels& kernels = active_kernels();
    AggregateBlock block;
    block.teachers = input.teachers;
    block.teacher_count = input.teacher_count;
    block.same_weight_in_every_row = input.sample_weights == nullptr && input.mask == nullptr;
    block.out = out;
    block.classes = input.classes;
    block.trim = trim;
    block.median = method == Aggregation::median;
    std::vector<float> weights(input.teacher_count);
    block.weight = weights.data();
    if (block.same_weight_in_every_row) normalised_weights(input, 0, 1, weights.data());
    const std::size_t per_chunk = threads == 1 ? std::max<std::size_t>(input.rows, 1) : rows_per_chunk(input.classes);
    parallel_for((input.rows + per_chunk - 1) / per_chunk, threads, [&](std::size_t i) {
        run_rows(input, kernels, method, block, i * per_chunk, std::min(input.rows, (i + 1) * per_chunk));
    });
}

void confidence(const Logits& logits, std::size_t rows, std::size_t classes, float* out) {
    if (classes == 0) throw ArgumentError("logits: got 0 classes, expected at least 1");
    const Kernels& kernels = active_kernels();
    float* const scratch = Scratch::of_this_thread<float>(kernels.scratch_floats(classes, 1));
    kernels.confidence_rows(logits, classes, 0, rows, scratch, out);
}

}  // namespace fedagg
