// Aggregation of a block of rows over K teachers. The caller (aggregate.cpp) chooses blocks whose output stays in the
// first-level cache, so that adding one teacher after the other costs no memory traffic, and normalises the weights.
#pragma once

#include "distill_block.inl.h"
#include "exact_log_mean.h"
#include "log.h"

namespace {

inline float weight_of(const AggregateBlock& block, std::size_t k, std::size_t row, std::size_t begin, std::size_t end) {
    return block.same_weight_in_every_row ? block.weight[k] : block.weight[k * (end - begin) + row - begin];
}

// out += weight * z over a run of logits
template <class V, class T>
void add_run(const T* z, float weight, std::size_t size, float* out) {
    constexpr std::size_t w = V::width;
    const auto wk = V::set1(weight);
    std::size_t i = 0;
    for (; i + w <= size; i += w) V::store(out + i, V::fma(wk, V::load(z + i), V::load(out + i)));
    if (i < size) {
        const std::size_t n = size - i;
        const auto zero = V::set1(0);
        V::store_first(out + i, V::fma(wk, V::load_first(z + i, n, zero), V::load_first(out + i, n, zero)), n);
    }
}

// Any mixture of storage types, weights that differ from row to row: one teacher's row after the other.
template <class V>
void mean_logits_row(const AggregateBlock& block, std::size_t n, std::size_t begin, std::size_t end) {
    const std::size_t classes = block.classes, at = n * classes;
    float* const out = block.out + at;
    __builtin_memset(out, 0, classes * sizeof(float));
    for (std::size_t k = 0; k < block.teacher_count; ++k) {
        const float weight = weight_of(block, k, n, begin, end);
        const Logits& z = block.teachers[k];
        if (weight == 0) continue;
        switch (z.type) {
            case LogitType::f16: add_run<V>(static_cast<const std::uint16_t*>(z.data) + at, weight, classes, out); break;
            case LogitType::i8:
                add_run<V>(static_cast<const std::int8_t*>(z.data) + at, weight * z.row_scale[n], classes, out);
                break;
            default: add_run<V>(static_cast<const float*>(z.data) + at, weight, classes, out);
        }
    }
}

// out[i] = sum_k weight(k) * teacher_k[i] for i in [from, to), all teachers stored as T: four vectors at a time stay in
// registers over all teachers.
template <class V, class T, class Weight>
void mean_run(const AggregateBlock& block, std::size_t from, std::size_t to, const Weight& weight) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const auto teacher = [&](std::size_t k) { return static_cast<const T*>(block.teachers[k].data); };
    std::size_t i = from;
    for (; i + 4 * w <= to; i += 4 * w) {
        F x0 = V::set1(0), x1 = x0, x2 = x0, x3 = x0;
        for (std::size_t k = 0; k < block.teacher_count; ++k) {
            const T* const z = teacher(k) + i;
            const F wk = V::set1(weight(k));
            x0 = V::fma(wk, V::load(z), x0);
            x1 = V::fma(wk, V::load(z + w), x1);
            x2 = V::fma(wk, V::load(z + 2 * w), x2);
            x3 = V::fma(wk, V::load(z + 3 * w), x3);
        }
        V::store(block.out + i, x0);
        V::store(block.out + i + w, x1);
        V::store(block.out + i + 2 * w, x2);
        V::store(block.out + i + 3 * w, x3);
    }
    for (; i < to; i += w) {
        const std::size_t n = to - i < w ? to - i : w;
        F x = V::set1(0);
        for (std::size_t k = 0; k < block.teacher_count; ++k) {
            x = V::fma(V::set1(weight(k)), V::load_first(teacher(k) + i, n, x), x);
        }
        V::store_first(block.out + i, x, n);
    }
}

// mean_logits_rows__<isa>
template <class V>
void mean_logits_rows(const AggregateBlock& block, std::size_t begin, std::size_t end, float*) {
    const LogitType type = block.teachers[0].type;
    bool uniform = block.same_weight_in_every_row;
    for (std::size_t k = 0; uniform && k < block.teacher_count; ++k) {
        uniform = block.teachers[k].type == type && block.weight[k] != 0;
    }
    if (!uniform) {
        for (std::size_t n = begin; n < end; ++n) mean_logits_row<V>(block, n, begin, end);
        return;
    }
    const std::size_t from = begin * block.classes, to = end * block.classes;
    const auto weight = [&](std::size_t k) { return block.weight[k]; };
    if (type == LogitType::f32) return mean_run<V, float>(block, from, to, weight);
    if (type == LogitType::f16) return mean_run<V, std::uint16_t>(block, from, to, weight);
    for (std::size_t n = begin; n < end; ++n) {
        mean_run<V, std::int8_t>(block, n * block.classes, (n + 1) * block.classes,
                                 [&](std::size_t k) { return block.weight[k] * block.teachers[k].row_scale[n]; });
    }
}

