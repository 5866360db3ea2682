// Aggregates that do not add: the mean of the middle values of an element over its teachers (median, trimmed mean), and
// how sure a teacher is of a sample.
#pragma once

#include "aggregate.inl.h"

namespace {

// Sorts values[0], values[w], ... lane by lane with Batcher's odd-even merge network; comparisons do not depend on data.
template <class V>
void sort_lanes(float* values, std::size_t count) {
    constexpr std::size_t w = V::width;
    const auto order = [&](std::size_t a, std::size_t b) {
        const auto x = V::load(values + a * w), y = V::load(values + b * w);
        V::store(values + a * w, V::min(x, y));
        V::store(values + b * w, V::max(x, y));
    };
    for (std::size_t p = 1; p < count; p *= 2) {
        for (std::size_t k = p; k >= 1; k /= 2) {
            for (std::size_t j = k % p; j + k < count; j += 2 * k) {
                for (std::size_t i = j; i < j + k && i + k < count; ++i) {
                    if (i / (2 * p) == (i + k) / (2 * p)) order(i, i + k);
                }
            }
        }
    }
}

template <class V>
typename V::F load_logits(const Logits& z, std::size_t at, std::size_t count, std::size_t row) {
    const auto zero = V::set1(0);
    switch (z.type) {
        case LogitType::f16: return V::load_first(static_cast<const std::uint16_t*>(z.data) + at, count, zero);
        case LogitType::i8:
            return V::load_first(static_cast<const std::int8_t*>(z.data) + at, count, zero) * V::set1(z.row_scale[row]);
        default: return V::load_first(static_cast<const float*>(z.data) + at, count, zero);
    }
}

// Elements [from, to) of which all lie in `row`, or, when weights do not differ by row and nothing is i8, in any row.
template <class V>
void order_mean_run(const AggregateBlock& block, std::size_t from, std::size_t to, std::size_t row, std::size_t begin,
                    std::size_t end, float* values) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    for (std::size_t i = from; i < to; i += w) {
        const std::size_t count = to - i < w ? to - i : w;
        std::size_t taking_part = 0;
        F nan = V::set1(0);  // min and max may drop a NaN
        for (std::size_t k = 0; k < block.teacher_count; ++k) {
            if (weight_of(block, k, row, begin, end) == 0) continue;
            const F z = load_logits<V>(block.teachers[k], i, count, row);
            nan = nan + V::nan_or_zero(z);
            V::store(values + taking_part++ * w, z);
        }
        sort_lanes<V>(values, taking_part);
        const std::size_t cut = block.median ? (taking_part - 1) / 2
                                             : static_cast<std::size_t>(block.trim * static_cast<double>(taking_part));
        F sum = nan;
        for (std::size_t k = cut; k < taking_part - cut; ++k) sum = sum + V::load(values + k * w);
        V::store_first(block.out + i, sum / V::set1(static_cast<float>(taking_part - 2 * cut)), count);
    }
}

// order_mean_rows__<isa>
template <class V>
void order_mean_rows(const AggregateBlock& block, std::size_t begin, std::size_t end, float* scratch) {
    bool by_row = !block.same_weight_in_every_row;
    for (std::size_t k = 0; k < block.teacher_count; ++k) by_row = by_row || block.teachers[k].type == LogitType::i8;
    const std::size_t classes = block.classes;
    if (!by_row) return order_mean_run<V>(block, begin * classes, end * classes, begin, begin, end, scratch);
    for (std::size_t n = begin; n < end; ++n) {
        order_mean_run<V>(block, n * classes, (n + 1) * classes, n, begin, end, scratch);
    }
}

// exp(-H) = exp(sum_c p_c log p_c) = 2^(d / s) / s with s = sum_c 2^t_c and d = sum_c 2^t_c t_c
template <class V>
void confidence_block(const Logits& logits, std::size_t classes, const LaneRows<V>& rows, float* scratch, float* out) {
    using F = typename V::F;
    const F k_log2 = V::set1(static_cast<float>(log2_of_e));
    const F maximum = load_logits_block<V>(logits, rows, rows.first, classes, scratch);
    F sum = V::set1(0), d = sum;
    for (std::size_t c = 0; c < classes; ++c) {
        const F t = (V::load(scratch + c * V::width) - maximum) * k_log2;
        const F p = V::exp2(t);
        sum = sum + p;
        d = V::add_product_unless_zero(p, t, d);
    }
    V::store_first(out, V::exp2(d / sum) / sum, rows.count);
}

template <class V>
float confidence_row(const Logits& logits, std::size_t classes, std::size_t n, float* scratch) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const F k_log2 = V::set1(static_cast<float>(log2_of_e)), lowest = V::set1(-__builtin_inff());
    const float* const z = teacher_row<V>(logits, n, classes, scratch);
    const F maximum = V::set1(row_maximum<V>(z, classes));
    F sums = V::set1(0), d = sums;
    for (std::size_t c = 0; c < classes; c += w) {
        const F x = c + w <= classes ? V::load(z + c) : V::load_first(z + c, classes - c, lowest);
        const F t = (x - maximum) * k_log2;
        const F p = V::exp2(t);
        sums = sums + p;
        d = V::add_product_unless_zero(p, t, d);
    }
    const F sum = V::set1(V::sum(sums));
    return V::largest(V::exp2(V::set1(V::sum(d)) / sum) / sum);  // all lanes are alike
}

// confidence_rows__<isa>
template <class V>
void confidence_rows(const Logits& logits, std::size_t classes, std::size_t begin, std::size_t end, float* scratch, float* out) {
    if constexpr (V::has_blocks) {
        if (classes <= most_aggregate_block_classes) {
            for (std::size_t n = begin; n < end; n += V::width) {
                confidence_block<V>(logits, classes, LaneRows<V>(n, end, classes), scratch, out + (n - begin));
            }
            return;
        }
    }
    for (std::size_t n = begin; n < end; ++n) out[n - begin] = confidence_row<V>(logits, classes, n, scratch);
}

}  // namespace
