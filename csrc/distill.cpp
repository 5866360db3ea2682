#include "fedagg/distill.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "fedagg/cpu.h"
#include "fedagg/error.h"
#include "number_text.h"
#include "pool.h"
#include "scratch.h"

namespace fedagg {
namespace {

// Below this, everything a call touches stays in the caches.
constexpr std::size_t cached_bytes = std::size_t{8} << 20;

void check_number(const char* name, double value, double least, double most, const char* expected) {
    if (!(value >= least && value <= most)) {
        throw ArgumentError(std::string(name) + ": got " + text(value) + ", expected " + expected);
    }
}

void check_options(const DistillOptions& options) {
    constexpr double most = 1e30;
    constexpr const char* weight = "a number from 0 to 1e30";
    constexpr const char* temperature = "a number between 1e-6 and 1e6";
    check_number("ce_weight", options.ce_weight, 0, most, weight);
    check_number("kl_weight", options.kl_weight, 0, most, weight);
    check_number("temperature", options.temperature, 1e-6, 1e6, temperature);
    check_number("teacher_temperature", options.teacher_temperature, 1e-6, 1e6, temperature);
    if (options.threads == 0) throw ArgumentError("threads: got 0, expected 1 or more");
}

template <class Real>
void check_parts(const DistillInput<Real>& input, const DistillOptions& options) {
    if (input.labels == nullptr && options.ce_weight != 0) {
        throw ArgumentError("labels_N: got none, expected labels because ce_weight is not 0; pass them or set ce_weight=0");
    }
    if (input.teacher.data == nullptr && options.kl_weight != 0) {
        throw ArgumentError("teacher_NC: got none, expected logits because kl_weight is not 0; pass them or set kl_weight=0");
    }
    if (input.labels == nullptr && input.teacher.data == nullptr) {
        throw ArgumentError("labels_N and teacher_NC: got neither, expected at least one of them");
    }
    if (input.classes == 0) throw ArgumentError("student_NC: got 0 classes, expected at least 1");
}

void check_row_weights(const float* weights, std::size_t rows) {
    for (std::size_t n = 0; n < rows; ++n) {
        if (!(weights[n] >= 0) || !std::isfinite(weights[n])) {
            throw ArgumentError("row_weights_N: got " + text(weights[n]) + " at row " + std::to_string(n) +
                                ", expected a finite number, 0 or more");
        }
    }
}

void check_labels(const std::int64_t* labels, const float* weights, std::size_t rows, std::size_t classes) {
    for (std::size_t n = 0; n < rows; ++n) {
        const bool counts = weights == nullptr || weights[n] != 0;
        if (counts && static_cast<std::uint64_t>(labels[n]) >= classes) {
            throw ArgumentError("labels_N: got " + std::to_string(labels[n]) + " at row " + std::to_string(n) +
                                ", expected 0 to " + std::to_string(classes - 1));
        }
    }
}

// mask and row_weights as one weight per row; empty when every row counts alike
template <class Real>
std::vector<float> merged_weights(const DistillInput<Real>& input) {
    std::vector<float> weights;
    if (input.mask == nullptr && input.row_weights == nullptr) return weights;
    if (input.row_weights != nullptr) check_row_weights(input.row_weights, input.rows);
    weights.assign(input.rows, 1.F);
    for (std::size_t n = 0; n < input.rows; ++n) {
        if (input.row_weights != nullptr) weights[n] = input.row_weights[n];
        if (input.mask != nullptr && input.mask[n] == 0) weights[n] = 0;
    }
    return weights;
}

// Weights so small or large that a loss's weight over their sum may be no float: divided by a power of two, which changes
// no mean. One that would vanish beside the largest stays above 0: its row still counts, and is looked at.
void bring_into_range(std::vector<float>& weights) {
    const float largest = weights.empty() ? 0 : *std::max_element(weights.begin(), weights.end());
    if (largest == 0 || (largest > 0x1p-20F && largest < 0x1p20F)) return;
    const int exponent = std::ilogb(largest);
    for (float& weight : weights) {
        if (weight != 0) weight = std::max(std::ldexp(weight, -exponent), std::numeric_limits<float>::denorm_min());
    }
}

template <class Real>
DistillSums run_rows(const Kernels& kernels, const DistillBatch<Real>& batch, std::size_t begin, std::size_t end) {
    DistillSums sums;
    if constexpr (sizeof(Real) == sizeof(double)) {
        const std::size_t scratch = kernels_scalar.scratch_floats(batch.classes, 0);
        f64_distill_rows_scalar(batch, begin, end, Scratch::of_this_thread<double>(scratch), sums);
    } else {
        float* const scratch = Scratch::of_this_thread<float>(kernels.scratch_floats(batch.classes, 0));
        kernels.f32_distill_rows(batch, begin, end, scratch, sums);
    }
    return sums;
}

template <class Real>
DistillSums run(const DistillBatch<Real>& batch, std::size_t rows, unsigned threads) {
    const Kernels& kernels = active_kernels();
    const std::size_t per_chunk = rows_per_chunk(batch.classes);
    if (threads == 1 || rows <= per_chunk) return run_rows(kernels, batch, 0, rows);
    std::vector<DistillSums> parts((rows + per_chunk - 1) / per_chunk);
    parallel_for(parts.size(), threads, [&](std::size_t i) {
        parts[i] = run_rows(kernels, batch, i * per_chunk, std::min(rows, (i + 1) * per_chunk));
    });
    DistillSums sums;  // in order, so that the sum does not depend on which thread was faster
    for (const DistillSums& part : parts) {
        sums.ce += part.ce;
        sums.kl += part.kl;
    }
    return sums;
}

// An unused part may be infinite, and 0 * inf is not 0; a NaN stays one, as it does in the gradient.
double weighted(double weight, double part) { return weight != 0 || std::isnan(part) ? weight * part : 0; }

template <class Real>
DistillLoss checked_distill_loss(const DistillInput<Real>& input, const DistillOptions& options, Real* gradient) {
    check_options(options);
    check_parts(input, options);
    std::vector<float> weights = merged_weights(input);
    bring_into_range(weights);
    const float* const row_weight = weights.empty() ? nullptr : weights.data();
    if (input.labels != nullptr) check_labels(input.labels, row_weight, input.rows, input.classes);

    double total = row_weight == nullptr ? static_cast<double>(input.rows) : 0;
    for (const float weight : weights) total += static_cast<double>(weight);
    const double scale = total > 0 ? 1 / total : 0;

    DistillBatch<Real> batch;
    batch.student = input.student;
    batch.teacher = input.teacher;
    batch.labels = input.labels;
    batch.row_weight = row_weight;
    batch.gradient = gradient;
    batch.classes = input.classes;
    batch.divergence = input.teacher.data == nullptr ? Divergence::none : options.divergence;
    batch.student_temperature = options.temperature;
    batch.teacher_temperature = options.teacher_temperature;
    batch.ce_scale = options.ce_weight * scale;
    batch.kl_scale = options.kl_weight * scale;
    batch.larger_than_cache = input.rows * input.classes * 3 * sizeof(Real) > cached_bytes;
    const DistillSums sums = run(batch, input.rows, options.threads);

    DistillLoss loss;
    loss.ce = sums.ce * scale;
    loss.kl = sums.kl * scale;
    loss.loss = weighted(options.ce_weight, loss.ce) + weighted(options.kl_weight, loss.kl);
    return loss;
}

}  // namespace

DistillLoss distill_loss(const DistillInput<float>& input, const DistillOptions& options, float* gradient) {
    return checked_distill_loss(input, options, gradient);
}

DistillLoss distill_loss(const DistillInput<double>& input, const DistillOptions& options, double* gradient) {
    return checked_distill_loss(input, options, gradient);
}

}  // namespace fedagg