template <class V>
void probabilities_row(const AggregateBlock& block, std::size_t n, std::size_t begin, std::size_t end, float* scratch) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const std::size_t classes = block.classes;
    float *const sum = scratch, *const e = scratch + padded(classes), *const buffer = scratch + 2 * padded(classes);
    const F zero = V::set1(0), lowest = V::set1(-__builtin_inff()), k_log2 = V::set1(static_cast<float>(log2_of_e));
    for (std::size_t c = 0; c < classes; c += w) V::store(sum + c, zero);
    for (std::size_t k = 0; k < block.teacher_count; ++k) {
        const float weight = weight_of(block, k, n, begin, end);
        if (weight == 0) continue;
        const float* const z = teacher_row<V>(block.teachers[k], n, classes, buffer);
        const F maximum = V::set1(row_maximum<V>(z, classes));
        F total = zero;
        for (std::size_t c = 0; c < classes; c += w) {
            const F x = c + w <= classes ? V::load(z + c) : V::load_first(z + c, classes - c, lowest);
            const F p = V::exp2((x - maximum) * k_log2);
            total = total + p;
            V::store(e + c, p);
        }
        const F factor = V::set1(weight / V::sum(total));
        for (std::size_t c = 0; c < classes; c += w) V::store(sum + c, V::fma(factor, V::load(e + c), V::load(sum + c)));
    }
    float* const out = block.out + n * classes;
    F deepest = V::set1(-1);
    for (std::size_t c = 0; c < classes; c += w) {
        const std::size_t count = classes - c < w ? classes - c : w;
        const F p = V::load_first(sum + c, count, V::set1(1));
        deepest = V::max(-p, deepest);
        V::store_first(out + c, log_normal<V>(p), count);
    }
    if (V::largest(deepest) > -smallest_normal) exact_log_mean_row(block, n, begin, end, scratch);
}

template <class V>
void probabilities_block(const AggregateBlock& block, const LaneRows<V>& rows, std::size_t begin, std::size_t end,
                         float* scratch) {
    using F = typename V::F;
    constexpr std::size_t w = V::width;
    const std::size_t classes = block.classes;
    float *const sum = scratch, *const z = scratch + w * classes, *const stage = scratch + 2 * w * classes;
    const F zero = V::set1(0), k_log2 = V::set1(static_cast<float>(log2_of_e));
    for (std::size_t c = 0; c < classes; ++c) V::store(sum + c * w, zero);
    for (std::size_t k = 0; k < block.teacher_count; ++k) {
        float weight[w];
        for (std::size_t i = 0; i < w; ++i) weight[i] = weight_of(block, k, rows.index(i), begin, end);
        const F weights = V::load(weight);
        const F maximum = load_logits_block<V>(block.teachers[k], rows, classes, z);
        F total = zero;
        for (std::size_t c = 0; c < classes; ++c) {
            const F p = V::exp2((V::load(z + c * w) - maximum) * k_log2);
            total = total + p;
            V::store(z + c * w, p);
        }
        const F factor = weights / total;
        for (std::size_t c = 0; c < classes; ++c) {
            const F p = V::zero_where_zero(weights, factor * V::load(z + c * w));
            V::store(sum + c * w, V::load(sum + c * w) + p);
        }
    }
    F deepest = V::set1(-1);
    for (std::size_t c = 0; c < classes; ++c) deepest = V::max(-V::load(sum + c * w), deepest);
    float deepest_of[w];
    V::store(deepest_of, deepest);
    const bool whole = rows.count == w;
    float* const out = block.out + rows.first * classes;
    store_block<V>(whole ? out : stage, rows.offset, classes, [&](std::size_t c) { return log_normal<V>(V::load(sum + c * w)); });
    if (!whole) __builtin_memcpy(out, stage, rows.count * classes * sizeof(float));
    for (std::size_t i = 0; i < rows.count; ++i) {
        if (deepest_of[i] > -smallest_normal) exact_log_mean_row(block, rows.index(i), begin, end, scratch);
    }
}

// mean_probabilities_rows__<isa>
template <class V>
void mean_probabilities_rows(const AggregateBlock& block, std::size_t begin, std::size_t end, float* scratch) {
    if constexpr (V::has_blocks) {
        if (block.classes <= most_aggregate_block_classes) {
            for (std::size_t n = begin; n < end; n += V::width) {
                probabilities_block<V>(block, LaneRows<V>(n, end, block.classes), begin, end, scratch);
            }
            return;
        }
    }
    for (std::size_t n = begin; n < end; ++n) probabilities_row<V>(block, n, begin, end, scratch);
}

}  // namespace
